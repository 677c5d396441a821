"""API keys and OAuth2 clients. Nobody gives more than they have: no scope that their own key lacks, no longer life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import AfterValidator, Field, WithJsonSchema

from bridge.api.auth import ALL, SCOPES, givable, issue_key
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import Body, Instant, KeyId, Name, PartnerId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import Conflict
from bridge.partners import store

router = routes("keys")
Reader = Annotated[Desk, Depends(Needs("keys:read"))]
Writer = Annotated[Desk, Depends(Needs("keys:write"))]

KEYS_MAX: Final = 100
OVERLAP_S_MAX: Final = 86_400

Kind = Literal["key", "client"]
State = Literal["valid", "expired", "revoked"]


def _known(scope: str) -> str:
    if scope not in (ALL, *SCOPES):
        raise ValueError("should be one of the documented scopes")
    return scope


Scope = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": [ALL, *SCOPES]}, mode="validation")
]


class NewKey(Body):
    """A key to be. `kind` client: an OAuth2 client; its client_id is the prefix, its client_secret the key."""

    model_config = sample(name="billing system", scopes=["calls:read", "cdrs:read"])

    name: Name = Field(examples=["billing system"])
    scopes: list[Scope] = Field(
        min_length=1,
        max_length=len(SCOPES) + 1,
        description="What it is for; `*`: everything that its owner may do",
        examples=[["calls:read", "cdrs:read"]],
    )
    kind: Kind = "key"
    expires_at: Instant | None = Field(
        default=None, description="When it ends; null: never", examples=["2031-01-31T00:00:00Z"]
    )
    partner_id: PartnerId | None = Field(
        default=None,
        description="Whose key it is. Operators may name a partner; without one it is an operator's",
    )


class KeyChange(Body):
    """What may change while the key is valid."""

    model_config = sample(name="billing system, second site")

    name: Name | None = None
    expires_at: Instant | None = Field(default=None, description="null: never")


class Rotation(Body):
    """How the old key goes."""

    overlap_s: int = Field(
        default=3600, ge=0, le=OVERLAP_S_MAX, description="The old key is valid for this much longer"
    )
    expires_at: Instant | None = Field(
        default=None, description="When the new key ends; as the old one when missing, null: never"
    )


class Key(Told):
    """A key, without what makes it one."""

    key_id: KeyId
    partner_id: PartnerId | None = Field(description="null: an operator's")
    name: Name
    kind: Kind
    prefix: str = Field(
        description="The beginning of the key, to tell it by; of a client the client_id",
        examples=["cb_0f3a9c41"],
    )
    scopes: list[str] = Field(examples=[["calls:read", "cdrs:read"]])
    state: State
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: KeyId | None = Field(description="The key it was rotated to")


class KeyMade(Key):
    """A new key, with its secret."""

    secret: str | None = Field(
        default=None,
        description="The key itself; of a client the client_secret. Told once: it is not kept, "
        "and is missing from an answer that is given again",
    )


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    ended = row["expires_at"] is not None and row["expires_at"] <= datetime.now(UTC)
    return {
        "key_id": show_id("key", row["api_key_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "name": row["name"],
        "kind": row["kind"],
        "prefix": row["prefix"],
        "scopes": list(row["scopes"]),
        "state": "revoked" if row["revoked_at"] else "expired" if ended else "valid",
        "created_at": show_at(row["created_at"]),
        "expires_at": show_at(row["expires_at"]),
        "revoked_at": show_at(row["revoked_at"]),
        "replaced_by": show_id("key", row["replaced_by"]) if row["replaced_by"] else None,
    }


def _made(row: Mapping[str, Any], secret: str | None = None) -> Made:
    told = show(row)
    once = {} if secret is None else {"secret": secret}
    where = f"/v1/keys/{told['key_id']}"
    return Made(told["key_id"], told, row["partner_id"], row["edition"], where, once)


def _check_scopes(desk: Desk, partner_id: UUID | None, scopes: Sequence[str]) -> None:
    """What whoever asks may give to a partner's key, or to an operator's.

    raises   Problem 422: partners cannot have it · 403: who asks has not got it
    """
    never = [
        {"pointer": f"#/scopes/{place}", "detail": "is for operators"}
        for place, scope in enumerate(scopes)
        if scope not in givable(partner_id)
    ]
    if never:
        raise Problem(422, "A partner's key cannot have all of these scopes.", errors=never)
    lacking = [scope for scope in scopes if not desk.principal.may(scope)]
    if lacking:
        raise Problem(403, f"Your own key lacks {', '.join(lacking)}.", code="scope_missing")


async def _check_life(desk: Desk, conn: Connection, expires_at: datetime | None) -> None:
    """raises   Problem 422: it is over already · 403: the key of whoever asks ends before"""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        told = [{"pointer": "#/expires_at", "detail": "should lie in the future"}]
        raise Problem(422, "A key cannot end in the past. Revoke it to end it now.", errors=told)
    own = (await store.key(conn, desk.principal.key_id))["expires_at"]
    if own is not None and (expires_at is None or expires_at > own):
        raise Problem(
            403, f"Your own key ends at {show_at(own)}; none that it makes or changes may outlive it."
        )


def _check_valid(row: Mapping[str, Any]) -> None:
    """raises   Conflict"""
    if show(row)["state"] != "valid" or row["replaced_by"] is not None:
        raise Conflict("The key is revoked, expired, or was replaced by another. Make a new one.")


async def _issue(
    conn: Connection,
    partner_id: UUID | None,
    name: str,
    kind: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> tuple[Mapping[str, Any], str]:
    """A new key and its secret.

    raises   Conflict: there are too many
    """
    if await store.valid_keys(conn, partner_id) >= KEYS_MAX:
        raise Conflict(f"There are {KEYS_MAX} valid keys. Revoke one first.")
    key_id, secret = await issue_key(
        conn, name, expires_at, partner_id=partner_id, scopes=sorted(set(scopes)), kind=kind
    )
    return await store.key(conn, key_id), secret


@router.get("", response_model=Page[Key], responses=responses(404), summary="Keys, newest first")
async def list_keys(
    desk: Reader,
    paging: Asked,
    partner_id: PartnerId | None = None,
    kind: Annotated[Kind | None, Query()] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.keys(
            conn, paging.before, paging.rows, partner_id=desk.partner_of(partner_id), kind=kind
        )
    return desk.shown(page(rows, paging, "api_key_id", show))


@router.post(
    "",
    status_code=201,
    response_model=KeyMade,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a key",
)
async def create_key(desk: Writer, body: NewKey) -> Response:
    async def work(conn: Connection) -> Made:
        partner_id = desk.partner_of(body.partner_id)
        if partner_id is not None and (await store.partner(conn, partner_id))["state"] == "closed":
            raise Conflict("The partner is closed.")
        _check_scopes(desk, partner_id, body.scopes)
        await _check_life(desk, conn, body.expires_at)
        await desk.as_ours(conn)
        return _made(*await _issue(conn, partner_id, body.name, body.kind, body.scopes, body.expires_at))

    return await desk.create("key.create", body, work)


@router.get("/{key_id}", response_model=Key, responses=responses(404), summary="One key")
async def read_key(desk: Reader, key_id: KeyId) -> Response:
    async with desk.reading() as conn:
        row = await store.key(conn, key_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{key_id}", response_model=Key, responses=responses(*BY_METHOD["PATCH"]), summary="Change a key"
)
async def change_key(desk: Writer, key_id: KeyId, body: KeyChange) -> Response:
    """Only a key that has all scopes of this one may change it, and none may prolong a life beyond its own."""
    sets_expiry = "expires_at" in body.model_fields_set

    async def work(conn: Connection, edition: int) -> Made:
        row = await store.key(conn, key_id)
        _check_valid(row)
        _check_scopes(desk, row["partner_id"], row["scopes"])
        if sets_expiry:
            await _check_life(desk, conn, body.expires_at)
        await desk.as_ours(conn)
        changed = await store.change_key(
            conn, key_id, edition, name=body.name, sets_expiry=sets_expiry, expires_at=body.expires_at
        )
        if changed is None:
            raise stale()
        return _made(changed)

    return await desk.change("key.change", body, work)


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    response_model=KeyMade,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Replace a key",
)
async def rotate_key(desk: Writer, key_id: KeyId, body: Rotation) -> Response:
    """A new key with the scopes of the old one, which ends after `overlap_s`. A key rotates once."""

    async def work(conn: Connection) -> Made:
        old = await store.key(conn, key_id)
        _check_valid(old)
        _check_scopes(desk, old["partner_id"], old["scopes"])
        expires_at = body.expires_at if "expires_at" in body.model_fields_set else old["expires_at"]
        await _check_life(desk, conn, expires_at)
        await desk.as_ours(conn)
        new, secret = await _issue(
            conn, old["partner_id"], old["name"], old["kind"], old["scopes"], expires_at
        )
        await store.replace_key(conn, key_id, new["api_key_id"], body.overlap_s)
        return _made(new, secret)

    return await desk.create("key.rotate", body, work)


@router.delete(
    "/{key_id}", status_code=204, responses=responses(*BY_METHOD["DELETE"]), summary="Revoke a key"
)
async def revoke_key(desk: Writer, key_id: KeyId) -> Response:
    """It is void at once, and so are the access tokens of a client. It can still be read."""

    async def work(conn: Connection, edition: int) -> Made:
        row = await store.key(conn, key_id)
        await desk.as_ours(conn)
        if await store.revoke_key(conn, key_id, edition) is None:
            raise stale()
        return Made(show_id("key", key_id), None, row["partner_id"])

    return await desk.change("key.revoke", None, work)
