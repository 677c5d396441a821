"""The secrets that access tokens are signed with: kept in the database, and read by the house's own pool only."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg
from joserfc import jwt
from joserfc.jwk import OctKey

from bridge import queries
from bridge.database import connection

ALGORITHM: Final = "HS256"
TYPE: Final = "at+jwt"  # RFC 9068
ASKED_S: Final = (
    1.0  # made-up tokens make a worker read the secrets this often, no more: the pool is the calls'
)
TRUSTED_S: Final = 60.0  # a secret that was taken out of the database is good for this much longer


class TokenKey:
    """One secret. head: the first part of every token signed with it, to the letter."""

    def __init__(self, kid: str, secret: bytes) -> None:
        self.key = OctKey.import_key(secret)
        self.header = {"alg": ALGORITHM, "kid": kid}
        self.head = self.sign({}).partition(".")[0]

    def sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(self.header, claims, self.key, algorithms=[ALGORITHM], default_type=TYPE)


class Keyring:
    """The secrets one worker knows."""

    def __init__(self) -> None:
        self._by_head: dict[str, TokenKey] = {}
        self._read_s = float("-inf")
        self._reading = asyncio.Lock()

    async def newest(self, pool: asyncpg.Pool) -> TokenKey:
        """The one to sign with. The database makes a new one every 30 days."""
        async with connection(pool) as conn:
            rows = await queries.access.token_keys.all(conn)
        found = [TokenKey(row["kid"].hex, row["secret"]) for row in rows]
        self._by_head, self._read_s = {one.head: one for one in found}, time.monotonic()
        return found[0]

    async def find(self, pool: asyncpg.Pool, token: str) -> TokenKey | None:
        """The one a token claims to be signed with. Another worker may have made it a moment ago."""
        head = token.partition(".")[0]
        if self._age_s() > (TRUSTED_S if head in self._by_head else ASKED_S):
            async with self._reading:
                if self._age_s() > ASKED_S:
                    await self.newest(pool)
        return self._by_head.get(head)

    def _age_s(self) -> float:
        return time.monotonic() - self._read_s
