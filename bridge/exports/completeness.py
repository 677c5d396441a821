"""The proof that no record is missing, none is there that should not be, and none is another than it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.calls.audit import first_findings
from bridge.database import Connection
from bridge.exports.sequence import chained, horizon


async def audit_completeness(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """What breaks it, by the name of what should be true; JSON-able. All empty: the records are complete.

    Everything is asked of one state of the database, and no more is kept in memory than is found.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        ask, until = queries.sequence, await horizon(conn)
        found = {
            "records_are_numbered_without_gaps": ask.audit_gaps.stream(conn),
            "records_are_in_order": ask.audit_order.stream(conn),
            "what_ended_has_its_records": ask.audit_missing.stream(conn, horizon=until),
            "records_say_what_was_booked": ask.audit_unfounded.stream(conn),
            "records_are_as_they_were_numbered": ask.audit_hashes.stream(conn),
            "days_are_chained": _days(conn),
            "no_day_is_left_out": ask.audit_open_chains.stream(conn, horizon=until),
        }
        return {name: await first_findings(rows) for name, rows in found.items()}


async def _days(conn: Connection) -> AsyncIterator[dict[str, Any]]:
    for row in await queries.sequence.audit_days.all(conn):
        said = {"partner_id": row["partner_id"], "day": row["day"].isoformat()}
        before = row["hash_before"] or bytes(32)
        if not row["followed"] or row["previous"] != before:
            yield {**said, "problem": "it does not follow the day before"}
        if row["first_no"] != row["last_before"] + 1 or row["last_no"] != max(
            row["last_then"], row["first_no"] - 1
        ):
            yield {**said, "problem": "it does not have the numbers of its records"}
        again = await chained(conn, row["partner_id"], row["previous"], row["first_no"], row["last_no"])
        if again != row["hash"]:
            yield {**said, "problem": "its records do not come out as its hash"}


async def chain(conn: Connection, whose: UUID, since: date, until: date) -> list[dict[str, Any]]:
    """The days of a chain, oldest first, as a partner is told them. whose: a partner, or HOUSE; until: not included"""
    return [
        {
            "day": row["day"].isoformat(),
            "first_no": row["first_no"],
            "last_no": row["last_no"],
            "records": row["records"],
            "previous": row["previous"].hex(),
            "hash": row["hash"].hex(),
        }
        for row in await queries.sequence.days.all(conn, partner_id=whose, since=since, until=until)
    ]
