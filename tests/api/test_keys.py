"""Keys over the API: made, read, changed, rotated, revoked; and nobody gets more rights by it than they had."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog

from bridge.api.auth import ALL, OPERATORS_ONLY, SCOPES
from bridge.api.keys import KEYS_MAX
from tests.api.scene import Api, Client, problem

NEW = {"name": "billing", "scopes": ["cdrs:read"]}


def at(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


async def made(client: Client, **more: Any) -> dict[str, Any]:
    response = await client.post("/v1/keys", NEW | more)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def holder(api: Api, key: dict[str, Any]) -> Client:
    return Client(api.client, key["secret"])


async def test_made_read_listed_changed_and_revoked(api: Api) -> None:
    response = await api.alpha.post("/v1/keys", NEW | {"scopes": ["keys:read", "cdrs:read"]})
    key = response.json()
    path = f"/v1/keys/{key['key_id']}"
    assert response.headers["location"] == path
    assert key["secret"].startswith(key["prefix"] + "_")
    assert (key["partner_id"], key["kind"], key["state"]) == (api.alpha.id, "key", "valid")
    assert key["scopes"] == ["cdrs:read", "keys:read"]
    shown = {name: value for name, value in key.items() if name != "secret"}
    assert (await api.alpha.get(path)).json() == shown
    listed = (await holder(api, key).get("/v1/keys")).json()["data"]
    assert [one["name"] for one in listed] == ["billing", "Alpha"]
    changed = await api.alpha.patch(path, {"name": "finance", "expires_at": at(days=1)})
    assert changed.json()["name"] == "finance"
    assert changed.json()["scopes"] == key["scopes"]
    lasting = await api.alpha.patch(path, {"expires_at": None})
    assert lasting.json()["expires_at"] is None
    problem(await api.alpha.patch(path, {"name": "late"}, changed.headers["etag"]), 412, "stale")
    problem(await api.alpha.ask("DELETE", path), 428, "if_match_required")
    assert (await api.alpha.delete(path)).status_code == 204
    problem(await holder(api, key).get("/v1/keys"), 401, "not_authenticated")
    assert (await api.alpha.get(path)).json()["state"] == "revoked"
    problem(await api.alpha.patch(path, {"expires_at": None}), 409, "conflict")
    problem(await api.alpha.post(f"{path}/rotate", {}), 409, "conflict")
    assert (await api.alpha.delete(path)).status_code == 204, "revoking again is no mistake"


async def test_an_operator_makes_keys_for_itself_and_for_partners(api: Api) -> None:
    assert (await made(api.operator))["partner_id"] is None
    key = await made(api.operator, partner_id=api.beta.id, scopes=[ALL])
    listed = (await holder(api, key).get("/v1/partners")).json()["data"]
    assert [one["partner_id"] for one in listed] == [api.beta.id]
    listed = (await api.operator.get("/v1/keys", partner_id=api.beta.id)).json()["data"]
    assert {one["partner_id"] for one in listed} == {api.beta.id}
    assert (await api.operator.get("/v1/keys", kind="client")).json()["data"] == []
    problem(await api.operator.post("/v1/keys", NEW | {"partner_id": f"prt_{uuid4().hex}"}), 404, "not_found")
    await api.operator.patch(f"/v1/partners/{api.beta.id}", {"state": "closed"})
    problem(await api.operator.post("/v1/keys", NEW | {"partner_id": api.beta.id}), 409, "conflict")


async def test_another_partners_key_is_not_there(api: Api) -> None:
    of_beta, of_operator = await made(api.beta), await made(api.operator)
    for key in (of_beta, of_operator):
        path = f"/v1/keys/{key['key_id']}"
        problem(await api.alpha.get(path), 404, "not_found")
        problem(await api.alpha.patch(path, {"name": "mine"}, '"1"'), 404, "not_found")
        problem(await api.alpha.post(f"{path}/rotate", {"overlap_s": 0}), 404, "not_found")
        problem(await api.alpha.delete(path, '"1"'), 404, "not_found")
        assert (await api.operator.get(path)).json()["state"] == "valid"
    problem(await api.alpha.get("/v1/keys", partner_id=api.beta.id), 404, "not_found")
    problem(await api.alpha.post("/v1/keys", NEW | {"partner_id": api.beta.id}), 404, "not_found")
    seen = (await api.alpha.get("/v1/keys")).json()["data"]
    assert {one["partner_id"] for one in seen} == {api.alpha.id}


# ---------------------------------------------------------------- nobody raises their own rights


@pytest.mark.parametrize("scopes", [[ALL], ["calls:write"], ["keys:write", "cdrs:read"]])
async def test_a_key_gives_no_scope_it_lacks(api: Api, scopes: list[str]) -> None:
    for partner_id in (api.alpha.partner_id, None):
        clerk = await api.key("keys:write", "keys:read", partner_id=partner_id)
        problem(await clerk.post("/v1/keys", NEW | {"scopes": scopes}), 403, "scope_missing")
    assert await api.house.value("SELECT count(*) FROM api_key WHERE name = 'billing'") == 0


async def test_a_clerk_does_not_come_by_the_rights_of_a_stronger_key(api: Api) -> None:
    """To rotate a key is to be told its successor."""
    clerk = await api.key("keys:write", "keys:read", partner_id=api.alpha.partner_id)
    strong = await made(api.alpha, scopes=[ALL], expires_at=at(days=1))
    path = f"/v1/keys/{strong['key_id']}"
    problem(await clerk.post(f"{path}/rotate", {}), 403, "scope_missing")
    problem(await clerk.patch(path, {"expires_at": None}), 403, "scope_missing")
    weak = await made(clerk, scopes=["keys:read"])
    assert (await clerk.post(f"/v1/keys/{weak['key_id']}/rotate", {})).status_code == 201
    assert (await clerk.delete(path)).status_code == 204, "to revoke a lost key is never wrong"


@pytest.mark.parametrize("scope", sorted(OPERATORS_ONLY))
async def test_what_operators_do_is_not_given_to_partners(api: Api, scope: str) -> None:
    for client in (api.operator, api.alpha):
        told = await client.post(
            "/v1/keys", NEW | {"scopes": ["cdrs:read", scope], "partner_id": api.alpha.id}
        )
        assert problem(told, 422, "invalid_request")["errors"][0]["pointer"] == "#/scopes/1"


async def test_a_key_with_all_scopes_of_a_partner_is_still_a_partners(api: Api) -> None:
    key = await made(api.alpha, scopes=[ALL])
    problem(
        await holder(api, key).post("/v1/partners", {"name": "E-Plus", "currency": "EUR"}), 403, "not_allowed"
    )


async def test_a_key_that_ends_gives_nothing_that_outlives_it(api: Api) -> None:
    ending = holder(api, await made(api.alpha, scopes=[ALL], expires_at=at(hours=1)))
    own = (await ending.get("/v1/keys")).json()["data"][0]["key_id"]
    for expires_at in (None, at(hours=2)):
        told = await ending.post("/v1/keys", NEW | {"expires_at": expires_at})
        problem(told, 403, "not_allowed")
        problem(await ending.patch(f"/v1/keys/{own}", {"expires_at": expires_at}), 403, "not_allowed")
        problem(await ending.post(f"/v1/keys/{own}/rotate", {"expires_at": expires_at}), 403, "not_allowed")
    lasting = await made(api.alpha)
    told = await ending.post(f"/v1/keys/{lasting['key_id']}/rotate", {})
    problem(told, 403, "not_allowed")
    await made(ending, expires_at=at(minutes=30))
    assert (await ending.post(f"/v1/keys/{own}/rotate", {"overlap_s": 0})).status_code == 201
    problem(await ending.get("/v1/keys"), 401, "not_authenticated")


async def test_there_are_so_many_keys_and_no_more(api: Api) -> None:
    await api.house.rows(
        "INSERT INTO api_key (name, prefix, hash, partner_id) "
        "SELECT 'n', 'p' || i, '', $1 FROM generate_series(2, $2) i",
        api.alpha.partner_id,
        KEYS_MAX,
    )
    problem(await api.alpha.post("/v1/keys", NEW), 409, "conflict")
    await api.house.rows("UPDATE api_key SET revoked_at = now() WHERE prefix = 'p2'")
    await made(api.alpha)


# ---------------------------------------------------------------- rotation


async def test_both_keys_are_good_while_they_overlap(api: Api) -> None:
    old = await made(api.alpha, scopes=["keys:read", "cdrs:read"], expires_at=at(days=30))
    path = f"/v1/keys/{old['key_id']}"
    response = await api.alpha.post(f"{path}/rotate", {"overlap_s": 600})
    assert response.status_code == 201, response.text
    new = response.json()
    assert response.headers["location"] == f"/v1/keys/{new['key_id']}"
    assert new["secret"] != old["secret"]
    assert [new[name] for name in ("name", "kind", "scopes", "expires_at")] == [
        old[name] for name in ("name", "kind", "scopes", "expires_at")
    ]
    for key in (old, new):
        assert (await holder(api, key).get("/v1/keys")).status_code == 200
    now = (await api.alpha.get(path)).json()
    assert now["replaced_by"] == new["key_id"]
    left = datetime.fromisoformat(now["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=500) < left <= timedelta(seconds=600)
    await api.house.rows("UPDATE api_key SET expires_at = now() WHERE prefix = $1", old["prefix"])
    problem(await holder(api, old).get("/v1/keys"), 401, "not_authenticated")
    assert (await api.alpha.get(path)).json()["state"] == "expired"


async def test_a_key_is_rotated_once(api: Api) -> None:
    old = await made(api.alpha)
    path = f"/v1/keys/{old['key_id']}"
    said = await asyncio.gather(*(api.alpha.post(f"{path}/rotate", {}) for _ in range(5)))
    assert sorted(one.status_code for one in said) == [201, 409, 409, 409, 409]
    assert await api.house.value("SELECT count(*) FROM api_key WHERE name = 'billing'") == 2
    problem(await api.alpha.patch(path, {"expires_at": None}), 409, "conflict")


async def test_an_overlap_does_not_prolong_a_life(api: Api) -> None:
    old = await made(api.alpha, expires_at=at(seconds=300))
    await api.alpha.post(f"/v1/keys/{old['key_id']}/rotate", {"overlap_s": 86_400})
    assert (await api.alpha.get(f"/v1/keys/{old['key_id']}")).json()["expires_at"] == old["expires_at"]


@pytest.mark.parametrize("overlap_s", [-1, 86_401, "soon", 10**12, 0.5])
async def test_an_overlap_off_its_range(api: Api, overlap_s: object) -> None:
    key = await made(api.alpha)
    told = await api.alpha.post(f"/v1/keys/{key['key_id']}/rotate", {"overlap_s": overlap_s})
    problem(told, 422, "invalid_request")


# ---------------------------------------------------------------- what is kept


async def test_the_secret_is_told_once(api: Api) -> None:
    again = {"Idempotency-Key": str(uuid4())}
    first = await api.alpha.post("/v1/keys", NEW, headers=again)
    second = await api.alpha.post("/v1/keys", NEW, headers=again)
    assert second.status_code == 201
    assert second.headers["idempotency-replayed"] == "true"
    body = first.json()
    assert body.pop("secret")
    assert second.json() == body


async def test_no_secret_is_kept_anywhere(api: Api) -> None:
    with structlog.testing.capture_logs() as logged:
        key = await made(api.alpha, kind="client")
        rotated = (await api.alpha.post(f"/v1/keys/{key['key_id']}/rotate", {})).json()
        form = {
            "grant_type": "client_credentials",
            "client_id": key["prefix"],
            "client_secret": key["secret"],
        }
        token = (await api.client.post("/oauth2/token", data=form)).json()["access_token"]
        await Client(api.client, token).get("/v1/cdrs")
    tables = await api.house.rows(
        "SELECT c.oid::regclass::text AS name FROM pg_class c "
        "WHERE c.relnamespace = 'bridge'::regnamespace AND c.relkind = 'r'"
    )
    assert len(tables) > 30
    for secret in (key["secret"], rotated["secret"], token):
        part = secret[-40:]
        assert part not in json.dumps(logged, default=str)
        for table in tables:
            found = await api.house.value(
                f"SELECT count(*) FROM {table['name']} t WHERE strpos(t::text, $1) + strpos(t::text, $2) > 0",
                part,
                part.encode().hex(),
            )
            assert found == 0, table["name"]


async def test_what_was_done_with_keys_is_in_the_audit_log(api: Api) -> None:
    key = await made(api.alpha)
    path = f"/v1/keys/{key['key_id']}"
    await api.alpha.patch(path, {"name": "finance"})
    await api.alpha.post(f"{path}/rotate", {})
    await api.alpha.delete(path)
    rows = await api.house.rows("SELECT action, partner_id, asked_by FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["key.create", "key.change", "key.rotate", "key.revoke"]
    assert {(row["partner_id"], row["asked_by"]) for row in rows} == {(api.alpha.partner_id,) * 2}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"name": "x" * 81}, "#/name"),
        ({"name": None}, "#/name"),
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["money:print"]}, "#/scopes/0"),
        ({"scopes": ["cdrs:read"] * (len(SCOPES) + 2)}, "#/scopes"),
        ({"scopes": "cdrs:read"}, "#/scopes"),
        ({"kind": "master"}, "#/kind"),
        ({"expires_at": "tomorrow"}, "#/expires_at"),
        ({"expires_at": 2_000_000_000}, "#/expires_at"),
        ({"expires_at": "2000000000"}, "#/expires_at"),
        ({"expires_at": "2031-01-31"}, "#/expires_at"),
        ({"expires_at": "2031-01-31T00:00:00"}, "#/expires_at"),
        ({"expires_at": "2020-01-31T00:00:00Z"}, "#/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "#/expires_at"),
        ({"partner_id": "prt_7"}, "#/partner_id"),
        ({"hash": "00"}, "#/hash"),
        ({"secret": "cb_mine"}, "#/secret"),
        ({"edition": 7}, "#/edition"),
    ],
)
async def test_what_has_another_shape(api: Api, change: dict[str, object], pointer: str) -> None:
    body = problem(await api.alpha.post("/v1/keys", NEW | change), 422, "invalid_request")
    assert [one["pointer"] for one in body["errors"]] == [pointer]
    assert (
        await api.house.value("SELECT count(*) FROM api_key WHERE partner_id = $1", api.alpha.partner_id) == 1
    )


async def test_pages_are_stable_while_keys_are_made(api: Api) -> None:
    names = [f"key {place}" for place in range(5)]
    for name in names:
        await made(api.alpha, name=name)
    first = (await api.alpha.get("/v1/keys", limit=2)).json()
    await made(api.alpha, name="late")
    second = (await api.alpha.get("/v1/keys", limit=2, cursor=first["next"])).json()
    last = (await api.alpha.get("/v1/keys", limit=2, cursor=second["next"])).json()
    seen = [one["name"] for page in (first, second, last) for one in page["data"]]
    assert seen == [*reversed(names), "Alpha"]
    assert last["next"] is None
