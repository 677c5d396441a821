"""Reconciliations and disputes as text, CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.partners.dispute import overdue
from bridge.partners.reconciliation import CLASSES, told
from bridge.rating.deck_cells import guarded
from bridge.telephony.money import format_micro
from bridge.telling.seen import seen

WIDTH: Final = 150
_SHOWN_ERRORS: Final = 50
_LEFT: Final = frozenset(
    {"class", "way", "destination", "prefix", "counterparty", "leg", "state", "file", "title", "kind", "run", "dispute",
     "column", "problem", "call", "their id", "answered", "theirs answered", "from", "to", "name", "mapping", "by"}
)  # fmt: skip
CALL_COLUMNS: Final = (
    "class", "way", "row", "cdr_no", "call_id", "their_id", "answered_at", "their_answered_at", "a_number", "b_number",
    "destination", "our_s", "their_s", "our_amount", "their_amount", "difference",
)  # fmt: skip


def run_json(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run with minutes and amounts as decimal strings."""
    classes = run["classes"]
    return {**run, "classes": {name: told(classes[name]) for name in CLASSES} if classes else None}


def tell_import(found: Mapping[str, Any]) -> str:
    """What was read, or everything that is wrong."""
    if found["state"] == "refused":
        rows = [(one["row"] or "–", one["column"], one["problem"]) for one in found["errors"][:_SHOWN_ERRORS]]
        more = found["error_count"] - len(rows)
        tail = f"\nand {more} more; --json tells more of them" if more > 0 else ""
        head = f"refused: {found['error_count']} things are wrong, and nothing was imported"
        return f"{head}\n{_table(('row', 'column', 'problem'), rows)}{tail}"
    left_out = [
        f"{found[name]} {said}"
        for name, said in (("unanswered", "were not answered"), ("other_leg", "are of the other leg"))
        if found[name]
    ]
    lines = [f"imported {found['rows']} calls as run {found['run_id']}"]
    lines += [f"left out: {', '.join(left_out)}"] if left_out else []
    lines += (
        [f"columns not used: {seen(', '.join(found['ignored_columns']))}"] if found["ignored_columns"] else []
    )
    return "\n".join([*lines, f"match it by: callbridge reconcile run {found['run_id']}"])


def tell_run(run: Mapping[str, Any]) -> str:
    """The classes of a run."""
    head = (
        f"run {run['run_id']}: {seen(run['file_name'])} of {seen(run['counterparty'])}, {run['leg']}s "
        f"from {run['from'][:16]} to {run['to'][:16]} UTC, {run['currency']}"
    )
    if not run["classes"]:
        return f"{head}\n{run['rows']} rows, not matched yet"
    columns = ("class", "calls", "our minutes", "their minutes", "our amount", "their amount", "difference")
    rows: list[Sequence[object]] = []
    for name in CLASSES:
        one = told(run["classes"][name])
        rows.append(
            (name, one["calls"], one["our_minutes"], one["their_minutes"], one["our_amount"], one["their_amount"],
             one["difference"])
        )  # fmt: skip
    ways = run["ways"]
    how = f"matched by id {ways['id']}, by number, time and duration {ways['number']}, without duration {ways['time']}"
    return "\n".join([head, _table(columns, rows), how, *(f"note: {hint}" for hint in run["hints"])])


