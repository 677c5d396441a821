"""Calls from the network: whom they are for, who calls, and whether the trunk may bring one more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.calls.admit import Admitted
from bridge.calls.book import Book
from bridge.calls.caller import Caller, SwitchCall, caller_of
from bridge.calls.frozen import Frozen
from bridge.calls.ring import free, lease_s
from bridge.calls.store import CallStore, Session, compact
from bridge.calls.token import Token
from bridge.calls.way import LegClass, Way
from bridge.calls.whatsapp import MetaCall, keep_meta_call
from bridge.config import Calls, Messages
from bridge.rating.tariff import Tariff
from bridge.routing.plan import RoutePlan
from bridge.routing.store import TrunkPeer
from bridge.routing.trunk import VOIP_ONLY
from bridge.telephony.caller_id import CallerId, from_network
from bridge.telephony.cause import BUSY, Refuse, RefuseReason, refuse
from bridge.telephony.number import Number, parse_called

ANONYMOUS: Final = "anonymous"
GREETING_S: Final = 60  # longer than any greeting
NO_ROUTES: Final = RoutePlan((), ())


@dataclass(frozen=True, slots=True)
class Incoming:
    """A call that may ring its callee's phones."""

    caller: CallerId
    b_number: Number
    called: Caller
    sell: Tariff


def decide(
    peer: TrunkPeer,
    caller: CallerId | Refuse,
    number: Number | Refuse,
    called: Caller | None,
    book: Book,
    at: datetime,
) -> Refuse | Incoming:
    """In this order: trunk, caller's number, number called, whose it is, whether they can be rung.

    called   whose number it is; the account is theirs, and pays nothing
    """
    if peer.trunk.draining or not peer.trunk.enabled:
        return refuse(RefuseReason.no_route, "the trunk takes no new calls")
    if isinstance(caller, Refuse):
        return caller
    if isinstance(number, Refuse):
        return number
    if called is None:
        return refuse(RefuseReason.unknown_number)
    if called.subscriber_state != "active" or called.account_state != "active":
        return refuse(RefuseReason.not_reachable, "not active")
    if not called.allowed:
        return refuse(RefuseReason.not_reachable, "not invited")
    plan = book.plans[called.plan_id]
    if plan.deck.currency != called.currency:
        return refuse(RefuseReason.not_reachable, "no rate")
    return Incoming(caller, number, called, free(plan, number).frozen(at))


def leg_class(peer: TrunkPeer) -> LegClass:
    return "voip_only" if peer.trunk.policy_class == VOIP_ONLY else "pstn"


class Inbound:
    """Answers the switch's question for every call that comes in over a trunk."""

    def __init__(self, store: CallStore, rules: Calls, messages: Messages) -> None:
        self._store, self._rules, self.messages = store, rules, messages

    async def admit(self, asked: SwitchCall, peer: TrunkPeer, book: Book, at: datetime) -> Refuse | Admitted:
        """Decide and write. A refusal is written, too.

        asked    app: the trunk's name; anonymous: the caller asked not to be shown
        raises   StoreUnavailable: nothing was admitted, or its effect is unknown and expires by its lease
        """
        home = self._rules.home_region
        caller = from_network(
            asked.caller, origin=peer.origin, private=asked.anonymous, form=peer.writing.a_format, home=home
        )
        number = parse_called(asked.dialled, home=home)
        async with self._store.session() as session:
            b_number = number.e164 if isinstance(number, Number) else None
            row = await queries.inbound.called.one(session.conn, b_number=b_number) if b_number else None
            called = caller_of(row) if row is not None else None
            verdict = decide(peer, caller, number, called, book, at)
            if not isinstance(verdict, Refuse):
                written = await self._write(session, asked, peer, verdict, at)
                if isinstance(written, Admitted):
                    return written
                verdict = written
            await self._refuse(session, asked, peer, caller, called, b_number, verdict)
            return verdict

    async def message_begins(self, token: Token) -> int | None:
        """The number of the attempt that takes a message; None: the call is over.

        raises   StoreUnavailable
        """
        lease_s = GREETING_S + self.messages.message_s_max + self._rules.lease_grace_s
        async with self._store.session() as session:
            begun: int | None = await queries.inbound.message_begins.value(
                session.conn, call_id=token.call_id, attempt_no=token.attempt_no, lease_s=float(lease_s)
            )
        return begun

    async def keep_meta(self, call_id: UUID, told: MetaCall) -> None:
        """raises   StoreUnavailable"""
        async with self._store.session() as session:
            await keep_meta_call(session.conn, call_id, told)

    async def _write(
        self, session: Session, asked: SwitchCall, peer: TrunkPeer, call: Incoming, at: datetime
    ) -> Refuse | Admitted:
        shown, known = call.caller.shown, call.caller.number
        a_number = shown.e164 if shown else ANONYMOUS
        called, trunk = call.called, peer.trunk
        limit_ms = self._rules.talk_s_max * 1000
        row = await queries.inbound.admit_inbound.one(
            session.conn,
            switch_id=self._store.switch_id,
            uniqueid=asked.uniqueid,
            sip_call_id=asked.sip_call_id,
            channel=asked.channel,
            callee_id=called.subscriber_id,
            account_id=called.account_id,
            a_number=a_number,
            dialled=asked.dialled,
            b_number=call.b_number.e164,
            sell=compact(call.sell.to_json()),
            routes=compact(NO_ROUTES.to_json()),
            currency=call.sell.currency,
            limit_ms=limit_ms,
            lease_s=lease_s(self._rules),
            at=at,
            trunk_id=trunk.trunk_id,
            trunk_cap=trunk.capacity,
            trunk_cps=trunk.cps,
            leg_class=leg_class(peer),
            anonymous=shown is None,
            withheld=known.e164 if known and not shown else None,
            why=call.caller.withheld,
            wake_s=self._rules.wake_s,
        )
        match row["status"]:
            case "ok":
                pass
            case "busy":
                return Refuse(RefuseReason.too_many_calls, BUSY, f"{called.call_cap} at a time")
            case "trunk_full":
                return refuse(RefuseReason.overloaded, f"{trunk.name} has {trunk.capacity} calls")
            case "trunk_paced":
                return refuse(RefuseReason.overloaded, f"{trunk.name} has {trunk.cps} calls this second")
            case _:
                return refuse(RefuseReason.not_reachable, "not active")
        frozen = Frozen(
            row["call_id"],
            call.sell,
            (),
            call.b_number.e164,
            asked.sip_call_id,
            a_number=a_number,
            subscriber_id=called.subscriber_id,
            way=_way(peer, called, anonymous=shown is None),
        )
        return Admitted(frozen, limit_ms, a_number, bool(row["reached"]))

    async def _refuse(
        self,
        session: Session,
        asked: SwitchCall,
        peer: TrunkPeer,
        caller: CallerId | Refuse,
        called: Caller | None,
        b_number: str | None,
        verdict: Refuse,
    ) -> None:
        """Who is not to be shown stands in nothing the callee's partner reads. A number that ends calls is ours."""
        hidden = isinstance(caller, CallerId) and caller.shown is None
        if hidden:
            asked = replace(asked, caller=ANONYMOUS)
        ours = isinstance(caller, Refuse)
        way = _way(peer, None if ours else called, anonymous=hidden)
        await session.refuse(asked, None if ours else called, b_number, verdict, way)


def _way(peer: TrunkPeer, called: Caller | None, *, anonymous: bool) -> Way:
    callee_id = called.subscriber_id if called else None
    return Way("in", callee_id, UUID(peer.trunk.trunk_id), leg_class(peer), anonymous)
