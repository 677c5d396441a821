"""Deals with partners. Operators agree on them, version by version; a partner reads its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Path, Query, Response
from pydantic import Field, model_validator

from bridge.api.deal_terms import TERMS_EXAMPLE, DealTerms, DealTermsTold, rules_of, show_terms
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AN_ID,
    Body,
    CurrencyCode,
    DealId,
    Instant,
    Line,
    Name,
    PartnerId,
    Told,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import deal as rules
from bridge.partners import store as partners
from bridge.partners.store import deal as store

router = routes("deals")
Reader = Annotated[Desk, Depends(Needs("deals:read"))]
Operator = Annotated[Desk, Depends(Needs("deals:write", operator=True))]

State = Literal["draft", "signed", "ended"]


class Agreement(Body):
    """What both sides agree on from an instant on."""

    terms: DealTerms
    valid_from: Instant | None = Field(None, description="Now, unless given. In the past in a draft only")
    valid_to: Instant | None = Field(None, description="The first instant after it; null: without end")
    note: Line = Field("", description="Both sides read it")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("valid_to should be after valid_from")
        return self


class NewDeal(Agreement):
    """A deal to be, as a draft."""

    model_config = sample(
        partner_id=AN_ID["prt"],
        name="Termination and bundles 2027",
        currency="EUR",
        terms=TERMS_EXAMPLE,
        note="As agreed in Berlin",
    )

    partner_id: PartnerId
    name: Name = Field(examples=["Termination and bundles 2027"])
    currency: CurrencyCode


class NewDealVersion(Agreement):
    """Other terms from an instant on. based_on: the last version that you have read."""

    model_config = sample(
        based_on=1,
        terms=TERMS_EXAMPLE,
        valid_from="2027-07-01T00:00:00Z",
        note="Less for a minute from July on",
    )

    based_on: int = Field(ge=1, le=2**31 - 2, examples=[1])


class DealChange(Body):
    """Signed, its terms count. Ended, none does from now on, and nothing brings it back."""

    model_config = sample(state="signed")

    name: Name | None = None
    state: Literal["signed", "ended"] | None = None


class DealVersion(Told):
    """One version. valid_from null: another took its place before it began."""

    version: int
    valid_from: datetime | None
    valid_to: datetime | None = Field(description="As later versions and the deal's end have cut it")
    agreed_from: datetime
    agreed_to: datetime | None
    terms: DealTermsTold
    note: str
    made_at: datetime


class Deal(Told):
    """A deal with its last version."""

    deal_id: DealId
    partner_id: PartnerId
    name: Name
    currency: CurrencyCode
    state: State
    version: DealVersion
    created_at: datetime
    signed_at: datetime | None
    ended_at: datetime | None


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "deal_id": show_id("deal", row["deal_id"]),
        "partner_id": show_id("prt", row["partner_id"]),
        "name": row["name"],
        "currency": row["currency"],
        "state": row["state"],
        "version": show_version(row),
        "created_at": show_at(row["created_at"]),
        "signed_at": show_at(row["signed_at"]),
        "ended_at": show_at(row["ended_at"]),
    }


def show_version(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": row["version"],
        "valid_from": show_at(row["from_at"]),
        "valid_to": show_at(row["until_at"]),
        "agreed_from": show_at(row["agreed_from_at"]),
        "agreed_to": show_at(row["agreed_until_at"]),
        "terms": show_terms(rules.Terms.from_json(json.loads(row["terms"]))),
        "note": row["note"],
        "made_at": show_at(row["made_at"]),
    }


async def _agree(
    desk: Desk, conn: Connection, deal_id: UUID, partner_id: UUID, based_on: int, given: Agreement
) -> Mapping[str, Any]:
    return await store.agree(
        conn,
        deal_id,
        based_on,
        await rules_of(conn, partner_id, given.terms),
        from_at=given.valid_from,
        until_at=given.valid_to,
        note=given.note,
        author=desk.principal.actor,
    )


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    return Made(told["deal_id"], told, row["partner_id"], row["edition"], f"/v1/deals/{told['deal_id']}")


At = Annotated[Instant | None, Query(description="Only what is in force at this instant")]


@router.get("", response_model=Page[Deal], summary="Deals, newest first")
async def list_deals(
    desk: Reader,
    paging: Asked,
    partner_id: Annotated[PartnerId | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    at: At = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.deals(
            conn, paging.before, paging.rows, partner_id=partner_id, state=state, in_force_at=at
        )
    return desk.shown(page(rows, paging, "deal_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Deal,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Draft a deal",
)
async def create_deal(desk: Operator, body: NewDeal) -> Response:
    async def work(conn: Connection) -> Made:
        await partners.partner(conn, body.partner_id)
        deal_id = await store.add_deal(conn, body.partner_id, body.name, body.currency)
        await _agree(desk, conn, deal_id, body.partner_id, 0, body)
        return _made(await store.deal(conn, deal_id))

    return await desk.create("deal.create", body, work)


@router.get("/{deal_id}", response_model=Deal, responses=responses(404), summary="One deal")
async def read_deal(desk: Reader, deal_id: DealId) -> Response:
    async with desk.reading() as conn:
        row = await store.deal(conn, deal_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{deal_id}",
    response_model=Deal,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Sign, end or rename a deal",
)
async def change_deal(desk: Operator, deal_id: DealId, body: DealChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.deal(conn, deal_id)
        row = await store.change_deal(conn, deal_id, edition, name=body.name, state=body.state)
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("deal.change", body, work)


@router.get(
    "/{deal_id}/versions",
    response_model=Page[DealVersion],
    responses=responses(404),
    summary="Versions of a deal, newest first",
)
async def list_deal_versions(desk: Reader, deal_id: DealId, paging: Asked, at: At = None) -> Response:
    async with desk.reading() as conn:
        await store.deal(conn, deal_id)
        rows = await store.versions(conn, deal_id, paging.before, paging.rows, at)
    return desk.shown(page(rows, paging, "deal_version_id", show_version))


@router.post(
    "/{deal_id}/versions",
    status_code=201,
    response_model=DealVersion,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Agree on other terms",
)
async def create_deal_version(desk: Operator, deal_id: DealId, body: NewDealVersion) -> Response:
    async def work(conn: Connection) -> Made:
        of = await store.deal(conn, deal_id)
        row = await _agree(desk, conn, deal_id, of["partner_id"], body.based_on, body)
        shown = show_id("deal", deal_id)
        return Made(
            shown,
            show_version(row),
            of["partner_id"],
            location=f"/v1/deals/{shown}/versions/{row['version']}",
        )

    return await desk.create("deal.agree", body, work)


@router.get(
    "/{deal_id}/versions/{version}",
    response_model=DealVersion,
    responses=responses(404),
    summary="One version of a deal",
)
async def read_deal_version(
    desk: Reader, deal_id: DealId, version: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> Response:
    async with desk.reading() as conn:
        row = await store.version(conn, deal_id, version)
    return desk.shown(show_version(row))
