"""Calls as lists for people: all, newest first and page by page; and those in progress."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.telephony.money import format_micro


async def recent_calls(conn: Connection, before: UUID, limit: int) -> dict[str, Any]:
    """A page of calls that came before `before`. `next` is the cursor of the page after, None on the last."""
    rows = await queries.calls.recent.all(conn, before=before, page=limit + 1)
    page = rows[:limit]
    return {
        "calls": [
            {
                "call_id": str(row["call_id"]),
                "state": row["state"],
                "refuse_reason": row["refuse_reason"],
                "a_number": row["a_number"],
                "b_number": row["b_number"] or row["dialled"],
                "admitted_at": row["admitted_at"].isoformat(),
                "talk_ms": row["talk_ms"],
                "charge": format_micro(row["amount_micro"]) if row["amount_micro"] is not None else None,
                "currency": row["currency"],
            }
            for row in page
        ],
        "next": str(page[-1]["call_id"]) if len(rows) > limit else None,
    }


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
