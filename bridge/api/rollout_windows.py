"""Windows of a rollout: while one is open, people can be activated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Depends, Response
from pydantic import Field, model_validator

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    Body,
    Instant,
    Name,
    RolloutId,
    Told,
    WindowId,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.rollout import store
from bridge.rollout.trial import Thresholds

router = routes("rollouts", "/v1/rollouts/{rollout_id}/windows")
Reader = Annotated[Desk, Depends(Needs("rollouts:read"))]
Writer = Annotated[Desk, Depends(Needs("rollouts:write"))]

State = Literal["planned", "open", "paused", "closed"]
Quota = Annotated[int | None, Field(ge=1, le=1_000_000_000, description="Activations; null: any number")]
TrialLasts = Annotated[int | None, Field(ge=1, le=604_800, description="Seconds a capacity trial lasts")]
_NULLABLE: Final = {"opens_at", "closes_at", "quota", "thresholds", "trial_s", "next_window_id"}


class Times(Body):
    @model_validator(mode="after")
    def _closes_after_it_opens(self) -> Self:
        opens_at, closes_at = getattr(self, "opens_at", None), getattr(self, "closes_at", None)
        if opens_at is not None and closes_at is not None and closes_at <= opens_at:
            raise ValueError("closes_at should be after opens_at")
        return self


class NewWindow(Times):
    """A window to be: planned, until it is opened by hand, or at opens_at."""

    model_config = sample(name="first evening", opens_at="2026-11-20T18:00:00Z", quota=1000)

    name: Name
    opens_at: Instant | None = Field(None, description="null: by hand")
    closes_at: Instant | None = Field(None, description="null: by hand, by quota or by a trial")
    quota: Quota = None
    thresholds: Thresholds | None = Field(None, description="Of a capacity trial; null: none")
    trial_s: TrialLasts = None
    next_window_id: WindowId | None = Field(None, description="Opened when the trial is passed")


class WindowChange(Times):
    """What may change while it is not closed. A quota cannot be less than were activated."""

    model_config = sample(quota=2000)

    name: Name | None = None
    opens_at: Instant | None = None
    closes_at: Instant | None = None
    quota: Quota = None
    thresholds: Thresholds | None = None
    trial_s: TrialLasts = None
    next_window_id: WindowId | None = None


class Window(Told):
    """cause: why it is in its state: operator, time, quota, trial, launch, kill."""

    window_id: WindowId
    rollout_id: RolloutId
    name: str
    state: State
    cause: str
    opens_at: datetime | None
    closes_at: datetime | None
    quota: int | None
    activated: int
    thresholds: dict[str, Any] | None
    trial_s: int | None
    next_window_id: WindowId | None
    opened_at: datetime | None
    closed_at: datetime | None
    created_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "window_id": show_id("win", row["window_id"]),
        "rollout_id": show_id("rol", row["rollout_id"]),
        **{name: row[name] for name in ("name", "state", "cause")},
        "opens_at": show_at(row["opens_at"]),
        "closes_at": show_at(row["closes_at"]),
        **{name: row[name] for name in ("quota", "activated")},
        "thresholds": json.loads(row["thresholds"]) if row["thresholds"] else None,
        "trial_s": row["trial_s"],
        "next_window_id": show_id("win", row["next_window_id"]) if row["next_window_id"] else None,
        "opened_at": show_at(row["opened_at"]),
        "closed_at": show_at(row["closed_at"]),
        "created_at": show_at(row["created_at"]),
    }


def _settings(body: NewWindow | WindowChange, names: Iterable[str]) -> dict[str, Any]:
    """As the store takes them: keys as they are, thresholds as JSON has them."""
    given = {name: getattr(body, name) for name in names}
    return given | {"thresholds": body.thresholds.to_json()} if body.thresholds is not None else given


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    path = f"/v1/rollouts/{told['rollout_id']}/windows/{told['window_id']}"
    return Made(told["window_id"], told, row["partner_id"], row["edition"], path)


@router.get(
    "", response_model=Page[Window], responses=responses(404), summary="Windows of a rollout, newest first"
)
async def list_windows(desk: Reader, rollout_id: RolloutId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        rows = await store.windows(conn, rollout_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "window_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Window,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Plan a window",
)
async def create_window(desk: Writer, rollout_id: RolloutId, body: NewWindow) -> Response:
    async def work(conn: Connection) -> Made:
        found = await store.rollout(conn, rollout_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        settings = _settings(body, NewWindow.model_fields)
        return _made(await store.add_window(conn, found, settings, actor, datetime.now(UTC)))

    return await desk.create("window.create", body, work)


@router.get("/{window_id}", response_model=Window, responses=responses(404), summary="One window")
async def read_window(desk: Reader, rollout_id: RolloutId, window_id: WindowId) -> Response:
    async with desk.reading() as conn:
        row = await store.window(conn, rollout_id, window_id)
    return desk.shown(show(row), row["edition"], fresh=True)


@router.patch(
    "/{window_id}",
    response_model=Window,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a window that is not closed",
)
async def change_window(
    desk: Writer, rollout_id: RolloutId, window_id: WindowId, body: WindowChange
) -> Response:
    given = _settings(body, body.model_fields_set)
    changes = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}

    async def work(conn: Connection, edition: int) -> Made:
        found = await store.window(conn, rollout_id, window_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        row = await store.change_window(conn, found, edition, changes, actor, datetime.now(UTC))
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("window.change", body, work)


async def _set(desk: Desk, rollout_id: RolloutId, window_id: WindowId, state: State) -> Response:
    async def work(conn: Connection) -> Made:
        await store.window(conn, rollout_id, window_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        done = await store.set_window(conn, window_id, state, "operator", actor, datetime.now(UTC))
        row = await store.window(conn, rollout_id, window_id)
        if not done:
            why = (
                "another is open, its quota is reached, or the rollout is over"
                if state == "open" and row["state"] in ("planned", "paused")
                else f"it is {row['state']}"
            )
            raise Problem(409, f"The window cannot be {'opened' if state == 'open' else state}: {why}.")
        return _made(row)

    return await desk.act(f"window.{state}", None, work)


@router.post(
    "/{window_id}/open",
    response_model=Window,
    responses=responses(404, 409),
    summary="Open a planned or paused window, where no other is open",
)
async def open_window(desk: Writer, rollout_id: RolloutId, window_id: WindowId) -> Response:
    return await _set(desk, rollout_id, window_id, "open")


@router.post(
    "/{window_id}/pause",
    response_model=Window,
    responses=responses(404, 409),
    summary="Pause an open window",
)
async def pause_window(desk: Writer, rollout_id: RolloutId, window_id: WindowId) -> Response:
    return await _set(desk, rollout_id, window_id, "paused")


@router.post(
    "/{window_id}/close",
    response_model=Window,
    responses=responses(404, 409),
    summary="Close a window for good",
)
async def close_window(desk: Writer, rollout_id: RolloutId, window_id: WindowId) -> Response:
    return await _set(desk, rollout_id, window_id, "closed")
