"""OAuth2 client credentials (RFC 6749, 4.4): a client's secret for an access token of an hour."""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from typing import Any, Final, NoReturn
from urllib.parse import unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from bridge.api.auth import Principal, check_key, givable
from bridge.api.desk import turned_away
from bridge.api.problems import Problem
from bridge.api.services import Services
from bridge.api.tokens import TOKEN_S, make_token
from bridge.database import connection

PATH: Final = "/oauth2/token"
_FORM: Final = "application/x-www-form-urlencoded"
_GRANT: Final = "client_credentials"
_SCOPE_CHARS_MAX: Final = 2000
_FIELD_CHARS_MAX: Final = 255
_SAID: Final = frozenset({"invalid_request", "unsupported_grant_type", "invalid_scope"})
_ERRORS: Final = {401: "invalid_client", 429: "temporarily_unavailable", 503: "temporarily_unavailable"}


class Token(BaseModel):
    """RFC 6749, 5.1."""

    access_token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(description="Seconds", examples=[TOKEN_S])
    scope: str = Field(description="What the token is for", examples=["calls:read cdrs:read"])


class TokenError(BaseModel):
    """RFC 6749, 5.2."""

    error: str = Field(examples=["invalid_client"])
    error_description: str


ASKED: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": [_GRANT]},
                        "scope": {
                            "type": "string",
                            "maxLength": _SCOPE_CHARS_MAX,
                            "description": "Fewer than the client has, with spaces between; all when missing",
                            "examples": ["calls:read"],
                        },
                        "client_id": {
                            "type": "string",
                            "maxLength": _FIELD_CHARS_MAX,
                            "description": "The client's prefix, where it is not sent by HTTP Basic",
                            "examples": ["cb_0f3a9c41"],
                        },
                        "client_secret": {"type": "string", "maxLength": _FIELD_CHARS_MAX},
                    },
                }
            }
        },
    }
}
router = APIRouter(tags=["oauth2"])


@router.post(
    PATH,
    response_model=Token,
    responses={status: {"model": TokenError} for status in (400, 401, 413, 429, 503)},
    summary="An access token for a client",
    openapi_extra=ASKED,
)
async def create_token(request: Request) -> Response:
    """The client sends its id and secret by HTTP Basic, or as `client_id` and `client_secret` in the form.
    Parameters that are not known are ignored, as the RFC wants it."""
    services: Services = request.app.state.services
    form = await _form(request)
    if form.get("grant_type") != _GRANT:
        _refuse(
            "unsupported_grant_type" if form.get("grant_type") else "invalid_request",
            f"Send grant_type={_GRANT}.",
        )
    client_id, secret = _client(request, form)
    client = await _checked(request, services, client_id, secret)
    taken = services.limiter.take(client.owner_id, time.monotonic())
    request.scope["rate"] = taken
    if taken.retry_s:
        raise Problem(429, f"Too many requests. Ask again in {taken.retry_s} s.")
    scopes = _scopes(client, form.get("scope", ""))
    signer = await services.keyring.newest(services.pool)
    token = make_token(signer, client.key_id, scopes, int(time.time()))
    return JSONResponse(
        {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S, "scope": " ".join(scopes)}
    )


def dialect(_: Request, problem: Problem) -> Response:
    """Errors as RFC 6749, 5.2 has them."""
    known = problem.code if problem.code in _SAID else ""
    fallback = _ERRORS.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request")
    said = {"error": known or fallback, "error_description": problem.detail}
    return JSONResponse(said, problem.status, problem.headers)


def _refuse(error: str, description: str) -> NoReturn:
    raise Problem(400, description, code=error)


async def _form(request: Request) -> dict[str, str]:
    """The parameters; an empty one counts as left out. None may come twice."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        _refuse("invalid_request", f"Send the body as {_FORM}.")
    found: dict[str, str] = {}
    for name, value in (await request.form()).multi_items():
        if name in found:
            _refuse("invalid_request", "A parameter came twice.")
        found[name] = str(value)
    return {name: value for name, value in found.items() if value}


def _client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Id and secret, sent one way."""
    header = request.headers.get("authorization")
    if header is None:
        return form.get("client_id", ""), form.get("client_secret", "")
    if "client_secret" in form:
        _refuse("invalid_request", "Send the client secret one way only.")
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, secret = b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)
    if form.get("client_id", client_id) != client_id:
        _refuse("invalid_request", "Send one client_id.")
    return client_id, secret


async def _checked(request: Request, services: Services, client_id: str, secret: str) -> Principal:
    """raises   Problem 401, and 429 for an address that goes on with wrong secrets"""
    wrong = Problem(
        401,
        "The client is not known by this id and secret.",
        code="invalid_client",
        headers={"WWW-Authenticate": 'Basic realm="callbridge", charset="UTF-8"'},
    )
    if not client_id or not secret.startswith(f"{client_id}_"):
        raise turned_away(request, services, wrong)
    try:
        async with connection(services.asking) as conn:
            return await check_key(conn, secret, kind="client")
    except Problem:
        raise turned_away(request, services, wrong) from None


def _scopes(client: Principal, asked: str) -> list[str]:
    """What the token is for.

    raises   Problem 400: what the client may not have, or what there is not
    """
    if not asked:
        return sorted(client.scopes)
    scopes = sorted(set(asked.split()))
    may = givable(client.partner_id)
    if (
        len(asked) > _SCOPE_CHARS_MAX
        or not scopes
        or any(one not in may or not client.may(one) for one in scopes)
    ):
        _refuse("invalid_scope", "The client does not have all of these scopes.")
    return scopes
