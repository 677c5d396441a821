"""Statements as text: one that a person would read before approving or sending it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.api.page import LAST
from bridge.api.statements import show, show_line
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.partners.store import statement as store
from bridge.telephony.money import format_micro, parse_micro
from bridge.telling.seen import seen

WIDTH: Final = 140
LIST_MAX: Final = 200
_RIGHT: Final = frozenset({"quantity", "rate", "of", "amount", "total", "paid", "open"})
_GROUPS: Final = {
    "wholesale": "Traffic the partner carried",
    "revenue_share": "The partner's share of revenue",
    "shortfall": "Short of what was committed",
    "bundle_funding": "Bundles the partner pays for",
    "zero_rated": "Zero-rated traffic",
    "correction": "Late records and corrections of earlier months",
    "dispute": "Disputes",
}
_NEXT: Final = {
    "draft": "A draft: nothing is booked, and the partner does not see it. `callbridge statement approve {id}`",
    "approved": "Booked, not sent yet. `callbridge statement send {id} --by email`",
    "sent": "Sent by {channel}. `callbridge statement pay {id}` books what was paid.",
    "settled": "Settled.",
}


async def drafted(
    conn: Connection, month: str, zone: str, deal: str | None, author: str
) -> list[dict[str, Any]]:
    """Draft the statements of a month, of one deal or of all.

    deal     its name or id
    raises   NotFound: no deal of that name was in force · as `store.draft`
    """
    found = await store.deals_of_month(conn, month, zone)
    if deal is not None:
        named = deal.removeprefix("deal_").replace("-", "")
        found = [one for one in found if deal == one["name"] or named == one["deal_id"].hex]
        if not found:
            raise NotFound(f"no deal {deal[:80]!r} was in force in {month}")
    made = [await store.draft(conn, one["deal_id"], month, zone, author=author) for one in found]
    return [_row(await store.statement(conn, one)) for one in made]


async def latest(conn: Connection, month: str | None, state: str | None) -> list[dict[str, Any]]:
    rows = await store.statements(conn, LAST, LIST_MAX, month=month, state=state)
    return [_row(await store.statement(conn, row["statement_id"])) for row in rows]


async def whole(conn: Connection, statement_id: UUID) -> dict[str, Any]:
    """raises   NotFound"""
    row = await store.statement(conn, statement_id)
    return _row(row) | {
        "lines": [show_line(one) for one in await store.lines(conn, statement_id)],
        "payments": [
            {"amount": format_micro(one["amount_micro"]), "booked_at": one["booked_at"].isoformat()}
            for one in await store.payments(conn, statement_id)
        ],
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return show(row) | {"deal": row["deal"], "partner": row["partner"]}


def tell_statements(statements: Sequence[Mapping[str, Any]]) -> str:
    """One line a statement."""
    if not statements:
        return "no statements"
    columns = ("month", "partner", "deal", "state", "total", "paid", "open", "", "statement")
    rows = [
        (*(one[name] for name in columns[:7]), one["currency"], one["statement_id"]) for one in statements
    ]
    return f"{_table(columns, rows)}\n{_who()}"


def tell_statement(told: Mapping[str, Any]) -> str:
    """Lines by what they are of, each group with its sum, the total and who owes it, and what to do next."""
    unit, parts = told["currency"], []
    head = f"Statement of {told['month']} with {told['partner']}: {told['deal']} ({told['state']})"
    period = f"{told['from_at'][:16].replace('T', ' ')} to {told['to_at'][:16].replace('T', ' ')} UTC"
    rows: list[tuple[Any, ...]] = []
    for kind, title in _GROUPS.items():
        lines = [one for one in told["lines"] if one["kind"] == kind]
        if lines:
            total = format_micro(sum(parse_micro(one["amount"]) for one in lines)) if len(lines) > 1 else None
            rows.append((Text(title, style="bold"), None, None, None, Text(total or "", style="bold")))
            rows += [_cells(one) for one in lines]
    rows.append((_owed(told), "", "", "", f"{told['total']} {unit}"))
    parts.append(f"{head}\n{period}")
    parts.append(_table(("", "quantity", "rate", "of", "amount"), rows, last_apart=True))
    parts += [f"paid {one['amount']} {unit} on {one['booked_at'][:10]}" for one in told["payments"]]
    if told["state"] == "sent":
        parts.append(f"open {told['open']} {unit}")
    parts.append(_evidence(told["evidence"]))
    parts.append(_NEXT[told["state"]].format(id=told["statement_id"], channel=told["channel"]))
    return "\n\n".join(parts)


def _cells(line: Mapping[str, Any]) -> tuple[Any, ...]:
    title = f"  {line['line_no']}  {line['title']}"
    calls = line["detail"].get("calls")
    if line["kind"] in ("zero_rated", "correction") and calls:
        title += f" ({calls} call{'' if calls == 1 else 's'})"
    if was := line["detail"].get("was"):
        title += f" ({was} at {line['detail']['exchanged']})"
    unit = {"minute": "min", "purchase": "sold", None: ""}[line["unit"]]
    return (
        title,
        f"{line['quantity']} {unit}" if unit else "",
        f"{line['rate']}/min" if line["rate"] else "",
        line["base"] or "",
        line["amount"],
    )


def _owed(told: Mapping[str, Any]) -> Text:
    if not told["total"].strip("-0."):
        said = "Nobody owes anything"
    elif told["total"].startswith("-"):
        said = f"{told['partner']} owes us"
    else:
        said = f"We owe {told['partner']}"
    return Text(said, style="bold")


def _evidence(evidence: Mapping[str, Any]) -> str:
    if not evidence["last_no"]:
        return "From no records."
    chain = (
        f", chained until {evidence['chain_day']} as {evidence['chain_hash']}"
        if evidence["chain_hash"]
        else ""
    )
    return f"From the partner's records {evidence['first_no']} to {evidence['last_no']}{chain}."


def _who() -> str:
    return "positive: we owe it to the partner; negative: the partner owes it to us"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, last_apart: bool = False) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
    for place, row in enumerate(rows):
        if last_apart and place == len(rows) - 1:
            table.add_section()
        table.add_row(
            *(one if isinstance(one, Text) else Text("" if one is None else seen(one)) for one in row)
        )
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
