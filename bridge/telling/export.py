"""Recipients, runs and files of call records as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.telling.seen import seen

WIDTH: Final = 160
_RIGHT: Final = frozenset({"no", "rows", "minutes", "amount", "bytes"})

Told = Mapping[str, Any]


def tell_recipients(found: Sequence[Told]) -> str:
    """One line a recipient."""
    if not found:
        return "nobody gets files. `callbridge export recipient add` begins it"
    columns = ("code", "partner", "types", "format", "period", "time zone", "target", "state")
    return _table(
        columns,
        [
            (
                one["code"],
                one["partner"] or "the house",
                ", ".join(one["types"]),
                one["format"],
                one["period"],
                one["time_zone"],
                target_text(one["target"]),
                "enabled" if one["enabled"] else "disabled",
            )
            for one in found
        ],
    )


def tell_recipient(one: Told) -> str:
    """One fact a line."""
    facts = {
        "code": one["code"],
        "partner": one["partner"] or "the house: everybody's records",
        "types": ", ".join(one["types"]),
        "format": one["format"],
        "period": f"{one['period']} in {one['time_zone']}",
        "target": target_text(one["target"]),
        "since": one["since"],
        "state": "enabled" if one["enabled"] else "disabled",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in facts.items())


def target_text(target: Told) -> str:
    match target["kind"]:
        case "directory":
            return f"folder {target['path']}"
        case "sftp":
            return (
                f"sftp {target['user']}@{target['host']}:{target.get('port', 22)}/{target.get('folder', '.')}"
            )
        case _:
            return "fetched over the API"


def tell_run(told: Told) -> str:
    """What was numbered, and what became of each recipient's files."""
    lines = [f"{told['sealed']} records numbered, until {told['until']}"]
    for one in told["recipients"]:
        lines.append(
            f"{one['recipient']}: {one['planned']} files planned, {len(one['written'])} written, "
            f"{len(one['delivered'])} delivered"
        )
        if one["problem"]:
            lines.append(f"  stopped: {one['problem']}")
    return "\n".join(lines)


def tell_files(found: Sequence[Told]) -> str:
    """One line a file, newest first."""
    if not found:
        return "there are no files"
    columns = ("name", "state", "rows", "minutes", "amount", "bytes")
    return _table(columns, [_file_row(one) for one in found])


def _file_row(one: Told) -> tuple[object, ...]:
    totals = one["totals"]
    if totals is None:
        return (one["name"], one["state"], None, None, None, None)
    minutes, seconds = divmod(abs(totals["billed_s"]), 60)
    return (
        one["name"],
        one["state"],
        one["rows"],
        f"{'-' if totals['billed_s'] < 0 else ''}{minutes}:{seconds:02d}",
        ", ".join(f"{amount} {unit}" for unit, amount in totals["amount"].items()) or "0.00",
        one["bytes"],
    )


def tell_file(one: Told) -> str:
    """One fact a line; of a file that is not written yet there are fewer."""
    totals = one["totals"] or {}
    facts = {
        "file": one["name"],
        "path": one.get("path"),
        "state": one["state"],
        "recipient": one["recipient"],
        "sequence": one["sequence"],
        "period": f"{one['from']} to {one['to']}",
        "records": f"after {one['records']['after']}, up to {one['records']['last']}",
        "rows": one["rows"],
        "billed": None if not totals else f"{totals['billed_s']} s",
        "amount": ", ".join(f"{amount} {unit}" for unit, amount in totals.get("amount", {}).items()) or None,
        "answers": totals.get("first_answer_at")
        and f"{totals['first_answer_at']} to {totals['last_answer_at']}",
        "bytes": one["bytes"],
        "sha256": one["sha256"],
        "written": one["written_at"],
        "delivered": one["delivered_at"],
    }
    return "\n".join(f"{name:<11}{value}" for name, value in facts.items() if value is not None)


def tell_extract(told: Told) -> str:
    return f"{told['path']}\n{told['rows']} rows, {told['bytes']} bytes, sha256 {told['sha256']}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else seen(cell)) for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
