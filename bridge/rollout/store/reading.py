"""What is asked about a rollout: members, invitations, events, the chain, a forecast, and whether its events add up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rollout.chain import Link
from bridge.rollout.forecast import Forecast, Seen, forecast
from bridge.rollout.replay import Event, Member, Rollout, differences, replay

Row = Mapping[str, Any]
TREE_ROWS_MAX: Final = 1000
TREE_STEPS_MAX: Final = 100
_ALL: Final = 1_000_000
_EVENTS: Final = 1000  # read at a time
_LAST: Final = UUID(int=2**128 - 1)


async def members(
    conn: Connection,
    rollout_id: UUID,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    state: str | None = None,
) -> Sequence[Row]:
    """Newest subscribers first; of a partner or all."""
    asked = {"rollout_id": rollout_id, "before": before, "rows": rows, "state": state}
    if partner_id is not None:
        return list(await queries.members.members_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.members.members.all(conn, **asked))


async def member(conn: Connection, rollout_id: UUID, subscriber_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.members.member.one(
        conn, rollout_id=rollout_id, subscriber_id=subscriber_id
    )
    if row is None:
        raise NotFound("There is no such member of this rollout.")
    return row


async def invites(
    conn: Connection, rollout_id: UUID, before: UUID, rows: int, *, partner_id: UUID | None = None
) -> Sequence[Row]:
    """Newest first; of a partner's subscribers or all."""
    asked = {"rollout_id": rollout_id, "before": before, "rows": rows}
    if partner_id is not None:
        return list(await queries.members.invites_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.members.invites.all(conn, **asked))


async def invite_by_key(conn: Connection, rollout_id: UUID, invite_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.members.invite_by_key.one(
        conn, rollout_id=rollout_id, invite_id=invite_id
    )
    if row is None:
        raise NotFound("There is no such invitation of this rollout.")
    return row


async def events(
    conn: Connection, rollout_id: UUID, before: UUID, rows: int, *, partner_id: UUID | None = None
) -> Sequence[Row]:
    """Newest first; a partner's own or all."""
    asked = {"rollout_id": rollout_id, "before": before, "rows": rows}
    if partner_id is not None:
        return list(await queries.rollouts.events_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.rollouts.events.all(conn, **asked))


async def links(
    conn: Connection,
    rollout_id: UUID,
    root_id: UUID | None,
    steps: int = TREE_STEPS_MAX,
    rows: int = TREE_ROWS_MAX,
) -> Sequence[Link]:
    """The chain below one, or all of it, breadth first, and not more than so many steps and rows."""
    found = await queries.members.tree.all(
        conn, rollout_id=rollout_id, root_id=root_id, steps=min(steps, TREE_STEPS_MAX), rows=rows
    )
    return [
        Link(row["subscriber_id"], row["inviter_id"], row["state"], row["depth"], row["activated_at"])
        for row in found
    ]


async def foresee(conn: Connection, rollout_id: UUID, hours: float, at: datetime) -> Forecast:
    """How many will be active if the open window stays open. As ours: it counts everybody.

    raises   NotFound
    """
    row = await queries.rollouts.facts.one(conn, rollout_id=rollout_id, at=at)
    if row is None:
        raise NotFound("There is no such rollout.")
    exposure_s = row["exposure_s"]
    if row["opened_at"] is not None:  # who could call before the rollout began has had all the time
        exposure_s += row["before"] * max((at - row["opened_at"]).total_seconds(), 0.0)
    seen = Seen(
        active=row["activated"] + row["before"],
        waiting=row["waiting"],
        quota_left=row["quota_left"] if row["opened_at"] is not None else 0,
        brought=row["brought"],
        exposure_h=max(exposure_s, 0.0) / 3600,
    )
    return forecast(seen, hours)


async def replayed(conn: Connection, rollout_id: UUID) -> list[str]:
    """In what the tables differ from what the events lead to; empty: in nothing. In a repeatable-read transaction."""
    made = Rollout()
    async for rows in queries.rollouts.replayed.batches(conn, _EVENTS, rollout_id=rollout_id):
        replay(map(_event, rows), made)
    return differences(made, await _kept(conn, rollout_id))


async def all_replayed(conn: Connection) -> list[dict[str, Any]]:
    """The same of every rollout."""
    found = []
    for row in await queries.rollouts.all_ids.all(conn):
        rollout_id = row["rollout_id"]
        found += [
            {"rollout_id": str(rollout_id), "problem": said} for said in await replayed(conn, rollout_id)
        ]
    return found


async def _kept(conn: Connection, rollout_id: UUID) -> Rollout:
    head = await queries.rollouts.rollout.one(conn, rollout_id=rollout_id)
    if head is None:
        raise NotFound("There is no such rollout.")
    page = {"rollout_id": rollout_id, "before": _LAST, "rows": _ALL}
    return Rollout(
        state=head["state"],
        windows={
            row["window_id"]: (row["state"], row["activated"])
            for row in await queries.rollouts.windows.all(conn, **page)
        },
        waves={
            row["wave_id"]: (row["activated"], row["server_key"])
            for row in await queries.rollouts.waves.all(conn, **page)
        },
        members={
            row["subscriber_id"]: Member(row["state"], row["inviter_id"], row["depth"], row["window_id"])
            for row in await queries.members.states.all(conn, rollout_id=rollout_id)
        },
    )


def _event(row: Row) -> Event:
    return Event(
        row["seq"], row["kind"], row["window_id"], tuple(row["wave_ids"]), row["subscriber_id"], row["inviter_id"],
        json.loads(row["data"]),
    )  # fmt: skip
