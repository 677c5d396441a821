"""Rollouts, their windows and waves: made, changed, brought from state to state.

Who asks is checked before: what is written is written as ours. `actor` is the name in the rollout's events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound

Row = Mapping[str, Any]
OVER = frozenset({"launched", "killed"})


async def rollouts(
    conn: Connection, before: UUID, rows: int, partner_id: UUID | None = None
) -> Sequence[Row]:
    """Newest first, those older than `before`; of a partner or all."""
    if partner_id is not None:
        return list(
            await queries.rollouts.rollouts_partner.all(conn, partner_id=partner_id, before=before, rows=rows)
        )
    return list(await queries.rollouts.rollouts.all(conn, before=before, rows=rows))


async def rollout(conn: Connection, rollout_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.rollouts.rollout.one(conn, rollout_id=rollout_id)
    if row is None:
        raise NotFound("There is no such rollout.")
    return row


async def named(conn: Connection, name: str) -> Row:
    """By its key, or the newest rollout of an app. raises NotFound"""
    row = await queries.rollouts.named.one(conn, name=name)
    if row is None:
        raise NotFound(f"There is no rollout {name[:60]!r}, nor one of an app of this name.")
    return await rollout(conn, row["rollout_id"])


async def add_rollout(
    conn: Connection, app: str, settings: Mapping[str, Any], partner_id: UUID | None, actor: str, at: datetime
) -> Row:
    """A rollout of an app. Whoever waited in one that was killed waits in this.

    settings   name, invite_limit, depth_max, call_activates, invite_s
    raises     NotFound: no such app · Conflict: it has a rollout, or is launched
    """
    found = await queries.rollouts.app.one(conn, app=app)
    if found is None:
        raise NotFound("There is no such app.")
    if found["launched"]:
        raise Conflict("The app is launched: everybody may call.")
    if found["before_id"] is not None:
        before = await rollout(conn, found["before_id"])
        if before["state"] != "killed":
            raise Conflict("The app has a rollout.")
    rollout_id = await queries.rollouts.add_rollout.value(
        conn, app_id=found["app_id"], partner_id=partner_id, **settings
    )
    await _note(conn, rollout_id, partner_id, "rollout.made", settings, actor, at)
    if found["before_id"] is not None:
        await queries.rollouts.follow.run(conn, before_id=found["before_id"], actor=actor, at=at)
    return await rollout(conn, rollout_id)


async def change_rollout(
    conn: Connection, found: Row, edition: int, changes: Mapping[str, Any], actor: str, at: datetime
) -> Row | None:
    """Settings as in `add_rollout`. Returns None when it is of another edition by now.

    raises   Conflict: it is over
    """
    await _lock_going_on(conn, found["rollout_id"])
    settings = {
        name: changes.get(name, found[name])
        for name in ("name", "invite_limit", "depth_max", "call_activates", "invite_s")
    }
    now = await queries.rollouts.change_rollout.value(
        conn, rollout_id=found["rollout_id"], edition=edition, **settings
    )
    if now is None:
        return None
    await _note(conn, found["rollout_id"], found["partner_id"], "rollout.changed", changes, actor, at)
    return await rollout(conn, found["rollout_id"])


async def set_state(
    conn: Connection, rollout_id: UUID, state: Literal["launched", "killed"], actor: str, at: datetime
) -> bool:
    """Open the app to all, or end all activation; both for good. False: it is at its end already."""
    cause = "launch" if state == "launched" else "kill"
    done: bool = await queries.rollouts.set_state.value(
        conn, rollout_id=rollout_id, state=state, cause=cause, actor=actor, at=at
    )
    return done


async def windows(conn: Connection, rollout_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    return list(await queries.rollouts.windows.all(conn, rollout_id=rollout_id, before=before, rows=rows))


async def window(conn: Connection, rollout_id: UUID, window_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.rollouts.window.one(conn, rollout_id=rollout_id, window_id=window_id)
    if row is None:
        raise NotFound("There is no such window of this rollout.")
    return row


async def add_window(
    conn: Connection, found: Row, settings: Mapping[str, Any], actor: str, at: datetime
) -> Row:
    """A planned window of a rollout.

    settings   name, opens_at, closes_at, quota, thresholds (JSON-able), trial_s, next_window_id
    raises     Conflict: the rollout is over · NotFound: the next window is none of its · Invalid
    """
    rollout_id = found["rollout_id"]
    await _lock_going_on(conn, rollout_id)
    if settings["next_window_id"] is not None:
        await window(conn, rollout_id, settings["next_window_id"])
    window_id = await queries.rollouts.add_window.value(
        conn, rollout_id=rollout_id, partner_id=found["partner_id"], **_written(settings)
    )
    await _note(conn, rollout_id, found["partner_id"], "window.planned", settings, actor, at, window_id)
    return await window(conn, rollout_id, window_id)


async def change_window(
    conn: Connection, found: Row, edition: int, changes: Mapping[str, Any], actor: str, at: datetime
) -> Row | None:
    """Settings as in `add_window`. Returns None when it is of another edition by now.

    raises   Conflict: it is closed · Invalid: e.g. a quota of less than were activated
    """
    rollout_id = found["rollout_id"]
    await _lock_going_on(conn, rollout_id)
    found = await window(conn, rollout_id, found["window_id"])  # after the lock: as it is
    if found["state"] == "closed":
        raise Conflict("The window is closed.")
    if changes.get("next_window_id") is not None:
        await window(conn, rollout_id, changes["next_window_id"])
    names = ("name", "opens_at", "closes_at", "quota", "thresholds", "trial_s", "next_window_id")
    settings = {name: changes.get(name, found[name]) for name in names}
    now = await queries.rollouts.change_window.value(
        conn, window_id=found["window_id"], edition=edition, **_written(settings)
    )
    if now is None:
        return None
    await _note(
        conn, rollout_id, found["partner_id"], "window.changed", changes, actor, at, found["window_id"]
    )
    await queries.rollouts.resettle.run(conn, rollout_id=rollout_id)
    return await window(conn, rollout_id, found["window_id"])


async def waves(conn: Connection, rollout_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    return list(await queries.rollouts.waves.all(conn, rollout_id=rollout_id, before=before, rows=rows))


async def wave(conn: Connection, rollout_id: UUID, wave_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.rollouts.wave.one(conn, rollout_id=rollout_id, wave_id=wave_id)
    if row is None:
        raise NotFound("There is no such wave of this rollout.")
    return row


async def add_wave(
    conn: Connection, found: Row, settings: Mapping[str, Any], actor: str, at: datetime
) -> Row:
    """Somebody who is served. From the first wave on, nobody is who is in none.

    settings   country, platform, of_partner_id, quota, server_key
    raises     Conflict: there is one of the same kind, or the rollout is over
    """
    rollout_id = found["rollout_id"]
    await _lock_going_on(conn, rollout_id)
    wave_id = await queries.rollouts.add_wave.value(
        conn, rollout_id=rollout_id, partner_id=found["partner_id"], **settings
    )
    await _note(conn, rollout_id, found["partner_id"], "wave.made", settings, actor, at, None, wave_id)
    await queries.rollouts.resettle.run(conn, rollout_id=rollout_id)
    return await wave(conn, rollout_id, wave_id)


async def change_wave(
    conn: Connection, found: Row, edition: int, quota: int | None, actor: str, at: datetime
) -> Row | None:
    """Returns None when it is of another edition by now. raises Invalid: a quota of less than were activated"""
    rollout_id = found["rollout_id"]
    await _lock_going_on(conn, rollout_id)
    now = await queries.rollouts.change_wave.value(
        conn, wave_id=found["wave_id"], edition=edition, quota=quota
    )
    if now is None:
        return None
    settings = {"quota": quota}
    await _note(
        conn, rollout_id, found["partner_id"], "wave.changed", settings, actor, at, None, found["wave_id"]
    )
    await queries.rollouts.resettle.run(conn, rollout_id=rollout_id)
    return await wave(conn, rollout_id, found["wave_id"])


async def set_key(conn: Connection, wave_id: UUID, server_key: bool, actor: str, at: datetime) -> bool:
    """Give or withhold the server key of a wave. Given, its keyed members are activated. False: it was so."""
    done: bool = await queries.rollouts.set_key.value(
        conn, wave_id=wave_id, server_key=server_key, actor=actor, at=at
    )
    return done


async def _lock_going_on(conn: Connection, rollout_id: UUID) -> None:
    """The rollout's row is always locked first. raises Conflict: it is over"""
    row = await queries.rollouts.lock.one(conn, rollout_id=rollout_id)
    if row["state"] in OVER:
        raise Conflict(f"The rollout is {row['state']}.")


async def _note(
    conn: Connection,
    rollout_id: UUID,
    partner_id: UUID | None,
    kind: str,
    data: Mapping[str, Any],
    actor: str,
    at: datetime,
    window_id: UUID | None = None,
    wave_id: UUID | None = None,
) -> None:
    await queries.rollouts.note.run(
        conn, rollout_id=rollout_id, kind=kind, actor=actor, at=at, partner_id=partner_id, window_id=window_id,
        wave_ids=[] if wave_id is None else [wave_id], data=json.dumps(data, default=str),
    )  # fmt: skip


def _written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Thresholds as the database takes JSON: as text."""
    limits = settings["thresholds"]
    if limits is not None and not isinstance(limits, str):
        limits = json.dumps(limits)
    return {**settings, "thresholds": limits}
