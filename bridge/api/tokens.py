"""Access tokens of OAuth2 client credentials."""

from __future__ import annotations

from bridge.api.auth import Principal, not_authenticated
from bridge.database import Connection


def is_token(credentials: str) -> bool:
    """Three parts, as a JWS in compact form has (RFC 7515)."""
    return credentials.count(".") == 2


async def check_token(conn: Connection, token: str) -> Principal:
    """Whose token it is.

    raises   Problem 401
    """
    del conn, token
    raise not_authenticated()
