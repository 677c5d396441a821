"""The rule of calls to another user of the same app: their phones ring, and nobody pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.calls.book import Book
from bridge.calls.caller import Callee, Caller
from bridge.calls.permit import permitted
from bridge.config import Calls
from bridge.rating.plan import Plan
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.number import Number

ON_NET: Final = "on-net"
# What the rollout says of a callee who may be rung; see the SQL function rollout_called_v1.
LET_IN: Final = frozenset({"activated", "enabled"})
# What it says of one who waits for an invitation, and whom this call does not let in.
KEPT_OUT: Final = frozenset({"no_window", "quota", "limit", "wave", "loop", "keyed"})


@dataclass(frozen=True, slots=True)
class Ring:
    """A call that may ring its callee's phones.

    activate  they may not use the app yet; the call may enable them, or else reaches nobody
    """

    b_number: Number
    callee: Callee
    sell: Tariff
    activate: bool


def ring(
    caller: Caller,
    number: Number | Refuse,
    callee: Callee,
    book: Book,
    *,
    origins: Sequence[str] = (),
    to_self: bool = False,
) -> Refuse | Ring:
    """Money is no question here.

    to_self   nobody calls themselves, but the first leg of an ordered call rings whoever ordered it
    """
    allowed = permitted(caller, number)
    if isinstance(allowed, Refuse):
        return allowed
    if callee.subscriber_id == caller.subscriber_id and not to_self:
        return refuse(RefuseReason.own_number)
    plan = book.plans[caller.plan_id]
    if plan.deck.currency != caller.currency:
        return refuse(RefuseReason.no_rate)
    _, to = allowed
    return Ring(to, callee, free(plan, to, origins), activate=not callee.allowed)


def free(plan: Plan, number: Number, origins: Sequence[str] = ()) -> Tariff:
    """What such a call is sold for: nothing. It is written down like any other, with the destination's name."""
    tariff = plan.deck.tariff(number.digits, origins)
    if tariff is not None and not tariff.rate.blocked:
        return tariff.free(ON_NET)
    rate = Rate("", plan.deck.deck_id, number.digits, ON_NET, plan.deck.currency, 0, initial_s=1, next_s=1)
    return Tariff(rate, zero_rated=ON_NET)


def not_reached(plan: Plan, why: str) -> Refuse | None:
    """What becomes of a call that reached no phone. None: it goes on over a carrier, for that is what the plan says.

    why   no_phone, or what the rollout said of a callee who is not enabled
    """
    if plan.on_net_fallback:
        return None
    return refuse(RefuseReason.not_enabled if why in KEPT_OUT else RefuseReason.not_reachable, why)


def lease_s(rules: Calls) -> int:
    """Waiting for a phone, ringing, the longest talk, then some grace: later than any such call can end."""
    return rules.wake_s + rules.app_ring_s + rules.talk_s_max + rules.lease_grace_s
