"""The closing of a month, for people: its steps, and every total beside its counterparts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def tell_closing(told: Mapping[str, Any]) -> str:
    """Totals of one scope below each other; what differs is marked."""
    width = max(map(len, told["steps"]))
    lines = [f"{told['month']}: {told['from']} to {told['to']}", ""]
    lines += [f"{name:<{width}}  {said}" for name, said in told["steps"].items()]
    for scope in dict.fromkeys(one["scope"] for one in told["totals"]):
        lines += ["", scope, *_table([one for one in told["totals"] if one["scope"] == scope])]
    lines += ["", *(f"note: {note}" for note in told["notes"])] if told["notes"] else []
    if told["agrees"]:
        return "\n".join([*lines, "", f"all {len(told['totals'])} totals agree"])
    return "\n".join([*lines, "", *(f"DIFFERS  {problem}" for problem in told["problems"])])


def tell_foretold(would: Mapping[str, str]) -> str:
    width = max(map(len, would))
    return "\n".join(f"{name:<{width}}  {said}" for name, said in would.items())


def _table(totals: Sequence[Mapping[str, Any]]) -> list[str]:
    named = [one["what"] + (f" ({one['unit']})" if one["unit"] else "") for one in totals]
    width = max(map(len, named))
    return [
        f"  {'=' if one['agrees'] else '!'} {name:<{width}}  "
        + ("=" if one["agrees"] else "/").join(f" {who} {value} " for who, value in one["of"].items()).strip()
        for name, one in zip(named, totals, strict=True)
    ]
