"""The month's reports: tables for the house, a paper for it and each partner, and their totals beside the records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.closing.agreement import HOUSE, money, summed
from bridge.closing.closing import Closing
from bridge.database import Connection
from bridge.reports.period import of_month
from bridge.reports.report import Ask, report
from bridge.telephony.money import parse_micro

TABLES: Final = (("traffic", "day"), ("quality", "carrier"), ("margin", "destination"), ("margin", "partner"))
_SIDES: Final = (("paid", "gross"), ("owed to carriers", "cost"))


async def print_reports(conn: Connection, of: Closing) -> str:
    """A month that is numbered does not change any more: a paper that lies there is not printed again."""
    period = of_month(of.month, of.settings.company.time_zone)
    for name, by in TABLES:
        made = await report(conn, name, Ask(period, by))
        text = json.dumps(made.to_json(), indent=1, ensure_ascii=False) + "\n"
        await asyncio.to_thread(of.lay, f"{name}_by_{by}.json", text.encode())
    wanted: list[tuple[str, tuple[UUID, str] | None]] = [("report_house.pdf", None)]
    partners = await queries.closing.partners.all(conn, from_at=of.from_at, to_at=of.to_at)
    wanted += [(f"report_{row['partner_id'].hex}.pdf", (row["partner_id"], row["name"])) for row in partners]
    for place, (name, partner) in enumerate(wanted, 1):
        if not await asyncio.to_thread((of.out / name).exists):
            from bridge.reports.printing import monthly  # noqa: PLC0415 - what draws charts takes a second

            pdf = await monthly(conn, period, partner, of.settings.company)
            await asyncio.to_thread(of.lay, name, pdf)
        of.progress("reports", place, len(wanted))
    return f"{len(TABLES)} tables, {len(wanted)} papers"


async def lay_reports(conn: Connection, of: Closing) -> None:
    """The tables as they lie there, beside the records."""
    records = summed(await queries.closing.records.all(conn, from_at=of.from_at, to_at=of.to_at))
    sides = {"paid": records.paid, "owed to carriers": records.owed}
    for by in ("destination", "partner"):
        name = f"margin_by_{by}.json"
        try:
            text = await asyncio.to_thread((of.out / name).read_text, encoding="utf-8")
        except OSError as error:
            of.problems.append(f"{name} cannot be read back: {error.strerror}")
            continue
        told: Mapping[str, Any] = json.loads(text)
        for what, column in _SIDES:
            totals = _added(told["totals"], column)
            rows = _added(told["rows"], column)
            said = {"records": sides[what], f"margin by {by}": totals, "its rows": rows}
            of.agreements += money(HOUSE, f"{what}, reported by {by}", said)


def _added(rows: list[Mapping[str, Any]], column: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row["currency"]] = found.get(row["currency"], 0) + parse_micro(row[column])
    return found
