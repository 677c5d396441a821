"""Calls that ring a subscriber's phones: at first, when a phone was awaited, and when none was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from bridge.asterisk.agi_header import Request
from bridge.asterisk.channel_vars import Verdict, endpoint_of, ring, stop, wait
from bridge.calls.admit import Admissions, Admitted
from bridge.calls.book import Book
from bridge.calls.end import Endings
from bridge.calls.ended import EndRecord
from bridge.calls.frozen import Frozen
from bridge.calls.originate import LegGoingOn, Legs
from bridge.calls.reach import Reach
from bridge.calls.ring import not_reached
from bridge.calls.store import CallStore, SwitchCall
from bridge.calls.token import Token, parse_token
from bridge.config import Calls
from bridge.errors import ChannelGone, StoreUnavailable
from bridge.telephony.cause import NO_ANSWER, Outcome, Refuse, RefuseReason, refuse
from bridge.telephony.endpoint import endpoint_name

NO_PHONE: Final = "no_phone"
NOT_REACHED: Final = refuse(RefuseReason.not_reachable, NO_PHONE)
UNAVAILABLE: Final = refuse(RefuseReason.unavailable)
# Beyond the wait itself: what has to be read and written before the answer.
WAIT_GRACE_S: Final = 2.0

Unanswered = Callable[[Frozen, Token, Refuse | Outcome], Awaitable[Verdict]]
"""What becomes of a call from the network that no phone took: not reached, or rung and not answered."""

log = structlog.get_logger("agi")


class RingRoutes:
    """For calls of the directions on_net and in.

    carried      puts an admission over a carrier into the words of the dialplan
    unanswered   for the direction in; None: such a call just ends
    """

    def __init__(
        self,
        admissions: Admissions,
        endings: Endings,
        store: CallStore,
        reach: Reach,
        rules: Calls,
        book: Callable[[], Book],
        legs: Legs,
        carried: Callable[[Admitted], Verdict],
        unanswered: Unanswered | None = None,
    ) -> None:
        self._admissions, self._endings, self._store, self._reach = admissions, endings, store, reach
        self._rules, self._book, self._legs = rules, book, legs
        self._carried, self._unanswered = carried, unanswered

    def first(self, admitted: Admitted) -> Verdict:
        """What to do with a call that was just admitted."""
        token = Token(admitted.frozen.call_id, 1)
        return self._ring(admitted.frozen, token) if admitted.reached else _wait(admitted.frozen, token)

    async def awaited(self, request: Request, gone: asyncio.Event) -> str | None:
        """A phone of the callee has registered, or it is waited for no more. Argument: token."""
        token = parse_token(request.args[0]) if request.args else None
        try:
            frozen = await self._endings.frozen(token.call_id) if token else None
            if token is None or frozen is None or frozen.way.callee_id is None:
                return stop(UNAVAILABLE.cause).text()
            seen = log.bind(call=str(token.call_id), sip_call_id=frozen.sip_call_id)
            reached = await self._reach.wait(frozen.way.callee_id, self._rules.wake_s, gone)
            if gone.is_set():
                raise ChannelGone("the caller hung up while a phone was awaited")
            seen.info("phone awaited", reached=reached)
            if reached:
                return self._ring(frozen, token).text()
            return (await self._not_reached(frozen, token, request.env)).text()
        except StoreUnavailable as error:
            log.error("phone not awaited", call=str(token), error=str(error))
            return stop(UNAVAILABLE.cause, str(token)).text()

    async def ended(
        self, frozen: Frozen, token: Token, outcome: Outcome, *, rang: bool, env: Mapping[str, str]
    ) -> Verdict:
        """None of the phones was answered. One that rang was reached, and the call goes nowhere else."""
        log.info(
            "phones not answered",
            call=str(token.call_id),
            sip_call_id=frozen.sip_call_id,
            outcome=outcome.reason,
            rang=rang,
        )
        if outcome.retry and not rang:
            try:
                return await self._not_reached(frozen, token, env)
            except StoreUnavailable as error:
                log.error("call not sent on", call=str(token.call_id), error=str(error))
                return stop(UNAVAILABLE.cause, str(token))
        if frozen.way.direction == "in" and self._unanswered is not None:
            return await self._unanswered(frozen, token, outcome)
        return stop(NO_ANSWER if outcome.retry else outcome.cause, str(token))

    async def _not_reached(self, frozen: Frozen, token: Token, env: Mapping[str, str]) -> Verdict:
        """On over a carrier, as a call of its own, if the caller's plan says so."""
        if frozen.way.direction == "in":
            if self._unanswered is not None:
                return await self._unanswered(frozen, token, NOT_REACHED)
            return stop(NOT_REACHED.cause, str(token))
        book, at = self._book(), datetime.now(UTC)
        caller_plan = await self._admissions.plan_of(frozen, book, at)
        refused = not_reached(caller_plan, NO_PHONE) if caller_plan is not None else NOT_REACHED
        if refused is not None:
            return stop(refused.cause, str(token))
        leg = await self._end(frozen, at, book)
        asked = SwitchCall(
            endpoint_of(env["agi_channel"]),
            frozen.a_number,
            frozen.b_number if leg is not None else env["agi_dnid"],  # the channel of a leg dials no number
            env["agi_channel"],
            env["agi_uniqueid"],
            frozen.sip_call_id,
        )
        verdict = await self._admissions.go_on(frozen, asked, book, at)
        if leg is not None:
            await self._legs.went_on(leg, verdict)
        seen = log.bind(after=str(frozen.call_id), sip_call_id=frozen.sip_call_id)
        if isinstance(verdict, Refuse):
            seen.info("call refused", reason=verdict.reason.value, detail=verdict.detail)
            return stop(verdict.cause)
        self._endings.remember(verdict.frozen)
        seen.info("call admitted", call=str(verdict.frozen.call_id), trunk=verdict.frozen.routes[0].name)
        return self._carried(verdict)

    async def _end(self, frozen: Frozen, at: datetime, book: Book) -> LegGoingOn | None:
        """The call that rang nobody is over; what goes on is another one. Returns the leg by order that it was."""
        ended_us = int(at.timestamp() * 1_000_000)
        record = EndRecord(
            frozen.call_id,
            None,
            0,
            ended_us,
            "agi",
            "CHANUNAVAIL",
            NOT_REACHED.cause,
            "bridge",
        )
        async with self._store.batch() as conn:
            leg = await self._legs.leaves(conn, frozen.call_id)
            await self._endings.end(conn, [record], book)
        return leg

    def _ring(self, frozen: Frozen, token: Token) -> Verdict:
        assert frozen.way.callee_id is not None
        return ring(
            endpoint_name(frozen.way.callee_id),
            ring_s=self._rules.app_ring_s,
            limit_ms=self._rules.talk_s_max * 1000 - self._rules.cut_margin_ms,
            cause=NOT_REACHED.cause,
            call=str(token),
            cli=frozen.a_number,
            anonymous=frozen.way.anonymous,
        )


def _wait(frozen: Frozen, token: Token) -> Verdict:
    assert frozen.way.callee_id is not None
    return wait(endpoint_name(frozen.way.callee_id), cause=NOT_REACHED.cause, call=str(token))
