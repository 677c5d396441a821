"""Disputes over the API: opened by both sides, argued about with files, decided by operators, booked once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.api.fields import show_id
from tests.api.scene import Api, Client, problem

CLAIM = {"kind": "rate", "title": "Rate to Germany mobile", "claimed_amount": "125.50", "currency": "EUR"}
PDF = {"Content-Type": "application/pdf"}


async def opened(api: Api, who: Client, **more: Any) -> str:
    made = await who.post("/v1/disputes", CLAIM | more)
    assert made.status_code == 201, made.text
    return made.headers["location"]


async def balance_micro(api: Api) -> int:
    return int(
        await api.house.value(
            "SELECT coalesce(sum(e.amount_micro), 0) FROM entry e JOIN partner p USING (account_id)"
            " WHERE p.partner_id = $1",
            api.alpha.partner_id,
        )
    )


async def test_a_partner_claims_and_what_is_agreed_on_is_booked_once(api: Api) -> None:
    path = await opened(api, api.alpha, text="Your deck says 0.021.")
    told = (await api.alpha.get(path)).json()
    assert (told["state"], told["opened_by"], told["partner_id"]) == ("open", "partner", api.alpha.id)
    assert (await api.operator.post(f"{path}/notes", {"text": "We look into it."})).status_code == 201
    assert (await api.alpha.get(path)).json()["state"] == "answered"
    etag = await api.operator.etag(path)
    settle = {"state": "settled", "agreed_amount": "100.00", "text": "As agreed"}
    decided = await api.operator.patch(path, settle, etag)
    assert decided.json()["agreed_amount"] == "100.00"
    assert await balance_micro(api) == 100_000_000  # in favour of whoever opened it
    assert (await api.operator.patch(path, settle, etag)).status_code == 409
    problem(await api.operator.patch(path, {"state": "withdrawn"}), 409, "conflict")
    assert await balance_micro(api) == 100_000_000
    kind = await api.house.row("SELECT kind, idempotency_key FROM transfer WHERE kind = 'correction'")
    assert kind["idempotency_key"].startswith("dispute:")
    assert decided.json()["transfer_id"] is not None
    notes = (await api.alpha.get(f"{path}/notes")).json()["data"]
    assert [one["state"] for one in notes] == ["settled", "answered", None]


async def test_what_we_claim_is_taken_from_them(api: Api) -> None:
    path = await opened(api, api.operator, partner_id=api.alpha.id)
    assert (await api.alpha.get(path)).json()["opened_by"] == "operator"
    problem(await api.alpha.patch(path, {"state": "withdrawn"}), 422, "invalid_request")
    assert (await api.operator.patch(path, {"state": "accepted"})).json()["agreed_amount"] == "125.50"
    assert await balance_micro(api) == -125_500_000


async def test_a_partner_decides_nothing(api: Api) -> None:
    path = await opened(api, api.alpha)
    for change in (
        {"state": "accepted"},
        {"state": "settled", "agreed_amount": "1"},
        {"state": "rejected"},
        {"deadline": "2030-01-01T00:00:00Z"},
    ):
        problem(await api.alpha.patch(path, change), 403, "not_allowed")
    assert (await api.alpha.get(path)).json()["state"] == "open"


async def test_who_opened_it_withdraws_it_and_nothing_is_booked(api: Api) -> None:
    path = await opened(api, api.alpha)
    problem(await api.operator.patch(path, {"state": "withdrawn"}), 422, "invalid_request")
    assert (await api.alpha.patch(path, {"state": "withdrawn"})).json()["state"] == "withdrawn"
    problem(await api.alpha.post(f"{path}/notes", {"text": "Still"}), 409, "conflict")
    assert await balance_micro(api) == 0


async def test_evidence_comes_back_as_it_came_and_as_nothing_a_browser_runs(api: Api) -> None:
    path = await opened(api, api.alpha)
    content = b"%PDF-1.7 " + bytes(range(256))
    at = f"{path}/evidence?name=..%2F..%2Fetc%2Fbill%22%3Cscript%3E%E2%80%AEfdp.pdf"
    made = await api.alpha.ask("POST", at, headers=PDF, content=content)
    problem(made, 400, "bad_request")  # a name that turns the reading direction
    at = f"{path}/evidence?name=..%2F..%2Fetc%2Fb%C3%BCll%22%3Cscript%3E.pdf"
    made = await api.alpha.ask("POST", at, headers=PDF, content=content)
    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["name"], told["bytes"]) == ("büll__script_.pdf", len(content))
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    for reader in (api.alpha, api.operator):
        file = await reader.get(told["url"])
        assert file.content == content
        assert file.headers["content-type"] == "application/octet-stream"
        assert file.headers["content-disposition"].startswith('attachment; filename="b_ll__script_.pdf";')
        assert file.headers["x-content-type-options"] == "nosniff"
    problem(await api.beta.get(told["url"]), 404, "not_found")
    again = await api.alpha.ask("POST", at, headers=PDF, content=content)
    problem(again, 409, "conflict")


async def test_evidence_is_no_script_and_not_large(api: Api) -> None:
    path = f"{await opened(api, api.alpha)}/evidence"
    for kind in (
        "text/html",
        "image/svg+xml",
        "application/javascript",
        "application/x-sh",
        "text/html, text/csv",
        "",
    ):
        answer = await api.alpha.ask(
            "POST", path, headers={"Content-Type": kind}, content=b"<script>alert(1)</script>"
        )
        problem(answer, 415, "unsupported_media_type")
    problem(await api.alpha.ask("POST", path, headers=PDF, content=b"x" * (20 << 20)), 413, "too_large")
    problem(await api.alpha.ask("POST", path, headers=PDF, content=b""), 422, "invalid_request")
    problem(await api.beta.ask("POST", path, headers=PDF, content=b"%PDF"), 404, "not_found")
    assert await api.house.value("SELECT count(*) FROM dispute_evidence") == 0


async def test_nobody_claims_in_the_name_of_another(api: Api) -> None:
    carrier = await api.house.value("SELECT account_id FROM account WHERE kind = 'carrier' LIMIT 1")
    problem(await api.alpha.post("/v1/disputes", CLAIM | {"partner_id": api.beta.id}), 404, "not_found")
    stranger = {"statement_id": "stm_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8"}
    problem(await api.alpha.post("/v1/disputes", CLAIM | stranger), 404, "not_found")
    for more in (
        {"account_id": show_id("acc", carrier)},
        {"run_id": "rcn_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8", "run_class": "rate"},
    ):
        problem(await api.alpha.post("/v1/disputes", CLAIM | more), 403, "not_allowed")
    problem(await api.operator.post("/v1/disputes", CLAIM), 422, "invalid_request")
    path = await opened(api, api.alpha)
    for answer in (
        await api.beta.get(path),
        await api.beta.get(f"{path}/notes"),
        await api.beta.get(f"{path}/evidence"),
        await api.beta.post(f"{path}/notes", {"text": "mine"}),
        await api.beta.ask("PATCH", path, json={"state": "withdrawn"}, headers={"If-Match": '"1"'}),
    ):
        problem(answer, 404, "not_found")
    assert (await api.beta.get("/v1/disputes")).json()["data"] == []


async def test_what_makes_no_claim_is_refused(api: Api) -> None:
    for wrong in (
        {"claimed_amount": "0"},
        {"claimed_amount": "-5"},
        {"claimed_amount": None},
        {"currency": "USD"},
        {"records": [1]},
        {"title": "a\0b"},
        {"kind": "anger"},
    ):
        problem(await api.alpha.post("/v1/disputes", CLAIM | wrong), 422, "invalid_request")


async def test_more_than_the_claim_is_not_agreed_on(api: Api) -> None:
    path = await opened(api, api.alpha)
    for change in (
        {"state": "settled", "agreed_amount": "125.500001"},
        {"state": "settled"},
        {"state": "accepted", "agreed_amount": "1"},
        {"state": "rejected", "agreed_amount": "1"},
    ):
        problem(await api.operator.patch(path, change), 422, "invalid_request")
    assert await balance_micro(api) == 0


async def test_overdue_ones_are_listed(api: Api) -> None:
    late = await opened(api, api.alpha, deadline=(datetime.now(UTC) - timedelta(days=1)).isoformat())
    await opened(api, api.alpha)
    listed = (await api.operator.get("/v1/disputes", overdue="true")).json()["data"]
    assert [f"/v1/disputes/{one['dispute_id']}" for one in listed] == [late]
    assert listed[0]["overdue"] is True
    await api.operator.patch(late, {"deadline": "2030-01-01T00:00:00Z"})
    assert (await api.operator.get("/v1/disputes", overdue="true")).json()["data"] == []
    assert (
        len((await api.operator.get("/v1/disputes", state="open", partner_id=api.alpha.id)).json()["data"])
        == 2
    )


async def test_listeners_are_told_and_the_log_knows(api: Api) -> None:
    await api.house.rows("UPDATE partner SET keeps_events = true")
    path = await opened(api, api.operator, partner_id=api.alpha.id)
    await api.operator.patch(path, {"state": "rejected", "text": "no"})
    told = await api.house.rows(
        "SELECT partner_id, data FROM event WHERE kind = 'dispute.changed' ORDER BY seq"
    )
    assert [one["partner_id"] for one in told] == [api.alpha.partner_id] * 2
    assert '"state": "rejected"' in told[1]["data"]
    log = await api.house.rows("SELECT action FROM audit_log ORDER BY audit_id")
    assert [one["action"] for one in log] == ["dispute.create", "dispute.change"]
