"""Carrier partners. Operators make them; a partner reads itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import AccountId, Body, CurrencyCode, Name, PartnerId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import store

router = routes("partners")
Reader = Annotated[Desk, Depends(Needs("partners:read"))]
Operator = Annotated[Desk, Depends(Needs("partners:write", operator=True))]

State = Literal["active", "suspended", "closed"]


class NewPartner(Body):
    """A partner to be. Its account, what we owe each other, is made with it."""

    model_config = sample(name="E-Plus", currency="EUR")

    name: Name = Field(examples=["E-Plus"])
    currency: CurrencyCode


class PartnerChange(Body):
    """What may change. A closed partner's keys are void at once; its books stay."""

    model_config = sample(name="E-Plus Mobilfunk")

    name: Name | None = None
    state: State | None = None


class Partner(Told):
    """A carrier partner."""

    partner_id: PartnerId
    name: Name
    account_id: AccountId
    state: State
    created_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partner_id": show_id("prt", row["partner_id"]),
        "name": row["name"],
        "account_id": show_id("acc", row["account_id"]),
        "state": row["state"],
        "created_at": show_at(row["created_at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    return Made(
        told["partner_id"], told, row["partner_id"], row["edition"], f"/v1/partners/{told['partner_id']}"
    )


@router.get("", response_model=Page[Partner], summary="Partners, newest first")
async def list_partners(desk: Reader, paging: Asked) -> Response:
    async with desk.reading() as conn:
        rows = await store.partners(conn, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "partner_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Partner,
    responses=responses(*BY_METHOD["POST"]),
    summary="Make a partner",
)
async def create_partner(desk: Operator, body: NewPartner) -> Response:
    async def work(conn: Connection) -> Made:
        return _made(await store.add_partner(conn, body.name, body.currency))

    return await desk.create("partner.create", body, work)


@router.get("/{partner_id}", response_model=Partner, responses=responses(404), summary="One partner")
async def read_partner(desk: Reader, partner_id: PartnerId) -> Response:
    async with desk.reading() as conn:
        row = await store.partner(conn, partner_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{partner_id}",
    response_model=Partner,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a partner",
)
async def change_partner(desk: Operator, partner_id: PartnerId, body: PartnerChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.partner(conn, partner_id)
        row = await store.change_partner(conn, partner_id, edition, name=body.name, state=body.state)
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("partner.change", body, work)
