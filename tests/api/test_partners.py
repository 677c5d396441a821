"""Partners: operators make them, each reads itself; and what every resource has in common, tried on this one."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tests.api.scene import Api, problem

NEW = {"name": "E-Plus", "currency": "EUR"}


async def test_made_read_listed_and_changed(api: Api) -> None:
    made = await api.operator.post("/v1/partners", NEW)
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    assert path == f"/v1/partners/{made.json()['partner_id']}"
    assert (await api.operator.get(path)).json() == made.json()
    assert [one["name"] for one in (await api.operator.get("/v1/partners")).json()["data"]] == [
        "E-Plus",
        "Beta",
        "Alpha",
    ]
    changed = await api.operator.patch(path, {"state": "suspended"}, made.headers["etag"])
    assert changed.json() == made.json() | {"state": "suspended"}
    problem(await api.operator.patch(path, {"name": "KPN"}, made.headers["etag"]), 412, "stale")
    missing = await api.operator.ask("PATCH", path, json={"name": "KPN"})
    problem(missing, 428, "if_match_required")


async def test_a_partner_reads_itself_only(api: Api) -> None:
    listed = (await api.alpha.get("/v1/partners")).json()
    assert [one["partner_id"] for one in listed["data"]] == [api.alpha.id]
    assert (await api.alpha.get(f"/v1/partners/{api.alpha.id}")).status_code == 200
    problem(await api.alpha.get(f"/v1/partners/{api.beta.id}"), 404, "not_found")
    problem(await api.alpha.post("/v1/partners", NEW), 403, "not_allowed")


async def test_a_key_again_is_the_answer_again(api: Api) -> None:
    key = {"Idempotency-Key": f'"{uuid4()}"'}
    first = await api.operator.post("/v1/partners", NEW, headers=key)
    again = await api.operator.post("/v1/partners", NEW, headers=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await api.operator.post("/v1/partners", NEW | {"name": "KPN"}, headers=key)
    problem(other, 422, "idempotency_key_reused")
    problem(await api.operator.post("/v1/partners", NEW), 409, "conflict")
    problem(
        await api.operator.post("/v1/partners", NEW, headers={"Idempotency-Key": ""}),
        400,
        "idempotency_key_required",
    )


async def test_ten_at_once_with_one_key_make_one(api: Api) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    said = await asyncio.gather(*(api.operator.post("/v1/partners", NEW, headers=key) for _ in range(10)))
    assert {one.status_code for one in said} <= {201, 409}
    assert len({one.content for one in said if one.status_code == 201}) == 1
    assert await api.house.value("SELECT count(*) FROM partner WHERE name = 'E-Plus'") == 1
    assert await api.house.value("SELECT count(*) FROM audit_log") == 1


async def test_what_was_done_is_in_the_audit_log(api: Api) -> None:
    made = await api.operator.post("/v1/partners", NEW, headers={"x-correlator": "one-of-mine"})
    row = await api.house.row("SELECT * FROM audit_log")
    assert (row["action"], row["subject"], row["correlator"]) == (
        "partner.create", made.json()["partner_id"], "one-of-mine",
    )  # fmt: skip
    assert row["actor"].startswith("tests cb_")


async def test_what_is_not_known_is_refused(api: Api) -> None:
    body = problem(await api.operator.post("/v1/partners", NEW | {"colour": "blue"}), 422, "invalid_request")
    assert [one["pointer"] for one in body["errors"]] == ["#/colour"]
    problem(await api.operator.get("/v1/partners", colour="blue"), 400, "bad_request")
    problem(await api.operator.get("/v1/partners/prt_7"), 404, "not_found")
    problem(await api.operator.post("/v1/partners", NEW | {"name": "a\0b"}), 422, "invalid_request")
    problem(await api.operator.post("/v1/partners", NEW | {"currency": "XXX"}), 422, "invalid_request")
    plain = await api.operator.ask(
        "POST", "/v1/partners", content=b"name=x", headers={"Content-Type": "text/plain"}
    )
    problem(plain, 415, "unsupported_media_type")
    long = await api.operator.ask(
        "POST", "/v1/partners", content=b" " * (2 << 20), headers={"Content-Type": "application/json"}
    )
    problem(long, 413, "too_large")
    problem(
        await api.operator.ask("GET", "/v1/partners", headers={"x-correlator": "a b"}), 400, "bad_request"
    )


async def test_a_key_may_do_what_it_is_for(api: Api) -> None:
    reader = await api.key("partners:read")
    assert (await reader.get("/v1/partners")).status_code == 200
    problem(await reader.post("/v1/partners", NEW), 403, "scope_missing")


async def test_a_closed_partner_has_no_valid_key(api: Api) -> None:
    await api.operator.patch(f"/v1/partners/{api.alpha.id}", {"state": "closed"})
    problem(await api.alpha.get("/v1/partners"), 401, "not_authenticated")
