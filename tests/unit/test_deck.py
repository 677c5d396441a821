from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import DeckError
from bridge.rating.deck import Deck
from bridge.rating.rate import Rate


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
    assert deck().explain("49") == {
        "deck_id": "d",
        "version": 7,
        "matched": [],
        "chosen": None,
        "blocked": False,
    }


def test_explain_tells_what_matched_but_not_the_number() -> None:
    told = deck("4", "49", "4930", "493099", "49302312500099").explain("493023125000")
    assert told == {
        "deck_id": "d",
        "version": 7,
        "matched": ["4930", "49", "4"],
        "chosen": "4930",
        "blocked": False,
    }
    assert "493023125000" not in json.dumps(told)


@pytest.mark.parametrize(
    ("intruder", "column", "message"),
    [
        (rate("49", rate_id="other"), "prefix", "appears twice"),
        (rate("49"), "prefix", "appears twice"),
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
