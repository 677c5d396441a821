"""OAuth2 client credentials: a client's secret for a token of an hour, and what the token is good for."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import structlog
from httpx import Response

from bridge.api.app import guarded
from bridge.api.auth import issue_key
from bridge.api.keyring import Keyring, TokenKey
from bridge.api.tokens import LEEWAY_S, TOKEN_S, make_token
from bridge.config import Api as ApiSettings
from bridge.database import connection
from tests.api.scene import Api, Client, problem
from tests.seeded import at_once

URL = "/oauth2/token"
GRANT = {"grant_type": "client_credentials"}
SCOPES = ("keys:read", "keys:write", "partners:read")


async def a_client(
    api: Api, scopes: Sequence[str] = SCOPES, partner_id: UUID | None = None, **more: Any
) -> tuple[UUID, dict[str, str]]:
    """The id of a client of alpha's, and how it shows itself in a form."""
    async with connection(api.house.pool) as conn:
        key_id, secret = await issue_key(
            conn, "app", partner_id=partner_id or api.alpha.partner_id, scopes=scopes, kind="client", **more
        )
    return key_id, {"client_id": secret[:11], "client_secret": secret}


async def ask(api: Api, form: dict[str, str], **more: Any) -> Response:
    return await api.client.post(URL, data=form, **more)


