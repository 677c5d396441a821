"""Users' phones at the command line: what they register with, the link to the browser phone, messages, bans."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from bridge.errors import NotFound
from tests.command import Callbridge
from tests.seeded import Seeded, Who


@pytest.fixture
def callbridge(callbridge: Callbridge) -> Any:
    """Beside the test's own loop, for a command has one of its own."""
    return partial(asyncio.to_thread, callbridge)


@pytest.fixture
async def anna(house: Seeded) -> Who:
    return await house.subscriber()


async def test_what_a_phone_registers_with(house: Seeded, anna: Who, callbridge: Any) -> None:
    made = await callbridge("user", "credential", anna.a_number)
    row = await house.row("SELECT * FROM sip_credential")
    told = f"{made['username']}:{row['realm']}:{made['password']}".encode()
    assert row["digest"] == hashlib.md5(told, usedforsecurity=False).hexdigest()
    assert (row["endpoint"], row["media"]) == (made["username"], "webrtc")
    with pytest.raises(NotFound):
        await callbridge("user", "credential", "+4989999999")


async def test_a_link_is_kept_as_a_hash_only(house: Seeded, anna: Who, callbridge: Any) -> None:
    page, token = (await callbridge("phone", "link", anna.a_number))["url"].split("#")
    assert page.endswith("/phone")
    kept = await house.row("SELECT l::text AS whole FROM sign_in_link l")
    assert token not in kept["whole"]
    assert hashlib.sha256(token.encode()).hexdigest() in kept["whole"]


async def test_messages_of_one_user(house: Seeded, anna: Who, callbridge: Any) -> None:
    assert await callbridge("user", "messages", anna.a_number) == {"messages": []}
    subscriber_id: UUID = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", anna.a_number
    )
    await house.rows(
        """INSERT INTO voice_message (call_id, subscriber_id, from_number, duration_ms, left_at)
           VALUES (uuidv7(), $1, '+493023125000', 2500, now())""",
        subscriber_id,
    )
    [told] = (await callbridge("user", "messages", anna.a_number))["messages"]
    assert (told["from"], told["duration_ms"]) == ("+493023125000", 2500)
    assert (await callbridge("user", "bans")) == {"bans": []}
