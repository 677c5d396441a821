"""Calls from the network: at first, and when no phone took them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote
from uuid import UUID

import structlog

from bridge.asterisk.agi_header import Request
from bridge.asterisk.channel_vars import Verdict, endpoint_of, record, stop
from bridge.asterisk.ring_routes import UNAVAILABLE
from bridge.calls.admit import Admitted
from bridge.calls.book import Book
from bridge.calls.caller import SwitchCall
from bridge.calls.end import Endings
from bridge.calls.frozen import Frozen
from bridge.calls.inbound import ANONYMOUS, Inbound
from bridge.calls.overload import OVERLOADED, Passage
from bridge.calls.token import Token
from bridge.calls.whatsapp import meta_call
from bridge.errors import StoreError, StoreUnavailable
from bridge.routing.trunk import VOIP_ONLY
from bridge.telephony.caller_id import wants_privacy
from bridge.telephony.cause import NORMAL, Outcome, Refuse
from bridge.telephony.number import mask

GAVE_UP: Final = "gave_up"

log = structlog.get_logger("agi")


class InboundRoutes:
    """passing   what every new call goes through first
    first     puts an admission into the words of the dialplan
    """

    def __init__(
        self,
        inbound: Inbound,
        endings: Endings,
        book: Callable[[], Book],
        passing: Callable[[SwitchCall], AbstractContextManager[Passage]],
        first: Callable[[Admitted], Verdict],
    ) -> None:
        self._inbound, self._endings, self._book = inbound, endings, book
        self._passing, self._first = passing, first

    async def inbound(self, request: Request) -> str | None:
        """May this trunk's call ring somebody? Arguments: the Privacy header, percent-encoded, the SIP Call-ID.

        From Meta then: x-wa-meta-wacid and x-wa-meta-cta-payload, percent-encoded.
        """
        env, book = request.env, self._book()
        privacy, sip_call_id = (*request.args[:2], "", "")[:2]
        trunk = endpoint_of(env["agi_channel"])
        asked = SwitchCall(
            app=trunk,
            caller=env["agi_callerid"],
            dialled=env["agi_dnid"],
            channel=env["agi_channel"],
            uniqueid=env["agi_uniqueid"],
            sip_call_id=sip_call_id[:128],
            anonymous=wants_privacy(unquote(privacy, "latin-1")),
        )
        seen = log.bind(
            sip_call_id=asked.sip_call_id, trunk=trunk, a=mask(asked.caller), b=mask(asked.dialled)
        )
        peer = next((peer for peer in book.peers.values() if peer.trunk.name == trunk), None)
        if peer is None:
            seen.error("a call from a trunk that is not known here")
            return stop(UNAVAILABLE.cause).text()
        # Turned away, it is kept as the trunk's: whose number was called nobody has looked up.
        seen_as = ANONYMOUS if asked.anonymous else asked.caller
        came_in = replace(asked, caller=seen_as, trunk_in_id=UUID(peer.trunk.trunk_id))
        with self._passing(came_in) as passage:
            if passage.over is not None:
                return stop(OVERLOADED.cause).text()
            try:
                verdict = await self._inbound.admit(asked, peer, book, datetime.now(UTC))
            except StoreUnavailable as error:
                seen.error("call refused", reason="unavailable", error=str(error))
                return stop(UNAVAILABLE.cause).text()
            passage.admitted = isinstance(verdict, Admitted)
        if isinstance(verdict, Refuse):
            seen.info("call refused", reason=verdict.reason.value, detail=verdict.detail)
            return stop(verdict.cause).text()
        self._endings.remember(verdict.frozen)
        seen.info("call admitted", call=str(verdict.frozen.call_id), reached=verdict.reached)
        if verdict.frozen.way.leg_class == VOIP_ONLY:
            await self._keep_meta(verdict.frozen, request.args[2:4])
        return self._first(verdict).text()

    async def _keep_meta(self, frozen: Frozen, headers: tuple[str, ...]) -> None:
        """That a call can be asked for at Meta is worth a line, and never the call."""
        wacid, payload = (*(unquote(each, "utf-8", "replace") for each in headers), "", "")[:2]
        told = meta_call(wacid, payload)
        if told is None:
            return
        try:
            await self._inbound.keep_meta(frozen.call_id, told)
        except StoreError as error:
            log.error("Meta's id of a call not kept", call=str(frozen.call_id), error=str(error))


async def leave_message(inbound: Inbound, frozen: Frozen, token: Token, why: Refuse | Outcome) -> Verdict:
    """What becomes of a call that was not reached, not answered, or not taken: the caller may leave a message."""
    if isinstance(why, Outcome) and why.reason == GAVE_UP:
        return stop(NORMAL, str(token))
    try:
        attempt_no = await inbound.message_begins(token)
    except StoreUnavailable as error:
        log.error("no message taken", call=str(token.call_id), error=str(error))
        return stop(why.cause, str(token))
    if attempt_no is None:
        return stop(why.cause, str(token))
    call = str(replace(token, attempt_no=attempt_no))
    return record(frozen.call_id.hex, seconds=inbound.messages.message_s_max, cause=why.cause, call=call)
