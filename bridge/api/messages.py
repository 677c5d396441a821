"""Voice messages: what was said to a subscriber who did not answer a call from the network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import (
    E164,
    CallId,
    MessageId,
    PartnerId,
    SubscriberId,
    Told,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.calls import messages as store
from bridge.calls import wav
from bridge.database import Connection
from bridge.partners.store import number as subscribers

router = routes("voice-messages")
Reader = Annotated[Desk, Depends(Needs("messages:read"))]
Writer = Annotated[Desk, Depends(Needs("messages:write"))]

WAV: Final = "audio/wav"


class VoiceMessage(Told):
    """A message. It is kept for some weeks: `messages.keep_days` of the installation."""

    message_id: MessageId
    call_id: CallId = Field(description="The call in which it was left")
    partner_id: PartnerId | None
    subscriber_id: SubscriberId = Field(description="For whom it is")
    from_: E164 | None = Field(
        alias="from", description="Who called; null where that is not shown, or not known"
    )
    duration_ms: int = Field(ge=1, examples=[12_340])
    left_at: datetime
    url: str = Field(examples=["/v1/voice-messages/msg_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8/audio"])


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    message_id = show_id("msg", row["message_id"])
    return {
        "message_id": message_id,
        "call_id": show_id("call", row["call_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "subscriber_id": show_id("sub", row["subscriber_id"]),
        "from": row["from_number"],
        "duration_ms": row["duration_ms"],
        "left_at": show_at(row["left_at"]),
        "url": f"/v1/voice-messages/{message_id}/audio",
    }


@router.get(
    "", response_model=Page[VoiceMessage], responses=responses(404), summary="Voice messages, newest first"
)
async def list_voice_messages(
    desk: Reader, paging: Asked, subscriber_id: Annotated[SubscriberId | None, Query()] = None
) -> Response:
    async with desk.reading() as conn:
        if subscriber_id is None:
            rows = await store.messages(conn, desk.principal.partner_id, paging.before, paging.rows)
        else:
            await subscribers.holder(conn, subscriber_id)
            rows = await store.messages_of(conn, subscriber_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "message_id", show))


@router.get(
    "/{message_id}", response_model=VoiceMessage, responses=responses(404), summary="One voice message"
)
async def read_voice_message(desk: Reader, message_id: MessageId) -> Response:
    async with desk.reading() as conn:
        row = await store.message(conn, message_id)
    return desk.shown(show(row))


@router.get(
    "/{message_id}/audio",
    response_class=Response,
    responses={
        200: {
            "content": {WAV: {"schema": {"type": "string", "format": "binary"}}},
            "description": "The sound",
        },
        **responses(404),
    },
    summary="What was said",
)
async def read_voice_message_audio(desk: Reader, message_id: MessageId) -> Response:
    """A WAV file of 8,000 samples a second, 16 bits each, one channel."""
    async with desk.reading() as conn:
        row = await store.message(conn, message_id)
    file = await asyncio.to_thread(store.sound, desk.services.settings.messages.folder, row["call_id"])
    if file is None:
        raise Problem(404, "The sound of this message is gone.")
    name = show_id("msg", message_id)
    headers = {
        "Content-Length": str(wav.length(store.size(file))),
        "Content-Disposition": f'attachment; filename="{name}{store.SOUND}"',
    }
    return StreamingResponse(store.pieces(file), media_type=WAV, headers=headers)


@router.delete("/{message_id}", status_code=204, responses=responses(404), summary="Delete a voice message")
async def delete_voice_message(desk: Writer, message_id: MessageId) -> Response:
    """It is gone for everybody, its sound, too."""
    row: Mapping[str, Any] = {}

    async def work(conn: Connection) -> Made:
        nonlocal row
        row = await store.message(conn, message_id)
        await desk.as_ours(conn)
        await store.delete_message(conn, message_id)
        return Made(show_id("msg", message_id), None, row["partner_id"])

    answer = await desk.act("voice_message.delete", None, work)
    await store.remove_sound(desk.services.settings.messages.folder, row["call_id"])
    return answer
