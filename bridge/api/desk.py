"""Who asks, and as whom the database answers. Every route gets its connection here.

A partner's request runs as the role callbridge_partner, which sees that partner's rows and granted columns only; an
operator's as the user of the DSN. Whatever a partner names is looked up as the partner, so that what is another's is
not there (404); a room's own functions then book or write as ours, in the same transaction (`as_ours`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from bridge import queries
from bridge.api import tokens
from bridge.api.auth import Principal, check_key, not_authenticated
from bridge.api.problems import Problem
from bridge.api.services import Services
from bridge.database import Connection, connection, transaction

PARTNER_ROLE: Final = "callbridge_partner"
_KEY_CHARS_MAX: Final = 255

bearer = HTTPBearer(
    auto_error=False, description="An API key (`cb_…`), or an access token of POST /oauth2/token"
)


@dataclass(frozen=True, slots=True)
class Made:
    """What a change made, and how it is answered.

    subject     its id with prefix, for the audit log
    content     the reply; None: there is none
    partner_id  whose thing it is; None: ours
    edition     for the ETag
    location    where it can be read from now on
    once        parts of the reply that are told once, never again: they are not kept with the answer
    """

    subject: str
    content: Mapping[str, Any] | None
    partner_id: UUID | None = None
    edition: int | None = None
    location: str | None = None
    once: Mapping[str, Any] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        told = {} if self.edition is None else {"ETag": etag(self.edition)}
        return told | ({"Location": self.location} if self.location else {})


Work = Callable[[Connection], Awaitable[Made]]
EditWork = Callable[[Connection, int], Awaitable[Made]]


class Desk:
    """One request: who asks, and their way to the database."""

    def __init__(self, request: Request, principal: Principal) -> None:
        self.request, self.principal = request, principal
        self.services: Services = request.app.state.services

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection that sees what whoever asks may see."""
        async with connection(self.services.asking) as conn:
            await self._enter(conn, for_transaction=False)
            yield conn

    async def create(self, action: str, body: BaseModel | None, work: Work, *, status: int = 201) -> Response:
        """Do `work` once a key: in one transaction with its answer, which whoever sends the key again gets again.

        raises   Problem 400: no Idempotency-Key · 409: the first with the key is still at work · 422: another body
        """
        key = self._idempotency_key()
        owner_id, fingerprint = self.principal.owner_id, self._fingerprint(body)
        async with transaction(self.services.asking) as conn:
            await self._enter(conn, for_transaction=True)
            try:
                claim = await queries.access.claim.one(
                    conn, owner_id=owner_id, key=key, fingerprint=fingerprint
                )
            except asyncpg.LockNotAvailableError:
                raise Problem(
                    409,
                    "A request with this Idempotency-Key is still at work. Ask again in a second.",
                    headers={"Retry-After": "1"},
                ) from None
            if claim["said"] == "other":
                raise Problem(
                    422,
                    "This Idempotency-Key was used for another request. Take a new one.",
                    code="idempotency_key_reused",
                )
            if claim["said"] == "done":
                headers = {**json.loads(claim["headers"]), "Idempotency-Replayed": "true"}
                return Response(claim["body"], claim["status"], headers, media_type="application/json")
            made = await work(conn)
            kept = _json(made.content)
            await self._done(conn, action, body, made, key=key, status=status, kept=kept)
        content = kept if not made.once else _json({**(made.content or {}), **made.once})
        return Response(content, status, made.headers(), media_type="application/json")

    async def act(self, action: str, body: BaseModel | None, work: Work, *, status: int = 200) -> Response:
        """Do `work` and keep it for the audit log; for what may be repeated without harm."""
        async with transaction(self.services.asking) as conn:
            await self._enter(conn, for_transaction=True)
            made = await work(conn)
            await self._done(conn, action, body, made)
        if made.content is None:
            return Response(status_code=204, headers=made.headers())
        content = {**made.content, **made.once}
        return Response(_json(content), status, made.headers(), media_type="application/json")

    async def change(self, action: str, body: BaseModel | None, work: EditWork) -> Response:
        """Do `work` on the edition that If-Match names.

        raises   Problem 428: no If-Match · 400: no edition · what `stale` makes: 412
        """
        edition = self._if_match()
        return await self.act(action, body, lambda conn: work(conn, edition))

    async def as_ours(self, conn: Connection) -> None:
        """For the rest of the transaction the connection is the house's own. What may be named was looked up before."""
        await queries.access.enter.run(conn, role="none", partner_id="", for_transaction=True)

    def partner_of(self, named: UUID | None) -> UUID | None:
        """Whose thing is to be made: an operator may name a partner, a partner makes its own.

        raises   Problem 404: another partner's name
        """
        if self.principal.operator:
            return named
        if named not in (None, self.principal.partner_id):
            raise Problem(404, "There is no such partner.")
        return self.principal.partner_id

    def shown(self, content: Mapping[str, Any], edition: int | None = None) -> Response:
        """A reply to a reading request; 304 where If-None-Match names the edition."""
        headers = {} if edition is None else {"ETag": etag(edition)}
        if edition is not None and self.request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(_json(content), 200, headers, media_type="application/json")

    async def _enter(self, conn: Connection, *, for_transaction: bool) -> None:
        partner_id = self.principal.partner_id
        await queries.access.enter.run(
            conn,
            role=PARTNER_ROLE if partner_id else "none",
            partner_id=str(partner_id or ""),
            for_transaction=for_transaction,
        )

    async def _done(
        self, conn: Connection, action: str, body: BaseModel | None, made: Made, *, key: str | None = None,
        status: int | None = None, kept: bytes | None = None,
    ) -> None:  # fmt: skip
        client = self.request.client
        await queries.access.done.run(
            conn,
            owner_id=self.principal.owner_id,
            key=key,
            status=status,
            headers=json.dumps(made.headers()),
            body=kept,
            partner_id=made.partner_id,
            actor=self.principal.actor,
            action=action,
            subject=made.subject,
            detail=body.model_dump_json(exclude_unset=True) if body else "{}",
            correlator=self.request.scope.get("correlator", ""),
            remote=client.host if client else "",
        )

    def _idempotency_key(self) -> str:
        key = self.request.headers.get("idempotency-key", "")
        if len(key) > 1 and key[0] == key[-1] == '"':  # RFC 9651 string; a bare one is taken, too
            key = key[1:-1]
        if not 1 <= len(key) <= _KEY_CHARS_MAX or not key.isascii() or not key.isprintable() or '"' in key:
            raise Problem(
                400,
                'Send an Idempotency-Key of 1 to 255 printable ASCII characters, e.g. "8e03978e-40d5".',
                code="idempotency_key_required",
                errors=[{"pointer": "header/idempotency-key", "detail": "is missing or malformed"}],
            )
        return key

    def _fingerprint(self, body: BaseModel | None) -> bytes:
        said = f"{self.request.method} {self.request.url.path}\n"
        return hashlib.sha256(said.encode() + (body.model_dump_json().encode() if body else b"")).digest()

    def _if_match(self) -> int:
        text = self.request.headers.get("if-match")
        if text is None:
            raise Problem(
                428, "Send the ETag you have read as If-Match, so that nobody's change is overwritten."
            )
        digits = text.strip()[1:-1]
        if text.strip() != f'"{digits}"' or not digits.isascii() or not digits.isdigit() or len(digits) > 9:
            raise Problem(412, "If-Match is no ETag of this resource. Read it again.")
        return int(digits)


