"""Reports as text, as wide as the terminal is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.reports.report import Report

_WIDE: Final = 200
_NARROW: Final = 40
# Left out first where the terminal is too narrow; the last of them last. All of them are in --json and --csv.
_DROPPED: Final = (
    "usage", "free_calls", "bundle_calls", "minutes_before", "tax", "gross", "answered", "free_minutes",
    "bundle_minutes", "carried", "carried_minutes", "billed_minutes", "pdd_s_p95", "pdd_s_p50", "acd_s",
    "currency", "minutes", "seizures", "revenue_before", "cost", "revenue", "calls", "change",
)  # fmt: skip
_HEAD: Final = {
    "asr": "ASR %", "ner": "NER %", "acd_s": "ACD s", "pdd_s_p50": "PDD s p50", "pdd_s_p95": "PDD s p95",
    "percent": "%", "currency": "", "week_hour": "day, hour", "minutes": "min", "minutes_before": "min before",
    "billed_minutes": "billed min", "bundle_minutes": "bundle min", "free_minutes": "free min",
    "carried_minutes": "carried min", "revenue": "revenue net", "revenue_before": "before",
}  # fmt: skip
_MONEY: Final = frozenset(
    {"usage", "gross", "tax", "revenue", "cost", "margin", "revenue_before", "change", "carried_amount"}
)
_CENT: Final = Decimal("0.01")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def tell_report(report: Report, width: int) -> str:
    """A heading, the table, and what is to be known of it. width: of the terminal, in characters."""
    width = min(max(width, _NARROW), _WIDE)
    period = report.ask.period
    by = "hour of the week" if report.ask.by == "week_hour" else report.ask.by
    lines = [f"{report.name} by {by}, {period.label}, {period.zone}"]
    if not report.rows:
        lines.append("nothing to report")
    else:
        columns, dropped = _fitting(report, width)
        lines.append(_table(report, columns, width))
        if dropped:
            lines.append(f"left out for want of width: {', '.join(dropped)}")
    if report.until is not None:
        lines.append(f"not complete: calls are numbered until {report.until:%Y-%m-%d %H:%M} UTC")
    return "\n".join([*lines, *report.notes])


def cell(by: str, value: object) -> str:
    """
    by: the column. Money is rounded to be read; in --json and --csv it is exact.

    >>> cell("week_hour", "1 09"), cell("day", None), cell("cost", "0.125")
    ('Mon 09', '–', '0.13')
    """
    if value is None:
        return "–"
    if by in _MONEY and isinstance(value, str):
        return f"{Decimal(value).quantize(_CENT, ROUND_HALF_UP)}"
    if by == "week_hour" and isinstance(value, str) and value[:1].isdigit():
        return f"{_DAYS[int(value[0]) - 1]} {value[2:]}"
    return str(value)


def _fitting(report: Report, width: int) -> tuple[Sequence[str], list[str]]:
    columns, dropped = list(report.columns), []
    for name in _DROPPED:
        if _needed(report, columns, width // 3) <= width:
            break
        if name in columns:
            columns.remove(name)
            dropped.append(_HEAD.get(name) or name)
    return columns, dropped


def _needed(report: Report, columns: Sequence[str], first_max: int) -> int:
    rows = (*report.rows, *report.totals)
    # The first column folds where it must; of the others no digit may be lost. Between two are three blanks.
    first = min(first_max, max(len(cell(report.ask.by, row[columns[0]])) for row in rows))
    rest = [
        3 + max(len(_HEAD.get(name, name)), *(len(cell(name, row[name])) for row in rows))
        for name in columns[1:]
    ]
    return 2 + first + sum(rest)


def _table(report: Report, columns: Sequence[str], width: int) -> str:
    out = Console(file=StringIO(), width=width, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for column in columns:
        first = column == report.ask.by
        table.add_column(
            Text(_HEAD.get(column, column.replace("_", " "))),
            justify="left" if first or column == "currency" else "right",
            overflow="fold",
            no_wrap=not first,
        )
    for row in report.rows:
        table.add_row(*_cells(row, columns))
    table.add_section()
    for row in report.totals:
        table.add_row(*_cells(row, columns), style="bold")
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Text]:
    return [Text(_plain(cell(name, row[name]))) for name in columns]


def _plain(text: str) -> str:
    """What a terminal would obey is shown as a box: a destination's name may come from anybody's deck."""
    return "".join(letter if letter.isprintable() else "□" for letter in text)
