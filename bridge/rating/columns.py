"""What every column of a deck must be. DeckError names the column and the fix."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bridge.errors import DeckError

_SHOWN_MAX = 40


def check_whole(value: object, least: int, most: int, column: str) -> None:
    """raises  DeckError: not a whole number of this range"""
    if type(value) is not int or not least <= value <= most:
        problem = f"{shown(value)} is not allowed. Write a whole number from {least} to {most}"
        raise DeckError(problem, column=column)


def check_known(kept: Mapping[str, Any], known: Collection[str]) -> None:
    """raises  DeckError: a column that nobody knows"""
    for name in kept:
        if name not in known:
            problem = f"there is no such column. Use {', '.join(sorted(known))}"
            raise DeckError(problem, column=str(name)[:_SHOWN_MAX])


def shown(value: object) -> str:
    """For a message: hostile input may be long."""
    return repr(value)[:_SHOWN_MAX]
