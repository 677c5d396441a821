"""What the switch recorded becomes a message when its call is over, once; and goes when its time is over."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bridge.calls import messages, wav
from bridge.calls.messages import Collector
from bridge.config import Messages
from bridge.database import connection, transaction
from bridge.errors import NotFound
from bridge.partners.store import add_partner
from tests.seeded import Seeded, Who, at_once, ended, seeded

LAST = UUID(int=2**128 - 1)


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[Seeded]:
    async with seeded(dsn) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "messages").mkdir()
    return tmp_path / "messages"


@pytest.fixture
def collector(house: Seeded, folder: Path) -> Collector:
    return Collector(house.pool, Messages(folder=folder, keep_days=30))


async def called(house: Seeded, who: Who, **columns: object) -> UUID:
    """A call for a subscriber that lasts. columns: of its row"""
    call_id = (await house.admitted(await house.subscriber(1_000_000))).frozen.call_id
    callee = await house.value("SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number)
    given = {"direction": "in", "callee_id": callee, **columns}
    for name, value in given.items():
        await house.rows(f"UPDATE call SET {name} = $2 WHERE call_id = $1", call_id, value)
    return call_id


def record(folder: Path, call_id: UUID, ms: int, head: bytes | None = None) -> Path:
    path = messages.recording(folder, call_id).with_suffix(messages.SOUND)
    sound = b"\x01\x02" * (8 * ms)
    path.write_bytes((wav.head(44 + len(sound)) if head is None else head) + sound)
    return path


async def left(house: Seeded) -> list[tuple[UUID, str | None, int]]:
    rows = await house.rows("SELECT call_id, from_number, duration_ms FROM voice_message ORDER BY message_id")
    return [(row["call_id"], row["from_number"], row["duration_ms"]) for row in rows]


def heard(folder: Path, call_id: UUID) -> tuple[int, int]:
    """Frames, and bytes of the file as it is told."""
    file = messages.sound(folder, call_id)
    assert file is not None
    told = b"".join(messages.pieces(file))
    with wave.open(io.BytesIO(told), "rb") as read:
        return read.getnframes(), len(told)


async def test_a_recording_becomes_a_message_when_its_call_is_over(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    who = await house.subscriber()
    call_id = await called(house, who)
    path = record(folder, call_id, 2_500)
    assert await collector.collect() == 0
    assert path.exists()
    await house.end(ended(call_id, 2_600))
    caller = await house.value("SELECT a_number FROM call WHERE call_id = $1", call_id)
    assert await collector.collect() == 1
    assert await left(house) == [(call_id, caller, 2_500)]
    assert not path.exists()
    assert heard(folder, call_id) == (20_000, 40_044)
    assert await collector.collect() == 0
    async with connection(house.pool) as conn:
        subscriber_id = await house.value("SELECT callee_id FROM call WHERE call_id = $1", call_id)
        [row] = await messages.messages_of(conn, subscriber_id, LAST, 10)
        assert (row["call_id"], row["duration_ms"]) == (call_id, 2_500)
        assert await messages.messages_of(conn, subscriber_id, row["message_id"], 10) == []
        assert await messages.messages_of(conn, uuid4(), LAST, 10) == []


async def test_it_is_told_once_however_often_and_by_how_many(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    async with transaction(house.pool) as conn:
        partner_id = (await add_partner(conn, "listens", "EUR"))["partner_id"]
        await conn.execute("UPDATE partner SET keeps_events = true")
    call_id = await called(house, await house.subscriber(), partner_id=partner_id)
    await house.end(ended(call_id, 3_000))
    record(folder, call_id, 3_000)
    await at_once([collector.collect, collector.collect, collector.collect])
    path = record(folder, call_id, 3_000)  # as though the file had never been moved
    await collector.collect()
    assert not path.exists()
    [row] = await house.rows("SELECT data, subject_id FROM event WHERE kind = 'voice_message.left'")
    [(message_id,)] = await house.rows("SELECT message_id FROM voice_message")
    assert row["subject_id"] == message_id
    for part in (f"msg_{message_id.hex}/audio", f"call_{call_id.hex}", '"duration_ms": 3000'):
        assert part in row["data"]


@pytest.mark.parametrize(
    "columns", [{"anonymous": True}, {"a_number": "anonymous"}, {"a_number": "<script>"}]
)
async def test_who_is_not_shown_is_not_told(
    house: Seeded, collector: Collector, folder: Path, columns: dict[str, object]
) -> None:
    call_id = await called(house, await house.subscriber(), **columns)
    await house.end(ended(call_id, 1_300))
    record(folder, call_id, 1_200)
    assert await collector.collect() == 1
    assert await left(house) == [(call_id, None, 1_200)]


async def test_a_breath_is_no_message(house: Seeded, collector: Collector, folder: Path) -> None:
    for ms in (0, 1, 1_020, 1_199):
        call_id = await called(house, await house.subscriber())
        await house.end(ended(call_id, 1_000))
        path = record(folder, call_id, ms)
        assert await collector.collect() == 0
        assert not path.exists()
    assert await left(house) == []


async def test_a_header_that_the_switch_did_not_live_to_write_changes_nothing(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    call_id = await called(house, await house.subscriber())
    await house.end(ended(call_id, 2_000))
    path = record(folder, call_id, 2_000, head=b"\0" * 44)
    path.write_bytes(path.read_bytes() + b"\x7f")  # half a sample
    assert await collector.collect() == 1
    assert heard(folder, call_id) == (16_000, 32_044)


async def test_what_is_nobodys_is_left_or_removed_and_never_told(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    unknown = record(folder, uuid4(), 5_000)
    others = [folder / name for name in ("x.wav", "a" * 31 + ".wav", "A" * 32 + ".wav", "notes.txt", ".wav")]
    for path in others:
        path.write_bytes(b"x" * 100_000)
    (folder / f"{'b' * 32}.wav").mkdir()
    outgoing = (await house.admitted(await house.subscriber(1_000_000))).frozen.call_id
    await house.end(ended(outgoing, 2_000))
    odd = record(folder, outgoing, 5_000)
    assert await collector.collect() == 0
    assert not odd.exists(), "a call for nobody has no message"
    assert unknown.exists()
    assert all(path.exists() for path in others)
    assert await left(house) == []


async def test_no_folder_is_told_and_keeps_nothing_from_working(house: Seeded, tmp_path: Path) -> None:
    assert await Collector(house.pool, Messages(folder=tmp_path / "none")).collect() == 0
    (tmp_path / "file").write_text("")
    assert await Collector(house.pool, Messages(folder=tmp_path / "file")).collect() == 0


async def test_it_goes_with_its_time_and_its_sound_with_it(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    kept, gone = [await called(house, await house.subscriber()) for _ in range(2)]
    for call_id in (kept, gone):
        await house.end(ended(call_id, 2_000))
        record(folder, call_id, 2_000)
    assert await collector.collect() == 2
    old = "UPDATE voice_message SET message_id = uuidv7(interval '-31 days') WHERE call_id = $1"
    await house.rows(old, gone)
    assert await collector.purge(datetime.now(UTC)) == 1
    assert await collector.purge(datetime.now(UTC)) == 0
    assert [row[0] for row in await left(house)] == [kept]
    assert await asyncio.to_thread(messages.sound, folder, gone) is None
    assert heard(folder, kept) == (16_000, 32_044)
    assert await collector.purge(datetime.now(UTC) + timedelta(days=31)) == 1


async def test_deleted_is_deleted_whenever_it_comes(
    house: Seeded, collector: Collector, folder: Path
) -> None:
    """Before its sound was moved, and although a recording lies there again."""
    call_id = await called(house, await house.subscriber())
    await house.end(ended(call_id, 2_000))
    record(folder, call_id, 2_000)
    await collector.collect()
    message_id = await house.value("SELECT message_id FROM voice_message")
    async with transaction(house.pool) as conn:
        assert await messages.delete_message(conn, message_id) == call_id
    async with connection(house.pool) as conn:
        with pytest.raises(NotFound):
            await messages.delete_message(conn, message_id)
        with pytest.raises(NotFound):
            await messages.message(conn, message_id)
        assert await messages.messages(conn, None, LAST, 10) == []
    again = record(folder, call_id, 2_000)
    await messages.remove_sound(folder, call_id)
    assert not again.exists()
    assert messages.sound(folder, call_id) is None
    again = record(folder, call_id, 2_000)
    assert await collector.collect() == 0
    assert not again.exists()
