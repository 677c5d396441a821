"""A report as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from bridge.rating.deck_cells import guarded
from bridge.reports.report import Report


def to_csv(report: Report) -> str:
    """UTF-8 text, comma, header; a rate of nothing is an empty cell. No name becomes a spreadsheet's formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(report.columns)
    for row in (*report.rows, *report.totals):
        writer.writerow([_cell(report, row, column) for column in report.columns])
    return out.getvalue()


def _cell(report: Report, row: Mapping[str, Any], column: str) -> Any:
    value = row[column]
    if value is None:
        return ""
    return guarded(value) if column == report.ask.by else value
