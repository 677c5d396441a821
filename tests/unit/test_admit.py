"""The rule of admission: in which order a call is refused, and what an admitted one holds."""

from dataclasses import replace
from uuid import UUID

import pytest

from bridge.calls.admit import Admission, decide
from bridge.calls.book import Book
from bridge.calls.store import Caller
from bridge.config import Calls
from bridge.rating.deck import Deck
from bridge.rating.rate import Rate
from bridge.rating.store import Plan
from bridge.routing.store import TrunkPeer
from bridge.routing.trunk import Trunk
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.number import Number, parse_dialled

ID = UUID("01a203c8-4c13-7987-9c96-f6a99d52ec62")
BERLIN = Number("+493023125000")
RULES = Calls(slice_s=120)


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
    verdict = decide(caller, number, book(capacity=capacity), live or {}, RULES)
    return verdict.reason.value if isinstance(verdict, Refuse) else "admitted"


def test_an_admitted_call_holds_a_slice():
    verdict = decide(CALLER, BERLIN, book(), {}, RULES)
    assert isinstance(verdict, Admission)
    assert (verdict.limit_ms, verdict.hold_micro) == (120_000, 120_000)
    assert [route.name for route in verdict.routes.routes] == ["alpha"]


def test_little_money_holds_what_there_is():
    verdict = decide(replace(CALLER, available_micro=119_999), BERLIN, book(), {}, RULES)
    assert isinstance(verdict, Admission)
    assert (verdict.limit_ms, verdict.hold_micro) == (60_000, 60_000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subscriber_state": "suspended"}, "account_suspended"),
        ({"account_state": "closed"}, "account_suspended"),
        ({"allowed": False}, "not_invited"),
        ({"live": 2}, "too_many_calls"),
        ({"available_micro": 59_999}, "no_credit"),
        ({"available_micro": -5}, "no_credit"),
        ({"currency": "USD"}, "no_rate"),
    ],
)
def test_each_refusal(changes, expected):
    assert reason(replace(CALLER, **changes)) == expected


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


def test_a_place_nobody_sells():
    assert reason(number=Number("+15555550123")) == "no_rate"


def test_what_the_network_cannot_dial_is_barred_not_invalid():
    assert reason(number=parse_dialled("11833")) == RefuseReason.barred_destination.value
