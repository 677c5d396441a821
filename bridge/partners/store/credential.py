"""What app users' phones register with at the switch: short-lived, told once, kept as the digest the switch needs."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.partners.store.account import Row
from bridge.telephony.endpoint import endpoint_name

REALM: Final = "callbridge"  # pjsip.conf's default_realm, so that a user who does not exist is asked the same
CONTACTS_MAX: Final = 3
Media = Literal["webrtc", "rtp"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A new one. `password` is nowhere else."""

    credential_id: UUID
    subscriber_id: UUID
    username: str
    password: str = field(repr=False)
    realm: str
    media: Media
    created_at: datetime
    expires_at: datetime


async def add_credential(
    conn: Connection,
    subscriber_id: UUID,
    lasts_s: int,
    *,
    contacts_max: int = CONTACTS_MAX,
    media: Media = "webrtc",
) -> Credential:
    """A credential for a subscriber's phone. As ours, in a transaction.

    lasts_s       so long it is good for registering and calling
    contacts_max  so many phones may be registered and so many credentials be good at a time; the oldest goes
    media         what the user's phones speak from now on: as a browser does, or plain RTP
    raises        NotFound · Conflict: the subscriber is not active
    """
    state = await queries.credentials.lock_subscriber.value(conn, subscriber_id=subscriber_id)
    if state is None:
        raise NotFound("There is no such subscriber.")
    if state != "active":
        raise Conflict("The subscriber is not active.")
    username, password = endpoint_name(subscriber_id), secrets.token_urlsafe(24)
    digest = hashlib.md5(f"{username}:{REALM}:{password}".encode(), usedforsecurity=False).hexdigest()
    row = await queries.credentials.add.one(
        conn,
        subscriber_id=subscriber_id,
        realm=REALM,
        digest=digest,
        media=media,
        contacts_max=contacts_max,
        lasts_s=lasts_s,
    )
    await queries.credentials.app_has_phones.run(conn, subscriber_id=subscriber_id)
    await queries.credentials.end_oldest.run(conn, subscriber_id=subscriber_id, contacts_max=contacts_max)
    return Credential(
        row["credential_id"],
        subscriber_id,
        username,
        password,
        REALM,
        media,
        row["created_at"],
        row["expires_at"],
    )


async def credentials(conn: Connection, subscriber_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, without what makes them work."""
    return list(
        await queries.credentials.credentials.all(conn, subscriber_id=subscriber_id, before=before, rows=rows)
    )


async def credential(conn: Connection, subscriber_id: UUID, credential_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.credentials.credential.one(
        conn, subscriber_id=subscriber_id, credential_id=credential_id
    )
    if row is None:
        raise NotFound("There is no such credential of this subscriber.")
    return row


async def end_credential(conn: Connection, credential_id: UUID) -> None:
    """From now on nobody registers or calls with it. Where it was the last, the user is no longer reached. As ours."""
    await queries.credentials.end.run(conn, credential_id=credential_id)
