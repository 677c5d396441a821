"""What was changed through the API, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound

Row = Mapping[str, Any]


async def audits(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    action: str | None = None,
    subject: str | None = None,
    partner_id: UUID | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`, done at `since` or later and before `until`."""
    asked: dict[str, Any] = {
        "before": before, "rows": rows, "since": since, "until": until, "action": action, "subject": subject,
    }  # fmt: skip
    if partner_id is not None:
        return list(await queries.access.audits_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.access.audits.all(conn, **asked))


async def audit(conn: Connection, audit_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.access.audit.one(conn, audit_id=audit_id)
    if row is None:
        raise NotFound("There is no such entry.")
    return row
