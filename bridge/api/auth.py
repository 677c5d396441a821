"""API keys: `cb_` + 8 characters that name the key + 32 random bytes. Only the SHA-256 of the whole is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.api.problems import Problem
from bridge.database import Connection

_HEAD: Final = "cb_"
_PREFIX_CHARS: Final = len(_HEAD) + 8
OPERATORS: Final = UUID(int=0)  # who owns what operators ask for with an idempotency key

# What a key may be for. A partner's key has some of these, an operator's may have all of them (`*`).
RESOURCES: Final = (
    "partners",
    "deals",
    "trunks",
    "decks",
    "plans",
    "subscribers",
    "numbers",
    "accounts",
    "calls",
    "cdrs",
    "usage",
    "quotes",
    "webhooks",
    "events",
    "apps",
    "rollouts",
    "messages",
    "exports",
    "statements",
    "invoices",
    "disputes",
    "keys",
    "audit",
)
SCOPES: Final = (
    *(f"{name}:{deed}" for name in RESOURCES for deed in ("read", "write")),
    *(f"click-to-dial:calls:{deed}" for deed in ("create", "read", "delete")),
    "click-to-dial:recordings:read",
)
ALL: Final = "*"
# What partners may not do at all, whatever their key says.
OPERATORS_ONLY: Final = frozenset(
    {"apps:write", "deals:write", "invoices:write", "partners:write", "statements:write"}
)


def givable(partner_id: UUID | None) -> Sequence[str]:
    """The scopes that a key of a partner may have; None: of an operator."""
    return (ALL, *(one for one in SCOPES if partner_id is None or one not in OPERATORS_ONLY))


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    partner_id   None: an operator
    actor        what the audit log calls them: the key's name and prefix
    """

    key_id: UUID
    partner_id: UUID | None
    actor: str
    scopes: frozenset[str]

    @property
    def operator(self) -> bool:
        return self.partner_id is None

    @property
    def owner_id(self) -> UUID:
        """Whose idempotency keys and rate limits these are."""
        return self.partner_id or OPERATORS

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ALL in self.scopes


def not_authenticated() -> Problem:
    """No key, or one that is unknown, expired or revoked; which of these is not told."""
    return Problem(
        401, "Send a valid key as `Authorization: Bearer cb_…`, or an access token of POST /oauth2/token."
    )


async def issue_key(
    conn: Connection,
    name: str,
    expires_at: datetime | None = None,
    *,
    partner_id: UUID | None = None,
    scopes: Iterable[str] = (ALL,),
    kind: str = "key",
) -> tuple[UUID, str]:
    """The id of a new key, and the key, which can be shown now and never again.

    kind   key: it is sent with every request · client: it is the secret of an OAuth2 client, whose id is its prefix
    """
    key = f"{_HEAD}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    key_id: UUID = await queries.access.add_key.value(
        conn,
        name=name,
        prefix=prefix_of(key),
        hash=digest(key),
        expires_at=expires_at,
        partner_id=partner_id,
        scopes=list(scopes),
        kind=kind,
    )
    return key_id, key


async def create_key(conn: Connection, name: str, expires_at: datetime | None = None, **more: Any) -> str:
    """Like `issue_key`; only the key."""
    return (await issue_key(conn, name, expires_at, **more))[1]


def prefix_of(key: str) -> str:
    """What may be shown of a key."""
    return key[:_PREFIX_CHARS]


async def check_key(conn: Connection, key: str, kind: str = "key") -> Principal:
    """Who holds a valid key.

    raises   Problem 401
    """
    row = None
    if key.isascii() and key.isprintable() and len(key) <= 100:
        row = await queries.access.find_key.one(conn, prefix=key[:_PREFIX_CHARS])
    known = row["hash"] if row is not None and row["hash"] is not None else bytes(32)
    if not hmac.compare_digest(known, digest(key)) or row is None or row["kind"] != kind:
        raise not_authenticated()
    return Principal(
        row["api_key_id"], row["partner_id"], f"{row['name']} {key[:_PREFIX_CHARS]}", frozenset(row["scopes"])
    )


async def enter_with_key(conn: Connection, key: str, role: str) -> Principal | None:
    """Like `check_key`, and from here on the connection is theirs: a partner's in `role`, an operator's as ours.

    Returns None, and leaves the connection as it is, where the key is not valid.
    """
    if not (key.isascii() and key.isprintable() and len(key) <= 100):
        return None
    row = await queries.access.enter_with_key.one(
        conn, prefix=key[:_PREFIX_CHARS], hash=digest(key), role=role
    )
    if row is None:
        return None
    return Principal(
        row["api_key_id"], row["partner_id"], f"{row['name']} {key[:_PREFIX_CHARS]}", frozenset(row["scopes"])
    )


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
