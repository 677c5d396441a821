"""Members of a rollout and their invitations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Path, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import (
    AN_ID,
    E164,
    Body,
    CallId,
    InviteId,
    PartnerId,
    RolloutId,
    SubscriberId,
    Told,
    WindowId,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.rollout_waves import Platform
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners.store import subscriber
from bridge.rollout import store
from bridge.rollout.invite import NotInvited

router = routes("rollouts", "/v1/rollouts/{rollout_id}")
Reader = Annotated[Desk, Depends(Needs("rollouts:read"))]
Writer = Annotated[Desk, Depends(Needs("rollouts:write"))]

MemberId = Annotated[SubscriberId, Path(description="The subscriber")]
State = Literal["waiting", "keyed", "activated", "removed"]
InviteState = Literal["open", "used", "ended", "expired"]
WHY: Final = {
    "no_rollout": "This subscriber does not wait in the rollout, or the inviter may not call.",
    "no_window": "No window is open.",
    "quota": "The window is full.",
    "not_enabled": "The inviter may not call yet.",
    "self": "One cannot invite oneself.",
    "enabled": "Whose number this is may call already.",
    "loop": "The inviter was brought in by whom this would bring in.",
    "limit": "The inviter has brought in as many as may be.",
    "depth": "The chain would be longer than it may be.",
    "wave": "No wave serves this subscriber now.",
    "unknown": "There is no such invitation for this subscriber's number.",
    "used": "The invitation was used.",
    "expired": "The invitation is no longer good.",
}


class NewMember(Body):
    """A subscriber who is to wait, and on which platform. For one who waits already, the platform changes."""

    model_config = sample(subscriber_id=AN_ID["sub"], platform="ios")

    subscriber_id: SubscriberId
    platform: Platform | None = None


class Member(Told):
    """A subscriber in a rollout. keyed: brought in, but a server key is withheld. place: order of the waiting list."""

    subscriber_id: SubscriberId
    partner_id: PartnerId | None
    a_number: str
    state: State
    country: str | None
    platform: str | None
    place: int
    inviter_id: SubscriberId | None = Field(description="null: by hand, or by somebody of another partner")
    depth: int
    call_id: CallId | None
    invite_id: InviteId | None
    window_id: WindowId | None
    waiting_at: datetime
    keyed_at: datetime | None
    activated_at: datetime | None


class NewInvite(Body):
    """A subscriber who can call invites whoever has a number."""

    model_config = sample(inviter_id=AN_ID["sub"], number="+493023125017")

    inviter_id: SubscriberId
    number: E164


class Invite(Told):
    """ended: a newer one of the same inviter for the number replaced it. expired: its time, or its window, is over."""

    invite_id: InviteId
    inviter_id: SubscriberId
    number: str
    window_id: WindowId
    state: InviteState
    made_at: datetime
    expires_at: datetime
    used_by: SubscriberId | None


class ToldInvite(Invite):
    code: str | None = Field(None, description="Told once: for whoever is invited. Not kept with the answer")


class Acceptance(Body):
    model_config = sample(subscriber_id=AN_ID["sub"], code="xKq2mPz7RtW1yB5nVd8LcA")

    subscriber_id: SubscriberId
    code: str = Field(min_length=1, max_length=64)


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    def named(kind: str, name: str) -> str | None:
        return show_id(kind, row[name]) if row[name] else None

    return {
        "subscriber_id": named("sub", "subscriber_id"),
        "partner_id": named("prt", "partner_id"),
        **{name: row[name] for name in ("a_number", "state", "country", "platform", "place")},
        "inviter_id": named("sub", "inviter_id"),
        "depth": row["depth"],
        "call_id": named("call", "call_id") if row["inviter_id"] else None,
        "invite_id": named("ivt", "invite_id") if row["inviter_id"] else None,
        "window_id": named("win", "window_id"),
        **{name: show_at(row[name]) for name in ("waiting_at", "keyed_at", "activated_at")},
    }


def show_invite(row: Mapping[str, Any]) -> dict[str, Any]:
    over = row["expires_at"] <= datetime.now(UTC) or row["window_state"] == "closed"
    state = "used" if row["used_by"] else "ended" if row["ended_at"] else "expired" if over else "open"
    return {
        "invite_id": show_id("ivt", row["invite_id"]),
        "inviter_id": show_id("sub", row["inviter_id"]),
        "number": row["number"],
        "window_id": show_id("win", row["window_id"]),
        "state": state,
        "made_at": show_at(row["made_at"]),
        "expires_at": show_at(row["expires_at"]),
        "used_by": show_id("sub", row["used_by"]) if row["used_by"] else None,
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    path = f"/v1/rollouts/{show_id('rol', row['rollout_id'])}/members/{told['subscriber_id']}"
    return Made(told["subscriber_id"], told, row["partner_id"], location=path)


async def _of_the_app(conn: Connection, rollout: Mapping[str, Any], subscriber_id: Any) -> Mapping[str, Any]:
    """A subscriber whoever asks may see. raises NotFound · Problem 409: of another app"""
    found = await subscriber(conn, subscriber_id)
    if found["app"] != rollout["app"]:
        raise Problem(409, f"The rollout is of {rollout['app']}, the subscriber of another app.")
    return found


@router.get(
    "/members",
    response_model=Page[Member],
    responses=responses(404),
    summary="Members of a rollout, newest subscribers first",
)
async def list_members(
    desk: Reader, rollout_id: RolloutId, paging: Asked, state: Annotated[State | None, Query()] = None
) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        rows = await store.members(
            conn, rollout_id, paging.before, paging.rows, partner_id=desk.principal.partner_id, state=state
        )
    return desk.shown(page(rows, paging, "subscriber_id", show))


@router.post(
    "/members",
    status_code=201,
    response_model=Member,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Put a subscriber on the waiting list",
)
async def create_member(desk: Writer, rollout_id: RolloutId, body: NewMember) -> Response:
    async def work(conn: Connection) -> Made:
        rollout = await store.rollout(conn, rollout_id)
        found = await _of_the_app(conn, rollout, body.subscriber_id)
        if found["state"] != "active" or rollout["state"] in ("launched", "killed"):
            raise Problem(409, "The subscriber is not active, or the rollout is over.")
        await desk.as_ours(conn)
        said = await store.enrol(
            conn, body.subscriber_id, datetime.now(UTC), platform=body.platform, cause="operator",
            actor=desk.principal.actor,
        )  # fmt: skip
        if said == "allowed":
            raise Problem(409, "The subscriber may call already.", code="enabled")
        return _made(await store.member(conn, rollout_id, body.subscriber_id))

    return await desk.create("member.create", body, work)


@router.get("/members/{member_id}", response_model=Member, responses=responses(404), summary="One member")
async def read_member(desk: Reader, rollout_id: RolloutId, member_id: MemberId) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        row = await store.member(conn, rollout_id, member_id)
    return desk.shown(show(row))


@router.post(
    "/members/{member_id}/activate",
    response_model=Member,
    responses=responses(404, 409),
    summary="Activate by hand, outside of windows and quotas: the first who may call",
)
async def activate_member(desk: Writer, rollout_id: RolloutId, member_id: MemberId) -> Response:
    async def work(conn: Connection) -> Made:
        await store.rollout(conn, rollout_id)
        await store.member(conn, rollout_id, member_id)
        await desk.as_ours(conn)
        done = await store.seed(conn, rollout_id, member_id, desk.principal.actor, datetime.now(UTC))
        row = await store.member(conn, rollout_id, member_id)
        if not done and row["state"] != "activated":
            raise Problem(409, "The member does not wait, is not active, or the rollout is over.")
        return _made(row)

    return await desk.act("member.activate", None, work)


@router.post(
    "/members/{member_id}/remove",
    response_model=Member,
    responses=responses(404),
    summary="Take a member out, who may not call then",
)
async def remove_member(desk: Writer, rollout_id: RolloutId, member_id: MemberId) -> Response:
    async def work(conn: Connection) -> Made:
        await store.rollout(conn, rollout_id)
        await store.member(conn, rollout_id, member_id)
        await desk.as_ours(conn)
        await store.remove(conn, rollout_id, member_id, desk.principal.actor, datetime.now(UTC))
        return _made(await store.member(conn, rollout_id, member_id))

    return await desk.act("member.remove", None, work)


@router.get(
    "/invites",
    response_model=Page[Invite],
    responses=responses(404),
    summary="Invitations, newest first",
)
async def list_invites(desk: Reader, rollout_id: RolloutId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        rows = await store.invites(
            conn, rollout_id, paging.before, paging.rows, partner_id=desk.principal.partner_id
        )
    return desk.shown(page(rows, paging, "invite_id", show_invite))


@router.post(
    "/invites",
    status_code=201,
    response_model=ToldInvite,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Invite a number for a subscriber who may call",
)
async def create_invite(desk: Writer, rollout_id: RolloutId, body: NewInvite) -> Response:
    async def work(conn: Connection) -> Made:
        rollout = await store.rollout(conn, rollout_id)
        owner = await _of_the_app(conn, rollout, body.inviter_id)
        if rollout["state"] == "killed":
            raise Problem(409, "The rollout is killed.")
        await desk.as_ours(conn)
        made = await store.invite(conn, body.inviter_id, body.number, datetime.now(UTC))
        if isinstance(made, NotInvited):
            raise Problem(409, WHY[made.reason], code=made.reason)
        told = show_invite(await store.invite_by_key(conn, rollout_id, made.invite_id))
        path = f"/v1/rollouts/{show_id('rol', rollout_id)}/invites/{told['invite_id']}"
        once = {"code": made.code}
        return Made(told["invite_id"], told, owner["partner_id"], location=path, once=once)

    return await desk.create("invite.create", body, work)


@router.get("/invites/{invite_id}", response_model=Invite, responses=responses(404), summary="One invitation")
async def read_invite(desk: Reader, rollout_id: RolloutId, invite_id: InviteId) -> Response:
    async with desk.reading() as conn:
        await store.rollout(conn, rollout_id)
        row = await store.invite_by_key(conn, rollout_id, invite_id)
    return desk.shown(show_invite(row))


@router.post(
    "/invites/accept",
    response_model=Member,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Take up an invitation for a subscriber whose number was invited",
)
async def accept_invite(desk: Writer, rollout_id: RolloutId, body: Acceptance) -> Response:
    async def work(conn: Connection) -> Made:
        rollout = await store.rollout(conn, rollout_id)
        await _of_the_app(conn, rollout, body.subscriber_id)
        await desk.as_ours(conn)
        said = await store.accept(conn, body.subscriber_id, body.code, datetime.now(UTC))
        if said not in ("activated", "keyed"):
            raise Problem(409, WHY[said], code=said)
        return _made(await store.member(conn, rollout_id, body.subscriber_id))

    return await desk.act("invite.accept", None, work)
