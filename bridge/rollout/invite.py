"""Invitations and where a subscriber stands: what may be said of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

# What came of bringing somebody in. enabled: was already · no_rollout: no member, or the inviter may not call ·
# unknown: there is no such invitation for this number.
Brought = Literal[
    "activated", "enabled", "keyed", "no_window", "quota", "limit", "depth", "wave", "loop", "no_rollout",
    "unknown", "used", "expired",
]  # fmt: skip
# Why there is no invitation. not_enabled: the inviter may not call yet · enabled: who is invited may call already.
Unwilling = Literal[
    "no_rollout", "no_window", "quota", "not_enabled", "self", "enabled", "loop", "limit", "depth"
]

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)  # 128 bits in base64


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation. code: told now and never again; only its hash is kept."""

    invite_id: UUID
    code: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NotInvited:
    """There is none."""

    reason: Unwilling


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a subscriber stands.

    may_call       the number is proved, and enabled or the app launched
    waits          as a member: waiting, keyed (nothing to be done but wait), activated, removed; None: no member
    place          on the waiting list, from 1; 10 001 is that or later; None: not on it
    may_invite     now
    why_not        why not, where not
    invites_left   None: no limit
    open_until     when the window closes by itself; None: by hand, or none is open: see window_open
    quota_left     activations the open window has left; None: no quota, or none is open
    opens_at       when the next window opens by itself, where none is open
    """

    may_call: bool
    waits: Literal["waiting", "keyed", "activated", "removed"] | None
    place: int | None
    may_invite: bool
    why_not: Unwilling | None
    invites_left: int | None
    window_open: bool
    open_until: datetime | None
    quota_left: int | None
    opens_at: datetime | None


def is_code(text: str) -> bool:
    """Whether it could be the code of an invitation."""
    return _CODE.fullmatch(text) is not None


def why_no_invites(
    *,
    rollout: str | None,
    may_call: bool,
    window_open: bool,
    invites_left: int | None,
    depth: int,
    depth_max: int | None,
) -> Unwilling | None:
    """Why one may invite nobody now, in the order in which the database refuses; None: one may.

    rollout   its state; None: there is none
    """
    if rollout is None:
        return "no_rollout"
    if rollout == "launched":
        return "enabled"
    if not may_call:
        return "not_enabled"
    if not window_open:
        return "no_window"
    if invites_left == 0:
        return "limit"
    if depth_max is not None and depth >= depth_max:
        return "depth"
    return None
