"""Accounts, statements and bookings as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH: Final = 140
_RIGHT: Final = frozenset({"amount", "balance", "held", "available"})


def tell_accounts(accounts: Sequence[Mapping[str, Any]]) -> str:
    """One line an account."""
    columns = ("name", "kind", "state", "funding", "balance", "held", "available", "currency")
    return _table(columns, [[one[column] for column in columns] for one in accounts])


def tell_account(account: Mapping[str, Any]) -> str:
    """What there is to know, one fact a line."""
    return "\n".join(
        f"{name.replace('_', ' '):<14}{value}" for name, value in account.items() if value is not None
    )


def tell_statement(statement: Mapping[str, Any]) -> str:
    """The opening balance, each entry with the balance after it, and the closing balance."""
    columns = ("booked", "kind", "transfer", "amount", "balance", "what")
    rows = [
        (
            one["booked_at"][:19].replace("T", " "),
            one["kind"].replace("_", " "),
            one["transfer_id"],
            one["amount"],
            one["balance"],
            ", ".join(part for part in (one["note"], one["author"] and f"by {one['author']}") if part),
        )
        for one in statement["entries"]
    ]
    unit = statement["currency"]
    last = "more follow: narrow --since and --until; so far" if statement["more"] else "closing balance"
    return (
        f"{statement['name']}, {statement['since'][:19]} to {statement['until'][:19]} UTC\n"
        f"opening balance {statement['opening']} {unit}\n"
        f"{_table(columns, rows)}\n"
        f"{last} {statement['closing']} {unit}"
    )


def tell_booking(booking: Mapping[str, Any]) -> str:
    """What was booked, and the accounts after it."""
    head = f"{booking['kind']} booked: transfer {booking['transfer_id']}, key {booking['key']}"
    return "\n".join(
        [head, *(f"  {one['name']}: {one['balance']} {one['currency']}" for one in booking["accounts"])]
    )


def tell_periods(periods: Sequence[Mapping[str, Any]]) -> str:
    """The closings of the books."""
    if not periods:
        return "no period is closed"
    lines = [f"{one['closed_until']}  closed {one['closed_at']} by {one['author']}" for one in periods]
    return "\n".join(["the books are closed until", *lines])


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
