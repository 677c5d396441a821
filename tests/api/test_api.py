"""The HTTP side on real Postgres: who gets in, what calls look like, what health says without a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient, Response
from prometheus_client.parser import text_string_to_metric_families

from bridge.api.app import Services, create_app
from bridge.api.auth import create_key
from bridge.asterisk.agi_server import AgiStats
from bridge.calls.book_watch import BookWatch
from bridge.database import connection
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.seeded import Seeded, ended, seeded


@dataclass
class Api:
    """A client without a key, a key, and the house behind. `sockets` is the link by which the database is reached."""

    client: AsyncClient
    key: str
    house: Seeded
    books: BookWatch
    agi: AgiStats
    sockets: Path

    async def get(self, path: str, **query: object) -> Response:
        """As the holder of the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.client.get(
            path, params={name: str(value) for name, value in query.items()}, headers=headers
        )


@pytest.fixture
async def api(dsn: str, tmp_path: Path) -> AsyncIterator[Api]:
    """The database's socket is reached through a link that a test can take away."""
    sockets = dsn.partition("host=")[2].partition("&")[0]
    link = tmp_path / "pg"
    link.symlink_to(sockets)
    async with seeded(dsn.replace(sockets, str(link))) as house:
        books, agi = BookWatch(house.pool, dsn), AgiStats()
        async with connection(house.pool) as conn:
            key = await create_key(conn, "tests")
        app = create_app(Services(house.pool, books, lambda: asdict(agi), lambda: None))
        async with AsyncClient(transport=ASGITransport(app), base_url="http://bridge") as client:
            yield Api(client, key, house, books, agi, link)
        assert not await house.broken()


