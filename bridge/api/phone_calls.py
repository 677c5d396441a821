"""A subscriber's own calls: the one that is running, those that were, and why one was not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from bridge.api.fields import MessageId, show_at, show_id, show_money
from bridge.api.page import Asked, page
from bridge.api.phone_desk import Signed, routes, told
from bridge.calls import messages, wav
from bridge.calls.of_subscriber import Live, call_of, calls, current
from bridge.errors import NotFound
from bridge.rollout.store import standing

router = routes()

SHUT: Final = ("no_window", "quota")

SipCallId = Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]


@router.get("/calls")
async def list_calls(phone: Signed, paging: Asked) -> Response:
    """Newest first, both directions."""
    rows = await calls(phone.conn, phone.subscriber_id, paging.before, paging.rows)
    return told(page(rows, paging, "call_id", _show))


@router.get("/calls/current")
async def read_current(phone: Signed, sip_call_id: SipCallId | None = None) -> Response:
    """The running call: asked for every two seconds. null: there is none.

    sip_call_id   of a call that this very phone has made; else the subscriber's newest
    """
    rules = phone.services.settings.calls
    found = await current(phone.conn, phone.subscriber_id, sip_call_id, datetime.now(UTC), rules)
    return told({"call": _show_live(found) if found else None})


@router.get("/calls/of")
async def read_call_of(phone: Signed, sip_call_id: SipCallId) -> Response:
    """What became of the call with this SIP Call-ID: so a phone learns why it was refused. null: not known here."""
    row = await call_of(phone.conn, phone.subscriber_id, sip_call_id)
    if row is None:
        return told({"call": None})
    return told(
        {
            "call": {
                "call_id": show_id("call", row["call_id"]),
                "state": row["state"],
                **await why(phone, row["refuse_reason"], row["refuse_detail"]),
            }
        }
    )


async def why(phone: Signed, reason: str | None, detail: str | None) -> dict[str, Any]:
    """Why a call was or would be refused.

    detail     of not_enabled, what keeps the callee out: no_window, quota, limit, wave, loop, keyed; else null
    opens_at   of one whom no window lets in: when the next one opens; null: none is planned
    """
    opens_at = None
    if detail in SHUT:
        opens_at = (await standing(phone.conn, phone.subscriber_id, datetime.now(UTC))).opens_at
    return {"reason": reason, "detail": detail, "opens_at": show_at(opens_at)}


@router.get("/messages/{message_id}/audio")
async def read_message_audio(phone: Signed, message_id: MessageId) -> Response:
    """What somebody said who was not answered."""
    row = await messages.message(phone.conn, message_id)
    if row["subscriber_id"] != phone.subscriber_id:
        raise NotFound("There is no such message.")
    folder = phone.services.settings.messages.folder
    file = await asyncio.to_thread(messages.sound, folder, row["call_id"])
    if file is None:
        raise NotFound("The sound of this message is gone.")
    headers = {"Content-Length": str(wav.length(messages.size(file)))}
    return StreamingResponse(messages.pieces(file), media_type="audio/wav", headers=headers)


def _show(row: Mapping[str, Any]) -> dict[str, Any]:
    """cost: null where there was nothing to charge. missed: somebody called, and none but the machine answered."""
    answered, message = row["state"] == "answered", None
    if row["message_id"] is not None:
        length_s = -(-row["duration_ms"] // 1000)
        message = {"message_id": show_id("msg", row["message_id"]), "length_s": length_s}
    return {
        "call_id": show_id("call", row["call_id"]),
        "direction": "incoming" if row["incoming"] else "outgoing",
        "number": row["number"],
        "state": row["state"],
        "missed": row["incoming"] and row["state"] != "live" and (message is not None or not answered),
        "reason": row["refuse_reason"],
        "detail": row["refuse_detail"],
        "began_at": show_at(row["admitted_at"]),
        "talk_s": -(-row["talk_ms"] // 1000) if answered else 0,
        "cost": show_money(row["cost_micro"]) if answered and not row["incoming"] else None,
        "currency": row["currency"],
        "in_bundle": bool(row["covered_s"]),
        "message": message,
    }


def _show_live(live: Live) -> dict[str, Any]:
    """cost and what follows are null until it is answered, and cost and left_s for who is called."""
    now = live.running
    shown: dict[str, Any] = {
        "call_id": show_id("call", live.call_id),
        "direction": "incoming" if live.incoming else "outgoing",
        "number": live.number,
        "answered_at": show_at(live.answered_at),
        "talk_s": live.talk_ms / 1000 if live.talk_ms is not None else None,
        "cost": None,
        "currency": live.currency,
        "free": False,
        "in_bundle": False,
        "left_s": None,
        "warnings": [],
    }
    if now is not None:
        shown |= {
            "cost": show_money(now.cost_micro),
            "free": live.free,
            "in_bundle": now.cost_micro == 0 and now.covered_s > 0,
            "left_s": now.left_s,
            "warnings": list(now.warnings),
        }
    return shown
