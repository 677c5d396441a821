"""Admission: may this call be made, over which trunks, and how much money is set aside for it.

`decide` is the rule: values in, a Refuse or an Admission out. `Admissions` fetches what it needs and writes what it
decided: two round trips to the database, the second being the one atomic statement that re-checks what can race.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bridge.calls.book import Book
from bridge.calls.frozen import Frozen
from bridge.calls.store import Caller, CallStore, SwitchCall
from bridge.config import Calls
from bridge.errors import StoreUnavailable
from bridge.rating.charge import affordable_ms, charge
from bridge.rating.tariff import Tariff
from bridge.routing.plan import RoutePlan, plan
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.number import Number, barred, parse_caller, parse_dialled

# How often an admission is decided anew because another call took the money or the trunk first.
RACES_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may be made. limit_ms: talk time the hold pays for."""

    b_number: Number
    sell: Tariff
    routes: RoutePlan
    hold_micro: int
    limit_ms: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admission that is written: the call exists and its money is held."""

    frozen: Frozen
    limit_ms: int
    cli: str


def decide(
    caller: Caller | None, number: Number | Refuse, book: Book, live: Mapping[str, int], rules: Calls
) -> Refuse | Admission:
    """In this order: number, account state, rollout, barred ranges, concurrency, balance, route plan.

    live   calls now on each trunk that has a capacity, by trunk_id
    """
    if isinstance(number, Refuse) and number.reason is RefuseReason.invalid_number:
        return number
    if caller is None:
        return refuse(RefuseReason.unknown_caller)
    if caller.subscriber_state != "active" or caller.account_state != "active":
        return refuse(RefuseReason.account_suspended)
    if not caller.allowed:
        return refuse(RefuseReason.not_invited)
    if isinstance(number, Refuse):
        return number
    if (range_name := barred(number)) is not None:
        return refuse(RefuseReason.barred_destination, range_name)
    if caller.call_cap is not None and caller.live >= caller.call_cap:
        return refuse(RefuseReason.too_many_calls, f"{caller.live} of {caller.call_cap}")
    subscribed = book.plans[caller.plan_id]
    sell = subscribed.deck.tariff(number.digits)
    if sell is None or sell.currency != caller.currency:
        return refuse(RefuseReason.no_rate)
    if sell.rate.blocked:
        return refuse(RefuseReason.barred_destination, f"prefix {sell.rate.prefix}")
    limit_ms = affordable_ms(sell, caller.available_micro, cap_ms=rules.slice_s * 1000)
    if limit_ms <= 0:
        return refuse(RefuseReason.no_credit)
    routes = plan(
        number,
        sell,
        book.trunks,
        live,
        margin_floor_micro=subscribed.margin_floor_micro,
        limit=rules.attempts_max,
    )
    if not routes.routes:
        return refuse(
            RefuseReason.no_route, "; ".join(f"{left.name}: {left.why}" for left in routes.left_out)
        )
    return Admission(number, sell, routes, charge(sell, limit_ms).amount_micro, limit_ms)


class Admissions:
    """Answers the switch's question for every call."""

    def __init__(self, store: CallStore, rules: Calls) -> None:
        self._store, self._rules = store, rules

    async def admit(self, asked: SwitchCall, book: Book) -> Refuse | Admitted:
        """Decide and write. A refusal is written, too.

        raises  StoreUnavailable: nothing was admitted, or its effect is unknown and expires by its lease
        """
        rules = self._rules
        presented = parse_caller(asked.caller, home=rules.home_region)
        number = parse_dialled(asked.dialled, home=rules.home_region)
        async with self._store.session() as session:
            caller = None
            if isinstance(presented, Number):
                caller = await session.caller(asked.app, presented.e164)
            live = await session.trunks_live() if book.capped else {}
            for _ in range(RACES_MAX):
                verdict = decide(caller, number, book, live, rules)
                if isinstance(verdict, Refuse):
                    b_number = number.e164 if isinstance(number, Number) else None
                    await session.refuse(asked, caller, b_number, verdict)
                    return verdict
                assert caller is not None and isinstance(presented, Number)
                trunk = book.peers[verdict.routes.routes[0].trunk_id].trunk
                written = await session.admit(
                    asked,
                    caller,
                    presented.e164,
                    verdict.b_number.e164,
                    verdict.sell,
                    verdict.routes,
                    trunk_cap=trunk.capacity,
                    hold_micro=verdict.hold_micro,
                    limit_ms=verdict.limit_ms,
                    lease_s=self._lease_s(verdict),
                )
                match written.status:
                    case "ok":
                        frozen = Frozen(
                            written.call_id,
                            verdict.sell,
                            verdict.routes.routes,
                            verdict.b_number.e164,
                            asked.sip_call_id,
                        )
                        return Admitted(frozen, verdict.limit_ms, presented.e164)
                    case "no_credit":
                        caller = replace(caller, available_micro=written.available_micro)
                    case "too_many_calls":
                        caller = replace(caller, live=caller.call_cap or 0)
                    case "trunk_full":
                        live = {**live, trunk.trunk_id: trunk.capacity or 0}
            raise StoreUnavailable(f"other calls of the account came first {RACES_MAX} times")

    def _lease_s(self, admission: Admission) -> int:
        """Ringing on every route, then the whole hold, then some grace: later than any such call can end."""
        ring_s = sum(route.ring_s for route in admission.routes.routes)
        return ring_s + admission.limit_ms // 1000 + self._rules.lease_grace_s
