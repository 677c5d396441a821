"""Re-rating runs and dry runs of decks as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH: Final = 150
_MONEY: Final = (
    "charge_before",
    "charge_after",
    "cost_before",
    "cost_after",
    "margin_before",
    "margin_after",
)
_LEFT: Final = frozenset({"destination", "", "call", "what", "differs", "run", "state", "author", "reason"})
_NEXT: Final = {
    "previewed": "Nothing is booked yet: `callbridge rerate run {run_id}` does.",
    "running": "Not all is booked: `callbridge rerate run {run_id}` goes on.",
}


def tell_run(run: Mapping[str, Any]) -> str:
    """One run: what was asked for, the sums, the first calls, what was left out, and what to do next."""
    asked = ", ".join(f"{name} {_words(value)}" for name, value in run["criteria"].items())
    parts = [f"Run {run['run_id']}: {run['state']}\n{asked}\n{run['reason']} ({run['author']})"]
    parts.append(tell_impact(run["preview"]))
    if run["calls"]:
        parts.append(_calls(run))
    parts += _left_out(run["skips"])
    done = run["progress"]
    if done["booked"] or run["state"] in ("running", "done"):
        moved = ", ".join(
            f"{one['accounts']} accounts {one['amount']} {one['currency']}" for one in run["booked"]
        )
        parts.append(
            f"Booked {done['booked']} calls, {done['waiting']} are waiting. Moved: {moved or 'nothing'}."
        )
    if run["state"] in _NEXT:
        parts.append(_NEXT[run["state"]].format(run_id=run["run_id"]))
    return "\n\n".join(parts)


def tell_runs(runs: Sequence[Mapping[str, Any]]) -> str:
    """One line a run."""
    rows = [
        (
            one["run_id"],
            one["state"],
            one["created_at"][:19].replace("T", " "),
            one["preview"]["calls"],
            one["preview"]["changed"],
            one["author"],
            one["reason"],
        )
        for one in runs
    ]
    return _table(("run", "state", "previewed", "calls", "changed", "author", "reason"), rows)


def tell_replay(found: Mapping[str, Any]) -> str:
    """The dry run of a deck on recorded calls."""
    head = (
        f"Deck {found['deck']} ({found['side']}) as import {found['import_id']} leaves it at {found['at'][:19]}, "
        f"on calls admitted from {found['from'][:19]} to {found['to'][:19]} UTC"
    )
    return "\n\n".join([head, tell_impact(found["impact"]), *_left_out(found["skips"]), found["note"]])


def tell_impact(impact: Mapping[str, Any]) -> str:
    """Sums before and after, by destination and in all."""
    columns = ("destination", "calls", "changed", *(name.replace("_", " ") for name in _MONEY), "")
    rows = [
        (one["destination"], one["calls"], one["changed"], *(one[name] for name in _MONEY), _units(one))
        for one in impact["destinations"]
    ]
    rows += [
        ("in all", one["calls"], one["changed"], *(one[name] for name in _MONEY), _units(one))
        for one in impact["totals"]
    ]
    skipped = sum(impact["skipped"].values())
    head = (
        f"{impact['calls']} calls: {impact['changed']} change, {impact['unchanged']} stay as they are, "
        f"{skipped} are left out"
    )
    return f"{head}\n{_table(columns, rows)}" if rows else head


def _calls(run: Mapping[str, Any]) -> str:
    rows = [
        (
            one["call_id"],
            one["billed_before_s"],
            one["billed_s"],
            one["charge_before"],
            one["charge_after"],
            one["cost_before"],
            one["cost_after"],
            f"{one['differs']}{', booked' if one['booked'] else ''}",
        )
        for one in run["calls"]
    ]
    more = run["preview"]["changed"] - len(rows)
    columns = ("call", "billed s", "now", "charge", "now", "cost", "now", "what")
    return _table(columns, rows) + (f"\n… and {more} more" if more > 0 else "")


def _left_out(skips: Sequence[Mapping[str, Any]]) -> list[str]:
    told = []
    for one in skips:
        ids = ", ".join(one["call_ids"]) + (", …" if one["calls"] > len(one["call_ids"]) else "")
        told.append(f"Left out, {one['why']}: {one['calls']}\n  {ids}")
    return told


def _units(one: Mapping[str, Any]) -> str:
    sell, buy = one["currency"], one["cost_currency"]
    return str(sell) if sell == buy else f"{sell}, cost {buy}"


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
