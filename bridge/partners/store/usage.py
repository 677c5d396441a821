"""Messages and data that were reported, as their partner sees them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.partners.store.account import Row


async def usages(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    account_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Row]:
    """Newest first, by when they were reported: from `since` to before `until`."""
    return list(
        await queries.usage.usages.all(
            conn, before=before, rows=rows, account_id=account_id, since=since, until=until
        )
    )


async def usage(conn: Connection, usage_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.usage.usage.one(conn, usage_id=usage_id)
    if row is None:
        raise NotFound("There is no such usage.")
    return row


async def payers(conn: Connection, subscriber_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Those of the subscribers that whoever asks may see, with account and partner."""
    rows = await queries.usage.payers.all(conn, subscriber_ids=list(subscriber_ids))
    return {row["subscriber_id"]: row for row in rows}