def tell_runs(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return "nothing was imported yet"
    columns = ("run", "counterparty", "leg", "from", "to", "file", "rows", "state", "difference")
    rows = [
        (one["run_id"], one["counterparty"], one["leg"], one["from"][:10], one["to"][:10], one["file_name"],
         one["rows"], one["state"], _difference(one))
        for one in runs
    ]  # fmt: skip
    return _table(columns, rows)


def _difference(run: Mapping[str, Any]) -> str | None:
    if not run["classes"]:
        return None
    sums = run["classes"].values()
    return format_micro(sum(one["their_micro"] - one["our_micro"] for one in sums))


def call_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls of a drill-down, by CALL_COLUMNS."""
    return [
        {
            "class": row["class"],
            "way": row["way"],
            "row": row["row_no"],
            "cdr_no": row["cdr_no"],
            "call_id": row["call_id"].hex if row["call_id"] else None,
            "their_id": row["their_id"],
            "answered_at": _at(row["answered_at"]),
            "their_answered_at": _at(row["their_answer_at"]),
            "a_number": row["a_number"] or _number(row["their_a_number"]),
            "b_number": row["b_number"] or _number(row["their_b_number"]),
            "destination": row["destination"],
            "our_s": _s(row["our_ms"]),
            "their_s": _s(row["their_ms"]),
            "our_amount": _money(row["our_micro"]),
            "their_amount": _money(row["their_micro"]),
            "difference": format_micro((row["their_micro"] or 0) - (row["our_micro"] or 0)),
        }
        for row in rows
    ]


def tell_calls(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no such calls"
    columns = ("class", "row", "their id", "answered", "theirs answered", "to", "destination", "our s", "their s",
               "our amount", "their amount", "difference")  # fmt: skip
    return _table(
        columns,
        [
            (one["class"], one["row"], one["their_id"], (one["answered_at"] or "")[5:19],
             (one["their_answered_at"] or "")[5:19], one["b_number"], one["destination"], one["our_s"], one["their_s"],
             one["our_amount"], one["their_amount"], one["difference"])
            for one in rows
        ],
    )  # fmt: skip


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """With a guard against what spreadsheets run; E.164 numbers keep their plus behind it."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in columns])
    return out.getvalue()


def _cell(value: object) -> object:
    return guarded(value) if isinstance(value, str) and not _is_amount(value) else value


def _is_amount(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def destination_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"class": row["class"], "destination": row["destination"], "prefix": row["prefix"]}
        | told({name: row[name] for name in ("calls", "our_ms", "their_ms", "our_micro", "their_micro")})
        for row in rows
    ]


def tell_destinations(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no such calls"
    columns = tuple(rows[0])
    return _table(
        [name.replace("_", " ") for name in columns], [[one[name] for name in columns] for one in rows]
    )


def tell_mappings(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "no mapping is saved"
    rows = [
        (
            one["counterparty"],
            one["name"],
            ", ".join(f"{key}={value}" for key, value in one["mapping"].items()),
        )
        for one in found
    ]
    return _table(("counterparty", "name", "mapping"), rows)


def dispute_json(row: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    return {
        "dispute_id": str(row["dispute_id"]),
        "counterparty": row["partner"] or row["counterparty"],
        "opened_by": row["opened_by"],
        "kind": row["kind"],
        "title": row["title"],
        "claimed": format_micro(row["claimed_micro"]),
        "currency": row["currency"],
        "state": row["state"],
        "deadline": row["deadline"].isoformat(),
        "overdue": overdue(row["state"], row["deadline"], at),
        "agreed": _money(row["agreed_micro"]),
        "transfer_id": str(row["transfer_id"]) if row["transfer_id"] else None,
        "run_id": str(row["run_id"]) if row["run_id"] else None,
        "class": row["class"],
        "calls": row["calls"],
        "opened_at": row["opened_at"].isoformat(),
        "decided_at": row["decided_at"].isoformat() if row["decided_at"] else None,
    }


def tell_disputes(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "there are no such disputes"
    columns = (
        "dispute",
        "counterparty",
        "by",
        "kind",
        "title",
        "calls",
        "claimed",
        "agreed",
        "state",
        "deadline",
    )
    rows = [
        (one["dispute_id"], one["counterparty"], one["opened_by"], one["kind"], one["title"], one["calls"],
         f"{one['claimed']} {one['currency']}", one["agreed"], one["state"],
         one["deadline"][:10] + (" overdue" if one["overdue"] else ""))
        for one in found
    ]  # fmt: skip
    return _table(columns, rows)


def tell_dispute(one: Mapping[str, Any]) -> str:
    """Facts, then what was said, oldest first, then the files."""
    facts = [
        f"{name.replace('_', ' '):<14}{value}"
        for name, value in one.items()
        if name not in ("notes", "evidence") and value is not None
    ]
    notes = [
        " ".join(
            [
                note["at"][:16],
                f"{note['side']:<4}",
                *([f"[{note['state']}]"] if note["state"] else []),
                note["text"],
            ]
        )
        for note in one["notes"]
    ]
    files = [
        f"{file['evidence_id']}  {file['name']}  {file['bytes']} bytes  sha256 {file['sha256']}"
        for file in one["evidence"]
    ]
    return seen("\n".join([*facts, *notes, *files]))


def _at(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None


def _s(ms: int | None) -> str | None:
    return None if ms is None else f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def _number(digits: int | None) -> str | None:
    return None if digits is None else f"+{digits}"


def _money(micro: int | None) -> str | None:
    return None if micro is None else format_micro(micro)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else seen(cell)) for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
