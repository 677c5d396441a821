"""What a call would cost, and over which trunks it would go. Nothing is made, held or kept by asking.

A partner learns what its subscribers pay. What other carriers charge, and who they are, is for operators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import Field, model_validator

from bridge.api.desk import Desk, Needs
from bridge.api.fields import (
    AN_ID,
    E164,
    Body,
    Instant,
    Line,
    PlanId,
    SubscriberId,
    Told,
    TrunkId,
    sample,
    show_at,
    show_id,
)
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.api.services import Services
from bridge.calls.book import Book, load_book_for
from bridge.calls.on_net import would_ring
from bridge.calls.quote import anybody, caller_by_id, quote_on
from bridge.calls.route_check import Tried, check_named, live_calls, trunks_of, try_routes
from bridge.calls.store import Caller
from bridge.database import Connection
from bridge.errors import NotFound, StoreUnavailable
from bridge.routing.plan import LeftOut, Route
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.money import format_micro
from bridge.telephony.number import Number, is_emergency, parse_dialled

Reader = Annotated[Desk, Depends(Needs("quotes:read"))]
ANSWERS: Final = responses(404, 413, 415, 422)
# What a partner may know of why its own trunk is left out: the figures in these words are ours.
_COARSE: Final = {"margin": "leaves too little margin", "buys in": "charges in a currency without a rate"}


class RouteQuestion(Body):
    """A call that somebody might make. Of a subscriber, or of anybody with a plan."""

    model_config = sample(plan_id=AN_ID["plan"], dialled="+499998998042")

    subscriber_id: SubscriberId | None = None
    plan_id: PlanId | None = Field(None, description="Instead of the subscriber's own, where both are named")
    caller: E164 | None = Field(None, description="Who calls, where no subscriber is named")
    dialled: Annotated[Line, Field(min_length=1, max_length=40, examples=["+493023125000"])]
    at: Instant | None = Field(None, description="When it is answered; now, unless given")

    @model_validator(mode="after")
    def _of_somebody(self) -> Self:
        if self.subscriber_id is None and self.plan_id is None:
            raise ValueError("name subscriber_id or plan_id")
        if self.subscriber_id is not None and self.caller is not None:
            raise ValueError("a subscriber has a number of their own: leave caller out")
        return self


class QuoteQuestion(RouteQuestion):
    """A call of so many seconds."""

    model_config = sample(plan_id=AN_ID["plan"], dialled="+499998998042", seconds=180)

    seconds: int = Field(180, ge=1, le=86_400)


class QuotedBurn(Told):
    """Units of a bundle that would pay."""

    bundle: str
    units: int
    pays_for_s: int


class QuotedRoute(Told):
    """What a route would cost us."""

    trunk: str
    carrier: str
    prefix: str
    cost: str
    currency: str
    margin: str
    why: str


class Quote(Told):
    """What the call would cost. Of a refused one only the first five are known. Routes are for operators."""

    verdict: Literal["admitted", "refused", "emergency"]
    number: str | None = Field(description="As E.164; null where what was dialled is none")
    at: datetime
    seconds: int
    reason: RefuseReason | None = None
    detail: str | None = None
    lasts_s: int | None = Field(None, description="So long units and money would last")
    destination: str | None = None
    charge: str | None = None
    tax: str | None = Field(None, description="The part of the charge that is tax")
    currency: str | None = None
    free: str | None = Field(None, description="Why it costs nothing; null: it is not free")
    on_net: bool = Field(False, description="It rings another user of the app, over no carrier")
    bundles: list[QuotedBurn] = Field([])
    steps: list[str] = Field([], description="How the price comes about")
    first_hold: str | None = Field(None, description="What would be held at first")
    first_limit_s: int | None = None
    routes: list[QuotedRoute] = Field([])
    left_out: dict[str, str] = Field({})


class TriedRoute(Told):
    """One attempt. Nulls: another carrier's trunk, which a partner is not told."""

    place: int
    trunk_id: TrunkId | None
    trunk: str | None
    carrier: str | None
    prefix: str | None = None
    cost: str | None = Field(None, description="Of three minutes, in the carrier's currency")
    currency: str | None = None
    margin: str | None = None


class UnusedTrunk(Told):
    """A trunk that would not be tried, and why."""

    trunk_id: TrunkId
    trunk: str
    why: str


class OtherTrunks(Told):
    """How many trunks of other carriers there are, for partners."""

    tried: int
    left_out: int


class RouteAnswer(Told):
    """Where the call would go. refused: why it would not be made now; its routes may be told all the same."""

    verdict: Literal["admitted", "refused", "emergency"]
    number: str | None
    at: datetime
    reason: RefuseReason | None = None
    detail: str | None = None
    routes: list[TriedRoute]
    left_out: list[UnusedTrunk]
    others: OtherTrunks


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with all that its answer depends on. conn: the house's own by now."""

    conn: Connection
    book: Book
    payer: Caller
    number: Number | Refuse
    origins: tuple[str, ...]
    at: datetime


_quotes, _route_tests = routes("quotes"), routes("quotes", "/v1/route-tests")


@_quotes.post("", response_model=Quote, responses=ANSWERS, summary="What a call would cost")
async def quote_call(desk: Reader, body: QuoteQuestion) -> Response:
    async with _asked(desk, body) as asked:
        rules = desk.services.settings.calls
        rung = await would_ring(asked.conn, asked.book, asked.payer, asked.number, asked.at, asked.origins)
        priced = quote_on(
            asked.book, asked.payer, asked.number, rung, at=asked.at, seconds=body.seconds, rules=rules,
            origins=asked.origins,
        )  # fmt: skip
    told = _head(body, asked) | {"seconds": body.seconds}
    if told["verdict"] == "emergency":
        return desk.shown(told)
    priced["free"] = priced.get("free") or None
    if not desk.principal.operator:
        for ours in ("routes", "left_out"):
            priced.pop(ours, None)
        if priced.get("reason") == RefuseReason.no_route:
            priced["detail"] = None
    return desk.shown(told | priced)


