"""Members of a rollout: who waits, who was brought in by whom, and where one stands.

Nothing here asks for a transaction of more than its one statement, but for being committed.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final, get_args
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rollout.invite import (
    Brought,
    Invited,
    NotInvited,
    Standing,
    Unwilling,
    is_code,
    why_no_invites,
)
from bridge.rollout.place import country_of

BRIDGE: Final = "callbridge"  # as actor: nobody in particular
_CODE_BYTES: Final = 16
_UNWILLING: Final = frozenset(get_args(Unwilling))


async def called(
    conn: Connection, caller_id: UUID, callee_id: UUID, call_id: UUID | None, at: datetime
) -> Brought:
    """Somebody calls a subscriber of the same app: that may enable the callee. As ours.

    To be asked before anything of the call is written, in a statement of its own: it may wait for the rollout's lock.
    """
    said: Brought = await queries.members.called.value(
        conn, caller_id=caller_id, callee_id=callee_id, call_id=call_id, at=at
    )
    return said


async def would_call(conn: Connection, caller_id: UUID, callee_id: UUID, at: datetime) -> Brought:
    """What `called` would say now. As ours."""
    said: Brought = await queries.members.would_call.value(
        conn, caller_id=caller_id, callee_id=callee_id, at=at
    )
    return said


async def enrol(
    conn: Connection,
    subscriber_id: UUID,
    at: datetime,
    *,
    platform: str | None = None,
    cause: str = "sign_up",
    actor: str = BRIDGE,
) -> str:
    """A subscriber whose number is proved: may call at once, or waits where the app has a rollout. As ours.

    returns  allowed · waiting · member: was one before; who was removed waits again, at the end
    raises   NotFound
    """
    a_number = await queries.members.a_number.value(conn, subscriber_id=subscriber_id)
    if a_number is None:
        raise NotFound("There is no such subscriber.")
    said: str = await queries.members.enrol.value(
        conn, subscriber_id=subscriber_id, country=country_of(a_number), platform=platform, cause=cause, actor=actor,
        at=at,
    )  # fmt: skip
    return said


async def leave(conn: Connection, subscriber_id: UUID, at: datetime) -> None:
    """The subscriber is closed. As ours."""
    await queries.members.leave.all(conn, subscriber_id=subscriber_id, at=at)


async def seed(conn: Connection, rollout_id: UUID, subscriber_id: UUID, actor: str, at: datetime) -> bool:
    """Activate by hand, outside of windows and quotas. False: nobody who waits."""
    done: bool = await queries.members.seed.value(
        conn, rollout_id=rollout_id, subscriber_id=subscriber_id, actor=actor, at=at
    )
    return done


async def remove(conn: Connection, rollout_id: UUID, subscriber_id: UUID, actor: str, at: datetime) -> bool:
    """Take out of the rollout: may not call any more. False: was out."""
    done: bool = await queries.members.remove.value(
        conn, rollout_id=rollout_id, subscriber_id=subscriber_id, cause="operator", actor=actor, at=at
    )
    return done


async def invite(conn: Connection, inviter_id: UUID, number: str, at: datetime) -> Invited | NotInvited:
    """Invite whoever has a number. A second invitation of the same number replaces the first. As ours.

    number   E.164
    """
    code = secrets.token_urlsafe(_CODE_BYTES)
    row = await queries.members.invite.one(
        conn, inviter_id=inviter_id, number=number, hash=_digest(code), at=at
    )
    if row["said"] != "ok":
        assert row["said"] in _UNWILLING
        return NotInvited(row["said"])
    return Invited(row["invite_id"], code, row["expires_at"])


async def accept(conn: Connection, subscriber_id: UUID, code: str, at: datetime) -> Brought:
    """Take up an invitation: `activated` or `keyed`, or why not. As ours."""
    if not is_code(code):
        return "unknown"
    said: Brought = await queries.members.accept.value(
        conn, subscriber_id=subscriber_id, hash=_digest(code), at=at
    )
    return said


async def standing(conn: Connection, subscriber_id: UUID, at: datetime) -> Standing:
    """Where one stands. As ours.

    raises   NotFound
    """
    row = await queries.members.standing.one(conn, subscriber_id=subscriber_id, at=at)
    if row is None:
        raise NotFound("There is no such subscriber.")
    limit = row["invite_limit"]
    left = None if limit is None else max(limit - row["brought"], 0)
    may_call = row["subscriber_state"] == "active" and (row["allowed"] or row["launched"])
    window_open = row["window_id"] is not None
    why_not = why_no_invites(
        rollout=row["state"], may_call=may_call, window_open=window_open, invites_left=left, depth=row["depth"],
        depth_max=row["depth_max"],
    )  # fmt: skip
    return Standing(
        may_call=may_call,
        waits=row["member_state"],
        place=None if row["ahead"] is None else row["ahead"] + 1,
        may_invite=why_not is None,
        why_not=why_not,
        invites_left=left,
        window_open=window_open,
        open_until=row["closes_at"],
        quota_left=row["quota_left"],
        opens_at=None if window_open else row["opens_at"],
    )


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
