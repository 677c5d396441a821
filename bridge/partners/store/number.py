"""Numbers to give to subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.telephony.did import Did

QUARANTINE_DAYS: Final = 90  # so long whoever had a number is still called by it

Row = Mapping[str, Any]


async def numbers(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    state: str | None = None,
    kind: str | None = None,
    subscriber_id: UUID | None = None,
    e164: str | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(
        await queries.numbers.numbers.all(
            conn, before=before, rows=rows, partner_id=partner_id, state=state, kind=kind,
            subscriber_id=subscriber_id, e164=e164,
        )
    )  # fmt: skip


async def number(conn: Connection, number_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.numbers.number.one(conn, number_id=number_id)
    if row is None:
        raise NotFound("There is no such number.")
    return row


async def holder(conn: Connection, subscriber_id: UUID) -> Row:
    """A subscriber who may get numbers, or has some. raises   NotFound"""
    row: Row | None = await queries.numbers.holder.one(conn, subscriber_id=subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    return row


async def add_numbers(conn: Connection, partner_id: UUID | None, dids: Sequence[Did]) -> Sequence[UUID]:
    """All of them or none; their ids. raises   Conflict naming the first that is there already"""
    e164s = [one.number.e164 for one in dids]
    taken = await queries.numbers.known_numbers.value(conn, e164s=e164s)
    if taken is not None:
        raise Conflict(f"The number {taken} is there already. Nothing was added.")
    added = await queries.numbers.add_numbers.all(
        conn, partner_id=partner_id, e164s=e164s, countries=[one.country for one in dids],
        kinds=[one.kind.value for one in dids],
    )  # fmt: skip
    return [row["number_id"] for row in added]


async def assign(conn: Connection, number_id: UUID, to: Row) -> Row:
    """Give a number to a subscriber (`holder`). Who has it already keeps it.

    raises   Conflict: it is somebody else's, or rests; the subscriber is closed
             Invalid: number and subscriber are of different partners
    """
    now = await _locked(conn, number_id)
    if now["partner_id"] != to["partner_id"]:
        raise Invalid("The number and the subscriber are of different partners.")
    if now["subscriber_id"] == to["subscriber_id"]:
        return now
    if now["state"] == "assigned":
        raise Conflict("The number is assigned to another subscriber. Release it first.")
    if now["state"] == "quarantined":
        raise Conflict(f"The number rests until {now['quarantine_until']:%Y-%m-%d %H:%M} UTC.")
    if to["state"] == "closed":
        raise Conflict("The subscriber is closed.")
    await queries.numbers.assign.run(
        conn, number_id=number_id, subscriber_id=to["subscriber_id"], edition=now["edition"]
    )
    return await number(conn, number_id)


async def release(conn: Connection, number_id: UUID, subscriber_id: UUID) -> Row:
    """Take a number from a subscriber. It rests for QUARANTINE_DAYS.

    raises   Conflict: they do not have it, or no longer
    """
    now = await _locked(conn, number_id)
    if now["subscriber_id"] != subscriber_id:
        raise Conflict("The subscriber does not have this number.")
    await queries.numbers.release.run(conn, number_id=number_id, days=QUARANTINE_DAYS)
    return await number(conn, number_id)


async def rest_until(conn: Connection, number_id: UUID, edition: int, until_at: datetime) -> Row | None:
    """Let a number rest longer or shorter. Returns None when it is of another edition by now.

    raises   Conflict: it does not rest
    """
    now = await _locked(conn, number_id)
    if now["edition"] != edition:
        return None
    if now["state"] != "quarantined":
        raise Conflict(f"The number is {now['state']}: only one in quarantine rests until an instant.")
    await queries.numbers.quarantine_until.run(conn, number_id=number_id, until_at=until_at)
    return await number(conn, number_id)


async def drop(conn: Connection, number_id: UUID, edition: int) -> bool:
    """It is ours no more. False when it is of another edition by now. raises   Conflict: somebody has it"""
    now = await _locked(conn, number_id)
    if now["edition"] != edition:
        return False
    if now["state"] == "assigned":
        raise Conflict("The number is assigned. Release it first.")
    await queries.numbers.drop_number.run(conn, number_id=number_id)
    return True


async def _locked(conn: Connection, number_id: UUID) -> Row:
    await queries.numbers.lock_number.run(conn, number_id=number_id)
    return await number(conn, number_id)
