"""Recorded calls on another deck: what each comes to, what cannot be priced, and the sums."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bridge.calls.deck_then import versioned
from bridge.calls.impact import Impact
from bridge.calls.reprice import DeckThen, Differences, Recorded, Repriced, Skip, Thaw, reprice
from bridge.errors import DeckError
from bridge.rating.bands import Band
from bridge.rating.deck import Deck
from bridge.rating.origin import Origins
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOBODY = Origins({})


def rate(prefix: str, rate_micro: int, deck: str = "sell", currency: str = "EUR", **more: Any) -> Rate:
    return Rate(f"r{prefix}", deck, prefix, f"place {prefix}", currency, rate_micro, 0, 1, 1, **more)


def deck(*rates: Rate, name: str = "sell", currency: str = "EUR", **more: Any) -> DeckThen:
    return DeckThen(Deck(name, name, currency, 2, rates, **more))


SOLD, BOUGHT = Tariff(rate("49", 60_000), 1), Tariff(rate("49", 30_000, "buy"), 1)


def recorded(talk_s: int = 20, **more: Any) -> Recorded:
    call = Recorded(
        UUID(int=1), UUID(int=2), "+4915112345678", "+493012345678", AT, AT, talk_s * 1000, 0, 0, UUID(int=1),
        json.dumps(SOLD.to_json()), talk_s, talk_s * 1000, json.dumps(BOUGHT.to_json()), talk_s, talk_s * 500,
    )  # fmt: skip
    return call._replace(**more)


def again(sell: DeckThen | None, buy: DeckThen | None = None, **more: Any) -> Repriced | Skip:
    origins = more.pop("origins", NOBODY)
    return reprice(recorded(**more), SOLD, BOUGHT, sell, buy, origins)


def priced(*args: Any, **more: Any) -> Repriced:
    found = again(*args, **more)
    assert isinstance(found, Repriced), found
    return found


def test_each_side_alone_and_both() -> None:
    dear, cheap = deck(rate("49", 90_000)), deck(rate("49", 24_000, "buy"), name="buy")
    assert (priced(None).amount_micro, priced(None).cost_micro, priced(None).changed) == (
        20_000,
        10_000,
        False,
    )
    assert (priced(dear).amount_micro, priced(dear).cost_micro, priced(dear).changed) == (
        30_000,
        10_000,
        True,
    )
    both = priced(dear, cheap)
    assert (both.amount_micro, both.cost_micro) == (30_000, 8_000)
    differs = Differences()
    assert [differs(one) for one in (priced(None), priced(dear), both, both)] == [
        "",
        "sell rate_micro",
        "sell rate_micro, buy rate_micro",
        "sell rate_micro, buy rate_micro",
    ]


def test_another_version_of_the_same_price_moves_no_money() -> None:
    same = priced(deck(rate("49", 60_000)))
    assert same.sell is not None
    assert same.sell.tariff.version == 2
    assert not same.changed
    assert Differences()(same) == ""


def test_the_longest_prefix_and_the_callers_origin() -> None:
    eu = rate("4930", 6_000, origin_set="eu")
    found = deck(rate("49", 90_000), rate("4930", 120_000), eu)
    assert priced(found).amount_micro == 40_000
    assert priced(found, origins=Origins({"eu": ["49"]})).amount_micro == 2_000
    assert priced(found).amount_micro == 40_000, "what is remembered is remembered for each origin"


def test_no_call_without_a_carrier_is_left_out() -> None:
    found = reprice(
        recorded(buy=None, cost_micro=0), SOLD, None, deck(rate("49", 90_000)), deck(name="buy"), NOBODY
    )
    assert isinstance(found, Repriced)
    assert (found.amount_micro, found.cost_micro, found.buy) == (30_000, 0, None)


def test_seconds_paid_by_allowances_stay_paid() -> None:
    found = priced(deck(rate("49", 90_000)), deck(rate("49", 60_000, "buy"), name="buy"), covered_s=15)
    assert found.amount_micro == 5 * 1_500
    assert found.cost_micro == 20 * 1_000, "the carrier is paid for all of them"


def test_the_band_in_force_at_the_answer() -> None:
    """Two hours of the day cost double."""
    band = Band("noon", frozenset(range(7)), 11 * 60, 13 * 60)
    peak = Deck("peak", "peak", "EUR", 1, [rate("493012", 120_000, "peak")])
    found = deck(rate("49", 60_000), bands=((band, peak),))
    assert priced(found).amount_micro == 40_000
    assert priced(found, answered_at=AT + timedelta(hours=2)).amount_micro == 20_000
    assert priced(found, b_number="+49891234567").amount_micro == 20_000, "the band's deck lacks it"


@pytest.mark.parametrize(
    ("sell", "buy", "why"),
    [
        (DeckThen(None), None, Skip.sell_no_rate),
        (deck(rate("44", 1)), None, Skip.sell_no_rate),
        (deck(rate("49", 1, blocked=True)), None, Skip.sell_blocked),
        (deck(rate("49", 1, currency="USD"), currency="USD"), None, Skip.sell_currency),
        (None, DeckThen(None), Skip.buy_no_rate),
        (None, deck(rate("49", 1, "buy", blocked=True), name="buy"), Skip.buy_blocked),
        (None, deck(rate("49", 1, "buy", "USD"), name="buy", currency="USD"), Skip.buy_currency),
        (deck(rate("49", 1)), DeckThen(None), Skip.buy_no_rate),
    ],
)
def test_what_cannot_be_priced_is_never_guessed(
    sell: DeckThen | None, buy: DeckThen | None, why: Skip
) -> None:
    assert again(sell, buy) is why
    assert why.words


def test_when_a_deck_is_in_force() -> None:
    hour = timedelta(hours=1)
    made = Deck("d", "d", "EUR", 1, ())
    assert DeckThen(made).covers(AT)
    assert [DeckThen(made, AT, AT + hour).covers(AT + hours * hour) for hours in (-1, 0, 1)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("frozen", ["", "{", "null", "[]", '"x"', "{}", '{"prefix": 49}'])
def test_frozen_tariffs_that_cannot_be_read(frozen: str) -> None:
    with pytest.raises((DeckError, ValueError)):
        Thaw()(frozen)


def test_sums_by_destination_and_currency() -> None:
    impact = Impact()
    dear = deck(rate("49", 90_000))
    for found in (priced(dear), priced(None), priced(dear, talk_s=40)):
        impact.add(found)
    dollars = Tariff(rate("1", 60_000, currency="USD"), 1)
    impact.add(Repriced(recorded(), dollars, BOUGHT, None, None))
    impact.skipped[Skip.live] += 2
    told = impact.to_json()
    assert {name: told[name] for name in ("calls", "changed", "unchanged", "skipped")} == {
        "calls": 6, "changed": 2, "unchanged": 2, "skipped": {"live": 2},
    }  # fmt: skip
    assert [one["destination"] for one in told["destinations"]] == ["place 1", "place 49"]
    euro, dollar = told["totals"]
    assert (euro["charge_before"], euro["charge_after"], euro["cost_before"]) == ("0.08", "0.11", "0.04")
    assert (euro["margin_before"], euro["margin_after"]) == ("0.04", "0.07")
    assert (dollar["currency"], dollar["cost_currency"], dollar["margin_after"]) == ("USD", "EUR", None)


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("a", "a", None),
        ("a@1", "a", 1),
        ("a b@12", "a b", 12),
        ("a@b", "a@b", None),
        ("a@", "a@", None),
        ("@3", "", 3),
    ],
)
def test_a_deck_and_its_version(text: str, name: str, version: int | None) -> None:
    assert versioned(text) == (name, version)
