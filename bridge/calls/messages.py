"""Voice messages: the switch records into a folder, and what a call left there becomes a message when the call is over.

The folder holds what is being recorded, each file named after its call; below it, `kept` holds the messages. So a look
for what is new reads a folder that is nearly always empty, however many messages there are.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

import asyncpg
import structlog

from bridge import queries
from bridge.calls import wav
from bridge.config import Messages
from bridge.database import Connection, connection, transaction
from bridge.errors import NotFound

SOUND: Final = ".wav"
TOO_SHORT_MS: Final = 1200  # a breath; or the second that the switch leaves of a silence
_KEPT: Final = "kept"
_FILE: Final = re.compile(r"([0-9a-f]{32})\.wav", re.ASCII)
_LOOK_MAX: Final = 5000  # files at a time
_PURGE_ROWS: Final = 500
_PIECE_BYTES: Final = 1 << 16

Row = Mapping[str, Any]

log = structlog.get_logger("messages")


def recording(folder: Path, call_id: UUID) -> Path:
    """Where the switch records the message of a call, without the extension, which is the format's name."""
    return folder / call_id.hex


def sound(folder: Path, call_id: UUID) -> BinaryIO | None:
    """The file of a message, open; None: it is gone. It may be moved while it is looked for."""
    fresh, kept = _places(folder, call_id)
    for path in (kept, fresh, kept):
        with suppress(FileNotFoundError):
            return path.open("rb")
    return None


class Collector:
    """Makes messages of what was recorded, and removes those whose time is over. For the keeper of the switch."""

    def __init__(self, pool: asyncpg.Pool, rules: Messages) -> None:
        self._pool, self._rules, self._folder = pool, rules, rules.folder
        self._hindered = ""  # what the folder's trouble is, told once

    async def collect(self) -> int:
        """Messages of calls that have ended. A repeat changes nothing. Returns how many are new."""
        try:
            found = await asyncio.to_thread(_recorded, self._folder)
            if not found:
                return 0
            self._hindered = ""
            return await self._collect(found)
        except OSError as error:
            if str(error) != self._hindered:
                self._hindered = str(error)
                log.error("messages cannot be collected", folder=str(self._folder), error=str(error))
            return 0

    async def _collect(self, found: Mapping[UUID, int]) -> int:
        async with connection(self._pool) as conn:
            over = [row["call_id"] for row in await queries.messages.ended.all(conn, call_ids=list(found))]
        made = 0
        for call_id in over:
            made += await self._keep(call_id, found[call_id])
        return made

    async def _keep(self, call_id: UUID, duration_ms: int) -> bool:
        """The row first: a file without one is looked at again, a row's file is found in either place."""
        path = recording(self._folder, call_id).with_suffix(SOUND)
        if duration_ms < TOO_SHORT_MS:
            await asyncio.to_thread(_remove, path)
            return False
        async with transaction(self._pool) as conn:
            message_id = await queries.messages.leave.value(conn, call_id=call_id, duration_ms=duration_ms)
        if message_id is None:
            log.warning("recording removed: it is nobody's, or was deleted", call=str(call_id))
            await asyncio.to_thread(_remove, path)
            return False
        await asyncio.to_thread(_move, path, self._folder / _KEPT)
        log.info("voice message", message=str(message_id), call=str(call_id), duration_ms=duration_ms)
        return True

    async def purge(self, now: datetime) -> int:
        """Remove messages older than messages.keep_days, sound first. Returns how many."""
        before, gone = now - timedelta(days=self._rules.keep_days), 0
        while True:
            async with connection(self._pool) as conn:
                rows = await queries.messages.over.all(conn, before=before, rows=_PURGE_ROWS)
                for row in rows:
                    await remove_sound(self._folder, row["call_id"])
                await queries.messages.drop_messages.run(
                    conn, message_ids=[row["message_id"] for row in rows]
                )
            gone += len(rows)
            if len(rows) < _PURGE_ROWS:
                break
        if gone:
            log.info("voice messages purged", count=gone, before=before.isoformat())
        return gone


async def messages(conn: Connection, partner_id: UUID | None, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, those before a key. partner_id None: of all, for operators"""
    if partner_id is None:
        return list(await queries.messages.messages.all(conn, before=before, rows=rows))
    return list(
        await queries.messages.messages_partner.all(conn, partner_id=partner_id, before=before, rows=rows)
    )


async def messages_of(conn: Connection, subscriber_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """A subscriber's, newest first: message_id, call_id, from_number, duration_ms, left_at."""
    return list(
        await queries.messages.messages_of.all(conn, subscriber_id=subscriber_id, before=before, rows=rows)
    )


async def message(conn: Connection, message_id: UUID) -> Row:
    """raises   NotFound: there is none, or it was deleted"""
    row: Row | None = await queries.messages.message.one(conn, message_id=message_id)
    if row is None:
        raise NotFound("There is no such message.")
    return row


async def delete_message(conn: Connection, message_id: UUID) -> UUID:
    """It is gone for everybody. Its sound is to be removed when that is committed: `remove_sound` of the call returned.

    raises   NotFound: somebody deleted it first
    """
    call_id: UUID | None = await queries.messages.delete_message.value(conn, message_id=message_id)
    if call_id is None:
        raise NotFound("There is no such message.")
    return call_id


async def remove_sound(folder: Path, call_id: UUID) -> None:
    """What is not there is removed already. What cannot be removed is told, and goes with the message's time."""
    try:
        await asyncio.to_thread(_remove, *_places(folder, call_id))
    except OSError as error:
        log.error("sound not removed", call=str(call_id), error=str(error))


def size(file: BinaryIO) -> int:
    """Bytes."""
    return os.fstat(file.fileno()).st_size


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A message's sound as a whole WAV file, whatever its header says: the switch may have died before it wrote it."""
    with file:
        bytes_ = size(file)
        yield wav.head(bytes_)
        left = wav.length(bytes_) - wav.HEAD_BYTES
        file.seek(wav.HEAD_BYTES)
        while piece := file.read(min(left, _PIECE_BYTES)):
            left -= len(piece)
            yield piece


def _places(folder: Path, call_id: UUID) -> tuple[Path, Path]:
    """Where a sound is, in the order in which it gets there."""
    name = f"{call_id.hex}{SOUND}"
    return folder / name, folder / _KEPT / name


def _recorded(folder: Path) -> dict[UUID, int]:
    """What lies there: call and milliseconds of sound."""
    found: dict[UUID, int] = {}
    with suppress(FileNotFoundError):  # there is no folder yet, or a file has just gone
        for path in folder.iterdir():
            if (name := _FILE.fullmatch(path.name)) is not None and path.is_file():
                found[UUID(hex=name[1])] = wav.duration_ms(path.stat().st_size)
            if len(found) == _LOOK_MAX:
                break
    return found


def _move(path: Path, kept: Path) -> None:
    kept.mkdir(mode=0o770, exist_ok=True)
    with suppress(FileNotFoundError):  # deleted meanwhile
        path.replace(kept / path.name)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
