"""Calls in progress as a list for people."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.telephony.money import format_micro


async def live_calls(conn: Connection) -> list[dict[str, Any]]:
    """Calls in progress, the oldest first. limit_s: talk time the hold pays for."""
    return [
        {
            "call_id": str(row["call_id"]),
            "a_number": row["a_number"],
            "b_number": row["b_number"],
            "trunk": row["trunk"],
            "admitted_at": row["admitted_at"].isoformat(),
            "answered_at": row["answered_at"].isoformat() if row["answered_at"] else None,
            "limit_s": row["limit_ms"] / 1000,
            "held": format_micro(row["held_micro"]),
            "currency": row["currency"],
        }
        for row in await queries.calls.live.all(conn)
    ]


async def live_channel(conn: Connection, call_id: UUID) -> str:
    """The caller's channel of a call in progress.

    raises   NotFound
    """
    channel = await queries.calls.live_channel.value(conn, call_id=call_id)
    if channel is None:
        raise NotFound(f"no call {call_id} is in progress")
    return str(channel)
