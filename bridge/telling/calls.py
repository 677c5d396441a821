"""Objects as text for a terminal: the same facts as --json, in the order a person asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.telling.seen import seen

WIDTH = 110
_RIGHT = frozenset(
    {"amount", "cost", "margin", "cost of 180 s", "PDD", "held", "burnt", "released", "left now"}
)


def tell(story: Mapping[str, Any]) -> str:
    """The story of one call."""
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    head = f"Call {story['call_id']}"
    out.print(f"{head}\n{'=' * len(head)}")
    out.print(
        f"From {story['a_number']} to {story['b_number'] or story['cdr']['dialled']}: {_outcome(story)}.\n",
        soft_wrap=True,
    )
    if story["routes"]:
        _routes(out, story)
    if story["attempts"]:
        _attempts(out, story["attempts"])
    if story["bundles"]:
        _bundles(out, story)
    if story["hold"]:
        _hold(out, story["hold"], beside=" beside the units" if story["bundles"] else "")
    if story["charge_steps"]:
        _charge(out, story)
    if story["entries"]:
        _entries(out, story["entries"])
    _cdr(out, story["cdr"])
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().rstrip()


def tell_live(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls in progress, one line each."""
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    columns = ("call", "from", "to", "trunk", "answered", "held")
    rows = [
        (
            one["call_id"],
            one["a_number"],
            one["b_number"],
            one["trunk"],
            one["answered_at"][11:19] if one["answered_at"] else "ringing",
            f"{one['held']} {one['currency']}",
        )
        for one in calls
    ]
    _table(out, f"{len(calls)} in progress", *columns, rows=rows)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().rstrip()


def tell_audit(findings: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line an invariant, and the offenders below it."""
    lines = []
    for name, rows in findings.items():
        lines.append(f"{'ok    ' if not rows else 'BROKEN'}  {name.replace('_', ' ')}")
        lines += [f"        {', '.join(f'{key} {value}' for key, value in row.items())}" for row in rows]
    return "\n".join(lines)


def tell_figure(figure: Mapping[str, Any]) -> str:
    """One measured figure as a line."""
    goal = f", goal {figure['goal']}" if figure.get("goal") is not None else ""
    return (
        f"{figure['name']}: {figure['value']:.4g} {figure['unit']} against {figure['baseline_value']:.4g} "
        f"({figure['baseline']}): ratio {figure['ratio']:.3f}{goal}, n={figure['n']}"
    )


def text_table(title: str, *columns: str, rows: Sequence[Sequence[object]]) -> str:
    """A title and a table below it."""
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    _table(out, title, *columns, rows=rows)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().rstrip()


def _outcome(story: Mapping[str, Any]) -> str:
    if story["state"] == "answered":
        talked = f"talked {story['talk_ms'] / 1000:.3f} s"
        paid = "".join(
            f', paid by {_units(one["burnt"])} of "{one["bundle"]}"'
            for one in story["bundles"]
            if one["burnt"]
        )
        billed = f", billed {story['billed_s']} s" if story["billed_s"] or not paid else ""
        return f"{talked}{paid}{billed}, charged {story['charge']} {story['currency']}"
    if story["state"] == "refused":
        said = [story["refuse_reason"], *filter(None, [story["refuse_detail"]])]
        return f"refused, {', '.join(said).replace('_', ' ')}"
    last = (
        story["attempts"][-1]["outcome"].replace("_", " ")
        if story["attempts"]
        else "given up before it was dialled"
    )
    return f"{story['state']}, {last}"


def _table(out: Console, title: str, *columns: str, rows: Sequence[Sequence[object]]) -> None:
    out.print(title)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else seen(cell)) for cell in row))
    out.print(table)


def _routes(out: Console, story: Mapping[str, Any]) -> None:
    rows = [
        (
            place,
            one["trunk"],
            one["prefix"],
            f"{one['rate']} a minute, {one['increment']}",
            one["cost_of_180_s"],
            one["margin_of_180_s"],
            one["why"],
        )
        for place, one in enumerate(story["routes"], 1)
    ]
    columns = ("", "trunk", "prefix", "buy rate", "cost of 180 s", "margin", "why here")
    _table(
        out,
        "Route plan: the longest prefix in each carrier's deck, then the cheapest first",
        *columns,
        rows=rows,
    )
    for name, why in story["left_out"].items():
        out.print(f"left out: {name}, {why}")
    if story["left_out"]:
        out.print()


def _attempts(out: Console, attempts: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            one["attempt"],
            one["trunk"],
            one["outcome"].replace("_", " "),
            one["sip_code"],
            one["q850_cause"],
            f"{one['pdd_ms']} ms" if one["pdd_ms"] is not None else f"failed after {one['took_ms']} ms",
            f"{one['cost']} {one['currency']}" if one["billed_s"] else None,
        )
        for one in attempts
    ]
    _table(out, "Attempts", "", "trunk", "outcome", "SIP", "Q.850", "PDD", "cost", rows=rows)


def _bundles(out: Console, story: Mapping[str, Any]) -> None:
    rows = [
        (
            one["bundle"],
            f"{one['unit_s']} s",
            one["held"],
            one["burnt"],
            one["released"],
            "without limit" if one["units"] is None else f"{one['left_now']} of {one['units']}",
            f"{one['until'][:16].replace('T', ' ')} UTC",
        )
        for one in story["bundles"]
    ]
    columns = ("bundle", "a unit pays for", "held", "burnt", "released", "left now", "until")
    _table(out, "Bundles: their units pay before money does", *columns, rows=rows)
    if without := story["without_bundles"]:
        steps = ", ".join(without["steps"][1:-1])
        out.print(f"Without a bundle: {without['charge']} {story['currency']} ({steps}).\n", soft_wrap=True)


def _units(count: int) -> str:
    return "1 unit" if count == 1 else f"{count} units"


def _hold(out: Console, hold: Mapping[str, Any], beside: str) -> None:
    unit = hold["currency"]
    if hold["held"] == "0.00":
        out.print(f"Hold: no money{beside}, {hold['state']}.\n")
        return
    out.print(
        f"Hold: opened with {hold['opened']} {unit}, extended {hold['extensions']} times to {hold['held']} {unit}, "
        f"{hold['state']}: {hold['settled']} {unit} taken, {hold['released']} {unit} released.\n",
        soft_wrap=True,
    )


def _charge(out: Console, story: Mapping[str, Any]) -> None:
    out.print("Charge")
    for step in story["charge_steps"]:
        out.print(f"  {step}")
    out.print(f"  cost {story['cost']} {story['currency']}\n")


def _entries(out: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    rows = [(one["account"], f"{one['amount']} {one['currency']}") for one in entries]
    _table(out, "Ledger entries: they sum to zero", "account", "amount", rows=rows)


def _cdr(out: Console, cdr: Mapping[str, Any]) -> None:
    _table(
        out,
        "Call detail record",
        "",
        "",
        rows=[(name.replace("_", " "), value) for name, value in cdr.items() if value],
    )
