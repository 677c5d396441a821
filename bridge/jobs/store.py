"""Jobs in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.jobs.schedule import Rhythm

CHANNEL: Final = "callbridge_jobs"
LISTED_MAX: Final = 1000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """A job with a rhythm, as it is to be. due_at: its first time, where it is new"""

    key: str
    kind: str
    rhythm: Rhythm
    due_at: datetime
    time_zone: str = "UTC"
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Leased:
    """A job somebody is at. tries: this one included"""

    key: str
    kind: str
    payload: Mapping[str, Any]
    rhythm: Rhythm | None
    time_zone: str
    tries: int
    lease_id: UUID


async def ensure(conn: Connection, lines: Sequence[Line]) -> None:
    """Have these jobs, and no others with a rhythm."""
    await queries.jobs.ensure.run(
        conn,
        keys=[one.key for one in lines],
        kinds=[one.kind for one in lines],
        payloads=[json.dumps(one.payload or {}) for one in lines],
        rhythms=[one.rhythm for one in lines],
        time_zones=[one.time_zone for one in lines],
        due_ats=[one.due_at for one in lines],
    )


async def recipients(conn: Connection) -> Sequence[Row]:
    """Whose files have a rhythm: recipient_id, period, time_zone."""
    return list(await queries.jobs.recipients.all(conn))


async def claim(conn: Connection, kinds: Sequence[str], most: int, lease_s: float) -> Leased | None:
    """What is due, for us alone until the lease ends; None: nothing, or `most` are at work already, anywhere."""
    async with conn.transaction():
        await queries.jobs.gate.run(conn)
        row = await queries.jobs.claim.one(conn, kinds=list(kinds), most=most, lease_s=lease_s)
    return _leased(row) if row else None


async def claim_key(conn: Connection, key: str, lease_s: float) -> Leased:
    """raises   NotFound · Conflict: somebody is at it"""
    row = await queries.jobs.claim_key.one(conn, key=key, lease_s=lease_s)
    if row is None:
        await job(conn, key)
        raise Conflict(f"{key} is at work. `callbridge jobs list` says since when.")
    return _leased(row)


async def renew(conn: Connection, one: Leased, lease_s: float) -> bool:
    """False: we have it no more."""
    return bool(await queries.jobs.renew.value(conn, key=one.key, lease_id=one.lease_id, lease_s=lease_s))


async def lost(conn: Connection) -> list[Leased]:
    """Jobs whose worker is taken for dead."""
    return [_leased(row) for row in await queries.jobs.lost.all(conn)]


async def ended(
    conn: Connection,
    one: Leased,
    state: str,
    *,
    due_at: datetime | None,
    tries: int,
    problem: str = "",
    said: Mapping[str, Any] | None = None,
) -> bool:
    """Let it go. False: we had it no more, and nothing was noted."""
    return bool(
        await queries.jobs.ended.value(
            conn,
            key=one.key,
            lease_id=one.lease_id,
            state=state,
            due_at=due_at,
            tries=tries,
            problem=problem,
            said=None if said is None else json.dumps(said),
        )
    )


async def jobs(conn: Connection) -> Sequence[Row]:
    return list(await queries.jobs.jobs.all(conn, rows=LISTED_MAX))


async def job(conn: Connection, key: str) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.jobs.job.one(conn, key=key)
    if row is None:
        raise NotFound(f"There is no job {key}. `callbridge jobs list` shows them.")
    return row


async def retry(conn: Connection, key: str | None) -> list[str]:
    """Have what failed done at once; None: all of it. Returns the keys.

    raises   NotFound
    """
    if key is not None:
        await job(conn, key)
    return [row["key"] for row in await queries.jobs.retry.all(conn, key=key)]


async def figures(conn: Connection) -> dict[str, float]:
    """Jobs by state, and `late_s`: how long what is due has waited."""
    rows = await queries.jobs.figures.all(conn)
    return {row["state"]: float(row["jobs"]) for row in rows} | {
        "late_s": max((row["late_s"] for row in rows), default=0.0)
    }


def _leased(row: Row) -> Leased:
    return Leased(
        row["key"],
        row["kind"],
        json.loads(row["payload"]),
        row["rhythm"],
        row["time_zone"],
        row["tries"],
        row["lease_id"],
    )
