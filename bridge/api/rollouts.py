"""Rollouts: who may call with an app yet. Operators make one for an app; whose it is steers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AN_ID,
    Body,
    CallId,
    InviteId,
    Name,
    PartnerId,
    RolloutEventId,
    RolloutId,
    SubscriberId,
    Told,
    WaveId,
    WindowId,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.api.subscribers import AppName
from bridge.database import Connection
from bridge.partners.store import partner
from bridge.rollout import store
from bridge.rollout.chain import counts, flat, tree

router = routes("rollouts")
Reader = Annotated[Desk, Depends(Needs("rollouts:read"))]
Writer = Annotated[Desk, Depends(Needs("rollouts:write"))]
Operator = Annotated[Desk, Depends(Needs("rollouts:write", operator=True))]

State = Literal["closed", "running", "launched", "killed"]
Limit = Annotated[
    int | None, Field(ge=0, le=1_000_000, description="Whom one may bring in; null: no limit", examples=[5])
]
Depth = Annotated[int | None, Field(ge=1, le=1_000_000, description="Length of a chain; null: any")]
InviteLasts = Annotated[int, Field(ge=60, le=31_536_000, description="Seconds an invitation is good")]


class NewRollout(Body):
    """A rollout to be. It is `closed` until its first window opens."""

    model_config = sample(app="messenger", name="spring", invite_limit=5, partner_id=AN_ID["prt"])

    app: AppName
    name: Name
    partner_id: PartnerId | None = Field(None, description="Who steers it; null: operators only")
    invite_limit: Limit = None
    depth_max: Depth = None
    call_activates: bool = Field(True, description="A call from an enabled user enables who waits")
    invite_s: InviteLasts = 86_400


class RolloutChange(Body):
    """What may change."""

    model_config = sample(invite_limit=10)

    name: Name | None = None
    invite_limit: Limit = None
    depth_max: Depth = None
    call_activates: bool | None = None
    invite_s: InviteLasts | None = None


class Rollout(Told):
    """launched: everybody may call. killed: nobody is activated any more, who is enabled stays so. Both are final."""

    rollout_id: RolloutId
    partner_id: PartnerId | None
    app: str
    name: str
    state: State
    invite_limit: int | None
    depth_max: int | None
    call_activates: bool
    invite_s: int
    created_at: datetime


class RolloutEvent(Told):
    """A transition, with its cause and who did it. seq counts those of the rollout; what is another's is left out."""

    rollout_event_id: RolloutEventId
    seq: int
    kind: str = Field(examples=["member.activated"])
    cause: str
    actor: str
    window_id: WindowId | None
    wave_ids: list[WaveId]
    subscriber_id: SubscriberId | None
    inviter_id: SubscriberId | None
    call_id: CallId | None
    invite_id: InviteId | None
    data: dict[str, Any]
    at: datetime


class ChainLink(Told):
    """depth: length of the chain that led here. brought: directly; below: and through others, as far as shown."""

    subscriber_id: SubscriberId
    inviter_id: SubscriberId | None = Field(description="null: by hand, or by somebody of another partner")
    state: Literal["keyed", "activated"] | None = Field(description="null: could call before the rollout")
    depth: int
    activated_at: datetime | None
    brought: int
    below: int


class Chain(Told):
    """The chain of activations, parents before children. truncated: there is more than is shown."""

    data: list[ChainLink]
    truncated: bool


class Foreseen(Told):
    """Active users after so many hours with the window open. full_in_h: until quota or waiting list is used up."""

    hours: float
    active: int
    expected: int
    low: int
    high: int
    at_most: int
    rate_h: float
    full_in_h: float | None
    assumptions: list[str]


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rollout_id": show_id("rol", row["rollout_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        **{name: row[name] for name in ("app", "name", "state", "invite_limit", "depth_max")},
        "call_activates": row["call_activates"],
        "invite_s": row["invite_s"],
        "created_at": show_at(row["created_at"]),
    }


