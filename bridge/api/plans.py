"""Plans: what subscribers pay by. A partner makes its own, of its own decks; what we earn at least is ours to say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Body, Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, etag, stale
from bridge.api.fields import PartnerId, PlanId, Told, sample, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import store as partners
from bridge.partners.deal import ON_NET, permits
from bridge.partners.store.deal import terms_in_force
from bridge.rating.plan_file import PlanFile
from bridge.rating.store.plan_list import plan_named, plans_page, plans_told, show_plan
from bridge.rating.store.plans import Owner, change_plan, create_plan

router = routes("plans")
Reader = Annotated[Desk, Depends(Needs("plans:read"))]
Writer = Annotated[Desk, Depends(Needs("plans:write"))]

_FLOOR: Final = "margin_floor"
_RATES_SHOWN: Final = 100
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "gold",
    "currency": "EUR",
    "time_zone": "Europe/Berlin",
    "tax": {"mode": "inclusive", "percent": "19"},
    "home": [
        {"destination": "Germany", "prefixes": ["49"], "a_minute": "0.09", "increment": "60/1"},
        {"destination": "Premium", "prefixes": ["49900"], "blocked": True},
    ],
    "service": [{"name": "sms", "price": "0.09"}],
    "bundle": [{"name": "hundred", "price": "5.00", "units": 100, "days": 30, "covers": {"voice": 60}}],
}


class NewPlan(PlanFile):
    """A plan to be, as its file says it, in JSON. Operators name the partner whose it is; null: ours."""

    model_config = sample(**_EXAMPLE)

    partner_id: PartnerId | None = None


class PlanLine(Told):
    """A plan in a list."""

    plan_id: PlanId
    partner_id: PartnerId | None
    name: str
    currency: str
    deck: str
    roaming_deck: str | None
    zero_rated: list[str]
    on_net_free: bool
    on_net_fallback: bool = Field(description="Whom of the app no phone reaches is called over a carrier")
    margin_floor: str | None = Field(None, description="For one minute. Operators are told")
    bundles: int = Field(description="On sale")
    subscribers: int


class PlanDeck(Told):
    """Prices and terms of one zone, by the keys of a plan's file. Rates: the first hundred; a deck has them all."""

    zone: str
    deck: str
    version: int
    side: str
    currency: str
    time_zone: str
    boundary: str
    rounding: str
    quantum: str
    tax: dict[str, str] | None
    holidays: list[str]
    bands: list[dict[str, Any]]
    rates: list[dict[str, Any]]


class PlanPart(Told):
    """What became of one part of the plan. done: created, changed, same, removed, off sale."""

    part: str
    done: str
    detail: str


class Plan(Told):
    """A plan with all that belongs to it. parts: what a change has done."""

    plan_id: PlanId
    partner_id: PartnerId | None
    name: str
    currency: str
    deck: str
    roaming_deck: str | None
    zero_rated: list[str]
    on_net_free: bool
    on_net_fallback: bool = Field(description="Whom of the app no phone reaches is called over a carrier")
    margin_floor: str | None = Field(None, description="For one minute. Operators are told")
    decks: list[PlanDeck]
    services: list[dict[str, Any]]
    bundles: list[dict[str, Any]]
    parts: list[PlanPart] = Field([])


