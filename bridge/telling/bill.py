"""A bill as text."""

from __future__ import annotations

from io import StringIO
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.reports.bill_paper import WORDS, paper
from bridge.reports.bills import BillOf

_NARROW: Final = 40
_WIDE: Final = 140
# date, time, number, destination, duration, units, net, gross
_RIGHT: Final = frozenset({4, 5, 6, 7})
_DROPPED: Final = (6, 5, 3, 1)  # where the terminal is narrow: net, units, destination, time


def tell_bill(made: BillOf, width: int) -> str:
    """The same facts, lines and sums as on paper, in English."""
    data, words = paper(made.bill, made.whose, made.period, "en", "", complete=made.complete), WORDS["en"]
    width = min(max(width, _NARROW), _WIDE)
    lines = [", ".join(value for _, value in data["facts"]), *data["notes"]]
    heads = [
        words[name] for name in ("date", "time", "called", "destination", "duration", "units", "net", "gross")
    ]
    rows = [[_plain(cell) for cell in one["cells"]] for one in data["calls"]]
    if rows:
        lines.append(_table(heads, rows, width))
    lines += [f"{label}: {count}, {gross} {data['currency']}" for label, count, _, gross in data["sums"]]
    lines += [
        f"{day} {time[:5]}  {_plain(what)}  {many}  {gross}" for day, time, what, many, gross in data["usage"]
    ]
    lines += [f"{day} {time[:5]}  {_plain(what)}  {amount}" for day, time, what, amount in data["bookings"]]
    return "\n".join(
        [*lines, *(f"{label:<40}{amount:>14} {data['currency']}" for label, amount, _ in data["summary"])]
    )


def _table(heads: list[str], rows: list[list[str]], width: int) -> str:
    columns = list(range(len(heads)))
    for place in _DROPPED:
        if sum(2 + max(len(heads[at]), *(len(row[at]) for row in rows)) for at in columns) <= width:
            break
        columns.remove(place)
    out = Console(file=StringIO(), width=width, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for at in columns:
        table.add_column(
            heads[at], justify="right" if at in _RIGHT else "left", overflow="fold", no_wrap=at != 3
        )
    for row in rows:
        table.add_row(*(Text(row[at]) for at in columns))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "□" for letter in text)
