"""Rate decks as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

WIDTH: Final = 120
_RIGHT: Final = frozenset({"rates", "version", "row", "before", "after", "rate", "added", "removed"})
_KINDS: Final = ("new", "increase", "decrease", "changed", "blocked", "deleted", "same")


def tell_decks(decks: Sequence[Mapping[str, Any]]) -> str:
    """One line a deck."""
    rows = [
        (
            one["name"],
            one["side"],
            one["currency"],
            one["version"],
            f"{one['rates']:,}",
            one["changed_at"][:16],
        )
        for one in decks
    ]
    return _text(
        f"{len(decks)} decks", ("deck", "side", "currency", "version", "rates", "changed (UTC)"), rows
    )


def tell_deck(deck: Mapping[str, Any]) -> str:
    """A deck and its rates."""
    head = f"{deck['name']}: {deck['side']}, {deck['currency']}, version {deck['version']}"
    terms = dict(deck["terms"])
    if days := terms.pop("holidays", None):
        terms["holidays"] = f"{days[0]} to {days[-1]} ({len(days)})"
    said = ", ".join(f"{name} {value}" for name, value in terms.items())
    return rates_table(f"{head}{', ' + said if said else ''}", deck["rates"])


def rates_table(title: str, rates: Sequence[Mapping[str, Any]]) -> str:
    """One line a rate in force or to come."""
    rows = [
        (
            one["prefix"],
            one["origin_set"] or None,
            one["destination"],
            "blocked" if one["blocked"] else one["rate"],
            f"{one['interval_1']}/{one['interval_n']}",
            _more(one),
            one["effective_from"][:16],
            one["effective_to"][:16] or None,
        )
        for one in rates
    ]
    columns = ("prefix", "origin", "destination", "rate", "increment", "more", "from (UTC)", "to")
    return _text(title, columns, rows)


def tell_import(one: Mapping[str, Any]) -> str:
    """What an import would change, or what is wrong with it."""
    summary = one["summary"]
    lines = [
        f"Import {one['import_id']}: {one['file_name']} into {one['deck']} ({one['mode']}), {one['state']}",
    ]
    size = f"{summary['rows']:,} rows, {summary['prefixes']:,} prefixes in {one['currency']}"
    lines.append(f"{size}, effective {one['effective_at'][:19]} UTC unless a row says otherwise")
    if one["applied_before_as"]:
        lines.append(f"The same file was applied before, as version {one['applied_before_as']}.")
    if one["state"] == "refused":
        return "\n".join([*lines, *_errors(one)])
    lines.append(", ".join(f"{summary[kind]:,} {kind}" for kind in _KINDS))
    if summary["backdated"]:
        lines.append(
            f"{summary['backdated']:,} of the changes begin in the past. Calls charged since keep their price "
            "until they are re-rated."
        )
    if one["state"] == "staged" and one["deck_version"] != one["base_version"]:
        lines.append("The deck has changed since: this import can be applied no more. Stage the file again.")
    if not one["changes"]:
        return "\n".join(lines)
    rows = [
        (
            change["kind"],
            change["prefix"],
            change["origin_set"] or None,
            change["destination"],
            _told(change["before"]),
            _told(change["after"]),
            change["since"][:16],
            change["row"],
        )
        for change in one["changes"]
    ]
    columns = ("", "prefix", "origin", "destination", "before", "after", "from (UTC)", "row")
    told = _text("\n".join(lines), columns, rows)
    left = sum(summary[kind] for kind in _KINDS if kind != "same") - len(rows)
    return f"{told}\nand {left:,} more: --all tells them" if left > 0 else told


def tell_history(found: Mapping[str, Any]) -> str:
    """Versions, newest first, and imports that became none."""
    rows = [
        (
            one["version"],
            f"{one['mode']} {one['file_name']}"
            if one["import_id"]
            else f"back to version {one['to_version']}",
            one["added"],
            one["removed"],
            one["author"],
            one["made_at"][:19],
            one["import_id"],
        )
        for one in found["versions"]
    ]
    columns = ("version", "from", "added", "removed", "author", "made (UTC)", "import")
    told = _text(f"{found['deck']} is version {found['version']}", columns, rows)
    if not found["imports"]:
        return told
    waiting = [
        (one["import_id"], one["state"], one["mode"], one["file_name"], one["author"], one["staged_at"][:19])
        for one in found["imports"]
    ]
    heads = ("import", "state", "mode", "file", "author", "staged (UTC)")
    return f"{told}\n\n{_text('Imports that became no version', heads, waiting)}"


def tell_origin_sets(found: Mapping[str, Sequence[str]]) -> str:
    """One line a set."""
    return "\n".join(f"{name}: {' '.join(prefixes) or 'no prefix'}" for name, prefixes in found.items()) or (
        "no origin sets"
    )


def _errors(one: Mapping[str, Any]) -> list[str]:
    found = one["errors"]
    lines = [
        f"row {error['row']}, {error['column']}: {error['problem']}"
        if error["row"]
        else f"{error['column']}: {error['problem']}"
        for error in found
    ]
    left = one["summary"]["errors"] - len(found)
    if left > 0:
        where = f"callbridge deck diff {one['import_id']} --all" if one["import_id"] else "--all"
        lines.append(f"and {left:,} more: `{where}` tells them")
    return ["", *lines, "", f"{one['summary']['errors']:,} errors. Nothing was changed."]


def _told(price: Mapping[str, Any] | None) -> str | None:
    if price is None:
        return None
    if price["blocked"]:
        return "blocked"
    more = _more(price)
    return f"{price['rate']} {price['increment']}{', ' + more if more else ''}"


def _more(price: Mapping[str, Any]) -> str:
    """What is not as usual."""
    said = []
    if price["connection_fee"] != "0.00":
        said.append(f"connect {price['connection_fee']}")
    if price["minimum_s"]:
        said.append(f"minimum {price['minimum_s']} s")
    if price["grace_s"]:
        said.append(f"grace {price['grace_s']} s")
    if price["tiers"]:
        said.append(f"then {price['tiers']}")
    return ", ".join(said)


def _text(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    out.print(title, soft_wrap=True, markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left")
    for row in rows:
        table.add_row(*("–" if cell is None else str(cell).replace("[", r"\[") for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().rstrip()
