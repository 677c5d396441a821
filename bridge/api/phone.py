"""The browser phone's own API: signing in and out, who I am, what a call would cost. Calls and invitations: phone_*."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote as quoted

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from bridge.api import phone_calls, phone_invites
from bridge.api.desk import turned_away
from bridge.api.fields import Body, Line, show_at, show_money
from bridge.api.phone_desk import Signed, not_signed_in, routes, told
from bridge.api.phone_invites import standing_of
from bridge.api.quotes import book_for
from bridge.api.services import Services
from bridge.calls.of_subscriber import bundles, me
from bridge.calls.offer import offer
from bridge.calls.on_net import would_ring
from bridge.calls.quote import caller_by_id
from bridge.config import Settings
from bridge.database import transaction
from bridge.partners.store import add_credential
from bridge.partners.store.phone import enter_as_ours, sign_in, sign_out
from bridge.rollout.store import standing
from bridge.telephony.number import Number, is_emergency, parse_dialled

_own = routes()

Dialled = Annotated[Line, Query(min_length=1, max_length=40)]


class Link(Body):
    """What a sign-in link has behind its #."""

    token: str = Field(min_length=1, max_length=100)


@_own.post("/session")
async def start_session(request: Request, body: Link) -> Response:
    """A link's token, good once, for a session's."""
    services: Services = request.app.state.services
    async with transaction(services.asking) as conn:
        await enter_as_ours(conn)
        made = await sign_in(conn, body.token, services.settings.web.session_s)
    if made is None:
        raise turned_away(request, services, not_signed_in())
    return told({"session": made.token, "expires_at": show_at(made.expires_at)}, 201)


@_own.delete("/session")
async def end_session(phone: Signed) -> Response:
    await sign_out(phone.conn, phone.session)
    return Response(status_code=204)


@_own.post("/credentials")
async def make_credentials(phone: Signed) -> Response:
    """What the phone registers with at the switch, good for a while: it asks again before that is over."""
    settings = phone.services.settings
    async with phone.conn.transaction():
        made = await add_credential(
            phone.conn,
            phone.subscriber_id,
            settings.users.credential_s,
            contacts_max=settings.users.contacts_max,
        )
    return told(
        {
            "username": made.username,
            "password": made.password,
            "realm": made.realm,
            "url": settings.phones_url,
            "expires_at": show_at(made.expires_at),
        },
        201,
    )


@_own.get("/me")
async def read_me(phone: Signed) -> Response:
    """enabled: may call the phone network. balance: what is there. available: what no call holds."""
    row = await me(phone.conn, phone.subscriber_id)
    units = await bundles(phone.conn, phone.subscriber_id)
    stands = await standing(phone.conn, phone.subscriber_id, datetime.now(UTC))
    return told(
        {
            "number": row["a_number"],
            "app": row["app"],
            "plan": row["plan"],
            "currency": row["currency"],
            "balance": show_money(row["balance_micro"]),
            "available": show_money(row["available_micro"]),
            "bundles": [
                {
                    "name": one["name"],
                    "units": one["units"],
                    "left_units": one["left_units"],
                    "unit_s": one["unit_s"],
                    "until": show_at(one["until_at"]),
                }
                for one in units
            ],
            "enabled": stands.may_call,
            "standing": standing_of(stands),
            "warnings": _warnings(row),
            "session_expires_at": show_at(phone.session.expires_at),
        }
    )


@_own.get("/quote")
async def quote(phone: Signed, to: Dialled) -> Response:
    """What a call to this number would cost now; or why it would be refused."""
    settings, conn = phone.services.settings, phone.conn
    number = parse_dialled(to, home=settings.calls.home_region)
    if is_emergency(to):
        return told({"verdict": "emergency", "number": to})
    known = number if isinstance(number, Number) else None
    now = datetime.now(UTC)
    who, a_number = await caller_by_id(conn, phone.subscriber_id, known.e164 if known else None, now)
    book = await book_for(phone.services, conn, known, now, now, who.plan_id)
    origins = tuple(book.origins.of(a_number.removeprefix("+")))
    rung = await would_ring(conn, book, who, number, now, origins)
    offered = offer(book, who, rung, number, at=now, rules=settings.calls, origins=origins)
    if offered["verdict"] == "refused":
        offered |= await phone_calls.why(phone, offered["reason"], offered["detail"])
    return told({"number": known.e164 if known else None, **offered})


def link_url(settings: Settings, token: str) -> str:
    """Where the page is, with the token behind a #: it is sent to no server, and is in no log."""
    page = settings.web.page_url or f"http://{settings.api.host}:{settings.api.port}/phone"
    return f"{page}#{quoted(token)}"


def _warnings(row: Mapping[str, Any]) -> list[str]:
    """What stands in the way of a call, or soon will."""
    low_micro = row["low_balance_micro"]
    found = {
        "account_suspended": row["account_state"] != "active",
        "no_credit": row["available_micro"] <= 0,
        "low_balance": 0 < row["available_micro"] < (low_micro or 0),
        "spend_cap": row["spend_left_micro"] is not None and row["spend_left_micro"] <= 0,
    }
    return [name for name, holds in found.items() if holds]


router = APIRouter()
router.include_router(_own)
router.include_router(phone_calls.router)
router.include_router(phone_invites.router)
