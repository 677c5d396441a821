"""Apps: messengers whose users call. Operators make them and say where gateways call from, which others do not see."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import AppId, Body, Told, sample, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.api.subscribers import AppName
from bridge.database import Connection
from bridge.partners import store

router = routes("apps")
Reader = Annotated[Desk, Depends(Needs("apps:read"))]
Operator = Annotated[Desk, Depends(Needs("apps:write", operator=True))]

SipHost = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9.:-]{1,253}$",
        description="Calls of the gateway are taken from here only: a host, or a host and port",
        examples=["192.0.2.9"],
    ),
]
_WHETHER = "A new secret for the gateway, told once; false: the address alone is its proof"


class NewApp(Body):
    """An app to be."""

    model_config = sample(name="messenger2", sip_host="192.0.2.9")

    name: AppName
    sip_host: SipHost
    sip_secret: bool = Field(True, description=_WHETHER)


class AppChange(Body):
    """What may change. The switch is told by itself; calls in progress go on."""

    model_config = sample(sip_host="192.0.2.10")

    sip_host: SipHost | None = None
    sip_secret: bool | None = Field(None, description=f"{_WHETHER}; null: as it is")


class App(Told):
    """An app. Only operators see how its gateway comes in."""

    app_id: AppId
    name: AppName
    sip_host: str | None
    has_secret: bool | None
    phones: bool = Field(
        description="Its users have phones of their own, which are rung; so it is after the first one"
    )
    launched: bool = Field(description="Everybody may call, for its rollout was launched")


class AppTold(App):
    """With the gateway's new secret."""

    sip_secret: str | None = Field(
        default=None, description="Told once: missing from an answer that is given again"
    )


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "app_id": show_id("app", row["app_id"]),
        "name": row["name"],
        "sip_host": row["sip_host"],
        "has_secret": row["has_secret"],
        "phones": row["phones"],
        "launched": row["launched"],
    }


def _made(row: Mapping[str, Any], secret: str | None) -> Made:
    told = show(row)
    once = {} if secret is None else {"sip_secret": secret}
    return Made(told["app_id"], told, None, row["edition"], f"/v1/apps/{told['app_id']}", once)


def _new_secret(wanted: bool | None) -> str | None:
    return secrets.token_urlsafe(24) if wanted else None


@router.get("", response_model=Page[App], summary="Apps, newest first")
async def list_apps(desk: Reader, paging: Asked) -> Response:
    async with desk.reading() as conn:
        rows = await store.apps(conn, paging.before, paging.rows, whole=desk.principal.operator)
    return desk.shown(page(rows, paging, "app_id", show))


@router.post(
    "",
    status_code=201,
    response_model=AppTold,
    responses=responses(*BY_METHOD["POST"]),
    summary="Make an app",
)
async def create_app(desk: Operator, body: NewApp) -> Response:
    async def work(conn: Connection) -> Made:
        secret = _new_secret(body.sip_secret)
        return _made(await store.add_app(conn, body.name, body.sip_host, secret), secret)

    return await desk.create("app.create", body, work)


@router.get("/{app_id}", response_model=App, responses=responses(404), summary="One app")
async def read_app(desk: Reader, app_id: AppId) -> Response:
    async with desk.reading() as conn:
        row = await store.app(conn, app_id, whole=desk.principal.operator)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{app_id}", response_model=AppTold, responses=responses(*BY_METHOD["PATCH"]), summary="Change an app"
)
async def change_app(desk: Operator, app_id: AppId, body: AppChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.app(conn, app_id, whole=True)
        secret = _new_secret(body.sip_secret)
        row = await store.change_app(
            conn,
            app_id,
            edition,
            sip_host=body.sip_host,
            sets_secret=body.sip_secret is not None,
            sip_secret=secret,
        )
        if row is None:
            raise stale()
        return _made(row, secret)

    return await desk.change("app.change", body, work)
