"""A whole run: what has ended is numbered, then everybody's files are made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.config import Settings
from bridge.database import Connection
from bridge.exports import cdr_files
from bridge.exports.listing import outcome_told
from bridge.exports.manifest import shown_at
from bridge.exports.sequence import seal
from bridge.exports.store.cdr_files import recipient_coded
from bridge.exports.streamed import Progress, silent


async def run(
    conn: Connection,
    settings: Settings,
    *,
    code: str | None = None,
    until: datetime | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """code None: everybody who gets files.

    until    no later than settings.exports.lag_s ago, which is what it is when not given
    raises   NotFound · Conflict: another process makes this one's files · InvariantBroken
    """
    latest = datetime.now(UTC) - timedelta(seconds=settings.exports.lag_s)
    until = min(until, latest) if until else latest
    only = await recipient_coded(conn, code) if code else None
    sealed = await seal(
        conn, until, progress=progress, keeping=settings.retention, time_zone=settings.company.time_zone
    )
    outcomes = (
        [await cdr_files.run(conn, settings, only, until, progress)]
        if only
        else await cdr_files.run_all(conn, settings, until, progress)
    )
    return {
        "sealed": sealed,
        "until": shown_at(until),
        "recipients": [outcome_told(one) for one in outcomes],
    }
