"""The audit log: who changed what, and what a partner may know of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from bridge import queries
from bridge.database import transaction
from tests.api.scene import Api, Client, problem

KEY = {"name": "billing", "scopes": ["cdrs:read"]}


async def entries(client: Client, **query: Any) -> list[dict[str, Any]]:
    response = await client.get("/v1/audit-log", **query)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def test_a_change_is_told_with_all_that_belongs_to_it(api: Api) -> None:
    made = await api.alpha.post("/v1/keys", KEY, headers={"x-correlator": "mine-7"})
    (entry,) = await entries(api.alpha)
    assert entry == (await api.alpha.get(f"/v1/audit-log/{entry['audit_id']}")).json()
    assert entry | {"audit_id": "", "done_at": ""} == {
        "audit_id": "",
        "partner_id": api.alpha.id,
        "actor": f"Alpha {api.alpha.key[:11]}",
        "action": "key.create",
        "subject": made.json()["key_id"],
        "detail": KEY,
        "correlator": "mine-7",
        "remote": "127.0.0.1",
        "done_at": "",
    }
    age = datetime.now(UTC) - datetime.fromisoformat(entry["done_at"])
    assert timedelta() <= age < timedelta(minutes=1)


async def test_what_failed_was_not_done(api: Api) -> None:
    problem(await api.alpha.post("/v1/keys", KEY | {"scopes": ["partners:write"]}), 422, "invalid_request")
    made = (await api.alpha.post("/v1/keys", KEY)).json()
    problem(await api.alpha.delete(f"/v1/keys/{made['key_id']}", '"7"'), 412, "stale")
    assert [one["action"] for one in await entries(api.operator)] == ["key.create"]


async def test_a_partner_sees_its_own_only(api: Api) -> None:
    await api.beta.post("/v1/keys", KEY)
    await api.operator.post("/v1/keys", KEY)
    assert await entries(api.alpha) == []
    assert [one["partner_id"] for one in await entries(api.operator)] == [None, api.beta.id]
    for entry in await entries(api.operator):
        problem(await api.alpha.get(f"/v1/audit-log/{entry['audit_id']}"), 404, "not_found")
    problem(await api.alpha.get("/v1/audit-log", partner_id=api.beta.id), 404, "not_found")
    assert len(await entries(api.operator, partner_id=api.beta.id)) == 1


async def test_of_an_operators_change_a_partner_learns_what_and_when(api: Api) -> None:
    await api.operator.post("/v1/keys", KEY | {"partner_id": api.alpha.id})
    (entry,) = await entries(api.alpha)
    assert (entry["action"], entry["actor"], entry["detail"], entry["remote"]) == (
        "key.create",
        "operator",
        None,
        None,
    )
    (told,) = await entries(api.operator)
    assert told["actor"].startswith("tests cb_")
    assert told["detail"]["scopes"] == ["cdrs:read"]
    assert told["remote"] == "127.0.0.1"
    one = (await api.alpha.get(f"/v1/audit-log/{entry['audit_id']}")).json()
    assert one == entry


async def test_filters(api: Api) -> None:
    first = (await api.alpha.post("/v1/keys", KEY)).json()
    await api.alpha.patch(f"/v1/keys/{first['key_id']}", {"name": "b"})
    second = (await api.alpha.post("/v1/keys", KEY)).json()
    now = datetime.now(UTC)
    for client in (api.alpha, api.operator):
        assert len(await entries(client)) == 3
        assert len(await entries(client, action="key.create")) == 2
        assert len(await entries(client, subject=second["key_id"])) == 1
        assert len(await entries(client, subject=first["key_id"], action="key.change")) == 1
        assert await entries(client, action="deal.create") == []
        assert await entries(client, since=(now + timedelta(minutes=1)).isoformat()) == []
        assert len(await entries(client, since=(now - timedelta(minutes=1)).isoformat())) == 3
        assert await entries(client, until=(now - timedelta(minutes=1)).isoformat()) == []
        assert len(await entries(client, since="1970-01-01T00:00:00Z", until="2999-12-31T00:00:00Z")) == 3


async def test_pages(api: Api) -> None:
    for place in range(5):
        await api.alpha.post("/v1/keys", KEY | {"name": f"key {place}"})
    first = (await api.alpha.get("/v1/audit-log", limit=3)).json()
    await api.alpha.post("/v1/keys", KEY)
    second = (await api.alpha.get("/v1/audit-log", limit=3, cursor=first["next"])).json()
    assert [one["detail"]["name"] for one in first["data"] + second["data"]] == [
        f"key {place}" for place in (4, 3, 2, 1, 0)
    ]
    assert second["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        {"action": "key"},
        {"action": "KEY.CREATE"},
        {"action": "a." + "b" * 90},
        {"subject": "' OR true --"},
        {"subject": "key_7"},
        {"since": "yesterday"},
        {"since": "0.5"},
        {"since": "2026-01-01T00:00:00"},
        {"until": "9999-12-31T00:00:00Z"},
        {"partner_id": "7"},
        {"actor": "me"},
    ],
)
async def test_what_has_another_shape(api: Api, query: dict[str, str]) -> None:
    problem(await api.alpha.get("/v1/audit-log", **query), 400, "bad_request")


async def test_who_may_read_it(api: Api) -> None:
    clerk = await api.key("keys:read", partner_id=api.alpha.partner_id)
    problem(await clerk.get("/v1/audit-log"), 403, "scope_missing")
    problem(await api.client.get("/v1/audit-log"), 401, "not_authenticated")
    problem(await api.alpha.get(f"/v1/audit-log/aud_{uuid4().hex}"), 404, "not_found")
    problem(await api.alpha.ask("DELETE", "/v1/audit-log"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, "audit_log_partner"),
        ({"action": "deal.create"}, "audit_log_action|audit_log_partner"),
        ({"subject": "key_" + "0" * 32}, "audit_log_subject"),
    ],
)
async def test_a_page_is_read_along_an_index(api: Api, query: dict[str, str], index: str) -> None:
    """Ten thousand entries of others do not slow a partner's page."""
    await api.house.rows(
        "INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote) "
        "SELECT CASE WHEN i % 100 = 0 THEN $1::uuid ELSE $2::uuid END, 'a', 'key.create', 'key_' || i, '{}', '', '' "
        "FROM generate_series(1, 10000) i",
        api.alpha.partner_id,
        api.beta.partner_id,
    )
    await api.house.rows("ANALYZE audit_log")
    given = {
        "before": "ffffffff-ffff-ffff-ffff-ffffffffffff", "since": None, "until": None, "action": None, "subject": None,
        "partner_id": api.alpha.partner_id, "rows": 21,
    } | query  # fmt: skip
    async with transaction(api.services.asking) as conn:
        await queries.access.enter.run(
            conn, role="callbridge_partner", partner_id=str(api.alpha.partner_id), for_transaction=True
        )
        asked = queries.access.audits_partner
        rows = await conn.fetch(f"EXPLAIN {asked.sql}", *[given[name] for name in asked.names])
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
    assert any(name in plan for name in index.split("|")), plan
