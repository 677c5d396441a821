"""A rollout worked out again from its events alone: the proof that tables and events tell the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from bridge.rollout.window import NEXT

FINDINGS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Event:
    """One transition. data: what else is needed to make it again."""

    seq: int
    kind: str
    window_id: UUID | None = None
    wave_ids: tuple[UUID, ...] = ()
    subscriber_id: UUID | None = None
    inviter_id: UUID | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """depth: length of the chain that led to it."""

    state: str
    inviter_id: UUID | None = None
    depth: int = 0
    window_id: UUID | None = None


@dataclass(slots=True)
class Rollout:
    """States and counters, either replayed or as the tables have them.

    windows   state and number of activations
    waves     number of activations, and whether the server key is given
    wrong     what cannot have happened in that order
    seq       of the last event
    """

    state: str = "closed"
    windows: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    waves: dict[UUID, tuple[int, bool]] = field(default_factory=dict)
    members: dict[UUID, Member] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seq: int = field(default=0, compare=False)


def replay(events: Iterable[Event], made: Rollout | None = None) -> Rollout:
    """What the events, in their order, lead to.

    made   what those before them led to, where they come in parts; it is changed
    """
    made = made or Rollout()
    for event in events:
        if event.seq != made.seq + 1:
            made.wrong.append(f"event {made.seq + 1} is missing")
        made.seq = event.seq
        said = _apply(made, event)
        if said:
            made.wrong.append(f"event {event.seq}, {event.kind}: {said}")
    return made


def differences(replayed: Rollout, kept: Rollout) -> list[str]:
    """What the tables say otherwise than the events do; at most FINDINGS_MAX."""
    found = [*replayed.wrong, *_differences(replayed, kept)]
    return found[:FINDINGS_MAX]


def _differences(replayed: Rollout, kept: Rollout) -> Iterator[str]:
    if replayed.state != kept.state:
        yield f"the rollout is {kept.state}, by its events {replayed.state}"
    sides = (
        ("window", replayed.windows, kept.windows),
        ("wave", replayed.waves, kept.waves),
        ("member", replayed.members, kept.members),
    )
    for what, by_events, by_tables in sides:
        for key in sorted(by_events.keys() | by_tables.keys()):
            events_say, tables_say = by_events.get(key), by_tables.get(key)
            if events_say != tables_say:
                yield f"{what} {key.hex}: {_told(tables_say)}, by the events {_told(events_say)}"


def _told(said: object) -> str:
    if isinstance(said, Member):
        by = f" by {said.inviter_id.hex}" if said.inviter_id else ""
        return f"{said.state}{by} at depth {said.depth}"
    return "not there" if said is None else str(said)


def _apply(made: Rollout, event: Event) -> str:
    """Carry out one event. Returns what is wrong with it."""
    thing, _, deed = event.kind.partition(".")
    if thing == "rollout":
        return _rollout(made, deed)
    if thing == "window":
        return _window(made, event, deed)
    if thing == "wave":
        return _wave(made, event, deed)
    if thing == "member":
        return _member(made, event, deed)
    return "" if thing in ("invite", "trial") else "is of no known kind"


def _rollout(made: Rollout, deed: str) -> str:
    if deed in ("made", "changed"):
        return ""
    if made.state in ("launched", "killed") or deed == made.state:
        return f"it was {made.state}"
    made.state = deed
    return ""


def _window(made: Rollout, event: Event, deed: str) -> str:
    assert event.window_id is not None
    if deed == "planned":
        made.windows[event.window_id] = ("planned", 0)
        return ""
    if event.window_id not in made.windows:
        return "the window was not made"
    state, activated = made.windows[event.window_id]
    if deed == "changed":
        return ""
    said = "" if deed in NEXT[state] else f"it was {state}"  # type: ignore[index]
    if deed == "open" and any(one == "open" for one, _ in made.windows.values()):
        said = "another was open"
    made.windows[event.window_id] = (deed, activated)
    return said


def _wave(made: Rollout, event: Event, deed: str) -> str:
    for wave_id in event.wave_ids:
        if deed == "made":
            made.waves[wave_id] = (0, bool(event.data.get("server_key", True)))
        elif wave_id not in made.waves:
            return "the wave was not made"
        elif deed in ("key_given", "key_withheld"):
            made.waves[wave_id] = (made.waves[wave_id][0], deed == "key_given")
    return ""


def _member(made: Rollout, event: Event, deed: str) -> str:
    assert event.subscriber_id is not None
    was = made.members.get(event.subscriber_id)
    if deed == "waiting":
        made.members[event.subscriber_id] = Member("waiting")
        return "" if was is None or was.state == "removed" else f"it was {was.state}"
    if was is None:
        return "there was no such member"
    if deed == "removed":
        made.members[event.subscriber_id] = Member("removed", was.inviter_id, was.depth, was.window_id)
        return ""
    depth = int(event.data.get("depth", 0))
    if deed == "keyed":
        made.members[event.subscriber_id] = Member("keyed", event.inviter_id, depth)
        return "" if was.state == "waiting" else f"it was {was.state}"
    made.members[event.subscriber_id] = Member("activated", event.inviter_id, depth, event.window_id)
    for wave_id in event.wave_ids:
        count, key = made.waves.get(wave_id, (0, True))
        made.waves[wave_id] = (count + 1, key)
    if event.window_id is not None:
        state, activated = made.windows.get(event.window_id, ("", 0))
        made.windows[event.window_id] = (state, activated + 1)
        if state != "open":
            return "its window was not open"
    return "" if was.state in ("waiting", "keyed") else f"it was {was.state}"