def show_event(row: Mapping[str, Any]) -> dict[str, Any]:
    def named(kind: str, name: str) -> str | None:
        return show_id(kind, row[name]) if row[name] else None

    return {
        "rollout_event_id": show_id("rev", row["rollout_event_id"]),
        **{name: row[name] for name in ("seq", "kind", "cause")},
        "actor": row["actor"] if row["inviter_id"] or not row["actor"].startswith("sub_") else "subscriber",
        "window_id": named("win", "window_id"),
        "wave_ids": [show_id("wav", one) for one in row["wave_ids"]],
        "subscriber_id": named("sub", "subscriber_id"),
        "inviter_id": named("sub", "inviter_id"),
        "call_id": named("call", "call_id") if row["inviter_id"] else None,
        "invite_id": named("ivt", "invite_id") if row["inviter_id"] else None,
        "data": json.loads(row["data"]),
        "at": show_at(row["at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    name = told["rollout_id"]
    return Made(name, told, row["partner_id"], row["edition"], f"/v1/rollouts/{name}")


@router.get("", response_model=Page[Rollout], summary="Rollouts, newest first")
async def list_rollouts(desk: Reader, paging: Asked) -> Response:
    async with desk.reading() as conn:
        rows = await store.rollouts(conn, paging.before, paging.rows, desk.principal.partner_id)
    return desk.shown(page(rows, paging, "rollout_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Rollout,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make the rollout of an app",
)
async def create_rollout(desk: Operator, body: NewRollout) -> Response:
    settings = body.model_dump(exclude={"app", "partner_id"})

    async def work(conn: Connection) -> Made:
        if body.partner_id is not None:
            await partner(conn, body.partner_id)
        actor = desk.principal.actor
        return _made(
            await store.add_rollout(conn, body.app, settings, body.partner_id, actor, datetime.now(UTC))
        )

    return await desk.create("rollout.create", body, work)


@router.get("/{rollout_id}", response_model=Rollout, responses=responses(404), summary="One rollout")
async def read_rollout(desk: Reader, rollout_id: RolloutId) -> Response:
    async with desk.reading() as conn:
        row = await store.rollout(conn, rollout_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{rollout_id}",
    response_model=Rollout,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a rollout",
)
async def change_rollout(desk: Writer, rollout_id: RolloutId, body: RolloutChange) -> Response:
    nullable = {"invite_limit", "depth_max"}
    given = body.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name in nullable}

    async def work(conn: Connection, edition: int) -> Made:
        found = await store.rollout(conn, rollout_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        row = await store.change_rollout(conn, found, edition, changes, actor, datetime.now(UTC))
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("rollout.change", body, work)


async def _end(desk: Desk, rollout_id: RolloutId, state: Literal["launched", "killed"]) -> Response:
    async def work(conn: Connection) -> Made:
        await store.rollout(conn, rollout_id)
        await desk.as_ours(conn)
        done = await store.set_state(conn, rollout_id, state, desk.principal.actor, datetime.now(UTC))
        row = await store.rollout(conn, rollout_id)
        if not done and row["state"] != state:
            raise Problem(409, f"The rollout is {row['state']}, and stays so.")
        return _made(row)

    return await desk.act(f"rollout.{state}", None, work)


@router.post(
    "/{rollout_id}/launch",
    response_model=Rollout,
    responses=responses(404, 409),
    summary="Open the app to everybody, for good",
)
async def launch_rollout(desk: Writer, rollout_id: RolloutId) -> Response:
    return await _end(desk, rollout_id, "launched")


@router.post(
    "/{rollout_id}/kill",
    response_model=Rollout,
    responses=responses(404, 409),
    summary="End all activation, for good; who is enabled stays so",
)
async def kill_rollout(desk: Writer, rollout_id: RolloutId) -> Response:
    return await _end(desk, rollout_id, "killed")


@router.get(
    "/{rollout_id}/events",
    response_model=Page[RolloutEvent],
    responses=responses(404),
    summary="What happened in a rollout, newest first",
)
async def list_rollout_events(desk: Reader, rollout_id: RolloutId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        rows = await store.events(
            conn, rollout_id, paging.before, paging.rows, partner_id=desk.principal.partner_id
        )
    return desk.shown(page(rows, paging, "rollout_event_id", show_event))


@router.get(
    "/{rollout_id}/tree",
    response_model=Chain,
    responses=responses(404),
    summary="Who was brought in by whom",
)
async def read_tree(
    desk: Reader,
    rollout_id: RolloutId,
    root_id: Annotated[SubscriberId | None, Query(description="Only those below this one")] = None,
    steps: Annotated[int, Query(ge=1, le=100, description="How deep below the roots")] = 10,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows, the nearest first")] = 200,
) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        found = await store.links(conn, rollout_id, root_id, steps, limit + 1)
    return desk.shown(show_tree(found[:limit], truncated=len(found) > limit))


def show_tree(links: Any, *, truncated: bool) -> dict[str, Any]:
    """As the API tells a chain: parents before children."""
    roots = tree(links)
    below = counts(roots)
    data = [
        {
            "subscriber_id": show_id("sub", node.subscriber_id),
            "inviter_id": show_id("sub", node.link.inviter_id)
            if node.link and node.link.inviter_id
            else None,
            "state": node.link.state if node.link else None,
            "depth": node.link.depth if node.link else 0,
            "activated_at": show_at(node.link.activated_at) if node.link else None,
            "brought": len(node.brought),
            "below": below[node.subscriber_id],
        }
        for _, node in flat(roots)
    ]
    return {"data": data, "truncated": truncated}


@router.get(
    "/{rollout_id}/forecast",
    response_model=Foreseen,
    responses=responses(404),
    summary="How many will be active if the open window stays open",
)
async def read_forecast(
    desk: Reader,
    rollout_id: RolloutId,
    hours: Annotated[float, Query(ge=0, le=8760, allow_inf_nan=False, description="From now")] = 24.0,
) -> Response:
    async with desk.reading() as conn, conn.transaction():
        await store.rollout(conn, rollout_id)
        await desk.as_ours(conn)  # it counts everybody, and tells of nobody
        found = await store.foresee(conn, rollout_id, hours, datetime.now(UTC))
    return desk.shown(show_forecast(found))


def show_forecast(found: Any) -> dict[str, Any]:
    told = {name: getattr(found, name) for name in Foreseen.model_fields}
    full_in_h = None if found.full_in_h is None else round(found.full_in_h, 2)
    return told | {
        "rate_h": round(found.rate_h, 4),
        "full_in_h": full_in_h,
        "assumptions": list(found.assumptions),
    }