def etag(edition: int) -> str:
    return f'"{edition}"'


def stale() -> Problem:
    """Somebody changed it since it was read."""
    return Problem(412, "It was changed since you read it. Read it again, and send its new ETag as If-Match.")


def _json(content: Mapping[str, Any] | None) -> bytes:
    return b"" if content is None else json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


class Needs:
    """A dependency: a valid key with this scope, within its rate. operator: no partner's, whatever its scopes."""

    def __init__(self, scope: str, *, operator: bool = False) -> None:
        self.scope, self.operator = scope, operator

    async def __call__(
        self, request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Desk:
        services: Services = request.app.state.services
        principal = await self._principal(request, services, given)
        taken = services.limiter.take(principal.owner_id, time.monotonic())
        request.scope["rate"] = taken
        if taken.retry_s:
            raise Problem(429, f"Too many requests. Ask again in {taken.retry_s} s.")
        if self.operator and not principal.operator:
            raise Problem(403, "This is for operators.")
        if not principal.may(self.scope):
            raise Problem(403, f"The key lacks the scope {self.scope}.", code="scope_missing")
        return Desk(request, principal)

    async def _principal(
        self, request: Request, services: Services, given: HTTPAuthorizationCredentials | None
    ) -> Principal:
        """raises   Problem 401; 429 for an address that tries too many keys"""
        address = request.client.host if request.client else ""
        if services.strangers.left(address, time.monotonic()) < 1:
            raise Problem(429, "Too many requests without a valid key. Ask again in a minute.")
        try:
            if given is None:
                raise not_authenticated()
            async with connection(services.asking) as conn:
                if tokens.is_token(given.credentials):
                    return await tokens.check_token(conn, given.credentials)
                return await check_key(conn, given.credentials)
        except Problem:
            services.strangers.take(address, time.monotonic())
            raise
