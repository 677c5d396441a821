"""Jobs as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.telling.calls import text_table


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of jobs as JSON has it."""
    said = {"said": json.loads(row["said"])}
    return {name: _plain(value) for name, value in dict(row).items()} | said


def tell_jobs(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "There are no jobs yet: a worker (`callbridge serve`) plans them."
    cells = [
        (
            row["key"],
            row["rhythm"] or "once",
            _state(row),
            _short(row["due_at"]),
            _short(row["ended_at"]),
            row["problem"] or ", ".join(f"{name} {value}" for name, value in row["said"].items()),
        )
        for row in rows
    ]
    return text_table("", "key", "rhythm", "state", "due", "last ended", "", rows=cells)


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] == "queued" and row["tries"]:
        return f"failed {row['tries']} times"
    return str(row["state"])


def _short(at: str | None) -> str:
    return at[:19].replace("T", " ") if at else "-"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