def problem(response: Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    return body


async def refused(api: Api, headers: dict[str, str] | list[tuple[bytes, bytes]]) -> None:
    for path in ("/v1/calls", f"/v1/calls/{uuid4()}"):
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
    assert (await api.get("/v1/calls")).status_code == 200
    last = "A" if api.key[-1] != "A" else "B"
    for wrong in (api.key[:-1] + last, api.key[:-1], api.key + "A", api.key.upper(), api.key[:11]):
        await refused(api, {"Authorization": f"Bearer {wrong}"})


async def test_expired_and_revoked_keys_are_told_alike(api: Api) -> None:
    now = datetime.now(UTC)
    async with connection(api.house.pool) as conn:
        expired = await create_key(conn, "expired", now - timedelta(seconds=1))
        lasting = await create_key(conn, "lasting", now + timedelta(hours=1))
    ok = await api.client.get("/v1/calls", headers={"Authorization": f"Bearer {lasting}"})
    assert ok.status_code == 200
    await refused(api, {"Authorization": f"Bearer {expired}"})
    await api.house.rows("UPDATE api_key SET revoked_at = now() WHERE name IN ('tests', 'lasting')")
    for key in (api.key, lasting):
        await refused(api, {"Authorization": f"Bearer {key}"})


async def test_keys_are_kept_as_digests_only(api: Api) -> None:
    row = await api.house.row("SELECT * FROM api_key")
    assert api.key not in repr(dict(row))
    assert api.key.startswith(row["prefix"])
    assert len(row["hash"]) == 32


async def test_pages_are_stable_while_calls_come_in(api: Api) -> None:
    who = await api.house.subscriber(balance_micro=10**9)
    old = [str((await api.house.admitted(who)).frozen.call_id) for _ in range(7)]
    seen: list[str] = []
    before: dict[str, object] = {}
    while True:
        page = (await api.get("/v1/calls", limit=3, **before)).json()
        seen += [call["call_id"] for call in page["calls"]]
        await api.house.admitted(who)
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == sorted(old, reverse=True)
    assert len((await api.get("/v1/calls")).json()["calls"]) == 10


async def test_a_full_last_page_has_no_next(api: Api) -> None:
    who = await api.house.subscriber(balance_micro=10**9)
    for _ in range(3):
        await api.house.admitted(who)
    assert (await api.get("/v1/calls", limit=3)).json()["next"] is None
    assert (await api.get("/v1/calls", limit=2)).json()["next"] is not None


async def test_nothing_yet_is_an_empty_page(api: Api) -> None:
    assert (await api.get("/v1/calls")).json() == {"calls": [], "next": None}


async def test_the_story_of_a_call(api: Api) -> None:
    who = await api.house.subscriber(balance_micro=50_000)
    call_id = (await api.house.admitted(who)).frozen.call_id
    await api.house.end(ended(call_id, 6_001))
    response = await api.get(f"/v1/calls/{call_id}")
    assert response.status_code == 200
    told = response.json()
    assert (told["state"], told["talk_ms"], told["billed_s"]) == ("answered", 6_001, 7)
    assert (told["charge"], told["cost"], told["currency"]) == ("0.007", "0.0035", "EUR")
    assert (told["hold"]["opened"], told["hold"]["settled"], told["hold"]["released"]) == (
        "0.01",
        "0.007",
        "0.003",
    )
    assert [(one["account"], one["amount"]) for one in told["entries"]] == [
        (f"subscriber {who.a_number}", "-0.007"),
        ("revenue EUR", "0.007"),
        ("cost EUR", "-0.0035"),
        ("carrier alpha", "0.0035"),
    ]
    assert [one["outcome"] for one in told["attempts"]] == ["answered"]
    assert [one["trunk"] for one in told["routes"]] == ["alpha", "beta"]
    assert told["charge_steps"]
    assert told["cdr"]["ended_by"] == "journal"
    listed = (await api.get("/v1/calls")).json()["calls"]
    assert [(one["call_id"], one["charge"]) for one in listed] == [(str(call_id), "0.007")]


async def test_a_refusal_has_its_story_too(api: Api) -> None:
    await api.house.call(await api.house.subscriber())
    (listed,) = (await api.get("/v1/calls")).json()["calls"]
    assert (listed["state"], listed["refuse_reason"], listed["charge"]) == ("refused", "no_credit", None)
    told = (await api.get(f"/v1/calls/{listed['call_id']}")).json()
    assert (told["state"], told["attempts"], told["entries"], told["hold"]) == ("refused", [], [], {})


async def test_a_call_that_is_not_there(api: Api) -> None:
    missing = uuid4()
    assert str(missing) in str(problem(await api.get(f"/v1/calls/{missing}"), 404, "not_found")["detail"])


async def test_a_page_that_is_not_there(api: Api) -> None:
    problem(await api.get("/v2/nothing"), 404, "http_error")


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/v1/calls/7", {}, "path/call_id"),
        ("/v1/calls", {"limit": 0}, "query/limit"),
        ("/v1/calls", {"limit": 101}, "query/limit"),
        ("/v1/calls", {"limit": "many"}, "query/limit"),
        ("/v1/calls", {"before": "yesterday"}, "query/before"),
    ],
)
async def test_what_has_another_shape(api: Api, path: str, query: dict[str, object], pointer: str) -> None:
    body = problem(await api.get(path, **query), 422, "invalid_request")
    errors = body["errors"]
    assert isinstance(errors, list)
    assert [one["pointer"] for one in errors] == [pointer]


async def test_only_the_holder_of_a_key_learns_what_shape_is_wanted(api: Api) -> None:
    problem(await api.client.get("/v1/calls", params={"limit": "0"}), 401, "not_authenticated")


async def test_alive_without_a_key(api: Api) -> None:
    response = await api.client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_when_there_are_a_database_and_a_book(api: Api) -> None:
    response = await api.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == "ok"
    await api.books.load()
    response = await api.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "database": "ok", "book": "ok", "ami": "kept by another worker"}


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
    problem(await api.get("/v1/calls"), 503, "unavailable")
    assert (await api.client.get("/healthz")).status_code == 200
    api.sockets.symlink_to(sockets)
    assert (await api.client.get("/readyz")).status_code == 200
    assert (await api.get("/v1/calls")).status_code == 200


async def test_metrics_can_be_scraped(api: Api) -> None:
    api.agi.accepted += 3
    await api.books.load()
    response = await api.client.get("/metrics")
    assert response.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert families["callbridge_books_loaded"].samples[0].value == 1
    assert families["callbridge_agi_sessions_open"].samples[0].value == 3
    assert {family.type for family in families.values()} <= {"counter", "gauge"}
