"""Calls as a list for people: newest first, page by page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
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