async def token_of(api: Api, shown: dict[str, str], **more: str) -> Client:
    response = await ask(api, GRANT | shown | more)
    assert response.status_code == 200, response.text
    return Client(api.client, response.json()["access_token"])


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def error(response: Response, status: int, code: str) -> dict[str, Any]:
    """The error of RFC 6749, 5.2, that a response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == code, body
    said = body["error_description"]
    assert said.isascii() and '"' not in said and "\\" not in said, "RFC 6749, 5.2 allows no more"
    return body


async def test_a_token_for_the_secret_in_the_form_or_by_basic(api: Api) -> None:
    _, shown = await a_client(api)
    by_form = await ask(api, GRANT | shown)
    by_header = await ask(
        api, GRANT, headers=basic(client_id=shown["client_id"], secret=shown["client_secret"])
    )
    for response in (by_form, by_header):
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        told = response.json()
        assert (told["token_type"], told["expires_in"], told["scope"]) == (
            "Bearer",
            TOKEN_S,
            " ".join(SCOPES),
        )
        listed = (await Client(api.client, told["access_token"]).get("/v1/partners")).json()["data"]
        assert [one["partner_id"] for one in listed] == [api.alpha.id]


async def test_scopes_can_be_narrowed_and_not_widened(api: Api) -> None:
    _, shown = await a_client(api)
    narrow = await token_of(api, shown, scope="partners:read")
    assert (await narrow.get("/v1/partners")).status_code == 200
    problem(await narrow.get("/v1/keys"), 403, "scope_missing")
    for scope in (
        "calls:read",
        "*",
        "partners:read calls:read",
        "partners:write",
        "money:print",
        "ü",
        "x" * 5_000,
    ):
        error(await ask(api, GRANT | shown | {"scope": scope}), 400, "invalid_scope")


async def test_a_client_of_all_scopes_is_still_a_partners(api: Api) -> None:
    _, shown = await a_client(api, ["*"])
    error(await ask(api, GRANT | shown | {"scope": "partners:write"}), 400, "invalid_scope")
    token = await token_of(api, shown)
    problem(await token.post("/v1/partners", {"name": "E-Plus", "currency": "EUR"}), 403, "not_allowed")
    narrow = await token_of(api, shown, scope="keys:read keys:write")
    problem(await narrow.post("/v1/keys", {"name": "x", "scopes": ["*"]}), 403, "scope_missing")
    problem(await narrow.get(f"/v1/partners/{api.alpha.id}"), 403, "scope_missing")


async def test_a_token_sees_its_partner_only(api: Api) -> None:
    _, shown = await a_client(api, ["*"])
    token = await token_of(api, shown)
    problem(await token.get(f"/v1/partners/{api.beta.id}"), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": "CLIENT_CREDENTIALS"}, "unsupported_grant_type"),
        ({"scope": " "}, "invalid_scope"),
    ],
)
async def test_what_is_not_asked_as_the_rfc_has_it(api: Api, change: dict[str, str], code: str) -> None:
    _, shown = await a_client(api)
    error(await ask(api, GRANT | shown | change), 400, code)


async def test_bodies_of_another_form(api: Api) -> None:
    _, shown = await a_client(api)
    error(await api.client.post(URL, json=GRANT | shown), 400, "invalid_request")
    error(await api.client.post(URL), 400, "invalid_request")
    error(await api.client.post(URL, data=GRANT | shown, files={"x": b"y"}), 400, "invalid_request")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    twice = "grant_type=client_credentials&" * 2
    error(await api.client.post(URL, content=twice, headers=form), 400, "invalid_request")
    for junk in (b"\0\xff%", b"%zz=%00&=&&&", b"a=b;" * 50_000):
        error(await api.client.post(URL, content=junk, headers=form), 400, "invalid_request")
    error(await api.client.post(URL, content=b"a" * (2 << 20), headers=form), 413, "invalid_request")
    both = await ask(api, GRANT | shown, headers=basic(shown["client_id"], shown["client_secret"]))
    error(both, 400, "invalid_request")
    other = await ask(
        api, GRANT | {"client_id": "cb_other"}, headers=basic(shown["client_id"], shown["client_secret"])
    )
    error(other, 400, "invalid_request")
    error(await api.client.get(URL), 405, "invalid_request")
    known = await ask(api, GRANT | shown | {"resource": "https://example.org"})
    assert known.status_code == 200, "what is not known is ignored"


async def test_who_is_not_a_client(api: Api) -> None:
    _, shown = await a_client(api)
    key_id, secret = shown["client_id"], shown["client_secret"]
    wrong: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"client_id": key_id}, {}),
        ({"client_secret": secret}, {}),
        ({"client_id": key_id, "client_secret": secret[:-1]}, {}),
        ({"client_id": key_id, "client_secret": secret + "A"}, {}),
        ({"client_id": "cb_00000000", "client_secret": secret}, {}),
        ({"client_id": secret, "client_secret": secret}, {}),
        ({"client_id": "c", "client_secret": secret}, {}),
        ({"client_id": "cb_ü", "client_secret": "cb_ü_\0"}, {}),
        ({"client_id": api.alpha.key[:11], "client_secret": api.alpha.key}, {}),  # a key is no client
        ({}, basic(key_id, "x")),
        ({}, basic("", "")),
        ({}, {"Authorization": "Basic"}),
        ({}, {"Authorization": "Basic %%%"}),
        ({}, {"Authorization": "Basic /w=="}),
        ({}, {"Authorization": f"Bearer {secret}"}),
    ]
    for form, headers in wrong:
        response = await ask(api, GRANT | form, headers=headers)
        error(response, 401, "invalid_client")
        assert response.headers["www-authenticate"].startswith("Basic realm=")


async def test_a_clients_secret_is_no_key(api: Api) -> None:
    _, shown = await a_client(api)
    problem(await Client(api.client, shown["client_secret"]).get("/v1/partners"), 401, "not_authenticated")


@pytest.mark.parametrize(
    "ending",
    [
        "UPDATE api_key SET revoked_at = now() WHERE kind = 'client'",
        "UPDATE api_key SET expires_at = now() WHERE kind = 'client'",
        "UPDATE api_key SET kind = 'key' WHERE kind = 'client'",
        "UPDATE partner SET state = 'closed'",
        "DELETE FROM api_key WHERE kind = 'client'",
    ],
)
async def test_a_token_dies_with_its_client(api: Api, ending: str) -> None:
    _, shown = await a_client(api)
    token = await token_of(api, shown)
    assert (await token.get("/v1/partners")).status_code == 200
    await api.house.rows(ending)
    problem(await token.get("/v1/partners"), 401, "not_authenticated")
    error(await ask(api, GRANT | shown), 401, "invalid_client")


async def test_a_client_is_rotated_and_revoked_like_a_key(api: Api) -> None:
    made = (await api.alpha.post("/v1/keys", {"name": "app", "scopes": ["*"], "kind": "client"})).json()
    path = f"/v1/keys/{made['key_id']}"
    token = await token_of(api, {"client_id": made["prefix"], "client_secret": made["secret"]})
    new = (await api.alpha.post(f"{path}/rotate", {"overlap_s": 0})).json()
    assert new["kind"] == "client"
    problem(await token.get("/v1/partners"), 401, "not_authenticated")
    token = await token_of(api, {"client_id": new["prefix"], "client_secret": new["secret"]})
    assert (await token.delete(f"/v1/keys/{new['key_id']}")).status_code == 204
    problem(await token.get("/v1/partners"), 401, "not_authenticated")


async def test_a_token_that_was_narrowed_meanwhile(api: Api) -> None:
    key_id, shown = await a_client(api)
    token = await token_of(api, shown)
    await api.house.rows("UPDATE api_key SET scopes = '{keys:read}' WHERE api_key_id = $1", key_id)
    assert (await token.get("/v1/keys")).status_code == 200
    problem(await token.get("/v1/partners"), 403, "scope_missing")


async def test_tokens_of_another_time(api: Api) -> None:
    key_id, shown = await a_client(api)
    await token_of(api, shown)
    row = await api.house.row("SELECT kid, secret FROM token_key")
    signer, now_s = TokenKey(row["kid"].hex, row["secret"]), int(time.time())
    for begun_s, status in (
        (now_s, 200),
        (now_s - TOKEN_S - LEEWAY_S // 2, 200),  # its end is past, by less than clocks may differ
        (now_s - TOKEN_S - LEEWAY_S - 1, 401),
        (now_s + LEEWAY_S - 1, 200),
        (now_s + LEEWAY_S + 60, 401),
    ):
        token = Client(api.client, make_token(signer, key_id, ["partners:read"], begun_s))
        assert (await token.get("/v1/partners")).status_code == status, begun_s - now_s
    foreign = TokenKey(signer.header["kid"], b"x" * 32)
    unknown = TokenKey(uuid4().hex, row["secret"])
    for wrong in (foreign, unknown):
        token = Client(api.client, make_token(wrong, key_id, ["partners:read"], now_s))
        problem(await token.get("/v1/partners"), 401, "not_authenticated")
    nobody = Client(api.client, make_token(signer, uuid4(), ["partners:read"], now_s))
    problem(await nobody.get("/v1/partners"), 401, "not_authenticated")


async def test_texts_with_two_dots_are_no_tokens(api: Api) -> None:
    for text in ("..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 9_000 + "..", "%00.%00.%00", "é.é.é"):
        token = Client(api.client, "")
        headers = [(b"Authorization", f"Bearer {text}".encode())]
        problem(await token.http.get("/v1/partners", headers=headers), 401, "not_authenticated")


# ---------------------------------------------------------------- the secrets that sign


async def test_a_new_secret_signs_after_thirty_days_and_the_old_one_verifies_on(api: Api) -> None:
    _, shown = await a_client(api)
    first = await token_of(api, shown)
    await api.house.rows("UPDATE token_key SET created_at = now() - interval '30 days 59 minutes'")
    second = await token_of(api, shown)
    assert await api.house.value("SELECT count(*) FROM token_key") == 2
    assert first.key.partition(".")[0] != second.key.partition(".")[0]
    for token in (first, second):
        assert (await token.get("/v1/partners")).status_code == 200
    await api.house.rows(
        "UPDATE token_key SET created_at = created_at - interval '2 days' WHERE created_at < now() - interval '30 days'"
    )
    api.app.state.services = replace(api.services, keyring=Keyring())
    problem(await first.get("/v1/partners"), 401, "not_authenticated")
    assert (await second.get("/v1/partners")).status_code == 200


async def test_another_worker_knows_a_new_secret(api: Api) -> None:
    """Each worker has a keyring of its own; the one that has not seen a secret looks once more."""
    _, shown = await a_client(api)
    token = await token_of(api, shown)
    api.app.state.services = replace(api.services, keyring=Keyring())
    assert (await token.get("/v1/partners")).status_code == 200


async def test_a_secret_that_was_taken_out_is_soon_forgotten(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, shown = await a_client(api)
    token = await token_of(api, shown)
    await api.house.rows("DELETE FROM token_key")
    monkeypatch.setattr("bridge.api.keyring.TRUSTED_S", 0.0)
    monkeypatch.setattr("bridge.api.keyring.ASKED_S", 0.0)
    problem(await token.get("/v1/partners"), 401, "not_authenticated")


async def test_made_up_tokens_do_not_each_reach_the_database(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read the secrets is to make one where there is none."""
    _, shown = await a_client(api)
    await token_of(api, shown)
    await api.house.rows("DELETE FROM token_key")
    monkeypatch.setattr("bridge.api.keyring.ASKED_S", 600.0)
    for _ in range(5):
        problem(
            await Client(api.client, f"{uuid4().hex}.e30.x").get("/v1/partners"), 401, "not_authenticated"
        )
    assert await api.house.value("SELECT count(*) FROM token_key") == 0
    monkeypatch.setattr("bridge.api.keyring.ASKED_S", 0.0)
    await Client(api.client, f"{uuid4().hex}.e30.x").get("/v1/partners")
    assert await api.house.value("SELECT count(*) FROM token_key") == 1


