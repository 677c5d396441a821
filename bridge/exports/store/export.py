"""Extracts of records, as partners ask for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound

WAITED_FOR_MAX: Final = 3  # of one partner at a time
KEEP_DAYS: Final = 7  # the file, after it was made
REMOVED_ROWS: Final = 1000

Row = Mapping[str, Any]


async def exports(conn: Connection, partner_id: UUID | None, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, those older than `before`. partner_id None: of whoever may be seen"""
    if partner_id is None:
        return list(await queries.exports.exports.all(conn, before=before, rows=rows))
    return list(
        await queries.exports.exports_partner.all(conn, partner_id=partner_id, before=before, rows=rows)
    )


async def export(conn: Connection, export_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.exports.export.one(conn, export_id=export_id)
    if row is None:
        raise NotFound("There is no such export.")
    return row


async def add(
    conn: Connection,
    partner_id: UUID | None,
    *,
    kind: str,
    form: str,
    since: datetime,
    until: datetime,
    due_at: datetime,
) -> Row:
    """Ask for one, and have it made from due_at on.

    raises   Conflict: as many are waited for as may be
    """
    row: Row = await queries.exports.add_export.one(
        conn,
        partner_id=partner_id,
        type=kind,
        format=form,
        since=since,
        until=until,
        due_at=due_at,
        most=WAITED_FOR_MAX,
    )
    return row


async def begin(conn: Connection, export_id: UUID) -> Row | None:
    """None: it is done already."""
    row: Row | None = await queries.exports.begin_export.one(conn, export_id=export_id)
    return row


async def done(
    conn: Connection,
    export_id: UUID,
    *,
    name: str,
    rows: int,
    size: int,
    totals: Mapping[str, Any],
    sha256: str,
) -> None:
    """The file is there. Whoever asked is told. size: bytes"""
    await queries.exports.export_done.run(
        conn,
        export_id=export_id,
        name=name,
        rows=rows,
        bytes=size,
        totals=json.dumps(totals),
        sha256=bytes.fromhex(sha256),
        keep_days=KEEP_DAYS,
    )


async def failed(conn: Connection, export_id: UUID, problem: str) -> None:
    """It will not be made. Whoever asked is told why."""
    await queries.exports.export_failed.run(conn, export_id=export_id, problem=problem)


async def expired(conn: Connection) -> list[UUID]:
    """Whose files have been kept for as long as they are, the oldest first; REMOVED_ROWS at most."""
    return [row["export_id"] for row in await queries.exports.expired.all(conn, rows=REMOVED_ROWS)]


async def removed(conn: Connection, export_ids: Sequence[UUID]) -> None:
    await queries.exports.removed.run(conn, export_ids=list(export_ids))
