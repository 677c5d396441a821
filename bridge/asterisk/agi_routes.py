"""What the dialplan asks and what it is answered: authorise, inbound, originate, awaited, attempt-ended, call-ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, cast
from urllib.parse import unquote
from uuid import UUID

import structlog

from bridge.asterisk.agi_header import Request
from bridge.asterisk.agi_server import Handler, Wait
from bridge.asterisk.channel_vars import Verdict, dial, endpoint_of, stop
from bridge.asterisk.inbound_routes import InboundRoutes, leave_message
from bridge.asterisk.records import parse_cause, parse_end, parse_pdd
from bridge.asterisk.ring_routes import WAIT_GRACE_S, RingRoutes
from bridge.calls.admit import Admissions, Admitted
from bridge.calls.book import Book
from bridge.calls.end import Endings
from bridge.calls.ended import instant
from bridge.calls.inbound import Inbound
from bridge.calls.originate import Leg, LegName, Legs
from bridge.calls.overload import OVERLOADED, Order, Overload, Passage
from bridge.calls.reach import Reach
from bridge.calls.store import CallStore, SwitchCall
from bridge.calls.token import Token, parse_token
from bridge.config import Calls, Messages
from bridge.errors import StoreUnavailable
from bridge.routing.plan import Route
from bridge.routing.store import TrunkPeer
from bridge.telephony.caller_id import wants_privacy
from bridge.telephony.cause import Refuse, RefuseReason, classify, parse_tech_cause, refuse
from bridge.telephony.number import mask
from bridge.telephony.writing import AS_IS

ATTEMPT_ARGS: Final = 7
MESSAGES: Final = Messages()
UNAVAILABLE: Final = refuse(RefuseReason.unavailable)

log = structlog.get_logger("agi")


class AgiRoutes:
    """The routes. Each asks its room and puts the answer into the words of the dialplan."""

    def __init__(
        self,
        admissions: Admissions,
        endings: Endings,
        store: CallStore,
        rules: Calls,
        book: Callable[[], Book],
        overload: Overload | None = None,
        reach: Reach | None = None,
        messages: Messages = MESSAGES,
    ) -> None:
        """overload: None: new calls are never too many. reach: None: phones are looked for, but nobody hears of one."""
        self._admissions, self._endings, self._store = admissions, endings, store
        self._rules, self._book = rules, book
        self._legs = Legs(admissions, store)
        self._overload = overload
        inbound = Inbound(store, rules, messages)
        unanswered = partial(leave_message, inbound)
        self.rings = RingRoutes(
            admissions,
            endings,
            store,
            reach or Reach(store),
            rules,
            book,
            self._legs,
            self._first,
            unanswered,
        )
        self._inbound = InboundRoutes(inbound, endings, book, self._passing, self.rings.first)

    def handlers(self) -> Mapping[str, Handler]:
        """By the path of the AGI URL."""
        return {
            "authorise": self.authorise,
            "inbound": self._inbound.inbound,
            "originate": self.originate,
            "attempt-ended": self.attempt_ended,
            "call-ended": self.call_ended,
        }

    def waits(self) -> Mapping[str, Wait]:
        """Those that may take long."""
        return {"awaited": Wait(self.rings.awaited, self._rules.wake_s + WAIT_GRACE_S)}

    async def authorise(self, request: Request) -> str | None:
        """May this call be made? Arguments: the SIP Call-ID; from a user's phone P-Preferred-Identity and Privacy."""
        env = request.env
        shown, privacy = (unquote(one, "latin-1") for one in (*request.args[1:3], "", "")[:2])
        asked = SwitchCall(
            app=endpoint_of(env["agi_channel"]),
            caller=env["agi_callerid"],
            dialled=env["agi_dnid"],
            channel=env["agi_channel"],
            uniqueid=env["agi_uniqueid"],
            sip_call_id=request.args[0][:128] if request.args else "",
            shown=shown,
            anonymous=wants_privacy(privacy),
        )
        seen = log.bind(sip_call_id=asked.sip_call_id, a=mask(asked.caller), b=mask(asked.dialled))
        with self._passing(asked) as passage:
            if passage.over is not None:
                return stop(OVERLOADED.cause).text()
            try:
                verdict = await self._admissions.admit(asked, self._book(), datetime.now(UTC))
            except StoreUnavailable as error:
                seen.error("call refused", reason="unavailable", error=str(error))
                return stop(UNAVAILABLE.cause).text()
            passage.admitted = isinstance(verdict, Admitted)
            return self._answer(verdict, seen)

    async def originate(self, request: Request) -> str | None:
        """May this leg of a call by order be made? Arguments: the origination, a or b."""
        origination_id, name = _leg_of(request.args)
        seen = log.bind(origination=str(origination_id), leg=name)
        if origination_id is None:
            log.error("a leg of nothing; is extensions.conf of this version?")
            return stop(UNAVAILABLE.cause).text()
        env = request.env
        leg = Leg(origination_id, name, env["agi_channel"], env["agi_uniqueid"])
        # Leg b is no new call: A has answered already.
        with self._passing(Order(origination_id) if name == "a" else None) as passage:
            if passage.over is not None:
                return stop(OVERLOADED.cause).text()
            try:
                verdict = await self._legs.begin(leg, self._book(), datetime.now(UTC))
            except StoreUnavailable as error:
                seen.error("leg not begun", error=str(error))
                return stop(UNAVAILABLE.cause).text()
            if verdict is None:
                seen.warning("leg not begun: it was before, or its time is over")
                return stop(UNAVAILABLE.cause).text()
            passage.admitted = isinstance(verdict, Admitted)
            return self._answer(verdict, seen)

    def _passing(self, asked: SwitchCall | Order | None) -> AbstractContextManager[Passage]:
        """What every new call goes through first. None: it is none."""
        if self._overload is None or asked is None:
            return nullcontext(Passage(None))
        return self._overload.passing(asked)

    def _answer(self, verdict: Refuse | Admitted, seen: structlog.stdlib.BoundLogger) -> str:
        if isinstance(verdict, Refuse):
            seen.info("call refused", reason=verdict.reason.value, detail=verdict.detail)
            return stop(verdict.cause).text()
        self._endings.remember(verdict.frozen)
        routes = verdict.frozen.routes
        to = routes[0].name if routes else "phones" if verdict.reached else "phones awaited"
        seen.info("call admitted", call=str(verdict.frozen.call_id), trunk=to)
        return (self._first if routes else self.rings.first)(verdict).text()

    async def attempt_ended(self, request: Request) -> str | None:
        """What now? Arguments: token, limit, DIALSTATUS, HANGUPCAUSE, ms to ringing, to early media, last SIP."""
        if len(request.args) < ATTEMPT_ARGS:
            log.error("attempt-ended asked with too few arguments; is extensions.conf of this version?")
            return stop(UNAVAILABLE.cause).text()
        text, limit_s, dialstatus, cause, ring, progress, tech = request.args[:ATTEMPT_ARGS]
        token = parse_token(text)
        frozen = await self._endings.frozen(token.call_id) if token else None
        route = frozen.route(token.attempt_no) if token and frozen else None
        sip_code = parse_tech_cause(tech)
        q850_cause = parse_cause(cause)
        outcome = classify(dialstatus, q850_cause, sip_code)
        if token is not None and frozen is not None and frozen.way.callee_id is not None:
            rang = bool(ring or progress)
            return (await self.rings.ended(frozen, token, outcome, rang=rang, env=request.env)).text()
        if token is None or frozen is None or route is None:
            return stop(outcome.cause, text if token else "").text()
        next_no, next_route, said = token.attempt_no, None, "full"
        while said == "full":
            next_no += 1
            next_route = frozen.route(next_no) if outcome.retry else None
            peer = self._peer(next_route)
            if next_route and peer and (peer.trunk.draining or not peer.trunk.enabled):
                continue
            try:
                said = await self._store.attempt_ended(
                    token.call_id,
                    token.attempt_no,
                    route,
                    outcome,
                    sip_code=sip_code,
                    q850_cause=q850_cause,
                    pdd_ms=parse_pdd(ring, progress),
                    next_no=next_no,
                    next_route=next_route,
                    next_cap=peer.trunk.capacity if peer else None,
                    next_cps=peer.trunk.cps if peer else None,
                    lease_s=self._lease_s(next_route, _milliseconds(limit_s)),
                )
            except StoreUnavailable as error:
                log.error("attempt not recorded", call=str(token.call_id), error=str(error))
                return stop(outcome.cause, text).text()
        log.info(
            "attempt ended",
            call=str(token.call_id),
            sip_call_id=frozen.sip_call_id,
            trunk=route.name,
            outcome=outcome.reason,
            sip=sip_code,
            next=next_route.name if next_route else None,
        )
        if next_route is None or said == "gone":
            return stop(outcome.cause, text).text()
        return self._dial(
            next_route,
            frozen.b_number,
            limit_ms=_milliseconds(limit_s),
            cause=outcome.cause,
            call=str(replace(token, attempt_no=next_no)),
            cli=frozen.a_number or request.env["agi_callerid"],
            anonymous=frozen.way.anonymous,
        ).text()

    async def call_ended(self, request: Request) -> None:
        """The end of a call, when the hangup handler tells it over AGI. Argument: the journal line."""
        fields = ",".join(request.args).split("|")
        token = parse_token(fields[1]) if len(fields) > 1 else None
        record = parse_end(token, fields[1:], "agi") if token else None
        if token is None or record is None:
            return
        async with self._store.batch() as conn:
            if token.orphan is not None:
                await self._endings.adopt(
                    conn,
                    token,
                    token.orphan,
                    request.env["agi_uniqueid"],
                    instant(record.answered_us or record.ended_us),
                    self._book(),
                )
            await self._endings.end(conn, [record], self._book())

    def _first(self, admitted: Admitted) -> Verdict:
        route = admitted.frozen.routes[0]
        return self._dial(
            route,
            admitted.frozen.b_number,
            limit_ms=self._cut_ms(admitted.limit_ms),
            cause=UNAVAILABLE.cause,
            call=str(Token(admitted.frozen.call_id, 1)),
            cli=admitted.cli,
            anonymous=admitted.frozen.way.anonymous,
        )

    def _dial(
        self,
        route: Route,
        b_number: str,
        *,
        limit_ms: int,
        cause: int,
        call: str,
        cli: str,
        anonymous: bool = False,
    ) -> Verdict:
        """Numbers as this trunk's carrier wants them, today: only the price was frozen."""
        peer, home = self._peer(route), self._rules.home_region
        writing = peer.writing if peer else AS_IS
        return dial(
            route.name,
            writing.b_number(b_number, home),
            ring_s=route.ring_s,
            limit_ms=limit_ms,
            cause=cause,
            call=call,
            cli=writing.a_number(cli, home),
            anonymous=anonymous,
        )

    def _cut_ms(self, limit_ms: int) -> int:
        """When the switch must cut a call whose money lasts so long: a little before, never after."""
        return max(limit_ms - self._rules.cut_margin_ms, 1)

    def _peer(self, route: Route | None) -> TrunkPeer | None:
        return self._book().peers.get(route.trunk_id) if route else None

    def _lease_s(self, route: Route | None, limit_ms: int) -> int:
        return (route.ring_s if route else 0) + limit_ms // 1000 + self._rules.lease_grace_s


def _leg_of(args: tuple[str, ...]) -> tuple[UUID | None, LegName]:
    """Anything but what our own dialplan writes is a leg of nothing."""
    if len(args) != 2 or len(args[0]) != 32 or args[1] not in ("a", "b"):
        return None, "a"
    try:
        return UUID(hex=args[0]), cast(LegName, args[1])
    except ValueError:
        return None, "a"


def _milliseconds(seconds: str) -> int:
    """ "59.750" -> 59750, as our own answer wrote it; 1 for anything else, which cuts the call at once."""
    whole, _, part = seconds.partition(".")
    text = whole + part.ljust(3, "0")[:3]
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 12 else 1
