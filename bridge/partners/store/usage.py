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
    partner_id: UUID | None = None,
    account_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Row]:
    """Newest first, by when they were reported: from `since` to before `until`. Of an account, else of a partner."""
    asked = {"before": before, "rows": rows, "since": since, "until": until}
    if account_id is not None:
        return list(await queries.usage.usages_account.all(conn, account_id=account_id, **asked))
    if partner_id is not None:
        return list(await queries.usage.usages_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.usage.usages.all(conn, **asked))


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
