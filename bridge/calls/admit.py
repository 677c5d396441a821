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
from bridge.calls.caller import Callee, Caller, SwitchCall
from bridge.calls.frozen import Frozen
from bridge.calls.on_net import whose_phones, would_ring_them
from bridge.calls.permit import permitted
from bridge.calls.ring import Ring, lease_s, not_reached, ring
from bridge.calls.store import CallStore, Session
from bridge.calls.way import OUT, LegClass, Way
from bridge.config import Calls
from bridge.errors import StoreUnavailable
from bridge.rating.plan import Plan
from bridge.rating.reserve import Reservation, reserve
from bridge.rating.tariff import Tariff
from bridge.routing.plan import RoutePlan
from bridge.routing.trunk import PSTN, leg_may
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.endpoint import subscriber_of
from bridge.telephony.number import Number, may_be_anonymous, parse_caller, parse_dialled, parse_shown

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
    """An admission that is written: the call exists and its money is held.

    reached   of a call that rings phones: one is there
    """

    frozen: Frozen
    limit_ms: int
    cli: str
    reached: bool = False


def decide(
    caller: Caller | None,
    number: Number | Refuse,
    book: Book,
    live: Mapping[str, int],
    rules: Calls,
    at: datetime,
    origins: Sequence[str] = (),
    paced: Collection[str] = (),
    leg_class: LegClass = "app",
) -> Refuse | Admission:
    """Over a carrier. First whether it is permitted, then balance and spend cap, then the route plan.

    live       calls now on each trunk that has a capacity, by trunk_id
    origins    the origin sets of the caller's number as received, the most specific first
    paced      trunks, by trunk_id, that take no more calls this second
    leg_class  of the caller's leg: not each may meet the phone network
    """
    if not leg_may(leg_class, PSTN):
        return refuse(RefuseReason.policy_class, f"a {leg_class} leg never meets the phone network")
    allowed = permitted(caller, number)
    if isinstance(allowed, Refuse):
        return allowed
    caller, number = allowed
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
        leg_class=leg_class,
    )
    if not routes.routes:
        return refuse(
            RefuseReason.no_route, "; ".join(f"{left.name}: {left.why}" for left in routes.left_out)
        )
    return Admission(number, sell.frozen(at), routes.frozen(at), reserved)


@dataclass(frozen=True, slots=True)
class _Case:
    """One admission: who calls whom, and on which book it is decided.

    presented  the number the caller is seen with; None: it is none
    """

    session: Session
    asked: SwitchCall
    book: Book
    at: datetime
    number: Number | Refuse
    caller: Caller | None
    presented: Number | None

    @property
    def origins(self) -> Sequence[str]:
        return self.book.origins.of(self.presented.digits) if self.presented else ()

    async def refuse(self, caller: Caller | None, refused: Refuse, way: Way) -> Refuse:
        """Write the refusal down."""
        b_number = self.number.e164 if isinstance(self.number, Number) else None
        await self.session.refuse(self.asked, caller, b_number, refused, way)
        return refused