async def test_who_comes_while_a_secret_is_made_waits_for_it(api: Api) -> None:
    made = "SELECT kid FROM token_keys_v1()"
    async with api.house.pool.acquire() as first, api.house.pool.acquire() as second:
        async with first.transaction():
            kid = await first.fetchval(made)
            await second.execute("SET lock_timeout = '50ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await second.fetchval(made)
        assert [row["kid"] for row in await second.fetch(made)] == [kid]


async def test_many_workers_at_once_make_one_secret(api: Api) -> None:
    await at_once([lambda: Keyring().newest(api.house.pool)] * 12)
    assert await api.house.value("SELECT count(*) FROM token_key") == 1
    row = await api.house.row("SELECT secret, created_at, now() AS at FROM token_key")
    assert len(row["secret"]) == 32
    assert row["at"] - row["created_at"] < timedelta(minutes=1)


# ---------------------------------------------------------------- how much one may ask


def limited(api: Api, **quotas: int) -> None:
    fewer = api.services.settings.model_copy(update={"api": ApiSettings(**quotas)})
    api.app.state.services = replace(api.services, settings=fewer)


async def test_a_client_that_asks_for_too_many_tokens(api: Api) -> None:
    _, shown = await a_client(api)
    limited(api, quota=1)
    assert (await ask(api, GRANT | shown)).status_code == 200
    told = await ask(api, GRANT | shown)
    error(told, 429, "temporarily_unavailable")
    assert int(told.headers["retry-after"]) >= 1


async def test_strangers_are_slowed_and_their_neighbours_are_not(api: Api) -> None:
    _, shown = await a_client(api)
    limited(api, stranger_quota=2)
    stranger = Client(api.client, "cb_00000000_" + "A" * 43)
    problem(await stranger.get("/v1/partners"), 401, "not_authenticated")
    error(
        await ask(api, GRANT | shown | {"client_secret": shown["client_secret"] + "A"}), 401, "invalid_client"
    )
    told = await stranger.get("/v1/partners")
    problem(told, 429, "too_many_requests")
    assert int(told.headers["retry-after"]) >= 1
    error(await ask(api, GRANT), 429, "temporarily_unavailable")
    problem(await api.client.get("/v1/partners"), 429, "too_many_requests")
    assert (await api.alpha.get("/v1/partners")).status_code == 200, "a valid key is let in from anywhere"
    token = await token_of(api, shown)
    assert (await token.get("/v1/partners")).status_code == 200


async def test_tokens_at_once(api: Api) -> None:
    """Two workers that have no secret yet, and many clients."""
    _, shown = await a_client(api)
    said = await asyncio.gather(*(ask(api, GRANT | shown) for _ in range(20)))
    assert {one.status_code for one in said} == {200}
    assert len({one.json()["access_token"] for one in said}) == 20
    assert await api.house.value("SELECT count(*) FROM token_key") == 1


async def test_who_hangs_up_amid_the_form_breaks_nothing(api: Api) -> None:
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"",
        "http_version": "1.1", "scheme": "http", "server": ("bridge", 80), "client": ("127.0.0.1", 1), "root_path": "",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"100")],
    }  # fmt: skip
    with structlog.testing.capture_logs() as logged:
        await guarded(api.app)(scope, receive, send)
    assert told[0]["status"] == 400
    assert logged == []
