"""Rollouts for whoever stands at the machine: what the command line does, in the words of the API."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from bridge.api import rollout_waves, rollout_windows, rollouts
from bridge.api.fields import show_id
from bridge.api.page import LAST
from bridge.api.rollout_members import WHY, show_invite
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.partners.store import subscribers
from bridge.rollout import store
from bridge.rollout.invite import NotInvited
from bridge.rollout.window import State

_ROWS: Final = 1000
_FROM: Final[Mapping[State, frozenset[str]]] = {
    "open": frozenset({"planned", "paused"}),
    "paused": frozenset({"open"}),
    "closed": frozenset({"open", "paused"}),
}
Told = dict[str, Any]


async def all_rollouts(conn: Connection) -> list[Told]:
    """The newest thousand."""
    return [rollouts.show(row) for row in await store.rollouts(conn, LAST, _ROWS)]


async def look(conn: Connection, name: str) -> Told:
    """A rollout with its windows and waves, and how many can call and wait. raises NotFound"""
    row = await store.named(conn, name)
    rollout_id, now = row["rollout_id"], datetime.now(UTC)
    found = await store.foresee(conn, rollout_id, 0.0, now)
    windows = await store.windows(conn, rollout_id, LAST, _ROWS)
    waves = await store.waves(conn, rollout_id, LAST, _ROWS)
    return rollouts.show(row) | {
        "active": found.active,
        "windows": [rollout_windows.show(one) for one in windows],
        "waves": [rollout_waves.show(one) for one in waves],
    }


async def set_window(conn: Connection, name: str, window: str | None, state: State) -> Told:
    """Bring a window into a state: the one named, or the only one that can come into it. In a transaction.

    raises   NotFound · Conflict: none or several can, or it cannot
    """
    row = await store.named(conn, name)
    at = datetime.now(UTC)
    every = await store.windows(conn, row["rollout_id"], LAST, _ROWS)
    found = [one for one in every if window in (None, one["name"], show_id("win", one["window_id"]))]
    if window is not None and not found:
        raise NotFound(f"The rollout has no window {window[:80]!r}.")
    able = [one for one in found if one["state"] in _FROM[state]]
    if len(able) != 1:
        told = ", ".join(f"{one['name']} is {one['state']}" for one in found) or "there is none"
        raise Conflict(f"Name one window that can be {_word(state)}: {told}.")
    if not await store.set_window(conn, able[0]["window_id"], state, "operator", _actor(), at):
        raise Conflict(
            f"The window cannot be {_word(state)}: another is open, its quota is reached, or all is over."
        )
    return rollout_windows.show(await store.window(conn, row["rollout_id"], able[0]["window_id"]))


async def new_window(
    conn: Connection, name: str, window: str, quota: int | None, closes_at: datetime | None
) -> Told:
    """Make a window and open it at once. In a transaction. raises NotFound · Conflict · Invalid"""
    row = await store.named(conn, name)
    settings = {"name": window, "quota": quota, "opens_at": None, "closes_at": closes_at}
    settings |= {"thresholds": None, "trial_s": None, "next_window_id": None}
    made = await store.add_window(conn, row, settings, _actor(), datetime.now(UTC))
    return await set_window(conn, name, show_id("win", made["window_id"]), "open")


async def set_state(conn: Connection, name: str, state: Literal["launched", "killed"]) -> Told:
    """For good. In a transaction. raises NotFound · Conflict: it is at its end already"""
    row = await store.named(conn, name)
    if not await store.set_state(conn, row["rollout_id"], state, _actor(), datetime.now(UTC)):
        raise Conflict(f"The rollout is {row['state']}, and stays so.")
    return rollouts.show(await store.rollout(conn, row["rollout_id"]))


async def set_keys(conn: Connection, name: str, platform: str | None, *, given: bool) -> list[Told]:
    """Give or withhold the server key of every wave of a platform; None: of all. In a transaction.

    raises   NotFound: no such wave
    """
    row = await store.named(conn, name)
    rollout_id = row["rollout_id"]
    every = await store.waves(conn, rollout_id, LAST, _ROWS)
    chosen = [one["wave_id"] for one in every if platform in (None, one["platform"])]
    if not chosen:
        raise NotFound("The rollout has no such wave.")
    for wave_id in sorted(chosen):
        await store.set_key(conn, wave_id, given, _actor(), datetime.now(UTC))
    return [rollout_waves.show(await store.wave(conn, rollout_id, wave_id)) for wave_id in chosen]


async def chain(conn: Connection, name: str, root: str | None, rows: int) -> Told:
    """The chain of activations; root: a number, below which it is told. raises NotFound"""
    row = await store.named(conn, name)
    root_id = await _subscriber(conn, row["app"], root) if root is not None else None
    found = await store.links(conn, row["rollout_id"], root_id, rows=rows + 1)
    return rollouts.show_tree(found[:rows], truncated=len(found) > rows)


async def foresee(conn: Connection, name: str, hours: float) -> Told:
    row = await store.named(conn, name)
    return rollouts.show_forecast(await store.foresee(conn, row["rollout_id"], hours, datetime.now(UTC)))


async def replay(conn: Connection, name: str) -> Told:
    """Whether the events lead to what the tables say. raises NotFound"""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        row = await store.named(conn, name)
        problems: Sequence[str] = await store.replayed(conn, row["rollout_id"])
    return {"rollout_id": show_id("rol", row["rollout_id"]), "problems": list(problems)}


async def invite(conn: Connection, name: str, inviter: str, number: str) -> Told:
    """Invite a number for a subscriber, named by theirs. In a transaction. raises NotFound · Conflict: why not"""
    row = await store.named(conn, name)
    inviter_id = await _subscriber(conn, row["app"], inviter)
    made = await store.invite(conn, inviter_id, number, datetime.now(UTC))
    if isinstance(made, NotInvited):
        raise Conflict(WHY[made.reason])
    told = show_invite(await store.invite_by_key(conn, row["rollout_id"], made.invite_id))
    return told | {"code": made.code}


async def _subscriber(conn: Connection, app: str, number: str) -> UUID:
    """raises   NotFound"""
    for one in await subscribers(conn, LAST, _ROWS, a_number=number):
        if one["app"] == app and one["state"] != "closed":
            found: UUID = one["subscriber_id"]
            return found
    raise NotFound(f"No subscriber of {app} has this number.")


def _actor() -> str:
    return f"command line, {getpass.getuser()}"


def _word(state: State) -> str:
    return "opened" if state == "open" else state