class Admissions:
    """Answers the switch's question for every call."""

    def __init__(self, store: CallStore, rules: Calls) -> None:
        self._store, self._rules = store, rules

    async def admit(self, asked: SwitchCall, book: Book, at: datetime) -> Refuse | Admitted:
        """Decide and write. A refusal is written, too.

        raises  StoreUnavailable: nothing was admitted, or its effect is unknown and expires by its lease
        """
        number = parse_dialled(asked.dialled, home=self._rules.home_region)
        b_number = number.e164 if isinstance(number, Number) else None
        async with self._store.session() as session:
            caller, presented = await self._who(session, asked, b_number if book.on_net else None, at)
            case = _Case(session, asked, book, at, number, caller, presented)
            callee = await whose_phones(session.conn, book, caller, number)
            if callee is not None and (verdict := await self._ring(case, callee)) is not None:
                return verdict
            return await self._carry(case, Way(anonymous=_anonymous(asked, number)))

    async def go_on(self, first: Frozen, asked: SwitchCall, book: Book, at: datetime) -> Refuse | Admitted:
        """Over a carrier, what reached no phone: as a call of its own. The first one must have ended."""
        number, presented = Number(first.b_number), Number(first.a_number)
        assert first.subscriber_id is not None
        async with self._store.session() as session:
            to = number.e164 if book.on_net else None
            caller = await session.caller_known(first.subscriber_id, to, at, shown=presented.e164)
            case = _Case(session, asked, book, at, number, caller, presented)
            way = Way(
                leg_class=first.way.leg_class, anonymous=first.way.anonymous, after_call_id=first.call_id
            )
            return await self._carry(case, way)

    async def plan_of(self, first: Frozen, book: Book, at: datetime) -> Plan | None:
        """What the caller of a call pays by now."""
        assert first.subscriber_id is not None
        async with self._store.session() as session:
            caller = await session.caller_known(first.subscriber_id, None, at)
        return book.plans.get(caller.plan_id) if caller is not None else None

    async def _who(
        self, session: Session, asked: SwitchCall, on_net: str | None, at: datetime
    ) -> tuple[Caller | None, Number | None]:
        """Who calls, and the number they are seen with. A user's phone is believed who it is, a gateway the number."""
        subscriber_id = subscriber_of(asked.app)
        if subscriber_id is None:
            seen = parse_caller(asked.caller, home=self._rules.home_region)
            if not isinstance(seen, Number):
                return None, None
            return await session.caller(asked.app, seen.e164, on_net, at), seen
        shown = parse_shown(asked.shown, home=self._rules.home_region) if asked.shown else None
        wanted = shown.e164 if isinstance(shown, Number) else None
        caller = await session.caller_known(subscriber_id, on_net, at, shown=wanted)
        if caller is None:
            return None, None
        if isinstance(shown, Refuse):
            caller = replace(caller, may_show=False)
        return caller, shown if isinstance(shown, Number) else Number(caller.a_number)

    async def _ring(self, case: _Case, callee: Callee) -> Refuse | Admitted | None:
        """Ring the callee's phones, or say why not. None: it goes over a carrier."""
        caller, presented, rules = case.caller, case.presented, self._rules
        assert caller is not None and presented is not None
        asked = case.asked
        way = Way("on_net", callee.subscriber_id, anonymous=_anonymous(asked, case.number))
        while True:
            verdict = ring(
                caller, case.number, callee, case.book, origins=case.origins, to_self=asked.to_self
            )
            if isinstance(verdict, Refuse):
                return await case.refuse(caller, verdict, way)
            rung = await case.session.ring(
                asked,
                caller,
                presented.e164,
                verdict.b_number.e164,
                verdict.sell.frozen(case.at),
                way,
                activate=verdict.activate,
                limit_ms=rules.talk_s_max * 1000,
                lease_s=lease_s(rules),
                wake_s=rules.wake_s,
                at=case.at,
            )
            match rung.status:
                case "ok":
                    assert rung.call_id is not None
                    frozen = Frozen(
                        rung.call_id,
                        verdict.sell.frozen(case.at),
                        (),
                        verdict.b_number.e164,
                        asked.sip_call_id,
                        False,
                        presented.e164,
                        caller.subscriber_id,
                        way,
                    )
                    return Admitted(frozen, rules.talk_s_max * 1000, presented.e164, reached=rung.reached)
                case "too_many_calls":
                    caller = replace(caller, live=caller.call_cap or 0)
                case "no_credit":  # it needs none: the account is not active any more
                    caller = replace(caller, account_state="suspended")
                case why:
                    refused = not_reached(case.book.plans[caller.plan_id], why)
                    return refused and await case.refuse(caller, refused, way)

    async def _carry(self, case: _Case, way: Way) -> Refuse | Admitted:
        """Over a carrier."""
        session, asked, book, at, number = case.session, case.asked, case.book, case.at, case.number
        caller, presented = case.caller, case.presented
        live = await session.trunks_live() if book.capped else {}
        paced: set[str] = set()
        races = 0
        while races < RACES_MAX:
            races += 1
            verdict = decide(caller, number, book, live, self._rules, at, case.origins, paced, way.leg_class)
            if isinstance(verdict, Refuse):
                return await case.refuse(caller, verdict, way)
            assert caller is not None and presented is not None
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
                way=way,
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
                        caller.subscriber_id,
                        way,
                    )
                    return Admitted(frozen, verdict.reserved.limit_ms, presented.e164)
                case "no_credit":
                    caller = replace(caller, available_micro=written.available_micro)
                case "spend_cap":
                    caller = replace(caller, spend_left_micro=written.available_micro)
                case "too_many_calls":
                    caller = replace(caller, live=caller.call_cap or 0)
                case "units_gone":
                    to = verdict.b_number.e164 if book.on_net else None
                    caller = await session.caller_known(caller.subscriber_id, to, at)
                case "trunk_full":
                    live = {**live, trunk.trunk_id: trunk.capacity or 0}
                case "trunk_paced":
                    paced.add(trunk.trunk_id)
                    races -= 1  # each trunk says so once, and then there are fewer
        raise StoreUnavailable(f"other calls of the account came first {RACES_MAX} times")

    async def foresee(self, first: SwitchCall, second: SwitchCall, book: Book, at: datetime) -> Refuse | None:
        """Would a second call of the same caller be refused while the first lasts? That refusal is written, too.

        Where phones ring, neither money nor a trunk is taken: whether one is there, and what becomes of the call if
        none is, is not foreseen.

        returns  None: it would not; or the first would be, which its own admission will tell
        """
        rules = self._rules
        presented = parse_caller(first.caller, home=rules.home_region)
        if not isinstance(presented, Number):
            return None
        origins = book.origins.of(presented.digits)
        async with self._store.session() as session:
            live = await session.trunks_live() if book.capped else {}
            busy: Admission | Ring | None = None
            for asked in (first, second):
                number = parse_dialled(asked.dialled, home=rules.home_region)
                b_number = number.e164 if isinstance(number, Number) else None
                caller = await session.caller(
                    asked.app, presented.e164, b_number if book.on_net else None, at
                )
                if caller is not None and busy is not None:
                    caller = replace(caller, live=caller.live + 1)
                if caller is not None and isinstance(busy, Admission):
                    left_micro = caller.available_micro - busy.reserved.hold_micro
                    caller = replace(caller, available_micro=left_micro)
                    taken = str(busy.routes.routes[0].trunk_id)
                    live = {**live, taken: live.get(taken, 0) + 1}
                callee = await whose_phones(session.conn, book, caller, number)
                rung, way = None, OUT
                if caller is not None and callee is not None:
                    rung = await would_ring_them(
                        session.conn, book, caller, number, callee, at, origins, to_self=asked.to_self
                    )
                    way = Way("on_net", callee.subscriber_id) if rung is not None else OUT
                verdict = rung or decide(caller, number, book, live, rules, at, origins)
                if isinstance(verdict, Refuse):
                    if busy is None:
                        return None
                    await session.refuse(asked, caller, b_number, verdict, way)
                    return verdict
                busy = verdict
        return None

    def _lease_s(self, admission: Admission) -> int:
        """Ringing on every route, then the whole hold, then some grace: later than any such call can end."""
        ring_s = sum(route.ring_s for route in admission.routes.routes)
        return ring_s + admission.reserved.limit_ms // 1000 + self._rules.lease_grace_s


def _anonymous(asked: SwitchCall, number: Number | Refuse) -> bool:
    """Whether the caller is not to be seen. Some must always see them."""
    return asked.anonymous and (isinstance(number, Refuse) or may_be_anonymous(number))
