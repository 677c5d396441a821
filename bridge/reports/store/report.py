"""Sums of records and of attempts, for reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.reports.measure import Money, Quality
from bridge.reports.period import Period


async def money(
    conn: Connection, period: Period, by: Sequence[str], partner_id: UUID | None
) -> dict[str, list[Money]]:
    """Traffic and money by each; a partner that asks gets its own, whatever it names."""
    found: dict[str, list[Money]] = {one: [] for one in by}
    for row in await queries.reports.money.all(
        conn, since=period.since, until=period.until, zone=period.zone, by=by, partner_id=partner_id
    ):
        told = dict(row)
        found[told.pop("by")].append(Money(**told))
    return found


async def quality(
    conn: Connection, period: Period, by: Sequence[str], partner_id: UUID | None
) -> dict[str, list[Quality]]:
    """How calls went (by trunk: attempts)."""
    found: dict[str, list[Quality]] = {one: [] for one in by}
    for row in await queries.reports.quality.all(
        conn, since=period.since, until=period.until, zone=period.zone, by=by, partner_id=partner_id
    ):
        told = dict(row)
        steps = {int(step): int(many) for step, many in json.loads(told["pdd"]).items()}
        found[told.pop("by")].append(Quality(**told | {"pdd": steps}))
    return found


async def keep_quality(conn: Connection, zone: str) -> int:
    """Keep the quality of each whole day that is numbered, so that its traffic data may go. Returns the days kept.

    Call it in a transaction, before traffic data are purged and when a month is closed; again it does nothing.
    """
    return int(await queries.reports.quality_keep.value(conn, zone=zone))


async def horizon(conn: Connection) -> datetime | None:
    """All calls that ended before are in reports; None: nothing is numbered yet."""
    at: datetime | None = await queries.reports.horizon.value(conn)
    return at


async def names(conn: Connection, by: str) -> dict[str, str]:
    """What keys are called, as far as whoever asks may know; {} where keys speak for themselves."""
    if by not in ("partner", "trunk"):
        return {}
    query = queries.reports.partners if by == "partner" else queries.reports.trunks
    return {row["key"]: row["name"] for row in await query.all(conn)}


async def partner_named(conn: Connection, text: str) -> tuple[UUID, str]:
    """A partner by its name or its id. raises NotFound"""
    row = await queries.reports.partner_named.one(conn, name=text)
    if row is None:
        try:
            key = UUID(text.removeprefix("prt_"))
        except ValueError:
            key = None
        row = await queries.reports.partner_of.one(conn, partner_id=key) if key else None
    if row is None:
        raise NotFound(f"no partner is named {text[:80]!r}: `callbridge partner list` shows their names")
    return row["partner_id"], row["name"]


async def as_partner(conn: Connection, partner_id: UUID) -> None:
    """For the rest of the transaction the connection sees what this partner may see."""
    await queries.access.enter.run(
        conn, role="callbridge_partner", partner_id=str(partner_id), for_transaction=True
    )
