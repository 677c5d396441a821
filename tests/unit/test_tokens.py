"""Access tokens: only what we signed, for us, at its time, is one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.api.fields import show_id
from bridge.api.keyring import TokenKey
from bridge.api.problems import Problem
from bridge.api.tokens import AUDIENCE, ISSUER, TOKEN_S, is_token, make_token, read_token

NOW_S = 1_900_000_000
CLIENT = UUID("019a0c0e-5d7a-7cc0-b5a1-c9f3d2e4b6a8")
SECRET = b"s" * 32
SIGNER = TokenKey("0" * 32, SECRET)
CLAIMS = {
    "iss": ISSUER, "sub": show_id("key", CLIENT), "aud": AUDIENCE, "iat": NOW_S, "nbf": NOW_S,
    "exp": NOW_S + TOKEN_S, "scope": "calls:read cdrs:read", "jti": "1",
}  # fmt: skip


def segment(content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: object, claims: object, secret: bytes = SECRET, digest: str = "sha256") -> str:
    """A token by hand, with whatever somebody may think of."""
    said = f"{segment(header)}.{segment(claims)}"
    mark = hmac.new(secret, said.encode(), digest).digest()
    return f"{said}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


HEADER = {"typ": "at+jwt", "alg": "HS256", "kid": "0" * 32}


def refused(token: str, now_s: int = NOW_S, signer: TokenKey = SIGNER) -> None:
    with pytest.raises(Problem) as error:
        read_token(signer, token, now_s)
    assert error.value.status == 401


def test_what_is_made_is_read() -> None:
    token = make_token(SIGNER, CLIENT, ["calls:read", "cdrs:read"], NOW_S)
    assert is_token(token)
    assert read_token(SIGNER, token, NOW_S) == (CLIENT, frozenset({"calls:read", "cdrs:read"}))
    assert make_token(SIGNER, CLIENT, [], NOW_S) != make_token(SIGNER, CLIENT, [], NOW_S)


def test_the_one_made_by_hand_is_like_ours() -> None:
    """Else the refusals below would prove nothing."""
    assert read_token(SIGNER, signed(HEADER, CLAIMS), NOW_S)[0] == CLIENT


@pytest.mark.parametrize(
    ("late_s", "good"),
    [(TOKEN_S - 1, True), (TOKEN_S + 29, True), (TOKEN_S + 30, False), (TOKEN_S + 31, False)],
)
def test_the_end_and_a_clock_that_goes_wrong(late_s: int, good: bool) -> None:
    token = make_token(SIGNER, CLIENT, ["calls:read"], NOW_S)
    if good:
        assert read_token(SIGNER, token, NOW_S + late_s)[0] == CLIENT
    else:
        refused(token, NOW_S + late_s)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(("ahead_s", "good"), [(29, True), (30, True), (31, False), (3600, False)])
def test_the_beginning_and_a_clock_that_goes_wrong(claim: str, ahead_s: int, good: bool) -> None:
    token = signed(HEADER, CLAIMS | {claim: NOW_S + ahead_s})
    if good:
        assert read_token(SIGNER, token, NOW_S)[0] == CLIENT
    else:
        refused(token)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        HEADER | {"alg": "none"},
        HEADER | {"alg": "None"},
        HEADER | {"alg": "HS512"},
        HEADER | {"alg": "RS256"},
        HEADER | {"alg": "ES256"},
        HEADER | {"alg": ["HS256"]},
        HEADER | {"typ": "JWT"},
        HEADER | {"kid": "../../dev/null"},
        HEADER | {"kid": "1" * 32},
        HEADER | {"crit": ["exp"]},
        HEADER | {"crit": ["b64"], "b64": False},
        HEADER | {"jku": "https://evil.example/keys"},
        HEADER | {"jwk": {"kty": "oct", "k": segment("s" * 32)}},
        HEADER | {"zip": "DEF"},
        dict(reversed(HEADER.items())),
        [],
        "[" * 3000,
        "null",
    ],
)
def test_nothing_in_a_head_is_believed(header: object) -> None:
    """Signed with the right secret, and still refused."""
    refused(signed(header, CLAIMS))
    refused(f"{segment(header)}.{segment(CLAIMS)}.")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody"},
        {"aud": "another-api"},
        {"aud": ["another-api"]},
        {"aud": ""},
        {"sub": "key_7"},
        {"sub": str(CLIENT)},
        {"sub": 7},
        {"sub": {}},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": -1},
        {"nbf": "now"},
        {"jti": 7},
        *({name: None} for name in CLAIMS),
    ],
)
def test_claims_that_are_not_ours(change: dict[str, Any]) -> None:
    refused(signed(HEADER, CLAIMS | change))


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_no_claim_may_be_missing(name: str) -> None:
    refused(signed(HEADER, {key: value for key, value in CLAIMS.items() if key != name}))


@pytest.mark.parametrize("claims", ["", "{", "[]", "null", '"x"', "7"])
def test_claims_that_are_none(claims: str) -> None:
    refused(signed(HEADER, claims))


def test_another_secret_and_a_changed_token() -> None:
    refused(signed(HEADER, CLAIMS, secret=b"t" * 32))
    refused(signed(HEADER, CLAIMS, secret=b""))
    refused(signed(HEADER, CLAIMS, digest="sha512"))
    refused(signed(HEADER, CLAIMS, secret=hashlib.sha256(SECRET).digest()))
    head, body, mark = signed(HEADER, CLAIMS).split(".")
    more = segment(CLAIMS | {"scope": "*"})
    for broken in (
        f"{head}.{more}.{mark}",
        f"{head}.{body}.",
        f"{head}.{body}.{mark[:-4]}",
        f"{head}..{mark}",
        "..",
    ):
        refused(broken)
    refused(make_token(TokenKey(uuid4().hex, SECRET), CLIENT, [], NOW_S))
