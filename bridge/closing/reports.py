"""The month's reports: tables for the house, a paper for it and each partner, and their totals beside the records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

from bridge import queries
from bridge.closing.agreement import COUNT, HOUSE, Agreement, money, summed
from bridge.closing.closing import Closing
from bridge.database import Connection
from bridge.reports.period import of_month
from bridge.reports.report import Ask, report
from bridge.reports.store import keep_quality
from bridge.telephony.money import parse_micro

TABLES: Final[tuple[tuple[str, str], ...]] = (
    ("traffic", "day"),
    ("quality", "carrier"),
    ("margin", "destination"),
    ("margin", "partner"),
)
_MONEY: Final = tuple(one for one in TABLES if one[0] != "quality")  # whose totals are the records'

Told = Mapping[str, Any]
T = TypeVar("T", int, dict[str, int])


async def print_reports(conn: Connection, of: Closing) -> str:
    """A month that is numbered does not change any more: a paper that lies there is not printed again."""
    zone = of.settings.company.time_zone
    period = of_month(of.month, zone)
    async with conn.transaction():
        await keep_quality(
            conn, zone
        )  # each report reads what is kept; reading all traffic data takes each seconds
    for name, by in TABLES:
        made = await report(conn, name, Ask(period, by))
        text = json.dumps(made.to_json(), indent=1, ensure_ascii=False) + "\n"
        await asyncio.to_thread(of.lay, _file(name, by), text.encode())
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
    """The tables as they lie there, each with its rows added up, beside the records."""
    given = {"from_at": of.from_at, "to_at": of.to_at}
    records = summed(await queries.closing.records.all(conn, **given))
    counted = await queries.closing.calls.one(conn, **given)
    tables: dict[str, Told] = {}
    for name, by in _MONEY:
        try:
            text = await asyncio.to_thread((of.out / _file(name, by)).read_text, encoding="utf-8")
            tables[f"{name} by {by}"] = json.loads(text)
        except (OSError, ValueError) as error:
            of.problems.append(f"{_file(name, by)} cannot be read back: {error}")
    for what in ("calls", "answered"):
        if seen := _each(tables, what, _counts):
            of.agreements.append(
                Agreement(HOUSE, f"{what}, reported", COUNT, {"records": counted[what], **seen})
            )
    of.agreements += money(
        HOUSE, "paid, reported", {"records": records.paid, **_each(tables, "gross", _sums)}
    )
    owed = {"records": records.owed, **_each(tables, "cost", _sums)}
    of.agreements += money(HOUSE, "owed to carriers, reported", owed)
    of.agreements += money(HOUSE, "net revenue, reported", _each(tables, "revenue", _sums))


def _file(name: str, by: str) -> str:
    return f"{name}_by_{by}.json"


def _each(tables: Mapping[str, Told], column: str, added: Callable[[list[Told], str], T]) -> dict[str, T]:
    """By table, what its totals and what its rows say of a column that it has."""
    found: dict[str, T] = {}
    for name, told in tables.items():
        if any(column in row for row in told["totals"]):
            found |= {name: added(told["totals"], column), f"rows of {name}": added(told["data"], column)}
    return found


def _counts(rows: list[Told], column: str) -> int:
    return sum(row[column] for row in rows)


def _sums(rows: list[Told], column: str) -> dict[str, int]:
    """Micro-units by currency."""
    found: dict[str, int] = {}
    for row in rows:
        found[row["currency"]] = found.get(row["currency"], 0) + parse_micro(row[column])
    return found