def show(desk: Desk, row: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """row: the plan's ids. told: as the room tells it"""
    rest = {name: value for name, value in told.items() if name != "plan"}
    if not desk.principal.operator:
        del rest[_FLOOR]
    return {
        "plan_id": show_id("plan", row["plan_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "name": row["name"],
        **rest,
    }


@router.get("", response_model=Page[PlanLine], summary="Plans, newest first")
async def list_plans(
    desk: Reader, paging: Asked, partner_id: Annotated[PartnerId | None, Query()] = None
) -> Response:
    async with desk.reading() as conn, conn.transaction():
        rows = await plans_page(conn, paging.before, paging.rows, partner_id)
        await desk.as_ours(conn)
        told = await plans_told(conn, [row["plan_id"] for row in rows])
    return desk.shown(page(rows, paging, "plan_id", lambda row: show(desk, row, told[row["plan_id"]])))


@router.post(
    "",
    status_code=201,
    operation_id="create_plan",
    response_model=Plan,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a plan",
)
async def make_plan(desk: Writer, body: NewPlan) -> Response:
    partner_id = desk.partner_of(body.partner_id)
    owner = Owner(partner_id, asks=not desk.principal.operator)

    async def work(conn: Connection) -> Made:
        if partner_id is not None:
            await partners.partner(conn, partner_id)
        now = datetime.now(UTC)
        await _check_given_away(desk, conn, body, now)
        await desk.as_ours(conn)
        applied = await create_plan(conn, body, owner, author=desk.principal.actor, at=now)
        return await _made(desk, conn, applied.plan_id, now, applied.to_json()["parts"])

    return await desk.create("plan.create", body, work)


@router.get("/{plan_id}", response_model=Plan, responses=responses(404), summary="One plan")
async def read_plan(desk: Reader, plan_id: PlanId) -> Response:
    async with desk.reading() as conn, conn.transaction():
        row = await plan_named(conn, plan_id)
        await desk.as_ours(conn)
        told = await show_plan(conn, row["name"], datetime.now(UTC), _RATES_SHOWN)
    response = desk.shown(show(desk, row, told))
    # Its rates change with its decks and with time: the edition guards changes, and is no reason for a 304.
    response.headers["ETag"] = etag(row["edition"])
    return response


@router.put(
    "/{plan_id}",
    response_model=Plan,
    responses=responses(*BY_METHOD["PUT"]),
    summary="Make a plan what its file says",
)
async def put_plan(
    desk: Writer, plan_id: PlanId, body: Annotated[PlanFile, Body(examples=[_EXAMPLE])]
) -> Response:
    """What the file says no more is taken away; what was bought and called stays as it was."""

    async def work(conn: Connection, edition: int) -> Made:
        row = await plan_named(conn, plan_id)
        if body.name != row["name"]:
            raise _wrong("#/name", f"The plan is called {row['name']}. Make a new one for another name.")
        now = datetime.now(UTC)
        await _check_given_away(desk, conn, body, now)
        await desk.as_ours(conn)
        owner = Owner(row["partner_id"], asks=not desk.principal.operator)
        applied = await change_plan(conn, body, owner, edition, author=desk.principal.actor, at=now)
        if applied is None:
            raise stale()
        return await _made(desk, conn, plan_id, now, applied.to_json()["parts"])

    return await desk.change("plan.change", body, work)


async def _check_given_away(desk: Desk, conn: Connection, plan: PlanFile, at: datetime) -> None:
    """A partner sets no margin floor, and gives away only what a deal in force says that it pays for.

    raises   Problem 422
    """
    partner_id = desk.principal.partner_id
    if partner_id is None:
        return
    if "margin_floor_micro" in plan.model_fields_set:
        raise _wrong(f"#/{_FLOOR}", "The margin floor is set by operators. Leave it out.")
    agreed = await terms_in_force(conn, partner_id, at)
    unpaid = permits(agreed, plan.zero_rated, on_net_free=plan.on_net_free)
    if unpaid is not None:
        pointer = "#/on_net_free" if unpaid == ON_NET else f"#/zero_rated/{plan.zero_rated.index(unpaid)}"
        raise _wrong(pointer, f"No deal in force zero-rates {unpaid}.")


async def _made(desk: Desk, conn: Connection, plan_id: UUID, at: datetime, parts: list[Any]) -> Made:
    row = await plan_named(conn, plan_id)
    told = show(desk, row, await show_plan(conn, row["name"], at, _RATES_SHOWN)) | {"parts": parts}
    shown = told["plan_id"]
    return Made(shown, told, row["partner_id"], row["edition"], f"/v1/plans/{shown}")


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem(422, detail, errors=[{"pointer": pointer, "detail": detail}])
