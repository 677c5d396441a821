"""Invitations on the phone: where I stand, how the window stands, whom I may bring in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, assert_never

from fastapi import Response
from pydantic import Field

from bridge.api.fields import E164, Body, show_at
from bridge.api.phone_desk import Signed, routes, told
from bridge.api.problems import Problem
from bridge.rollout.invite import NotInvited, Standing
from bridge.rollout.store import accept, invite, standing

router = routes()


class Invitation(Body):
    number: E164


class Acceptance(Body):
    code: str = Field(min_length=1, max_length=64)


@router.get("/invites")
async def read_invites(phone: Signed) -> Response:
    return told(_show(await standing(phone.conn, phone.subscriber_id, datetime.now(UTC))))


@router.post("/invites")
async def invite_somebody(phone: Signed, body: Invitation) -> Response:
    """The code is told once: whoever has the number enters it on their own phone."""
    async with phone.conn.transaction():
        made = await invite(phone.conn, phone.subscriber_id, body.number, datetime.now(UTC))
    if isinstance(made, NotInvited):
        raise Problem(409, "This invitation is not possible now.", code=made.reason)
    return told({"number": body.number, "code": made.code, "expires_at": show_at(made.expires_at)}, 201)


@router.post("/invites/accept")
async def accept_invitation(phone: Signed, body: Acceptance) -> Response:
    """Take up an invitation for one's own number. state: activated, or keyed where the network follows later."""
    async with phone.conn.transaction():
        came = await accept(phone.conn, phone.subscriber_id, body.code, datetime.now(UTC))
    match came:
        case "activated" | "keyed" | "enabled":
            return told({"state": came})
        case "unknown" | "used" | "expired":
            raise Problem(410, "This code is not good, or not for this number, or no longer.", code=came)
        case "no_window" | "quota" | "limit" | "depth" | "wave" | "loop" | "no_rollout":
            raise Problem(409, "This invitation cannot be taken up now.", code=came)
        case never:
            assert_never(never)


def standing_of(stands: Standing) -> Literal["enabled", "waiting", "keyed", "out"]:
    """In one word. out: neither enabled nor on the list."""
    if stands.may_call:
        return "enabled"
    return stands.waits if stands.waits in ("waiting", "keyed") else "out"


def _show(stands: Standing) -> dict[str, Any]:
    return {
        "standing": standing_of(stands),
        "place": stands.place,
        "may_invite": stands.may_invite,
        "why_not": stands.why_not,
        "left": stands.invites_left,
        "window": {
            "state": _window(stands),
            "closes_at": show_at(stands.open_until),
            "opens_at": show_at(stands.opens_at),
            "quota_left": stands.quota_left,
        },
    }


def _window(stands: Standing) -> Literal["open", "planned", "closed", "launched", "none"]:
    """How a subscriber is told that the window stands."""
    if stands.window_open:
        return "open"
    if stands.why_not == "no_rollout":
        return "none"
    if stands.why_not == "enabled":
        return "launched"
    return "planned" if stands.opens_at else "closed"
