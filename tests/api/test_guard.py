"""What holds for every request: its size, its time, its correlator, and headers that keep browsers safe."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Request
from httpx import ASGITransport, AsyncClient, Response

from bridge.api.guard import BODY_BYTES_MAX, SECURE, Guard
from tests.api.scene import Api, Client, problem

NOBODY = re.compile(r"(?!)")
JSON = {"Content-Type": "application/json"}


def safe(response: Response) -> None:
    """Every header that keeps browsers safe, once, and none that opens the API to other sites."""
    for name, value in SECURE.items():
        assert response.headers.get_list(name) == [value], name
    assert len(response.headers.get_list("x-correlator")) == 1
    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert "server" not in response.headers
    assert "set-cookie" not in response.headers


def hurried(api: Api, patience_s: float = 0.05) -> AsyncClient:
    """The same application with little patience. Errors that are no answer are not raised here."""
    guard = Guard(api.app, api.app, {}, NOBODY, patience_s)
    return AsyncClient(transport=ASGITransport(guard, raise_app_exceptions=False), base_url="http://bridge")


# ---------------------------------------------------------------- size


async def test_a_body_that_is_announced_too_large_is_not_read(api: Api) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b""

    told = await api.operator.ask(
        "POST", "/v1/partners", content=body(), headers=JSON | {"Content-Length": str(BODY_BYTES_MAX + 1)}
    )
    problem(told, 413, "too_large")
    safe(told)
    assert not read


@pytest.mark.parametrize("announced", [None, "7"])
async def test_a_body_that_turns_out_too_large_is_read_no_further(api: Api, announced: str | None) -> None:
    """Sent in pieces without a length, or with one that is a lie."""
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    headers = JSON | ({} if announced is None else {"Content-Length": announced})
    told = await api.operator.ask("POST", "/v1/partners", content=body(), headers=headers)
    problem(told, 413, "too_large")
    safe(told)
    assert sent <= BODY_BYTES_MAX + (2 << 16)


async def test_a_body_that_fits_to_the_byte(api: Api) -> None:
    body = json.dumps({"name": "E-Plus", "currency": "EUR"}).encode().ljust(BODY_BYTES_MAX)
    assert (await api.operator.ask("POST", "/v1/partners", content=body, headers=JSON)).status_code == 201
    told = await api.operator.ask("POST", "/v1/partners", content=body + b" ", headers=JSON)
    problem(told, 413, "too_large")


NO_LENGTHS = ["9" * 5_000, "-1", "1e9", "0x10", "²"]


async def test_a_length_that_is_no_number(api: Api) -> None:
    for length in NO_LENGTHS:
        headers = [
            (b"Authorization", f"Bearer {api.operator.key}".encode()),
            (b"Content-Length", length.encode("latin-1", "replace")),
        ]
        response = await api.client.request("GET", "/v1/partners", headers=headers)
        assert response.status_code in (200, 413)
        safe(response)


# ---------------------------------------------------------------- time


async def test_a_request_that_takes_too_long_is_ended(api: Api) -> None:
    never, ended = asyncio.Event(), asyncio.Event()

    @api.app.get("/slow")
    async def slow() -> None:
        try:
            await never.wait()
        finally:
            ended.set()

    async with hurried(api) as client:
        told = await client.get("/slow")
    problem(told, 504, "too_slow")
    safe(told)
    assert ended.is_set(), "the work was cancelled, not left behind"


async def test_a_body_that_never_comes(api: Api) -> None:
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"name":'
        await never.wait()

    async with hurried(api) as client:
        told = await Client(client, api.operator.key).ask(
            "POST", "/v1/partners", content=body(), headers=JSON
        )
    problem(told, 504, "too_slow")
    safe(told)


async def test_nothing_is_kept_of_what_took_too_long(api: Api) -> None:
    """The transaction is rolled back, its connection goes back into the pool, and the key may be used again."""
    key = {"Idempotency-Key": "slow-1"}
    new = {"name": "E-Plus", "currency": "EUR"}
    async with api.house.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
        async with hurried(api, 0.3) as client:
            told = await Client(client, api.operator.key).post("/v1/partners", new, headers=key)
        problem(told, 504, "too_slow")
    for _ in range(5):
        assert (await api.operator.get("/v1/partners")).status_code == 200
    assert await api.house.value("SELECT count(*) FROM idempotency") == 0
    assert (await api.operator.post("/v1/partners", new, headers=key)).status_code == 201


# ---------------------------------------------------------------- correlator


@pytest.mark.parametrize("given", ["a", "A-Z_0:9;./<>{}", "x" * 256])
async def test_a_correlator_comes_back(api: Api, given: str) -> None:
    for client in (api.operator, Client(api.client, "wrong")):
        response = await client.ask("GET", "/v1/partners", headers={"x-correlator": given})
        assert response.headers.get_list("x-correlator") == [given]


@pytest.mark.parametrize("given", [None, ""])
async def test_without_a_correlator_one_is_made_up(api: Api, given: str | None) -> None:
    headers = {} if given is None else {"x-correlator": given}
    made = {
        (await api.operator.ask("GET", "/v1/partners", headers=headers)).headers["x-correlator"]
        for _ in range(3)
    }
    assert len(made) == 3
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in made)


NO_CORRELATORS = [
    b"a b",
    b"a\r\nSet-Cookie: x=1",
    b"a\nX-Injected: 1",
    b"a\n",
    b"a\0",
    b"\xff",
    "é".encode(),
    b"x" * 257,
    b"a,b",
    b'"a"',
    b"%0d%0aSet-Cookie:x",
]


async def test_a_correlator_that_is_none_is_refused_and_not_repeated(api: Api) -> None:
    for given in NO_CORRELATORS:
        response = await api.client.get("/v1/partners", headers=[(b"x-correlator", given)])
        body = problem(response, 400, "bad_request")
        assert body["correlator"] == ""
        assert body["errors"] == [{"pointer": "header/x-correlator", "detail": "is malformed"}]
        safe(response)
        assert "set-cookie" not in response.headers
        assert "x-injected" not in response.headers


# ---------------------------------------------------------------- how much one may ask


async def test_a_partner_that_asks_too_much_is_told_when_to_come_back(api: Api) -> None:
    api.allow(2)
    first = await api.alpha.get("/v1/partners")
    assert first.headers["ratelimit-policy"] == '"burst";q=2;w=60'
    assert first.headers["ratelimit"] == '"burst";r=1;t=30'
    assert "retry-after" not in first.headers
    assert (await api.alpha.get("/v1/keys")).status_code == 200
    told = await api.alpha.get("/v1/partners")
    body = problem(told, 429, "too_many_requests")
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert 1 <= int(told.headers["retry-after"]) <= 30
    assert told.headers["ratelimit"].startswith('"burst";r=0;')
    other = await api.key("partners:read", partner_id=api.alpha.partner_id)
    problem(await other.get("/v1/partners"), 429, "too_many_requests")
    assert (await api.beta.get("/v1/partners")).status_code == 200


# ---------------------------------------------------------------- headers and methods


async def test_secure_headers_on_every_answer(api: Api) -> None:
    reader = await api.key("partners:read")
    new = {"name": "E-Plus", "currency": "EUR"}
    path = f"/v1/partners/{api.alpha.id}"
    answers = {
        200: await api.operator.get("/v1/partners"),
        201: await api.operator.post("/v1/partners", new),
        304: await api.operator.ask("GET", path, headers={"If-None-Match": await api.operator.etag(path)}),
        400: await api.operator.get("/v1/partners", colour="blue"),
        401: await api.client.get("/v1/partners"),
        403: await reader.post("/v1/partners", new),
        404: await api.operator.get("/nothing"),
        405: await api.operator.ask("DELETE", "/v1/partners"),
        409: await api.operator.post("/v1/partners", new),
        412: await api.operator.patch(path, {}, '"77"'),
        415: await api.operator.ask(
            "POST", "/v1/partners", content=b"x", headers={"Content-Type": "text/plain"}
        ),
        422: await api.operator.post("/v1/partners", {}),
        428: await api.operator.ask("PATCH", path, json={}),
    }
    for status, response in answers.items():
        assert response.status_code == status, response.text
        safe(response)
        if status >= 400:
            assert problem(response, status, response.json()["code"])["instance"].startswith("/")


async def test_an_accident_says_nothing_of_itself(api: Api) -> None:
    @api.app.get("/broken")
    async def broken(request: Request) -> None:
        raise RuntimeError("the password is swordfish")

    async with hurried(api, 5.0) as client:
        told = await client.get("/broken")
    problem(told, 500, "internal")
    safe(told)
    assert "swordfish" not in told.text
    assert "Traceback" not in told.text


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_other_sites_are_not_let_in(api: Api, method: str) -> None:
    headers = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for path in ("/v1/partners", "/oauth2/token", "/healthz"):
        safe(await api.operator.ask(method, path, headers=headers))


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "BREW", "CONNECT"])
async def test_a_method_that_is_not_there(api: Api, method: str) -> None:
    allowed = {
        "/v1/partners": "GET, POST",
        "/v1/partners/prt_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8": "GET, PATCH",
        "/v1/keys/key_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8": "DELETE, GET, PATCH",
        "/v1/audit-log": "GET",
    }
    for path, methods in allowed.items():
        for client in (api.operator, Client(api.client, "wrong")):
            response = await client.ask(method, path)
            assert response.status_code == 405
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["allow"] == methods
            safe(response)
            if method != "HEAD":  # which is answered without a body
                problem(response, 405, "method_not_allowed")


# ---------------------------------------------------------------- what is no JSON, and what is no text


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


NO_REQUESTS = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b'{"name": "\xff", "currency": "EUR"}',
    b'{"name": "\\ud800", "currency": "EUR"}',
    b'{"\\ud800": 1, "name": "x", "currency": "EUR"}',
    b'{"name": "\\u0000", "currency": "EUR"}',
    b'{"name": NaN, "currency": "EUR"}',
    b'{"name": "x", "currency": Infinity}',
    b'{"name": ' + b"9" * 5_000 + b', "currency": "EUR"}',
    nested(100_000).encode(),
    b'{"name": ' + nested(500).encode() + b', "currency": "EUR"}',
    b'{"name": "x", "currency": "EUR", "a\\u0007b/c~d": 1}',
    b'{"__proto__": {}, "name": "x", "currency": "EUR"}',
]


async def test_a_body_that_is_no_request(api: Api) -> None:
    for body in NO_REQUESTS:
        response = await api.operator.ask("POST", "/v1/partners", content=body, headers=JSON)
        assert response.status_code in (400, 422), response.text
        problem(response, response.status_code, response.json()["code"])
        safe(response)
        assert await api.house.value("SELECT count(*) FROM partner") == 2


NO_PATHS = [
    "/v1/partners/%00",
    "/v1/partners/%ff%fe",
    "/v1/partners/..%2f..%2fetc",
    "/v1/partners/prt_%0d%0a",
    "//v1/partners",
    "/v1/partners/",
    "/V1/partners",
]


async def test_a_path_that_names_nothing(api: Api) -> None:
    for path in NO_PATHS:
        response = await api.operator.ask("GET", path)
        problem(response, 404, "not_found")
        safe(response)


async def test_a_host_that_is_none_changes_nothing(api: Api) -> None:
    new = {"name": "E-Plus", "currency": "EUR"}
    key = {"Idempotency-Key": "one"}
    first = await api.operator.post("/v1/partners", new, headers=key)
    for host in ("", "[", "[::", "a b", "evil.example/v1/keys?", "bridge:99999", "bridge:x"):
        headers: dict[str, Any] = {"Host": host}
        assert (await api.operator.ask("GET", "/v1/partners", headers=headers)).status_code == 200
        told = await api.operator.ask("GET", "/v1/partners/7", headers=headers)
        assert problem(told, 404, "not_found")["instance"] == "/v1/partners/7"
        again = await api.operator.post("/v1/partners", new, headers=key | headers)
        assert again.content == first.content
