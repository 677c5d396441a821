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
from bridge.api.auth import Principal, check_key, enter_with_key
from bridge.api.problems import Problem
from bridge.api.services import Services
from bridge.config import require_dsn
from bridge.database import Connection, connect, connection, store_errors, transaction

PARTNER_ROLE: Final = "callbridge_partner"
_KEY_CHARS_MAX: Final = 255
_BOOKING_KEY_CHARS_MAX: Final = 100  # longer ones are kept as their digest

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
        self.entered: Connection | None = None  # already theirs, until the route is through: see `Reads`

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection that sees what whoever asks may see."""
        if self.entered is not None:
            async with store_errors():
                yield self.entered
            return
        async with connection(self.services.asking) as conn:
            await self._enter(conn, for_transaction=False)
            yield conn

    @asynccontextmanager
    async def reading_at_length(self) -> AsyncIterator[Connection]:
        """The same on a connection of its own, in a transaction, whose statements may last."""
        async with self._at_length() as conn:
            await self._enter(conn, for_transaction=True)
            yield conn

    async def create(
        self, action: str, body: BaseModel | None, work: Work, *, status: int = 201, at_length: bool = False
    ) -> Response:
        """Do `work` once a key: in one transaction with its answer, which whoever sends the key again gets again.

        at_length  it may last: on a connection of its own, whose statements have no time limit but what `work` sets
        raises   Problem 400: no Idempotency-Key · 409: the first with the key is still at work · 422: another body
        """
        key = self.idempotency_key()
        owner_id, fingerprint = self.principal.owner_id, self._fingerprint(body)
        begun = self._at_length() if at_length else transaction(self.services.asking)
        async with begun as conn:
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

    def shown(
        self, content: Mapping[str, Any], edition: int | None = None, *, fresh: bool = False
    ) -> Response:
        """A reply to a reading request; 304 where If-None-Match names the edition.

        fresh   it tells more than its edition counts, such as a balance: never 304
        """
        headers = {} if edition is None else {"ETag": etag(edition)}
        known = self.request.headers.get("if-none-match")
        if edition is not None and not fresh and known == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(_json(content), 200, headers, media_type="application/json")

    def booking_key(self, kind: str) -> str:
        """The Idempotency-Key as the books keep it, for ever: whose it is stands before it.

        raises   Problem 400: there is none
        """
        owner, key = self.principal.owner_id.hex, self.idempotency_key()
        if len(key) > _BOOKING_KEY_CHARS_MAX:
            key = "sha256 " + hashlib.sha256(key.encode()).hexdigest()
        return f"{kind} {owner} {key}"

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

    @asynccontextmanager
    async def _at_length(self) -> AsyncIterator[Connection]:
        async with connect(require_dsn(self.services.settings)) as conn, conn.transaction():
            yield conn

    def idempotency_key(self) -> str:
        """What makes a repeat of the request known. raises Problem 400: there is none"""
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
        said = f"{self.request.method} {self.request.scope['path']}\n"
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
        return self.admit(request, await self._principal(request, services, given))

    def admit(self, request: Request, principal: Principal) -> Desk:
        """raises   Problem 403: the key is for something else · 429"""
        services: Services = request.app.state.services
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
        """raises   Problem 401; 429 for an address that goes on without a valid key"""
        try:
            return await principal_of(services, given.credentials if given else "")
        except Problem as problem:
            raise turned_away(request, services, problem) from None


async def principal_of(services: Services, credentials: str) -> Principal:
    """Who has this key or access token.

    raises   Problem 401
    """
    if tokens.is_token(credentials):
        return await tokens.check_token(services, credentials)
    async with connection(services.asking) as conn:
        return await check_key(conn, credentials)


def turned_away(request: Request, services: Services, problem: Problem) -> Problem:
    """What somebody without a valid key is told: after too many such requests from an address, to wait.

    A valid key is let in whatever its neighbours do. A carrier's systems share an address, and one of them with a dead
    key must not lock out the others; keys of 256 bits are not found by trying.
    """
    taken = services.strangers.take(request.client.host if request.client else "", time.monotonic())
    request.scope["rate"] = taken
    if not taken.retry_s:
        return problem
    return Problem(429, f"Too many requests without a valid key. Ask again in {taken.retry_s} s.")


class Reads:
    """Like `Needs`, for routes that only read, and at once: one round trip finds the key and enters, and `reading` has
    the connection that was entered. It goes back as soon as the route is through: give `scope="function"` to Depends.

    Whoever is not let in so comes to `Needs`, which knows of tokens and says why not.
    """

    def __init__(self, scope: str) -> None:
        self.needs = Needs(scope)

    async def __call__(
        self, request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> AsyncIterator[Desk]:
        services: Services = request.app.state.services
        if given is not None and not tokens.is_token(given.credentials):
            async with connection(services.asking) as conn:
                principal = await enter_with_key(conn, given.credentials, PARTNER_ROLE)
                if principal is not None:
                    desk = self.needs.admit(request, principal)
                    desk.entered = conn
                    yield desk
                    return
        yield await self.needs(request, given)
