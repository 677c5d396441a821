"""Click-to-call: A is rung, then B, and A pays for both. And hanging up, whoever called."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Response
from pydantic import Field, model_validator

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import E164, Body, CallId, OriginationId, SubscriberId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.calls import orders
from bridge.calls.orders import SameNumber, Sink, TooManyOrders
from bridge.database import Connection
from bridge.telephony.cause import Refuse

originations = routes("originations")
calls = routes("calls")
Reader = Annotated[Desk, Depends(Needs("calls:read"))]
Writer = Annotated[Desk, Depends(Needs("calls:write"))]

RETRY_S = 5  # originations in flight become fewer in about that time

State = Literal["initiating", "calling_a", "calling_b", "connected", "ended", "failed"]
Reason = Literal[
    "hang_up", "cancelled", "not_placed", "a_refused", "a_busy", "a_no_answer", "a_failure", "a_abandoned",
    "b_refused", "b_busy", "b_no_answer", "b_failure",
]  # fmt: skip


class NewOrigination(Body):
    """Who is to be connected with whom. A is one of your subscribers, by id or by number, and pays for both legs."""

    model_config = sample(a_number="+493023125017", b_number="+499998998042")

    subscriber_id: SubscriberId | None = None
    a_number: E164 | None = None
    b_number: E164

    @model_validator(mode="after")
    def _one_a(self) -> Self:
        if (self.subscriber_id is None) == (self.a_number is None):
            raise ValueError("should have either subscriber_id or a_number")
        return self


class Origination(Told):
    """A call by order. Each leg is a call of its own: see `a_call_id` and `b_call_id`."""

    origination_id: OriginationId
    subscriber_id: SubscriberId
    a_number: E164
    b_number: E164
    state: State = Field(description="`ended`: they talked; `failed`: they did not")
    reason: Reason | None = Field(description="Why it is over")
    refuse_reason: str | None = Field(
        description="Why a leg was not admitted", examples=["no_credit", "barred_destination"]
    )
    a_call_id: CallId | None
    b_call_id: CallId | None
    talk_ms: int | None = Field(description="Milliseconds that B was on the line")
    created_at: datetime
    connected_at: datetime | None
    ended_at: datetime | None


class HangingUp(Told):
    """The call as it was when its end was ordered."""

    call_id: CallId
    state: Literal["live", "refused", "answered", "unanswered", "failed"]


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "origination_id": show_id("org", row["origination_id"]),
        "subscriber_id": show_id("sub", row["subscriber_id"]),
        "a_number": row["a_number"],
        "b_number": row["b_number"],
        "state": row["state"],
        "reason": row["reason"],
        "refuse_reason": row["refuse_reason"],
        "a_call_id": show_id("call", row["leg_a_call_id"]) if row["leg_a_call_id"] else None,
        "b_call_id": show_id("call", row["leg_b_call_id"]) if row["leg_b_call_id"] else None,
        "talk_ms": row["talk_ms"],
        "created_at": show_at(row["made_at"]),
        "connected_at": show_at(row["connected_at"]),
        "ended_at": show_at(row["ended_at"]),
    }


async def order(
    desk: Desk, conn: Connection, payer: Mapping[str, Any], b_number: str, sink: Sink | None
) -> Any:
    """Write the order for a payer whom the asking partner may name.

    raises   Problem 422: B's number, or A's twice · 429: too many in flight · Conflict: A and B are being connected
    """
    settings = desk.services.settings
    try:
        number = orders.other_party(payer["a_number"], b_number, settings.calls.home_region)
    except SameNumber as error:
        raise Problem(422, str(error), code="same_number") from None
    if isinstance(number, Refuse):
        raise Problem(422, f"b_number: {number.detail}", code=number.reason.value)
    await desk.as_ours(conn)
    try:
        return await orders.add_origination(
            conn, settings.switch.name, payer["subscriber_id"], number, sink, settings.calls.originations_max
        )
    except TooManyOrders as error:
        headers = {"Retry-After": str(RETRY_S)}
        raise Problem(429, str(error), code="too_many_originations", headers=headers) from None


@originations.post(
    "",
    status_code=201,
    response_model=Origination,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Connect A with B",
)
async def create_origination(desk: Writer, body: NewOrigination) -> Response:
    async def work(conn: Connection) -> Made:
        payer = await orders.payer(conn, subscriber_id=body.subscriber_id, a_number=body.a_number)
        row = await order(desk, conn, payer, body.b_number, None)
        told = show(row)
        path = f"/v1/originations/{told['origination_id']}"
        return Made(told["origination_id"], told, row["partner_id"], location=path)

    return await desk.create("origination.create", body, work)


@originations.get("", response_model=Page[Origination], summary="Originations, newest first")
async def list_originations(desk: Reader, paging: Asked) -> Response:
    async with desk.reading() as conn:
        rows = await orders.originations(
            conn, paging.before, paging.rows, partner_id=desk.principal.partner_id
        )
    return desk.shown(page(rows, paging, "origination_id", show))


@originations.get(
    "/{origination_id}", response_model=Origination, responses=responses(404), summary="One origination"
)
async def read_origination(desk: Reader, origination_id: OriginationId) -> Response:
    async with desk.reading() as conn:
        row = await orders.origination(conn, origination_id)
    return desk.shown(show(row))


@originations.delete(
    "/{origination_id}",
    status_code=202,
    response_model=Origination,
    responses=responses(404),
    summary="Hang up both legs",
)
async def cancel_origination(desk: Writer, origination_id: OriginationId) -> Response:
    """May be asked again; one that is over stays as it is."""

    async def work(conn: Connection) -> Made:
        row = await orders.origination(conn, origination_id)
        await desk.as_ours(conn)
        await orders.cancel(conn, origination_id)
        told = show(await orders.origination(conn, origination_id))
        return Made(told["origination_id"], told, row["partner_id"])

    return await desk.act("origination.cancel", None, work, status=202)


@calls.delete(
    "/{call_id}",
    status_code=202,
    response_model=HangingUp,
    responses=responses(404),
    summary="Hang up a call",
)
async def hang_up_call(desk: Writer, call_id: CallId) -> Response:
    """Its end follows within a second, and it is billed like any other. May be asked again."""

    async def work(conn: Connection) -> Made:
        await desk.as_ours(conn)
        row = await orders.hang_up(conn, call_id, desk.principal.partner_id)
        told = {"call_id": show_id("call", call_id), "state": row["state"]}
        return Made(told["call_id"], told, row["partner_id"])

    return await desk.act("call.hang_up", None, work, status=202)


router = APIRouter()
router.include_router(originations)
router.include_router(calls)
