"""The HTTP side on real Postgres: who gets in, what health says without a database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.api.auth import create_key
from bridge.database import connection
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.api.scene import Api, Partner, problem


async def refused(api: Api, headers: dict[str, str] | list[tuple[bytes, bytes]]) -> None:
    for path in ("/v1/partners", "/v1/partners/prt_7"):
        response = await api.client.get(path, headers=headers)
        problem(response, 401, "not_authenticated")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer cb_",
        "Bearer cb_00000000_" + "A" * 43,
        "Bearer " + "x" * 5_000,
        "Bearer ' OR 1=1 --",
    ],
)
async def test_without_a_valid_key_nobody_gets_in(api: Api, authorization: str | None) -> None:
    await refused(api, {} if authorization is None else {"Authorization": authorization})


@pytest.mark.parametrize(
    "raw", ["Bearer schlüssel".encode(), b"Bearer \xff\xfe", b"Bearer cb_\x00", "Bearer ключ".encode()]
)
async def test_bytes_that_are_no_text_are_no_key(api: Api, raw: bytes) -> None:
    await refused(api, [(b"Authorization", raw)])


async def test_a_valid_key_gets_in_and_near_misses_do_not(api: Api) -> None:
    assert (await api.operator.get("/v1/partners")).status_code == 200
    last = "A" if api.operator.key[-1] != "A" else "B"
    for wrong in (
        api.operator.key[:-1] + last,
        api.operator.key[:-1],
        api.operator.key + "A",
        api.operator.key.upper(),
        api.operator.key[:11],
    ):
        await refused(api, {"Authorization": f"Bearer {wrong}"})


async def test_expired_and_revoked_keys_are_told_alike(api: Api) -> None:
    now = datetime.now(UTC)
    async with connection(api.house.pool) as conn:
        expired = await create_key(conn, "expired", now - timedelta(seconds=1))
        lasting = await create_key(conn, "lasting", now + timedelta(hours=1))
    ok = await api.client.get("/v1/partners", headers={"Authorization": f"Bearer {lasting}"})
    assert ok.status_code == 200
    await refused(api, {"Authorization": f"Bearer {expired}"})
    await api.house.rows("UPDATE api_key SET revoked_at = now() WHERE name IN ('tests', 'lasting')")
    for key in (api.operator.key, lasting):
        await refused(api, {"Authorization": f"Bearer {key}"})


async def test_keys_are_kept_as_digests_only(api: Api) -> None:
    row = await api.house.row("SELECT * FROM api_key WHERE name = 'tests'")
    assert api.operator.key not in repr(dict(row))
    assert api.operator.key.startswith(row["prefix"])
    assert len(row["hash"]) == 32


async def test_a_page_that_is_not_there(api: Api) -> None:
    problem(await api.operator.get("/v2/nothing"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/v1/partners/7", {}, "path/partner_id"),
        ("/v1/partners", {"limit": 0}, "query/limit"),
        ("/v1/partners", {"limit": 101}, "query/limit"),
        ("/v1/partners", {"limit": "many"}, "query/limit"),
        ("/v1/partners", {"cursor": "yesterday"}, "query/cursor"),
    ],
)
async def test_what_has_another_shape(api: Api, path: str, query: dict[str, object], pointer: str) -> None:
    response = await api.operator.get(path, **query)
    errors = problem(response, *((404, "not_found") if "path" in pointer else (400, "bad_request")))["errors"]
    assert [one["pointer"] for one in errors] == [pointer]


async def test_only_the_holder_of_a_key_learns_what_shape_is_wanted(api: Api) -> None:
    problem(await api.client.get("/v1/partners", params={"limit": "0"}), 401, "not_authenticated")


async def test_alive_without_a_key(api: Api) -> None:
    response = await api.client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_when_there_are_a_database_and_a_book(api: Api) -> None:
    response = await api.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == "ok"
    await api.books.load()
    api.agi.accepted, api.agi.answered = 5, 3
    response = await api.client.get("/readyz")
    assert response.status_code == 200
    told = response.json()
    assert told.pop("database_ms") >= 0
    assert told == {
        "ready": True, "database": "ok", "book": "ok", "book_age_s": 0, "deck_age_s": told["deck_age_s"],
        "ami": "kept by another worker", "agi": {"accepted": 5, "open": 2},
    }  # fmt: skip


async def test_old_decks_are_told_of_and_stop_nothing(api: Api) -> None:
    await api.house.rows("ALTER TABLE deck DISABLE TRIGGER ALL")
    await api.house.rows("UPDATE deck SET changed_at = now() - interval '2 days'")
    await api.books.load()
    response = await api.client.get("/readyz")
    assert response.status_code == 200
    assert 2 * 86_400 <= response.json()["deck_age_s"] < 2 * 86_400 + 600


async def test_without_its_database_it_lives_says_so_and_comes_back(
    api: Api, postgres: EmbeddedPostgres, database: str
) -> None:
    await api.books.load()
    sockets = api.sockets.readlink()
    api.sockets.unlink()
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    response = await api.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    assert response.json()["book"] == "ok"
    problem(await api.operator.get("/v1/partners"), 503, "unavailable")
    assert (await api.client.get("/healthz")).status_code == 200
    api.sockets.symlink_to(sockets)
    assert (await api.client.get("/readyz")).status_code == 200
    assert (await api.operator.get("/v1/partners")).status_code == 200


async def test_metrics_can_be_scraped(api: Api) -> None:
    api.agi.accepted += 3
    await api.books.load()
    response = await api.client.get("/metrics")
    assert response.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert families["callbridge_books_loaded"].samples[0].value == 1
    assert families["callbridge_agi_sessions_open"].samples[0].value == 3
    assert {family.type for family in families.values()} <= {"counter", "gauge", "histogram"}


async def test_requests_are_counted_by_route_not_by_what_was_asked(api: Api) -> None:
    await api.operator.get("/v1/partners")
    await api.operator.get(f"/v1/partners/{api.alpha.id}")
    await api.operator.get("/v1/partners/prt_7")
    await api.client.get("/v1/partners")
    for path in ("/never/heard/of", "/nor/of/this"):
        await api.client.request("BREW", path)
    text = (await api.client.get("/metrics")).text
    samples = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "callbridge_api_requests"
        for sample in family.samples
    }
    assert samples == {
        ("GET", "/v1/partners", "200"): 1, ("GET", "/v1/partners", "401"): 1,
        ("GET", "/v1/partners/{partner_id}", "200"): 1, ("GET", "/v1/partners/{partner_id}", "404"): 1,
        ("other", "other", "404"): 2,
    }  # fmt: skip
    assert 'callbridge_api_request_seconds_count{method="GET",route="/v1/partners"} 2.0' in text
    assert api.alpha.id not in text


async def test_no_connection_stays_somebodys(api: Api) -> None:
    """Many at once on few connections, operators between partners, some refused half way: each sees what is theirs."""
    for partner in (api.alpha, api.beta):
        who = await api.house.subscriber(1_000_000)
        await api.own("account", partner, account_id=who.account_id)
        await api.house.call(who, "+999")
    narrow = await api.key("calls:read", partner_id=api.beta.partner_id)
    clients = [api.alpha, api.beta, api.operator, narrow, api.alpha, api.operator] * 10
    said = await asyncio.gather(*(one.get("/v1/cdrs") for one in clients))
    for client, response in zip(clients, said, strict=True):
        if client is narrow:
            problem(response, 403, "scope_missing")
            continue
        owners = {one["partner_id"] for one in response.json()["data"]}
        assert owners == ({client.id} if isinstance(client, Partner) else {api.alpha.id, api.beta.id})


async def test_revoked_while_others_go_on(api: Api) -> None:
    assert (await api.alpha.get("/v1/cdrs")).status_code == 200
    await api.house.rows("UPDATE api_key SET revoked_at = now() WHERE partner_id = $1", api.alpha.partner_id)
    problem(await api.alpha.get("/v1/cdrs"), 401, "not_authenticated")
    problem(await api.alpha.get("/v1/cdrs/cdr_7"), 401, "not_authenticated")
    assert (await api.beta.get("/v1/cdrs")).json()["data"] == []
