"""The month's statements: one for each deal, approved, and their inputs beside the records they follow from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.closing.agreement import COUNT, SECONDS, Agreement, money, summed
from bridge.closing.closing import Closing
from bridge.database import Connection
from bridge.partners.statement_inputs import Inputs
from bridge.partners.store import statement as statements

NEWEST: Final = UUID(int=(1 << 128) - 1)
_OF_RECORDS: Final = ("origination", "termination", "usage")

Row = Mapping[str, Any]


async def approve_statements(conn: Connection, of: Closing) -> str:
    """Draft, check and approve, each deal in a transaction of its own. What was approved before stays."""
    zone = of.settings.company.time_zone
    deals = await statements.deals_of_month(conn, of.month, zone)
    made = 0
    for deal in deals:
        if any(row["state"] != "draft" for row in await of_deal(conn, of, deal["deal_id"])):
            continue
        async with conn.transaction():
            statement_id = await statements.draft(
                conn, deal["deal_id"], of.month, zone, author=of.author, at=of.now
            )
            await statements.approve(conn, statement_id, author=of.author)
        made += 1
        of.progress("statements", made, len(deals))
    return f"{made} approved, {len(deals) - made} were before"


async def of_month(conn: Connection, of: Closing) -> list[Row]:
    """Those of the month, with partner and deal."""
    found = []
    for deal in await statements.deals_of_month(conn, of.month, of.settings.company.time_zone):
        rows = await of_deal(conn, of, deal["deal_id"])
        found += [await statements.statement(conn, row["statement_id"]) for row in rows]
    return found


async def of_deal(conn: Connection, of: Closing, deal_id: UUID) -> list[Row]:
    return list(await statements.statements(conn, NEWEST, 2, deal_id=deal_id, month=of.month))


async def lay_statements(conn: Connection, of: Closing) -> None:
    """What each says it follows from beside the records, and its lines beside its total and what it has booked."""
    given = {"from_at": of.from_at, "to_at": of.to_at}
    rows = await queries.closing.records.all(conn, **given)
    for one in await of_month(conn, of):
        said, scope = f"statement {one['deal']}", one["partner"]
        of.problems += [f"{scope}, {said}: {wrong}" for wrong in await _checked(conn, one["statement_id"])]
        kept = await queries.closing.statement_kept.one(conn, statement_id=one["statement_id"])
        inputs = Inputs.from_json(json.loads(kept["inputs"]))
        records = summed(row for row in rows if row["partner_id"] == one["partner_id"])
        follows = summed(
            {"records": row.calls, "talk_ms": 0, "leg": row.leg, "currency": row.currency, "billed_s": row.billed_s,
             "amount_micro": row.amount_micro}
            for row in inputs.records if row.leg in _OF_RECORDS
        )  # fmt: skip
        count = {"records": records.records, said: inputs.evidence.records}
        of.agreements += [
            Agreement(scope, f"records, {one['deal']}", COUNT, count),
            Agreement(scope, f"billed, {one['deal']}", SECONDS, {"records": records.billed_s, said: follows.billed_s}),
            *money(scope, f"paid, {one['deal']}", {"records": records.paid, said: follows.paid}),
            *money(scope, f"carried, {one['deal']}", {"records": records.owed, said: follows.owed}),
            Agreement(scope, f"statement, {one['deal']}", one["currency"],
                      {"lines": kept["lines_micro"], "total": one["total_micro"], "ledger": kept["booked_micro"]}),
        ]  # fmt: skip


async def _checked(conn: Connection, statement_id: UUID) -> list[str]:
    async with conn.transaction():
        return await statements.check(conn, statement_id)
