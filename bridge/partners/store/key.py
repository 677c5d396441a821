"""API keys, as whoever manages them sees them: never the hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound

Row = Mapping[str, Any]


async def keys(
    conn: Connection, before: UUID, rows: int, *, partner_id: UUID | None = None, kind: str | None = None
) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(
        await queries.access.keys.all(conn, before=before, rows=rows, partner_id=partner_id, kind=kind)
    )


async def key(conn: Connection, key_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.access.key.one(conn, key_id=key_id)
    if row is None:
        raise NotFound("There is no such key.")
    return row


async def key_by_prefix(conn: Connection, prefix: str) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.access.key_by_prefix.one(conn, prefix=prefix)
    if row is None:
        raise NotFound(f"There is no key {prefix}.")
    return row


async def valid_keys(conn: Connection, partner_id: UUID | None) -> int:
    """How many a partner has, or operators have."""
    return int(await queries.access.valid_keys.value(conn, partner_id=partner_id))


async def change_key(
    conn: Connection,
    key_id: UUID,
    edition: int,
    *,
    name: str | None,
    sets_expiry: bool,
    expires_at: datetime | None,
) -> Row | None:
    """Returns None when the key is of another edition by now, or no longer valid."""
    row: Row | None = await queries.access.change_key.one(
        conn, key_id=key_id, edition=edition, name=name, sets_expiry=sets_expiry, expires_at=expires_at
    )
    return row


async def replace_key(conn: Connection, key_id: UUID, new_key_id: UUID, overlap_s: int) -> None:
    """The old key ends `overlap_s` from now.

    raises   Conflict: it is not valid, or was replaced before
    """
    if not await queries.access.replace_key.one(
        conn, key_id=key_id, new_key_id=new_key_id, overlap_s=overlap_s
    ):
        raise Conflict("The key is revoked, expired, or was replaced before.")


async def revoke_key(conn: Connection, key_id: UUID, edition: int) -> Row | None:
    """Returns None when the key is of another edition by now. Revoking again changes nothing."""
    row: Row | None = await queries.access.revoke_key.one(conn, key_id=key_id, edition=edition)
    return row
