"""Admission: may this call be made, over which trunks, and how much money is set aside for it.

`decide` is the rule: values in, a Refuse or an Admission out. `Admissions` fetches what it needs and writes what it
decided: two round trips to the database, the second being the one atomic statement that re-checks what can race.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from bridge.calls.book import Book
from bridge.calls.frozen import Frozen
from bridge.calls.store import Caller, CallStore, SwitchCall
from bridge.config import Calls
from bridge.errors import StoreUnavailable
from bridge.rating.reserve import Reservation, reserve
from bridge.rating.tariff import Tariff
from bridge.routing.plan import RoutePlan
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.number import Number, barred, parse_caller, parse_dialled

# How often an admission is decided anew because another call took the money or the trunk first.
RACES_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may be made, and what is to be set aside for it."""

    b_number: Number
    sell: Tariff
    routes: RoutePlan
    reserved: Reservation


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admission that is written: the call exists and its money is held."""

    frozen: Frozen
    limit_ms: int
    cli: str


def decide(
    caller: Caller | None,
    number: Number | Refuse,
    book: Book,
    live: Mapping[str, int],
    rules: Calls,
    at: datetime,
    origins: Sequence[str] = (),
    paced: Collection[str] = (),
) -> Refuse | Admission:
    """In this order: number, account state, rollout, barred ranges, concurrency, balance and spend cap, route plan.

    live     calls now on each trunk that has a capacity, by trunk_id
    origins  the origin sets of the caller's number as received, the most specific first
    paced    trunks, by trunk_id, that take no more calls this second
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
    sell = subscribed.sell(number.digits, zone=caller.zone, on_net=caller.on_net, origins=origins)
    if sell is None or sell.currency != caller.currency:
        return refuse(RefuseReason.no_rate)
    rate = sell.at(at).rate
    if rate.blocked:
        return refuse(RefuseReason.barred_destination, f"prefix {rate.prefix}")
    reserved = reserve(
        sell, caller.allowances, number.digits, caller.budget_micro, cap_ms=rules.slice_s * 1000, at=at
    )
    # Without units or money a call may not begin, though its first seconds were free.
    if reserved.limit_ms <= (0 if reserved.burns else rate.grace_s * 1000):
        return refuse(RefuseReason.spend_cap if caller.capped else RefuseReason.no_credit)
    routes = book.router.plan(
        number,
        sell,
        live,
        margin_floor_micro=subscribed.margin_floor_micro,
        limit=rules.attempts_max,
        origins=origins,
        at=at,
        zero_rated=bool(sell.zero_rated),
        paced=paced,
    )
    if not routes.routes:
        return refuse(
            RefuseReason.no_route, "; ".join(f"{left.name}: {left.why}" for left in routes.left_out)
        )
    return Admission(number, sell.frozen(at), routes.frozen(at), reserved)


class Admissions:
    """Answers the switch's question for every call."""

    def __init__(self, store: CallStore, rules: Calls) -> None:
        self._store, self._rules = store, rules

    async def admit(self, asked: SwitchCall, book: Book, at: datetime) -> Refuse | Admitted:
        """Decide and write. A refusal is written, too.

        raises  StoreUnavailable: nothing was admitted, or its effect is unknown and expires by its lease
        """
        rules = self._rules
        presented = parse_caller(asked.caller, home=rules.home_region)
        number = parse_dialled(asked.dialled, home=rules.home_region)
        async with self._store.session() as session:
            b_number = number.e164 if isinstance(number, Number) else None
            on_net = b_number if book.on_net else None
            caller = None
            if isinstance(presented, Number):
                caller = await session.caller(asked.app, presented.e164, on_net, at)
            origins = book.origins.of(presented.digits) if isinstance(presented, Number) else ()
            live = await session.trunks_live() if book.capped else {}
            paced: set[str] = set()
            races = 0
            while races < RACES_MAX:
                races += 1
                verdict = decide(caller, number, book, live, rules, at, origins, paced)
                if isinstance(verdict, Refuse):
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
                    trunk_cps=trunk.cps,
                    reserved=verdict.reserved,
                    lease_s=self._lease_s(verdict),
                    at=at,
                )
                match written.status:
                    case "ok":
                        frozen = Frozen(
                            written.call_id,
                            verdict.sell,
                            verdict.routes.routes,
                            verdict.b_number.e164,
                            asked.sip_call_id,
                            bool(verdict.reserved.burns),
                            presented.e164,
                        )
                        return Admitted(frozen, verdict.reserved.limit_ms, presented.e164)
                    case "no_credit":
                        caller = replace(caller, available_micro=written.available_micro)
                    case "spend_cap":
                        caller = replace(caller, spend_left_micro=written.available_micro)
                    case "too_many_calls":
                        caller = replace(caller, live=caller.call_cap or 0)
                    case "units_gone":
                        caller = await session.caller(asked.app, presented.e164, on_net, at)
                    case "trunk_full":
                        live = {**live, trunk.trunk_id: trunk.capacity or 0}
                    case "trunk_paced":
                        paced.add(trunk.trunk_id)
                        races -= 1  # each trunk says so once, and then there are fewer
            raise StoreUnavailable(f"other calls of the account came first {RACES_MAX} times")

    async def foresee(self, first: SwitchCall, second: SwitchCall, book: Book, at: datetime) -> Refuse | None:
        """Would a second call of the same caller be refused while the first lasts? That refusal is written, too.

        returns  None: it would not; or the first would be, which its own admission will tell
        """
        rules = self._rules
        presented = parse_caller(first.caller, home=rules.home_region)
        if not isinstance(presented, Number):
            return None
        origins = book.origins.of(presented.digits)
        async with self._store.session() as session:
            live = await session.trunks_live() if book.capped else {}
            busy: Admission | None = None
            for asked in (first, second):
                number = parse_dialled(asked.dialled, home=rules.home_region)
                b_number = number.e164 if isinstance(number, Number) else None
                caller = await session.caller(
                    asked.app, presented.e164, b_number if book.on_net else None, at
                )
                if caller is not None and busy is not None:
                    left_micro = caller.available_micro - busy.reserved.hold_micro
                    caller = replace(caller, available_micro=left_micro, live=caller.live + 1)
                    taken = str(busy.routes.routes[0].trunk_id)
                    live = {**live, taken: live.get(taken, 0) + 1}
                verdict = decide(caller, number, book, live, rules, at, origins)
                if isinstance(verdict, Refuse):
                    if busy is None:
                        return None
                    await session.refuse(asked, caller, b_number, verdict)
                    return verdict
                busy = verdict
        return None

    def _lease_s(self, admission: Admission) -> int:
        """Ringing on every route, then the whole hold, then some grace: later than any such call can end."""
        ring_s = sum(route.ring_s for route in admission.routes.routes)
        return ring_s + admission.reserved.limit_ms // 1000 + self._rules.lease_grace_s
