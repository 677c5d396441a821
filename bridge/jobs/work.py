"""The kinds of jobs there are, and what each does: one call into a room. Another kind is one more line of `WORK`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import BridgeError, InvariantBroken
from bridge.exports import cdr_files, extract, sequence
from bridge.exports.store import export as exports
from bridge.exports.store.cdr_files import recipient_by_id
from bridge.jobs.schedule import Rhythm
from bridge.reports.store import keep_quality
from bridge.retention.purge import purge


class Undelivered(BridgeError):
    """Files are not where they belong."""


@dataclass(frozen=True, slots=True)
class Task:
    """conn     of the job's own, without a time limit on statements, in no transaction
    payload  what the job is about, as its row has it
    """

    settings: Settings
    conn: Connection
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """do        does all there is to do by now. It may be killed at any point, and is done again then
    limit_s   it is ended after that
    rhythm    the house does it by itself; None: somebody asks for it, or it is done for each of many
    after_s   so long after the hour, the day or the month has begun
    given_up  tells whoever waits for it that it will not be done, and why
    """

    do: Callable[[Task], Awaitable[Mapping[str, Any]]]
    limit_s: float
    rhythm: Rhythm | None = None
    after_s: float = 0
    given_up: Callable[[Connection, Mapping[str, Any], str], Awaitable[None]] | None = None


async def _seal(task: Task) -> Mapping[str, Any]:
    """Number the calls that ended until a little ago."""
    until = datetime.now(UTC) - timedelta(seconds=task.settings.exports.lag_s)
    keeping, zone = task.settings.retention, task.settings.company.time_zone
    made = await sequence.seal(task.conn, until, keeping=keeping, time_zone=zone)
    return {"records": made, "until": until.isoformat()}


async def _cdr_files(task: Task) -> Mapping[str, Any]:
    """Plan, write and deliver what is due to one recipient. The next time goes on where this broke off."""
    settings, conn = task.settings, task.conn
    recipient = await recipient_by_id(conn, UUID(task.payload["recipient_id"]))
    now = datetime.now(UTC)
    await _seal(task)
    outcome = await cdr_files.run(conn, settings, recipient, now)
    if outcome.problem is not None:
        raise Undelivered(f"{recipient.code}: {outcome.problem}")
    return {"recipient": recipient.code, "planned": outcome.planned, "delivered": len(outcome.delivered)}


async def _stragglers(task: Task) -> Mapping[str, Any]:
    """Number what came in so late that no other look goes back so far."""
    until = datetime.now(UTC) - timedelta(seconds=task.settings.exports.lag_s)
    keeping, zone = task.settings.retention, task.settings.company.time_zone
    made = await sequence.seal(task.conn, until, thorough=True, keeping=keeping, time_zone=zone)
    return {"records": made, "until": until.isoformat()}


async def _purge(task: Task) -> Mapping[str, Any]:
    """Numbers of calls whose time has come go."""
    return (await purge(task.conn, datetime.now(UTC), task.settings)).to_json()


async def _extract(task: Task) -> Mapping[str, Any]:
    """Make the file a partner asked for."""
    return await extract.make(task.conn, task.settings, UUID(task.payload["export_id"]))


async def _extract_given_up(conn: Connection, payload: Mapping[str, Any], problem: str) -> None:
    await exports.failed(conn, UUID(payload["export_id"]), problem)


async def _tidy(task: Task) -> Mapping[str, Any]:
    """Remove the files of extracts that have been kept for as long as they are."""
    return {"removed": await extract.remove_expired(task.conn, task.settings)}


async def _measure(task: Task) -> Mapping[str, Any]:
    """Keep the quality of the days that are over: the traffic data of calls nobody answered go first."""
    async with task.conn.transaction():
        return {"days": await keep_quality(task.conn, task.settings.company.time_zone)}


async def _close(task: Task) -> Mapping[str, Any]:
    """Close the month before, and those before it that the books are open for."""
    from bridge.closing.close import close, due_months  # noqa: PLC0415 - a worker's start does not wait for it

    settings, conn, now = task.settings, task.conn, datetime.now(UTC)
    closed = []
    for month in await due_months(conn, settings.company.time_zone, now):
        done = await close(conn, settings, month, author=settings.closing.author, now=now)
        if not done.sound:
            said = "; ".join(done.to_json()["problems"])
            raise InvariantBroken(f"{month} is closed, and not all agrees: {said}")
        closed.append(month)
    return {"closed": ", ".join(closed)}


WORK: Final[Mapping[str, Work]] = MappingProxyType(
    {
        "stragglers": Work(_stragglers, 6 * 3600, "daily", 2 * 3600),
        "purge": Work(_purge, 6 * 3600, "daily", 3 * 3600),
        "seal": Work(_seal, 1800, "often"),
        "cdr_files": Work(_cdr_files, 4 * 3600),
        "extract": Work(_extract, 3600, given_up=_extract_given_up),
        "measure": Work(_measure, 3600, "daily", 1800),
        "close": Work(_close, 6 * 3600, "monthly"),
        "tidy": Work(_tidy, 600, "hourly", 600),
    }
)
