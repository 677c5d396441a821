"""Voice messages, left in a folder as the switch leaves them."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from bridge.api.fields import show_id
from bridge.calls import messages
from bridge.calls.messages import Collector
from bridge.config import Messages
from tests.api.scene import Api, Partner
from tests.seeded import ended

PATH = "/v1/voice-messages"


async def subscriber(api: Api, owner: Partner | None) -> UUID:
    who = await api.house.subscriber(1_000_000)
    for table in ("account", "subscriber") if owner else ():
        assert owner is not None
        await api.own(table, owner, account_id=who.account_id)
    found: UUID = await api.house.value(
        "SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id
    )
    return found


async def left(
    api: Api,
    folder: Path,
    owner: Partner | None,
    *,
    ms: int = 2_000,
    to: UUID | None = None,
    **columns: object,
) -> str:
    """The path of a new message. columns: of its call"""
    callee_id = to or await subscriber(api, owner)
    call_id = (await api.house.admitted(await api.house.subscriber(1_000_000))).frozen.call_id
    given = {
        "direction": "in",
        "callee_id": callee_id,
        "partner_id": owner.partner_id if owner else None,
        **columns,
    }
    for name, value in given.items():
        await api.house.rows(f"UPDATE call SET {name} = $2 WHERE call_id = $1", call_id, value)
    await api.house.end(ended(call_id, ms))
    sound = os.urandom(16 * ms)
    messages.recording(folder, call_id).with_suffix(messages.SOUND).write_bytes(b"\0" * 44 + sound)
    assert await Collector(api.house.pool, Messages(folder=folder)).collect() == 1
    message_id = await api.house.value("SELECT message_id FROM voice_message WHERE call_id = $1", call_id)
    return f"{PATH}/{show_id('msg', message_id)}"
