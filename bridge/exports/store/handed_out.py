"""Recipients and their numbered files as they are handed out over the API, page by page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.exports.store.cdr_files import check_recipient

Row = Mapping[str, Any]


async def recipients(conn: Connection, partner_id: UUID | None, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first. partner_id None: of whoever may be seen"""
    asked = {"before": before, "rows": rows}
    if partner_id is None:
        return list(await queries.exports.recipients.all(conn, **asked))
    return list(await queries.exports.recipients_partner.all(conn, partner_id=partner_id, **asked))


async def recipient(conn: Connection, recipient_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.exports.recipient.one(conn, recipient_id=recipient_id)
    if row is None:
        raise NotFound("There is no such recipient.")
    return row


async def target(conn: Connection, recipient_id: UUID) -> Mapping[str, Any]:
    """Where the files go. For operators: a partner may not read it."""
    found: Mapping[str, Any] = json.loads(await queries.exports.target.value(conn, recipient_id=recipient_id))
    return found


async def change_recipient(
    conn: Connection, recipient_id: UUID, edition: int, given: Mapping[str, Any]
) -> Row | None:
    """From the next file on. What is missing in `given` stays. None: it is of another edition by now.

    raises   NotFound · Invalid
    """
    now = await recipient(conn, recipient_id)
    where = given.get("target")
    check_recipient(
        given.get("types") or now["types"],
        given.get("format") or now["format"],
        given.get("time_zone") or now["time_zone"],
        where if where is not None else await target(conn, recipient_id),
    )
    row: Row | None = await queries.exports.change_recipient.one(
        conn,
        recipient_id=recipient_id,
        edition=edition,
        types=sorted(set(given["types"])) if given.get("types") else None,
        format=given.get("format"),
        period=given.get("period"),
        time_zone=given.get("time_zone"),
        target=None if where is None else json.dumps(dict(where)),
        enabled=given.get("enabled"),
    )
    return row


async def files(
    conn: Connection,
    partner_id: UUID | None,
    before: UUID,
    rows: int,
    *,
    recipient_id: UUID | None = None,
    kind: str | None = None,
) -> Sequence[Row]:
    """Newest first. What is None is not asked for. A recipient is looked up before."""
    asked = {"before": before, "rows": rows, "type": kind}
    if recipient_id is not None:
        return list(await queries.exports.files_of.all(conn, recipient_id=recipient_id, **asked))
    if partner_id is None:
        return list(await queries.exports.files.all(conn, **asked))
    return list(await queries.exports.files_partner.all(conn, partner_id=partner_id, **asked))


async def file(conn: Connection, file_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.exports.file.one(conn, file_id=file_id)
    if row is None:
        raise NotFound("There is no such file.")
    return row
