"""Numbers in stock. Operators bring them in; a partner gives its own to its subscribers and takes them back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field, model_validator

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AN_ID,
    E164,
    Body,
    Instant,
    NumberId,
    PartnerId,
    SubscriberId,
    Told,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import store as partners
from bridge.partners.store import number as store
from bridge.telephony.did import BLOCK_MAX, Did, block
from bridge.telephony.number import Number as E164Number

router = routes("numbers")
Reader = Annotated[Desk, Depends(Needs("numbers:read"))]
Writer = Annotated[Desk, Depends(Needs("numbers:write"))]
Operator = Annotated[Desk, Depends(Needs("numbers:write", operator=True))]

State = Literal["free", "assigned", "quarantined"]
Kind = Literal["geographic", "mobile", "national"]


class NewNumbers(Body):
    """One number, or a block of up to 1,000. partner_id null: ours."""

    model_config = sample(partner_id=AN_ID["prt"], first="+493023125100", last="+493023125199")

    partner_id: PartnerId | None = None
    number: E164 | None = None
    first: E164 | None = Field(None, examples=["+493023125100"])
    last: E164 | None = Field(None, examples=["+493023125199"])

    @model_validator(mode="after")
    def _one_or_a_block(self) -> Self:
        if (self.number is None) == (self.first is None) or (self.first is None) != (self.last is None):
            raise ValueError("name number, or first and last")
        return self


class NumberAssignment(Body):
    """Who gets the number, or has it until now."""

    subscriber_id: SubscriberId


class NumberChange(Body):
    """Let a number that was released rest longer or shorter; an instant in the past frees it."""

    quarantine_until: Instant


class Number(Told):
    """A number. One that was released rests before somebody else gets it."""

    number_id: NumberId
    partner_id: PartnerId | None
    number: E164
    country: str = Field(examples=["DE"])
    kind: Kind
    state: State
    subscriber_id: SubscriberId | None
    assigned_at: datetime | None
    quarantine_until: datetime | None
    created_at: datetime


class NumbersAdded(Told):
    """What was added, by its ends."""

    first: E164
    last: E164
    added: int = Field(ge=1, le=BLOCK_MAX)
    number_id: NumberId | None = Field(description="Where it is one number")


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number_id": show_id("num", row["number_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "number": row["e164"],
        "country": row["country"],
        "kind": row["kind"],
        "state": row["state"],
        "subscriber_id": show_id("sub", row["subscriber_id"]) if row["subscriber_id"] else None,
        "assigned_at": show_at(row["assigned_at"]),
        "quarantine_until": show_at(row["quarantine_until"]),
        "created_at": show_at(row["created_at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    return Made(told["number_id"], told, row["partner_id"], row["edition"])


def _dids(first: str, last: str) -> Sequence[Did] | str:
    """Or what is wrong with them."""
    try:
        return block(E164Number(first), E164Number(last))
    except ValueError as error:
        return str(error)


@router.get("", response_model=Page[Number], summary="Numbers, newest first")
async def list_numbers(
    desk: Reader,
    paging: Asked,
    partner_id: Annotated[PartnerId | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    subscriber_id: Annotated[SubscriberId | None, Query()] = None,
    number: Annotated[E164 | None, Query()] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.numbers(
            conn, paging.before, paging.rows, partner_id=partner_id, state=state, kind=kind,
            subscriber_id=subscriber_id, e164=number,
        )  # fmt: skip
    return desk.shown(page(rows, paging, "number_id", show))


@router.post(
    "",
    status_code=201,
    response_model=NumbersAdded,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Add a number or a block",
)
async def add_numbers(desk: Operator, body: NewNumbers) -> Response:
    """All of a block or nothing. Premium, mass-traffic, service, short and emergency numbers are refused."""
    first, last = body.first or body.number or "", body.last or body.number or ""
    # A thousand numbers take libphonenumber long enough for callers to notice.
    dids = await asyncio.to_thread(_dids, first, last)
    if isinstance(dids, str):
        pointer = "#/number" if body.number else "#/first"
        raise Problem(422, dids, errors=[{"pointer": pointer, "detail": dids}])

    async def work(conn: Connection) -> Made:
        if body.partner_id is not None:
            await partners.partner(conn, body.partner_id)
        ids = await store.add_numbers(conn, body.partner_id, dids)
        number_id = show_id("num", ids[0])
        single = number_id if len(ids) == 1 else None
        told = {"first": first, "last": last, "added": len(ids), "number_id": single}
        return Made(number_id, told, body.partner_id, location=f"/v1/numbers/{number_id}" if single else None)

    return await desk.create("number.add", body, work)


@router.get("/{number_id}", response_model=Number, responses=responses(404), summary="One number")
async def read_number(desk: Reader, number_id: NumberId) -> Response:
    async with desk.reading() as conn:
        row = await store.number(conn, number_id)
    return desk.shown(show(row), row["edition"])


@router.post(
    "/{number_id}/assign",
    response_model=Number,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Give a number to a subscriber",
)
async def assign_number(desk: Writer, number_id: NumberId, body: NumberAssignment) -> Response:
    """Of the same partner. Who has it already keeps it, so this may be repeated."""

    async def work(conn: Connection) -> Made:
        to = await _named(desk, conn, number_id, body)
        return _made(await store.assign(conn, number_id, to))

    return await desk.act("number.assign", body, work)


@router.post(
    "/{number_id}/release",
    response_model=Number,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Take a number from a subscriber",
)
async def release_number(desk: Writer, number_id: NumberId, body: NumberAssignment) -> Response:
    """It rests for 90 days before somebody else can have it."""

    async def work(conn: Connection) -> Made:
        await _named(desk, conn, number_id, body)
        return _made(await store.release(conn, number_id, body.subscriber_id))

    return await desk.act("number.release", body, work)


@router.patch(
    "/{number_id}",
    response_model=Number,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Let a number rest longer or shorter",
)
async def change_number(desk: Operator, number_id: NumberId, body: NumberChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.number(conn, number_id)
        row = await store.rest_until(conn, number_id, edition, body.quarantine_until)
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("number.change", body, work)


@router.delete(
    "/{number_id}",
    status_code=204,
    responses=responses(*BY_METHOD["DELETE"]),
    summary="Remove a number that nobody has",
)
async def delete_number(desk: Operator, number_id: NumberId) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        row = await store.number(conn, number_id)
        if not await store.drop(conn, number_id, edition):
            raise stale()
        return Made(show_id("num", number_id), None, row["partner_id"])

    return await desk.change("number.drop", None, work)


async def _named(desk: Desk, conn: Connection, number_id: UUID, body: NumberAssignment) -> Mapping[str, Any]:
    """The subscriber. Both are looked up as whoever asks; from then on the connection is ours.

    raises   NotFound: another partner's number or subscriber
    """
    await store.number(conn, number_id)
    to = await store.holder(conn, body.subscriber_id)
    await desk.as_ours(conn)
    return to
