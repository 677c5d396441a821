"""Access tokens of OAuth2 client credentials: JWTs (RFC 9068) that we sign, and nobody but us verifies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.errors import JoseError

from bridge import queries
from bridge.api.auth import ALL, Principal, not_authenticated
from bridge.api.fields import read_id, show_id
from bridge.api.keyring import ALGORITHM, TokenKey
from bridge.api.services import Services
from bridge.database import connection

ISSUER: Final = "callbridge"
AUDIENCE: Final = "callbridge-api"
TOKEN_S: Final = 3600
LEEWAY_S: Final = 30  # how far another clock may be from ours
_CHARS_MAX: Final = 4096
_CLAIMS: Final[dict[str, jwt.ClaimsOption]] = {
    "iss": {"essential": True, "value": ISSUER},
    "aud": {"essential": True, "value": AUDIENCE},
    "sub": {"essential": True},
    "iat": {"essential": True},
    "nbf": {"essential": True},
    "exp": {"essential": True},
    "scope": {"essential": True},
    "jti": {"essential": True},
}


def is_token(credentials: str) -> bool:
    """Three parts, as a JWS in compact form has (RFC 7515)."""
    return credentials.count(".") == 2


def make_token(signer: TokenKey, client_id: UUID, scopes: Sequence[str], now_s: int) -> str:
    """A token of a client. Its time begins now."""
    return signer.sign(
        {
            "iss": ISSUER,
            "sub": show_id("key", client_id),
            "aud": AUDIENCE,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + TOKEN_S,
            "scope": " ".join(scopes),
            "jti": uuid4().hex,
        }
    )


def read_token(signer: TokenKey, token: str, now_s: int) -> tuple[UUID, frozenset[str]]:
    """Whose token it is, and for which scopes. Its head must be, to the letter, the one we write: nothing in it is
    interpreted, so no other algorithm, key or extension can be asked for.

    raises   Problem 401: not signed by us, not for us, not yet or no longer valid
    """
    wanted = jwt.JWTClaimsRegistry(now_s, LEEWAY_S, **_CLAIMS)
    try:
        if token.partition(".")[0] != signer.head:
            raise not_authenticated()
        claims = jwt.decode(token, signer.key, algorithms=[ALGORITHM]).claims
        wanted.validate(claims)
        return read_id("key", claims["sub"]), frozenset(str(claims["scope"]).split())
    except (JoseError, ValueError):
        raise not_authenticated() from None


async def check_token(services: Services, token: str) -> Principal:
    """Whose token it is. The client must still be valid, and may by now do less than when it was given the token.

    raises   Problem 401
    """
    if len(token) > _CHARS_MAX or not token.isascii():
        raise not_authenticated()
    signer = await services.keyring.find(services.pool, token)
    if signer is None:
        raise not_authenticated()
    client_id, scopes = read_token(signer, token, int(time.time()))
    async with connection(services.asking) as conn:
        row = await queries.access.find_client.one(conn, key_id=client_id)
    if row is None or row["name"] is None:
        raise not_authenticated()
    has = frozenset(row["scopes"])
    return Principal(
        client_id,
        row["partner_id"],
        f"{row['name']} {row['prefix']}",
        scopes if ALL in has else scopes & has,
    )
