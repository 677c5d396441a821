"""What of the traffic data is kept, and what went, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.telling.calls import text_table


def tell_standing(told: Mapping[str, Any]) -> str:
    """The rules, what is due, and the months."""
    lines = [f"{name:<12}{kept}" for name, kept in told["rules"].items()]
    lines += [f"{'due':<12}{told['due']} calls", *_held(told["held"])]
    if told["next_day"]:
        lines.append(f"{'next':<12}{told['next_day']}")
    months = [[one["month"][:7], one["calls"], one["purged"], one["key"]] for one in told["months"]]
    return "\n".join(lines) + "\n\n" + text_table("Months", "month", "calls", "purged", "key", rows=months)


def tell_purged(done: Mapping[str, Any]) -> str:
    """One line a kind of data."""
    verb = "would be purged" if done["dry_run"] else "purged"
    lines = [
        f"{done['calls']} calls {verb}, whose time had come before {done['until_day']}",
        *_held(done["held"]),
    ]
    lines += [f"{count} {what} purged" for what, count in done["others"].items() if count]
    lines += [f"the key of {month[:7]} is destroyed" for month in done["keys_destroyed"]]
    return "\n".join(lines)


def tell_log(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line each, newest first."""
    columns = ("purge_no", "at", "rule", "what", "from_day", "until_day", "rows")
    shown = [[one[name] if one[name] is not None else "" for name in columns] for one in rows]
    return text_table("Purges", *columns, rows=shown)


def _held(held: Mapping[str, int]) -> list[str]:
    return [f"{count} calls are held back: {why}" for why, count in held.items()]
