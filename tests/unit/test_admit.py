"""The rule of admission: in which order a call is refused, and what an admitted one holds."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from bridge.calls.admit import Admission, decide
from bridge.calls.book import Book
from bridge.calls.store import Caller
from bridge.config import Calls
from bridge.rating.allowance import Allowance
from bridge.rating.bands import Band
from bridge.rating.deck import Deck
from bridge.rating.plan import Plan
from bridge.rating.rate import Rate
from bridge.routing.store import TrunkPeer
from bridge.routing.trunk import Trunk
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.number import Number, parse_dialled

ID = UUID("01a203c8-4c13-7987-9c96-f6a99d52ec62")
BERLIN = Number("+493023125000")
RULES = Calls(slice_s=120)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def deck(name: str, **rates: int) -> Deck:
    made = [Rate(name, name, prefix.strip("p"), prefix, "EUR", micro) for prefix, micro in rates.items()]
    return Deck(name, name, "EUR", 1, made)


def book(*, capacity: int | None = None) -> Book:
    trunk = Trunk("t1", "alpha", "carrier alpha", deck("buy", p49=10_000), capacity)
    return Book(
        plans={"p1": Plan("p1", "standard", deck("sell", p49=60_000), 0)},
        peers={"t1": TrunkPeer(trunk, "c1", "127.0.0.1", 5060)},
        revenue={"EUR": "r"},
        cost={"EUR": "c"},
        changes_at=None,
    )


CALLER = Caller(ID, ID, "p1", "active", "active", "EUR", 1_000_000, 2, True, 0)


def reason(caller: Caller | None = CALLER, number: Number | Refuse = BERLIN, live=None, capacity=None) -> str:
    verdict = decide(caller, number, book(capacity=capacity), live or {}, RULES, NOW)
    return verdict.reason.value if isinstance(verdict, Refuse) else "admitted"


def test_an_admitted_call_holds_a_slice():
    verdict = decide(CALLER, BERLIN, book(), {}, RULES, NOW)
    assert isinstance(verdict, Admission)
    assert (verdict.reserved.limit_ms, verdict.reserved.hold_micro) == (120_000, 120_000)
    assert [route.name for route in verdict.routes.routes] == ["alpha"]


def test_little_money_holds_what_there_is():
    verdict = decide(replace(CALLER, available_micro=119_999), BERLIN, book(), {}, RULES, NOW)
    assert isinstance(verdict, Admission)
    assert (verdict.reserved.limit_ms, verdict.reserved.hold_micro) == (60_000, 60_000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subscriber_state": "suspended"}, "account_suspended"),
        ({"subscriber_state": "pending"}, "account_suspended"),
        ({"subscriber_state": "closed"}, "account_suspended"),
        ({"account_state": "closed"}, "account_suspended"),
        ({"allowed": False}, "not_invited"),
        ({"live": 2}, "too_many_calls"),
        ({"available_micro": 59_999}, "no_credit"),
        ({"available_micro": -5}, "no_credit"),
        ({"spend_left_micro": 59_999}, "spend_cap"),
        ({"spend_left_micro": -5}, "spend_cap"),
        ({"spend_left_micro": 60_000}, "admitted"),
        ({"spend_left_micro": 5, "available_micro": 4}, "no_credit"),
        ({"currency": "USD"}, "no_rate"),
    ],
)
def test_each_refusal(changes, expected):
    assert reason(replace(CALLER, **changes)) == expected


def test_a_leg_from_whatsapp_goes_over_no_carrier_whoever_it_is_and_however_it_could_pay():
    for caller in (CALLER, replace(CALLER, account_state="closed"), None):
        verdict = decide(caller, BERLIN, book(), {}, RULES, NOW, leg_class="voip_only")
        assert isinstance(verdict, Refuse) and verdict.reason is RefuseReason.policy_class
    assert isinstance(decide(CALLER, BERLIN, book(), {}, RULES, NOW, leg_class="pstn"), Admission)


def test_the_order_of_refusals():
    """Each one hides those after it: whoever is suspended does not learn that there is no credit either."""
    barred = parse_dialled("0900123456")
    broken = parse_dialled("12$3")
    worst = replace(CALLER, account_state="suspended", allowed=False, live=9, available_micro=0)
    assert reason(worst, broken) == "invalid_number"
    assert reason(None, barred) == "unknown_caller"
    assert reason(worst, barred) == "account_suspended"
    worst = replace(worst, account_state="active")
    assert reason(worst, barred) == "not_invited"
    worst = replace(worst, allowed=True)
    assert reason(worst, barred) == "barred_destination"
    assert reason(worst) == "too_many_calls"
    worst = replace(worst, live=0)
    assert reason(worst) == "no_credit"
    assert reason(live={"t1": 1}, capacity=1) == "no_route"


def test_grace_lets_nobody_in_without_money():
    """Its first ten seconds are free, but only to who could pay for the eleventh."""
    graced = Deck("g", "g", "EUR", 1, [Rate("r", "g", "49", "Germany", "EUR", 60_000, grace_s=10)])
    sold = replace(book(), plans={"p1": Plan("p1", "standard", graced, 0)})
    for available_micro, admitted in ((0, False), (59_999, False), (60_000, True)):
        caller = replace(CALLER, available_micro=available_micro)
        verdict = decide(caller, BERLIN, sold, {}, RULES, NOW)
        assert isinstance(verdict, Admission) is admitted
    last_unit = replace(CALLER, available_micro=0, allowances=(Allowance("a", "b", 5, 1),))
    verdict = decide(last_unit, BERLIN, sold, {}, RULES, NOW)
    assert isinstance(verdict, Admission)
    assert verdict.reserved.limit_ms == 10_000, "not longer than what is free anyway"


def test_a_band_may_bar_what_the_day_allows():
    barred = Deck("n", "n", "EUR", 1, [Rate("r", "n", "49", "Germany", "EUR", 1, blocked=True)])
    night = Band("night", frozenset(range(8)), 22 * 60, 6 * 60)
    priced = Deck(
        "d", "d", "EUR", 1, [Rate("r", "d", "49", "Germany", "EUR", 60_000)], bands=((night, barred),)
    )
    sold = replace(book(), plans={"p1": Plan("p1", "standard", priced, 0)})
    assert isinstance(decide(CALLER, BERLIN, sold, {}, RULES, NOW), Admission)
    late = decide(CALLER, BERLIN, sold, {}, RULES, NOW.replace(hour=23))
    assert isinstance(late, Refuse)
    assert late.reason is RefuseReason.barred_destination


def test_a_place_nobody_sells():
    assert reason(number=Number("+15555550123")) == "no_rate"


def test_what_the_network_cannot_dial_is_barred_not_invalid():
    assert reason(number=parse_dialled("11833")) == RefuseReason.barred_destination.value
