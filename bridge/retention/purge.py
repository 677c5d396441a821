"""The purge: numbers of calls whose time has come become pseudonyms, and whatever else holds them goes.

The books, the records and the sums stay as they are: none of them has a number in it. A call in an open dispute, or one
that is not numbered, exported or settled yet, is held back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from bridge import queries
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Invalid
from bridge.exports.store.cdr_files import file_of

CHUNK: Final = 5_000  # calls purged, with their proof, in one transaction
KEY_BYTES: Final = 32
PAD_BYTES: Final = 64  # the block of SHA-256
# What holds numbers beside the calls. Answers are repeated for a day; the rest is of use as long as quality data.
AGED: Final = ("events", "ordered calls", "orders to switches", "numbers in the audit log")
ANSWERS: Final = "answers kept for repeats"
ANSWERS_DAYS: Final = 2

# (what is being done, done, in all)
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """For callers nobody watches."""


@dataclass(slots=True)
class Purged:
    """What was purged, or would be. held: calls whose time has come and that stay for now, by why."""

    until_day: date
    calls: int = 0
    held: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    keys_destroyed: list[str] = field(default_factory=list)
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "until_day": self.until_day.isoformat(),
            "dry_run": self.dry_run,
            "calls": self.calls,
            "held": self.held,
            "others": self.others,
            "keys_destroyed": self.keys_destroyed,
        }


async def purge(
    conn: Connection,
    now: datetime,
    settings: Settings,
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Purged:
    """Purge whatever may not be there any more on the day of `now`, in the company's time zone.

    Not inside a transaction: each of many short ones has its own proof in purge_log, so that after a kill the next
    purge goes on. Whoever comes second waits for the first.

    now      aware
    raises   Invalid: inside a transaction, or without a time zone
    """
    if now.tzinfo is None:
        raise Invalid("now needs a time zone")
    if conn.is_in_transaction():
        raise Invalid("a purge cannot be part of another transaction")
    zone = settings.company.time_zone
    today = now.astimezone(ZoneInfo(zone)).date()
    done = Purged(today, dry_run=dry_run)
    await queries.retention.lock.run(conn)
    try:
        begin = await queries.retention.begin_day.value(conn)
        hold_days = settings.retention.hold_days_max
        due = (
            await queries.retention.gather.value(conn, begin=begin, day=today, hold_days=hold_days)
            if begin
            else 0
        )
        rows = await queries.retention.held.all(conn) if begin else []
        done.held = {row["held"]: row["calls"] for row in rows}
        done.calls = due - sum(done.held.values())
        if not dry_run:
            await _purge_calls(conn, due, begin, today, zone, progress)
            await _purge_aged(conn, now, settings, done)
            await _purge_files(conn, settings, done)
            done.keys_destroyed = await _destroy_keys(conn, now)
        return done
    finally:
        if not conn.is_closed():
            await queries.retention.forget.run(conn)
            await queries.retention.release.run(conn)


async def _purge_calls(
    conn: Connection, due: int, begin: date | None, today: date, zone: str, progress: Progress
) -> None:
    if due:
        async with conn.transaction():  # what was measured of them outlives them
            await queries.reports.quality_keep.value(conn, zone=zone)
        for month in await queries.retention.keyless_months.all(conn):
            inner, outer = pads(secrets.token_bytes(KEY_BYTES))
            await queries.retention.add_key.run(conn, month=month["month"], inner_pad=inner, outer_pad=outer)
    for after in range(0, due, CHUNK):
        async with conn.transaction():
            await queries.retention.purge_calls.value(conn, after=after, upto=after + CHUNK)
        progress("purging calls", min(after + CHUNK, due), due)
    if begin is not None:
        async with conn.transaction():
            await queries.retention.note_through.run(conn, begin=begin, day=today)


async def _purge_aged(conn: Connection, now: datetime, settings: Settings, done: Purged) -> None:
    oldest = now.astimezone(UTC).date() - timedelta(days=settings.retention.quality_days)
    answers = now.astimezone(UTC).date() - timedelta(days=ANSWERS_DAYS)
    for what in (*AGED, ANSWERS):
        day, gone = answers if what == ANSWERS else oldest, CHUNK
        while gone == CHUNK:
            gone = await queries.retention.purge_aged.value(conn, what=what, day=day, rows=CHUNK)
            done.others[what] = done.others.get(what, 0) + gone
    forgotten = 1
    while forgotten:
        async with conn.transaction():
            forgotten = await queries.retention.forget_counterparts.value(conn, day=done.until_day)
        done.others["rows of counterparties' files"] = (
            done.others.get("rows of counterparties' files", 0) + forgotten
        )


async def _purge_files(conn: Connection, settings: Settings, done: Purged) -> None:
    """Our copies of delivered files. What was told of them stays: sums, SHA-256 and manifest, which have no number."""
    kept, zone = settings.retention, ZoneInfo(settings.company.time_zone)
    year, month = divmod(done.until_day.year * 12 + done.until_day.month - 1 - kept.billing_months, 12)
    days = {
        "billing_at": date(year, month + 1, 1),
        "quality_at": done.until_day - timedelta(days=kept.quality_days),
    }
    rows = await queries.retention.old_files.all(
        conn, **{name: datetime.combine(day, time(), zone) for name, day in days.items()}
    )
    if not rows:
        return
    for row in rows:  # gone before it is noted: killed between, they are looked for again
        path = settings.exports.folder / (await file_of(conn, row["file_id"])).place
        await asyncio.to_thread(path.unlink, missing_ok=True)
    async with conn.transaction():
        await queries.retention.forget_files.run(
            conn, file_ids=[row["file_id"] for row in rows], day=done.until_day
        )
    done.others["files of call records"] = len(rows)


async def _destroy_keys(conn: Connection, now: datetime) -> list[str]:
    """Of months that are over and of which no call has its numbers any more."""
    this_month = now.astimezone(UTC).date().replace(day=1)
    async with conn.transaction():
        months = await queries.retention.destroy_keys.all(conn, this_month=this_month)
    if months:  # what an UPDATE leaves behind is the key
        await queries.retention.vacuum_keys.run(conn)
    return [row["month"].isoformat() for row in months]


def pads(key: bytes) -> tuple[bytes, bytes]:
    """A key as HMAC-SHA256 hashes it: padded for the inner and for the outer hash (RFC 2104)."""
    whole = key.ljust(PAD_BYTES, b"\0")
    return bytes(byte ^ 0x36 for byte in whole), bytes(byte ^ 0x5C for byte in whole)


async def log(conn: Connection, rows: int) -> list[dict[str, Any]]:
    """The proof, newest first; JSON-able."""
    return [
        {
            "purge_no": row["purge_no"],
            "at": row["at"].isoformat(),
            "rule": row["rule"],
            "what": row["what"],
            "from_day": row["from_day"].isoformat() if row["from_day"] else None,
            "until_day": row["until_day"].isoformat(),
            "rows": row["rows"],
            "hash": row["hash"].hex(),
        }
        for row in await queries.retention.log.all(conn, rows=rows)
    ]


async def standing(conn: Connection, now: datetime, settings: Settings) -> dict[str, Any]:
    """What is kept by which rule, what the next purge would do, and which months' keys are there; JSON-able."""
    due = await purge(conn, now, settings, dry_run=True)
    kept = settings.retention
    return {
        "rules": {
            "billing": f"{kept.billing_months} months after the month's end",
            "settlement": f"{kept.settlement_days} days after the month's end",
            "quality": f"{kept.quality_days} days after the end",
            "held": f"{kept.hold_days_max} days longer at most, in an open dispute until it is decided",
        },
        "due": due.calls,
        "held": due.held,
        "next_day": _shown(await queries.retention.next_day.value(conn, day=due.until_day)),
        "months": [
            {
                "month": row["month"].isoformat(),
                "calls": row["calls"],
                "purged": row["purged"],
                "key": row["key"],
            }
            for row in await queries.retention.months.all(conn)
        ],
    }


def _shown(day: date | None) -> str | None:
    return day.isoformat() if day else None
