"""The closing of a month, for people: its steps, and every total beside its counterparts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 80
ROWS: Final = "rows of "
VALUE_CHARS: Final = 15  # a total with its unit, right-aligned


def tell_closing(told: Mapping[str, Any]) -> str:
    """Totals of one scope below each other; what differs is marked."""
    width = max(map(len, told["steps"]))
    lines = [f"{told['month']}: {told['from']} to {told['to']}", ""]
    lines += [line for name, said in told["steps"].items() for line in _hung(f"{name:<{width}}  ", said)]
    for scope in dict.fromkeys(one["scope"] for one in told["totals"]):
        lines += ["", scope, *_table([one for one in told["totals"] if one["scope"] == scope])]
    lines += (
        ["", *(line for note in told["notes"] for line in _hung("note: ", note))] if told["notes"] else []
    )
    if told["agrees"]:
        return "\n".join([*lines, "", f"all {len(told['totals'])} totals agree"])
    return "\n".join([*lines, "", *(line for one in told["problems"] for line in _hung("DIFFERS  ", one))])


def tell_foretold(would: Mapping[str, str], missing: Sequence[str]) -> str:
    """What would be done, and what has to be there before."""
    width = max(map(len, would))
    lines = [line for name, said in would.items() for line in _hung(f"{name:<{width}}  ", said)]
    if not missing:
        return "\n".join([*lines, "", "nothing is missing"])
    return "\n".join([*lines, "", "missing:", *(line for one in missing for line in _hung("  - ", one))])


def _table(totals: Sequence[Mapping[str, Any]]) -> list[str]:
    """A value and all who say it, each other value on a line of its own."""
    width = max(len(one["what"]) for one in totals)
    lines: list[str] = []
    for one in totals:
        said: dict[str, list[str]] = {}
        of = one["of"]
        for who, value in of.items():
            if of.get(who.removeprefix(ROWS)) == value and who.startswith(ROWS):
                continue  # a table and its rows are one of those who say it
            said.setdefault(f"{value} {one['unit'] or ''}".strip(), []).append(who)
        head = f"  {'=' if one['agrees'] else '!'} {one['what']:<{width}}  "
        for value, who in said.items():
            lines += _hung(f"{head}{value:>{VALUE_CHARS}}  ", ", ".join(who))
            head = " " * len(head)
    return lines


def _hung(head: str, text: str) -> list[str]:
    """Words behind a head, as wide as a terminal is at least; lines after the first begin below the words."""
    return textwrap.wrap(
        text, max(WIDTH, len(head) + 20), initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    ) or [head]  # fmt: skip
