"""The numbering of what has ended. Each leg of a call, each message, each later price is a record, and none is missing.

It is made after the fact and apart from the calls: it reads what has committed, and locks nothing that a call needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.config import Retention
from bridge.database import Connection
from bridge.errors import Invalid

HOUSE: Final = UUID(int=0)  # whose chain is over all records
CHUNK: Final = 20_000  # records numbered in one transaction, and hashes read at a time
# An ordinary pass looks this far back behind the one before: longer than a call lasts and a switch is out of reach.
LOOK_BACK: Final = timedelta(days=1)

# (what is being done, records done, records in all)
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """For callers nobody watches."""


async def horizon(conn: Connection) -> datetime | None:
    """All that ended before it has its number, and no period up to it changes any more. None: nothing yet."""
    found: datetime | None = await queries.sequence.horizon.value(conn)
    return found


async def seal(
    conn: Connection,
    until: datetime,
    *,
    thorough: bool = False,
    progress: Progress = silent,
    keeping: Retention | None = None,
    time_zone: str = "UTC",
) -> int:
    """Number all that ended before an instant. Returns how many records were made; none where that was done before.

    Not inside a transaction: it is of many short ones, and a kill in any of them loses nothing and leaves no gap.
    Whoever comes second waits for the first.

    until      aware; a little ago, so that what ended before it has been written. What was not is numbered next time
    thorough   look for stragglers among all calls, not only those of the last day
    keeping, time_zone   how long the data behind a record is kept, and where months end
    raises     Invalid: inside a transaction, or without a time zone
    """
    if until.tzinfo is None:
        raise Invalid("until needs a time zone")
    if conn.is_in_transaction():
        raise Invalid("numbering cannot be part of another transaction")
    await queries.sequence.lock.run(conn)
    try:
        before = await horizon(conn)
        sealed = 0
        if before is None or until > before:
            since = None if thorough or before is None else before - LOOK_BACK
            sealed = await _number(conn, since, until, progress, keeping or Retention(), time_zone)
            await queries.sequence.add_pass.run(conn, until=until)
            before = until
        await _close_days(conn, before, progress)
        return sealed
    finally:
        if not conn.is_closed():
            await queries.sequence.forget.run(conn)
            await queries.sequence.release.run(conn)


async def _number(
    conn: Connection,
    since: datetime | None,
    until: datetime,
    progress: Progress,
    keeping: Retention,
    time_zone: str,
) -> int:
    due = await queries.sequence.gather.value(conn, since=since, until=until)
    for after in range(0, due, CHUNK):
        await queries.sequence.seal.value(
            conn,
            after=after,
            upto=after + CHUNK,
            billing_months=keeping.billing_months,
            settlement_days=keeping.settlement_days,
            quality_days=keeping.quality_days,
            time_zone=time_zone,
        )
        progress("numbering", min(after + CHUNK, due), due)
    if due >= CHUNK:  # else the next pass would be planned as if there were none
        await queries.sequence.analyze.run(conn)
    return int(due)


async def _close_days(conn: Connection, until: datetime, progress: Progress) -> None:
    """Add each day that is over to the chains."""
    day: date | None = await queries.sequence.next_day.value(conn)
    first = day
    while day is not None and datetime.combine(day, time(), UTC) + timedelta(days=1) <= until:
        async with conn.transaction():
            for row in await queries.sequence.day_ranges.all(conn, day=day):
                partner_id, first_no, last_no = row["partner_id"], row["first_no"], row["last_no"]
                await queries.sequence.add_day.run(
                    conn,
                    partner_id=partner_id,
                    day=day,
                    first_no=first_no,
                    last_no=max(last_no, first_no - 1),
                    previous=row["previous"],
                    hash=await chained(conn, partner_id, row["previous"], first_no, last_no),
                )
        day += timedelta(days=1)
        if first is not None:
            progress("closing days", (day - first).days, (until.date() - first).days)


async def chained(conn: Connection, partner_id: UUID, previous: bytes, first_no: int, last_no: int) -> bytes:
    """The hash of a day, from that before and its records as they are. HOUSE: over the house's numbers."""
    digest = hashlib.sha256(previous)
    for start in range(first_no, last_no + 1, CHUNK):
        end = min(start + CHUNK - 1, last_no)
        if partner_id == HOUSE:
            hashes = await queries.sequence.house_hashes.value(conn, first_no=start, last_no=end)
        else:
            hashes = await queries.sequence.hashes.value(
                conn, partner_id=partner_id, first_no=start, last_no=end
            )
        digest.update(hashes or b"")
    return digest.digest()
