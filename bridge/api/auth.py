"""API keys: `cb_` + 8 characters that name the key + 32 random bytes. Only the SHA-256 of the whole is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

from bridge import queries
from bridge.database import Connection
from bridge.errors import BridgeError

_HEAD = "cb_"
_PREFIX_CHARS = len(_HEAD) + 8


class NotAuthenticated(BridgeError):
    """No key, or one that is unknown, expired or revoked; which of these is not told."""


async def create_key(conn: Connection, name: str, expires_at: datetime | None = None) -> str:
    """A new key. It can be shown now and never again."""
    key = f"{_HEAD}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    await queries.access.add_key.run(
        conn, name=name, prefix=key[:_PREFIX_CHARS], hash=_digest(key), expires_at=expires_at
    )
    return key


async def check_key(conn: Connection, key: str) -> str:
    """The name of a valid key.

    raises   NotAuthenticated
    """
    row = None
    if key.isascii() and key.isprintable() and len(key) <= 100:
        row = await queries.access.find_key.one(conn, prefix=key[:_PREFIX_CHARS])
    if row is None or not hmac.compare_digest(row["hash"], _digest(key)):
        raise NotAuthenticated("Send a valid key as `Authorization: Bearer cb_…`.")
    return str(row["name"])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
