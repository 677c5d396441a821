"""Whatever the prices: calls on their own deck stay as they are, and sums are the sums."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.impact import Impact
from bridge.calls.reprice import DeckThen, Recorded, Repriced, Thaw, reprice
from bridge.rating.charge import charge
from bridge.rating.deck import Deck
from bridge.rating.origin import Origins
from bridge.rating.rate import Rate
from bridge.telephony.money import parse_micro

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
NUMBERS = ("+493012345678", "+498912345678", "+4915112345678")


@st.composite
def decks(draw: st.DrawFn, name: str) -> Deck:
    """Prices for each of the numbers, by prefixes of different lengths."""
    prefixes = draw(st.sets(st.sampled_from(["493", "4930", "498", "4989", "49151", "4915112345678"])))
    rates = [
        Rate(
            f"r{prefix}", name, prefix, prefix, "EUR", draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6)),
            draw(st.integers(1, 90)), draw(st.integers(1, 90)), draw(st.integers(0, 90)),
            grace_s=draw(st.integers(0, 5)),
        )
        for prefix in sorted({"49", *prefixes})
    ]  # fmt: skip
    return Deck(name, name, "EUR", 1, rates)


calls = st.lists(st.tuples(st.sampled_from(NUMBERS), st.integers(1, 600_000)), min_size=1, max_size=20)


def record(place: int, number: str, talk_ms: int, sell: Deck, buy: Deck) -> Recorded:
    sold, bought = sell.tariff(number[1:]), buy.tariff(number[1:])
    assert sold is not None
    assert bought is not None
    charged, cost = charge(sold, talk_ms, answered_at=AT), charge(bought, talk_ms, answered_at=AT)
    return Recorded(
        UUID(int=place), UUID(int=0), "+49", number, AT, AT, talk_ms, 0, 0, UUID(int=place),
        json.dumps(sold.to_json()), charged.billed_s, charged.amount_micro,
        json.dumps(bought.to_json()), cost.billed_s, cost.amount_micro,
    )  # fmt: skip


@given(sell=decks("sell"), buy=decks("buy"), other=decks("sell"), made=calls)
def test_on_its_own_deck_and_on_another(
    sell: Deck, buy: Deck, other: Deck, made: list[tuple[str, int]]
) -> None:
    thaw, impact, expected = Thaw(), Impact(), 0
    own_sell, own_buy, new_sell = DeckThen(sell), DeckThen(buy), DeckThen(other)
    for place, (number, talk_ms) in enumerate(made):
        call = record(place, number, talk_ms, sell, buy)
        assert call.buy is not None
        sold, bought = thaw(call.sell), thaw(call.buy)
        same = reprice(call, sold, bought, own_sell, own_buy, Origins({}))
        assert isinstance(same, Repriced)
        assert not same.changed
        found = reprice(call, sold, bought, new_sell, None, Origins({}))
        tariff = other.tariff(number[1:])
        assert isinstance(found, Repriced)
        assert tariff is not None
        expected += charge(tariff, talk_ms, answered_at=AT).amount_micro
        assert found.cost_micro == call.cost_micro
        impact.add(found)
    (in_all,) = impact.to_json()["totals"]
    assert parse_micro(in_all["charge_after"]) == expected
    by_destination = [parse_micro(one["charge_after"]) for one in impact.to_json()["destinations"]]
    assert sum(by_destination) == expected
    assert parse_micro(in_all["margin_after"]) == expected - parse_micro(in_all["cost_after"])
