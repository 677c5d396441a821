"""Waves of a rollout: who is served, up to which number, and whether they get the server's key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import Body, PartnerId, RolloutId, Told, WaveId, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.rollout_windows import Quota
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners.store import partner
from bridge.rollout import store

router = routes("rollouts", "/v1/rollouts/{rollout_id}/waves")
Reader = Annotated[Desk, Depends(Needs("rollouts:read"))]
Writer = Annotated[Desk, Depends(Needs("rollouts:write"))]

Country = Annotated[str, Field(pattern="^[A-Z]{2}$", examples=["DE"])]
Platform = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,30}$", examples=["ios"])]


class NewWave(Body):
    """Who is served; null is any. A member needs a wave that fits, and each that fits must have room."""

    model_config = sample(country="DE", platform="ios", quota=500, server_key=False)

    country: Country | None = None
    platform: Platform | None = None
    of_partner_id: PartnerId | None = Field(None, description="Whose subscribers")
    quota: Quota = None
    server_key: bool = Field(True, description="false: withheld; who is brought in meanwhile is `keyed`")


class WaveChange(Body):
    """What may change. A quota cannot be less than were activated."""

    model_config = sample(quota=800)

    quota: Quota


class Wave(Told):
    """Who is served."""

    wave_id: WaveId
    rollout_id: RolloutId
    country: str | None
    platform: str | None
    of_partner_id: PartnerId | None
    quota: int | None
    activated: int
    server_key: bool
    created_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wave_id": show_id("wav", row["wave_id"]),
        "rollout_id": show_id("rol", row["rollout_id"]),
        "country": row["country"],
        "platform": row["platform"],
        "of_partner_id": show_id("prt", row["of_partner_id"]) if row["of_partner_id"] else None,
        **{name: row[name] for name in ("quota", "activated", "server_key")},
        "created_at": show_at(row["created_at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    path = f"/v1/rollouts/{told['rollout_id']}/waves/{told['wave_id']}"
    return Made(told["wave_id"], told, row["partner_id"], row["edition"], path)


@router.get(
    "", response_model=Page[Wave], responses=responses(404), summary="Waves of a rollout, newest first"
)
async def list_waves(desk: Reader, rollout_id: RolloutId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        rows = await store.waves(conn, rollout_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "wave_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Wave,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Add a wave; from the first on, nobody is served who is in none",
)
async def create_wave(desk: Writer, rollout_id: RolloutId, body: NewWave) -> Response:
    async def work(conn: Connection) -> Made:
        found = await store.rollout(conn, rollout_id)
        settings = {name: getattr(body, name) for name in NewWave.model_fields}
        await _check_whose(desk, conn, body.of_partner_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        return _made(await store.add_wave(conn, found, settings, actor, datetime.now(UTC)))

    return await desk.create("wave.create", body, work)


async def _check_whose(desk: Desk, conn: Connection, named: UUID | None) -> None:
    """raises   Problem 404, NotFound: another partner's name, or nobody's"""
    if named is None:
        return
    if not desk.principal.operator and named != desk.principal.partner_id:
        raise Problem(404, "There is no such partner.")
    await partner(conn, named)


@router.get("/{wave_id}", response_model=Wave, responses=responses(404), summary="One wave")
async def read_wave(desk: Reader, rollout_id: RolloutId, wave_id: WaveId) -> Response:
    async with desk.reading() as conn:
        row = await store.wave(conn, rollout_id, wave_id)
    return desk.shown(show(row), row["edition"], fresh=True)


@router.patch(
    "/{wave_id}",
    response_model=Wave,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a wave",
)
async def change_wave(desk: Writer, rollout_id: RolloutId, wave_id: WaveId, body: WaveChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        found = await store.wave(conn, rollout_id, wave_id)
        await desk.as_ours(conn)
        actor = desk.principal.actor
        row = await store.change_wave(conn, found, edition, body.quota, actor, datetime.now(UTC))
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("wave.change", body, work)


async def _key(desk: Desk, rollout_id: RolloutId, wave_id: WaveId, *, given: bool) -> Response:
    async def work(conn: Connection) -> Made:
        await store.wave(conn, rollout_id, wave_id)
        await desk.as_ours(conn)
        await store.set_key(conn, wave_id, given, desk.principal.actor, datetime.now(UTC))
        row = await store.wave(conn, rollout_id, wave_id)
        if row["server_key"] != given:
            raise Problem(409, "The rollout is over.")
        return _made(row)

    return await desk.act(f"wave.{'give' if given else 'withhold'}_key", None, work)


@router.post(
    "/{wave_id}/give-key",
    response_model=Wave,
    responses=responses(404, 409),
    summary="Give the server's key: keyed members are activated, in order, within quotas",
)
async def give_key(desk: Writer, rollout_id: RolloutId, wave_id: WaveId) -> Response:
    return await _key(desk, rollout_id, wave_id, given=True)


@router.post(
    "/{wave_id}/withhold-key",
    response_model=Wave,
    responses=responses(404, 409),
    summary="Withhold the server's key from those to come",
)
async def withhold_key(desk: Writer, rollout_id: RolloutId, wave_id: WaveId) -> Response:
    return await _key(desk, rollout_id, wave_id, given=False)
