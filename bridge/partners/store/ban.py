"""Bans in force: addresses the switch does not listen to, users it lets nobody register as."""

from __future__ import annotations

from typing import Any

from bridge import queries
from bridge.database import Connection


async def bans(conn: Connection) -> list[dict[str, Any]]:
    """Newest first. Either address or endpoint is given."""
    return [
        dict(row)
        | {at: row[at].isoformat() for at in ("banned_at", "expires_at")}
        | {"sip_ban_id": str(row["sip_ban_id"])}
        for row in await queries.credentials.bans.all(conn)
    ]


async def lift_ban(conn: Connection, who: str, actor: str) -> int:
    """End what bans an address or an endpoint. Returns how many bans that were."""
    ended: int = await queries.credentials.lift.value(conn, who=who, actor=actor)
    return ended