@_route_tests.post("", response_model=RouteAnswer, responses=ANSWERS, summary="Where a call would go")
async def try_route(desk: Reader, body: RouteQuestion) -> Response:
    own: frozenset[str] | None = None  # None: all are told
    async with _asked(desk, body) as asked:
        partner_id = desk.principal.partner_id
        if partner_id is not None:
            own = await trunks_of(asked.conn, partner_id)
        tried = try_routes(
            asked.book,
            asked.payer,
            asked.number,
            live=await live_calls(asked.conn, asked.book),
            rules=desk.services.settings.calls,
            at=asked.at,
            origins=asked.origins,
        )
    told = _head(body, asked)
    if told["verdict"] == "emergency":
        return desk.shown(told | _show_tried(Tried(None, None), asked.book, own))
    return desk.shown(told | _show_tried(tried, asked.book, own))


router = APIRouter()
router.include_router(_quotes)
router.include_router(_route_tests)


@asynccontextmanager
async def _asked(desk: Desk, body: RouteQuestion) -> AsyncIterator[_Asked]:
    """raises   NotFound: another partner's subscriber or plan, or none"""
    rules = desk.services.settings.calls
    number = parse_dialled(body.dialled, home=rules.home_region)
    b_number = number if isinstance(number, Number) else None
    now = datetime.now(UTC)
    at = body.at or now
    async with desk.reading() as conn, conn.transaction(isolation="repeatable_read"):
        await check_named(conn, body.subscriber_id, body.plan_id)
        await desk.as_ours(conn)
        who, a_number = None, body.caller
        if body.subscriber_id is not None:
            e164 = b_number.e164 if b_number else None
            who, a_number = await caller_by_id(conn, body.subscriber_id, e164, at)
        plan_id = str(body.plan_id) if body.plan_id else who.plan_id if who else ""
        book = await book_for(desk.services, conn, b_number, at, now, plan_id)
        plan = book.plans.get(plan_id)
        if plan is None:
            raise NotFound("There is no such plan.")
        payer = replace(who, plan_id=plan_id) if who else anybody(plan)
        origins = book.origins.of(a_number.removeprefix("+")) if a_number else ()
        yield _Asked(conn, book, payer, number, tuple(origins), at)


async def book_for(
    services: Services, conn: Connection, number: Number | None, at: datetime, now: datetime, plan_id: str
) -> Book:
    """The worker's own, by which calls are made now, if it holds at that instant; else what this call needs of one."""
    with suppress(StoreUnavailable):
        book = services.books.current()
        if at >= now and plan_id in book.plans and (book.changes_at is None or at < book.changes_at):
            return book
    return await load_book_for(conn, at, number)


def _head(body: RouteQuestion, asked: _Asked) -> dict[str, Any]:
    number = asked.number.e164 if isinstance(asked.number, Number) else None
    told: dict[str, Any] = {"verdict": "admitted", "number": number, "at": show_at(asked.at)}
    if is_emergency(body.dialled):
        told |= {"verdict": "emergency", "detail": "Put through at once, free, and before every check."}
    return told


def _show_tried(tried: Tried, book: Book, own: frozenset[str] | None) -> dict[str, Any]:
    """own: of other trunks nothing is told but their number; None: everything is told"""
    refused, plan = tried.refused, tried.routes
    told: dict[str, Any] = {}
    if refused is not None:
        hidden = own is not None and refused.reason is RefuseReason.no_route
        detail = None if hidden else refused.detail
        told = {"verdict": "refused", "reason": refused.reason.value, "detail": detail}
    ids = {trunk.name: trunk.trunk_id for trunk in book.trunks}
    routes = plan.routes if plan else ()
    left_out = plan.left_out if plan else ()
    if own is None:
        others = {"tried": 0, "left_out": 0}
    else:
        others = {
            "tried": sum(route.trunk_id not in own for route in routes),
            "left_out": sum(ids[left.name] not in own for left in left_out),
        }
    return told | {
        "routes": [_show_route(place, route, own) for place, route in enumerate(routes, 1)],
        "left_out": [
            _show_unused(ids[left.name], left, coarse=own is not None)
            for left in left_out
            if own is None or ids[left.name] in own
        ],
        "others": others,
    }


def _show_route(place: int, route: Route, own: frozenset[str] | None) -> dict[str, Any]:
    trunk_id = show_id("trk", UUID(route.trunk_id))
    if own is not None:
        mine = route.trunk_id in own
        return {
            "place": place,
            "trunk_id": trunk_id if mine else None,
            "trunk": route.name if mine else None,
            "carrier": None,
        }
    return {
        "place": place,
        "trunk_id": trunk_id,
        "trunk": route.name,
        "carrier": route.carrier,
        "prefix": route.buy.rate.prefix,
        "cost": format_micro(route.cost_micro),
        "currency": route.buy.currency,
        "margin": format_micro(route.margin_micro),
    }


def _show_unused(trunk_id: str, left: LeftOut, *, coarse: bool) -> dict[str, Any]:
    why = left.why
    if coarse:
        why = next((said for begin, said in _COARSE.items() if why.startswith(begin)), why)
    return {"trunk_id": show_id("trk", UUID(trunk_id)), "trunk": left.name, "why": why}
