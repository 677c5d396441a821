from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import DeckError
from bridge.rating.deck import Deck
from bridge.rating.origin import Origins
from bridge.rating.rate import Rate
from bridge.rating.tariff import Band, Terms, Tier


def rate(prefix: str, **columns: Any) -> Rate:
    known: dict[str, Any] = {
        "rate_id": f"r{prefix}",
        "deck_id": "d",
        "destination": "Germany",
        "currency": "EUR",
        "rate_micro": 90_000,
    }
    return Rate(prefix=prefix, **(known | columns))


def deck(*prefixes: str) -> Deck:
    return Deck("d", "retail", "EUR", 7, [rate(prefix) for prefix in prefixes])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prefix", ""),
        ("prefix", "+49"),
        ("prefix", "4 9"),
        ("prefix", "4.915E+10"),
        ("prefix", "٤٩"),
        ("prefix", "49\n"),
        ("prefix", "1234567890123456"),
        ("currency", "eur"),
        ("rate_micro", -1),
        ("rate_micro", 0.09),
        ("rate_micro", True),
        ("connect_fee_micro", -1),
        ("initial_s", 0),
        ("next_s", 0),
        ("next_s", -6),
        ("minimum_s", -1),
    ],
)
def test_a_wrong_rate_names_its_column(column: str, value: object) -> None:
    with pytest.raises(DeckError) as refused:
        rate(**({"prefix": "49"} | {column: value}))  # type: ignore[arg-type]
    assert refused.value.column == column
    assert refused.value.problem


def test_the_smallest_rate_is_allowed() -> None:
    free = rate("1", rate_micro=0, initial_s=1, next_s=1)
    assert (free.connect_fee_micro, free.minimum_s, free.blocked) == (0, 0, False)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_frozen_rate_comes_back_whole(blocked: bool) -> None:
    original = rate("4930", connect_fee_micro=50_000, initial_s=30, next_s=6, minimum_s=10, blocked=blocked)
    assert Rate.from_json(json.loads(json.dumps(original.to_json()))) == original


@pytest.mark.parametrize("change", [{"surprise": 1}, {"next_s": 0}])
def test_a_damaged_frozen_rate_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DeckError):
        Rate.from_json(rate("49").to_json() | change)
    with pytest.raises(DeckError, match="not a frozen rate"):
        Rate.from_json({})


@pytest.mark.parametrize(
    ("digits", "prefix"),
    [
        ("493023125000", "4930"),
        ("4930", "4930"),
        ("493", "49"),
        ("49", "49"),
        ("498912345", "49"),
        ("491771234567", "49177123"),
        ("4", None),
        ("33123456", None),
        ("", None),
    ],
)
def test_the_longest_prefix_counts(digits: str, prefix: str | None) -> None:
    found = deck("49", "4930", "49177123", "1").longest(digits)
    assert (found.prefix if found else None) == prefix


def test_a_blocked_prefix_is_not_passed_over() -> None:
    prices = Deck("d", "retail", "EUR", 1, [rate("49"), rate("49900", blocked=True)])
    found = prices.longest("49900123456")
    assert found is not None
    assert found.blocked
    assert prices.explain("49900123456")["blocked"] is True


def test_an_empty_deck_sells_nothing() -> None:
    assert len(deck()) == 0
    assert deck().longest("49") is None
    assert deck().tariff("49") is None
    assert deck().explain("49") == {
        "deck_id": "d",
        "version": 7,
        "matched": [],
        "chosen": None,
        "origin_set": None,
        "blocked": False,
    }


def test_explain_tells_what_matched_but_not_the_number() -> None:
    told = deck("4", "49", "4930", "493099", "49302312500099").explain("493023125000")
    assert told == {
        "deck_id": "d",
        "version": 7,
        "matched": [
            {"prefix": "4930", "origin_set": "", "why": "chosen"},
            {"prefix": "49", "origin_set": "", "why": "shorter"},
            {"prefix": "4", "origin_set": "", "why": "shorter"},
        ],
        "chosen": "4930",
        "origin_set": "",
        "blocked": False,
    }
    assert "493023125000" not in json.dumps(told)


# 4930 is priced for some callers only, 49 for all.
BY_ORIGIN = Deck(
    "d",
    "buy",
    "EUR",
    7,
    [
        rate("4930", rate_id="berlin EU", origin_set="EU"),
        rate("4930", rate_id="berlin DE", origin_set="DE"),
        rate("49", rate_id="all"),
        rate("49", rate_id="all EU", origin_set="EU"),
    ],
)


@pytest.mark.parametrize(
    ("origins", "rate_id"),
    [
        ((), "all"),
        (("US",), "all"),
        (("EU",), "berlin EU"),
        (("DE", "EU"), "berlin DE"),
        (("EU", "DE"), "berlin EU"),
        (("US", "DE"), "berlin DE"),
    ],
)
def test_the_callers_most_specific_set_counts_within_the_longest_prefix(
    origins: tuple[str, ...], rate_id: str
) -> None:
    found = BY_ORIGIN.tariff("493023125000", origins)
    assert found is not None and found.rate.rate_id == rate_id
    assert (found.rate.origin_set or "all") == rate_id.rsplit(maxsplit=1)[-1]


def test_a_prefix_for_other_callers_only_does_not_match() -> None:
    only = Deck("d", "buy", "EUR", 7, [rate("49", origin_set="EU")])
    assert only.longest("4930", ("US",)) is None
    assert only.longest("4930", ("EU",)) is not None
    assert only.origin_sets == {"EU"}


