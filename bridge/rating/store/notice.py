"""What a staged import makes dearer, read from the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.rating.deck_import import Finding
from bridge.rating.notice import Piece, Rise, Rises
from bridge.rating.rate import Rate, Tier

_BATCH_ROWS: Final = 5_000


async def find_rises(
    conn: Connection, import_id: UUID, deck_id: UUID, at: datetime, notice: timedelta,
    found: Callable[[Finding], None],
) -> datetime | None:  # fmt: skip
    """Tell what a staged import makes dearer before `notice` is over. Returns when it first does; None: never."""
    watch, query = Rises(at, notice), queries.deck_pages.before_and_after
    first = None
    await queries.deck_pages.measure_changes.run(conn)
    async for rows in query.batches(conn, _BATCH_ROWS, import_id=import_id, deck_id=deck_id):
        for rise in chain.from_iterable(watch.add(_piece(row)) for row in rows):
            first = _tell(rise, first, at + notice, notice.days, found)
    for rise in watch.end():
        first = _tell(rise, first, at + notice, notice.days, found)
    return first


def _tell(
    rise: Rise, first: datetime | None, earliest: datetime, days: int, found: Callable[[Finding], None]
) -> datetime:
    if rise.at < earliest:
        problem = (
            f"{rise.prefix}: {rise.what} at {rise.at.isoformat()}. What rises needs {days} days of notice: "
            f"write {earliest.date() + timedelta(days=1)} or later"
        )
        found(Finding(rise.row, "effective_from", problem))
    return rise.at if first is None else min(first, rise.at)


def _piece(row: Any) -> Piece:
    tiers = tuple(Tier(*tier) for tier in json.loads(row["tiers"] or "[]"))
    rate = Rate(
        "", "", row["prefix"], row["destination"], row["currency"], row["rate_micro"], row["connect_fee_micro"],
        row["initial_s"], row["next_s"], row["minimum_s"], row["blocked"], row["grace_s"], row["origin_set"], tiers,
    )  # fmt: skip
    valid = row["valid"]
    return Piece(rate, valid.lower, valid.upper, row["before"], row["after"], row["row_no"] or 0)
