"""The proof that re-rating is right: every revision recomputes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from bridge import queries
from bridge.calls.reprice import Thaw
from bridge.database import Connection
from bridge.errors import DeckError
from bridge.rating.charge import charge


async def audit_reratings(conn: Connection) -> AsyncIterator[dict[str, Any]]:
    """Revisions that do not follow from their frozen tariffs. Inside a transaction only."""
    thaw = Thaw()
    async for row in queries.rerating.audit_reratings.stream(conn):
        kept = {name: row[name] for name in ("amount_micro", "billed_s", "cost_micro", "buy_billed_s")}
        again = _recompute(thaw, row)
        if again != kept:
            yield {"call_id": row["call_id"], "revision": row["revision"], **kept, "recomputed": again}


def _recompute(thaw: Thaw, row: Mapping[str, Any]) -> dict[str, int]:
    """Empty when a tariff or the call is lost or wrong."""
    if row["talk_ms"] is None:
        return {}
    when = {"answered_at": row["answered_at"]}
    try:
        sold = charge(thaw(row["sell"]), row["talk_ms"], covered_s=row["covered_s"] or 0, **when)
        bought = None if row["buy"] is None else charge(thaw(row["buy"]), row["talk_ms"], **when)
    except (DeckError, ValueError):
        return {}
    return {
        "amount_micro": sold.amount_micro,
        "billed_s": sold.billed_s,
        "cost_micro": bought.amount_micro if bought else 0,
        "buy_billed_s": bought.billed_s if bought else 0,
    }