def test_explain_tells_why_not_the_others() -> None:
    def told(*origins: str) -> list[tuple[str, str, str]]:
        matched = BY_ORIGIN.explain("493023125000", origins)["matched"]
        return [(row["prefix"], row["origin_set"], row["why"]) for row in matched]

    assert sorted(told("DE", "EU")) == [
        ("49", "", "shorter"),
        ("49", "EU", "shorter"),
        ("4930", "DE", "chosen"),
        ("4930", "EU", "DE is more specific"),
    ]
    assert sorted(told()) == [
        ("49", "", "chosen"),
        ("49", "EU", "for callers from EU only"),
        ("4930", "DE", "for callers from DE only"),
        ("4930", "EU", "for callers from EU only"),
    ]
    assert [prefix for prefix, _, _ in told()] == ["4930", "4930", "49", "49"]
    assert BY_ORIGIN.explain("4430", ("EU",))["matched"] == []
    nobody = Deck("d", "buy", "EUR", 7, [rate("49", origin_set="EU")]).explain("4930")
    assert nobody["chosen"] is None
    assert nobody["matched"] == [{"prefix": "49", "origin_set": "EU", "why": "for callers from EU only"}]


def test_terms_and_bands_go_with_the_tariff() -> None:
    night, weekend = Band("night", frozenset(range(7)), 0, 360), Band("weekend", frozenset({5, 6}), 0, 1440)
    terms = Terms(time_zone="Europe/Berlin")
    cheap = Deck("n", "night", "EUR", 7, [rate("493", deck_id="n"), rate("4930", deck_id="n", rate_micro=1)])
    empty = Deck("w", "weekend", "EUR", 7, [])
    prices = Deck("d", "sell", "EUR", 7, [rate("49")], terms=terms, bands=[(night, cheap), (weekend, empty)])
    found = prices.tariff("493012")
    assert found is not None
    assert (found.terms, found.version) == (terms, 7)
    assert [(one.band.name, one.rate.prefix) for one in found.bands] == [("night", "4930"), ("weekend", "49")]
    with pytest.raises(DeckError, match="band night is in EUR, the deck in USD"):
        Deck("d", "sell", "USD", 7, [], bands=[(night, cheap)])


UUID_ID = "0198c0de-0000-7000-8000-00000000abcd"
FULL: dict[str, Any] = {
    "connect_fee_micro": 5,
    "initial_s": 30,
    "next_s": 6,
    "minimum_s": 10,
    "blocked": True,
    "grace_s": 3,
    "origin_set": "EU",
    "tiers": (Tier(60, 1, 1), Tier(120, 0, 6)),
}


@pytest.mark.parametrize("ids", [(UUID_ID, UUID_ID), (UUID_ID, "r"), (UUID_ID.upper(), "r"), ("r", "")])
def test_rates_come_out_as_they_went_in(ids: tuple[str, str]) -> None:
    rates = [rate("0049", rate_id=ids[0], **FULL), rate("123456789012345", rate_id=ids[1], destination="é")]
    packed = Deck("d", "retail", "EUR", 7, rates)
    assert packed.longest("00491", ("EU",)) == rates[0]
    assert packed.longest("123456789012345678") == rates[1]


def test_rows_make_the_same_deck_as_rates() -> None:
    uuid = bytes.fromhex(UUID_ID.replace("-", ""))
    row = ("49", uuid, "Germany", 90_000, 5, 30, 6, 10, True, 3, "EU", FULL["tiers"])
    made = Deck.of_rows("d", "retail", "EUR", 7, iter([row]))
    assert made.longest("49", ("EU",)) == rate("49", rate_id=UUID_ID, **FULL)
    with pytest.raises(DeckError, match="prefix 49 for callers from EU appears twice"):
        Deck.of_rows("d", "retail", "EUR", 7, [row, row])


def test_a_deck_much_asked_still_answers_right() -> None:
    prefixes = [str(number) for number in range(1000, 2000)]
    many = deck(*prefixes)
    for _ in range(2):
        for prefix in prefixes:
            found = many.longest(prefix + "5")
            assert found is not None and found.prefix == prefix


@pytest.mark.parametrize(
    ("intruder", "column", "message"),
    [
        (rate("49", rate_id="other"), "prefix", "appears twice"),
        (rate("49"), "prefix", "prefix 49 appears twice"),
        (rate("33", currency="USD"), "currency", "one a deck"),
        (rate("33", deck_id="e"), "deck_id", "belongs to deck e"),
    ],
)
def test_a_deck_is_one_price_a_prefix_in_one_currency(intruder: Rate, column: str, message: str) -> None:
    with pytest.raises(DeckError, match=message) as refused:
        Deck("d", "retail", "EUR", 1, [rate("49"), intruder])
    assert refused.value.column == column


def test_a_deck_shows_its_size_not_its_prices() -> None:
    assert repr(deck("1", "49")) == "Deck('retail', version 7, 2 rates)"


@pytest.mark.parametrize(
    ("a_digits", "names"),
    [
        ("4915112345678", ("mobile", "EU")),
        ("493023125000", ("EU",)),
        ("12025550123", ("all", "any")),
        ("44", ("EU",)),
        ("7", ()),
        ("", ()),
    ],
)
def test_the_set_with_the_longest_prefix_is_the_most_specific(a_digits: str, names: tuple[str, ...]) -> None:
    origins = Origins({"EU": ["4", "49", "33"], "mobile": ["4915", "4916"], "any": ["1"], "all": ["1"]})
    assert origins.of(a_digits) == names
    assert Origins({}).of(a_digits) == ()
