"""Links that make a browser a subscriber's phone, and sessions. Of their tokens only digests are kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound

LINKS_MAX: Final = 5  # of one subscriber that wait to be used; the oldest goes
SESSIONS_MAX: Final = 10  # of one subscriber; the oldest ends
_TOKEN_BYTES: Final = 32
_TOKEN_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Secret:
    """A token that can be told now and never again, and until when it is good."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PhoneSession:
    """Whose browser asks."""

    subscriber_id: UUID
    expires_at: datetime
    hash: bytes


async def add_link(conn: Connection, subscriber_id: UUID, lasts_s: int) -> Secret:
    """A token that signs in once. As ours.

    raises   Conflict: the subscriber is not active
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    expires_at = await queries.phone.add_link.value(
        conn, subscriber_id=subscriber_id, hash=_digest(token), lasts_s=lasts_s, most=LINKS_MAX
    )
    if expires_at is None:
        raise Conflict("Only an active subscriber can sign in.")
    return Secret(token, expires_at)


async def sign_in(conn: Connection, token: str, lasts_s: int) -> Secret | None:
    """A link's token for a session's, once. As ours. None: no link, used, or its time is over; which is not told."""
    if not _plausible(token):
        return None
    session = secrets.token_urlsafe(_TOKEN_BYTES)
    expires_at = await queries.phone.sign_in.value(
        conn,
        link_hash=_digest(token),
        session_hash=_digest(session),
        lasts_s=lasts_s,
        most=SESSIONS_MAX,
    )
    return None if expires_at is None else Secret(session, expires_at)


async def enter_with_session(conn: Connection, token: str) -> PhoneSession | None:
    """Whose session this is; from here on the connection is ours. None where it is nobody's: nothing has changed."""
    if not _plausible(token):
        return None
    hashed = _digest(token)
    row = await queries.phone.enter.one(conn, hash=hashed)
    return None if row is None else PhoneSession(row["subscriber_id"], row["expires_at"], hashed)


async def enter_as_ours(conn: Connection) -> None:
    """For signing in, where nobody is known yet."""
    await queries.phone.ours.run(conn)


async def sign_out(conn: Connection, session: PhoneSession) -> None:
    await queries.phone.sign_out.run(conn, hash=session.hash)


async def subscriber_by_number(conn: Connection, a_number: str, app: str | None) -> UUID:
    """Whose number this is. raises   NotFound: nobody's, or of several apps and none was named"""
    rows = await queries.phone.subscribers_of.all(conn, a_number=a_number, app=app)
    if len(rows) > 1:
        apps = ", ".join(row["app"] for row in rows)
        raise NotFound(f"the number has subscribers in several apps ({apps}): name one with --app")
    if not rows:
        raise NotFound("nobody has this number")
    found: UUID = rows[0]["subscriber_id"]
    return found


def _plausible(token: str) -> bool:
    return token.isascii() and token.isprintable() and len(token) <= _TOKEN_CHARS_MAX


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
