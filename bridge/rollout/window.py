"""Windows: while one is open, people can be activated. What state follows which, and what is due when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

State = Literal["planned", "open", "paused", "closed"]
Cause = Literal["operator", "time", "quota", "trial", "launch", "kill"]

# What may come after a state. The database has the same table, in rollout_window_may_v1.
NEXT: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        "planned": frozenset({"open", "closed"}),
        "open": frozenset({"paused", "closed"}),
        "paused": frozenset({"open", "closed"}),
        "closed": frozenset(),
    }
)


def due(state: State, opens_at: datetime | None, closes_at: datetime | None, now: datetime) -> State | None:
    """The state that its times ask for at `now`, or None. One that was missed altogether is closed, never opened.

    A paused window does not open by time: somebody, or a trial, had a reason to pause it.
    """
    if state == "closed":
        return None
    if closes_at is not None and closes_at <= now:
        return "closed"
    if state == "planned" and opens_at is not None and opens_at <= now:
        return "open"
    return None
