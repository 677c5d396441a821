"""Invoices over the API: operators validate, send, and book; a partner reads its own, and nobody else's PDF."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from bridge.api.fields import show_id
from bridge.exports.invoice_pdf import xml_in
from tests.api.scene import Api, problem
from tests.invoices import COMPANY, DETAILS
from tests.stating import Scene, scene_of

BILLS = "/tmf-api/customerBillManagement/v4/customerBill"


@dataclass
class Land:
    api: Api
    scene: Scene
    statement: str

    async def post(
        self, path: str, body: Any = None, status: int = 200, key: str | None = None
    ) -> dict[str, Any]:
        headers = {"Idempotency-Key": key or str(uuid4())}
        answer = await self.api.operator.post(path, body, headers=headers)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def issued(self) -> str:
        told = await self.post("/v1/invoices", {"statement_id": self.statement}, 201)
        return f"/v1/invoices/{told['data'][0]['invoice_id']}"


@pytest.fixture
async def land(api: Api) -> AsyncIterator[Land]:
    """180 s of alpha's subscriber over alpha's trunk, approved: 0.141 that we owe."""
    settings = api.services.settings
    scene = await scene_of(api.house, settings.database.dsn.get_secret_value(), api.alpha.partner_id)
    statement_id = await scene.approved()
    services = replace(api.services, settings=settings.model_copy(update={"company": COMPANY}))
    api.app.state.services = services
    path = f"/v1/partners/{api.alpha.id}/billing"
    put = await api.operator.ask("PUT", path, json=DETAILS, headers={"If-Match": '"0"'})
    assert put.status_code == 200, put.text
    yield Land(api, scene, show_id("stm", statement_id))
    await scene.sound()


async def test_from_a_statement_to_a_settled_invoice(land: Land) -> None:
    api, path = land.api, await land.issued()
    problem(await api.alpha.get(path), 404, "not_found")
    assert (await api.operator.get(path)).json()["state"] == "new"
    told = await land.post(f"{path}/validate")
    assert (told["state"], told["type"], told["net"], told["tax"], told["gross"]) == (
        "validated",
        "389",
        "0.14",
        "0.01",
        "0.15",
    )
    assert [(one["unit"], one["net"], one["vat_category"], one["vat_percent"]) for one in told["lines"]] == [
        ("SEC", "0.07", "AE", "0"), ("SEC", "0.02", "AE", "0"), ("C62", "0.05", "S", "19"),
    ]  # fmt: skip
    assert (await api.alpha.get(path)).json() == (await api.operator.get(path)).json()
    assert (await land.post(f"{path}/send"))["state"] == "sent"
    assert (await land.post(f"{path}/hold"))["state"] == "onHold"
    problem(await api.operator.post(f"{path}/payments", {}), 409, "conflict")
    assert (await land.post(f"{path}/release"))["state"] == "sent"
    body = {"amount": "0.05", "paid_on": "2026-11-20", "note": "first"}
    part = await land.post(f"{path}/payments", body, 201, key="one")
    assert (part["state"], part["open"]) == ("partiallySettled", "0.10")
    assert await land.post(f"{path}/payments", body, 201, key="one") == part
    problem(await api.operator.post(f"{path}/payments", {"amount": "0.11"}), 409, "conflict")
    problem(await api.operator.post(f"{path}/payments", {"amount": "0.001"}), 422, "invalid_request")
    credit = await land.post(
        f"{path}/credit-notes", {"reason": "agreed", "lines": [{"line_no": 1, "amount": "0.03"}]}, 201
    )
    assert (credit["type"], credit["gross"], credit["state"]) == ("381", "0.03", "settled")
    assert credit["credits"] == told["invoice_id"]
    settled = await land.post(f"{path}/payments", {}, 201)
    assert (settled["state"], settled["paid"]) == ("settled", "0.15")
    assert [one["kind"] for one in settled["payments"]] == ["payment", "credit", "payment"]
    assert [one["number"] for one in (await api.alpha.get("/v1/invoices")).json()["data"]] == [
        credit["number"], told["number"],
    ]  # fmt: skip
    assert (await api.beta.get("/v1/invoices")).json()["data"] == []
    actions = {row["action"] for row in await api.house.rows("SELECT action FROM audit_log")}
    assert {"invoice.issue", "invoice.validate", "invoice.pay", "invoice.credit", "billing.change"} <= actions


async def test_documents_are_its_partners_only(land: Land) -> None:
    api, path = land.api, await land.issued()
    problem(await api.operator.get(f"{path}/invoice.pdf"), 404, "not_found")
    told = await land.post(f"{path}/validate")
    for kind in ("pdf", "xml"):
        answer = await api.alpha.get(f"{path}/invoice.{kind}")
        assert answer.status_code == 200 and answer.headers["content-type"] == f"application/{kind}"
        digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
        assert told["number"] in answer.headers["content-disposition"]
        problem(await api.beta.get(f"{path}/invoice.{kind}"), 404, "not_found")
    pdf = (await api.alpha.get(f"{path}/invoice.pdf")).content
    assert told["number"].encode() in xml_in(pdf)


async def test_what_only_operators_may(land: Land) -> None:
    api, path = land.api, await land.issued()
    for what, body in (
        ("", {"statement_id": land.statement}), ("/validate", None), ("/send", None), ("/hold", None),
        ("/release", None),
        ("/payments", {}), ("/credit-notes", {"reason": "x"}),
    ):  # fmt: skip
        at = f"{path}{what}" if what else "/v1/invoices"
        problem(await api.alpha.post(at, body), 403, "not_allowed")
    billing = f"/v1/partners/{api.alpha.id}/billing"
    refused = await api.alpha.ask("PUT", billing, json=DETAILS, headers={"If-Match": '"1"'})
    problem(refused, 403, "not_allowed")
    assert (await api.alpha.get(billing)).json()["vat_id"] == DETAILS["vat_id"]
    problem(await api.beta.get(billing), 404, "not_found")
    problem(await api.beta.get(f"/v1/partners/{api.beta.id}/billing"), 404, "not_found")
    stale = await api.operator.ask("PUT", billing, json=DETAILS, headers={"If-Match": '"0"'})
    problem(stale, 412, "stale")
    wrong = await api.operator.ask(
        "PUT", billing, json=DETAILS | {"vat_id": "DE1"}, headers={"If-Match": '"1"'}
    )
    assert "vat_id" in problem(wrong, 422, "invalid_request")["detail"]


async def test_bills_in_tm_forums_words(land: Land) -> None:
    api, path = land.api, await land.issued()
    assert (await api.operator.get(BILLS)).json() == [], "a draft is none"
    told = await land.post(f"{path}/validate")
    listed = await api.alpha.get(BILLS)
    assert listed.headers["x-total-count"] == "1"
    (bill,) = listed.json()
    assert (bill["id"], bill["billNo"], bill["state"]) == (told["invoice_id"], told["number"], "validated")
    assert bill["remainingAmount"] == bill["taxIncludedAmount"] == {"unit": "EUR", "value": 0.15}
    assert bill["relatedParty"] == [{"id": api.alpha.id, "role": "seller", "@referredType": "Organization"}]
    assert (await api.alpha.get(f"{BILLS}/{bill['id']}")).json() == bill
    assert (await api.alpha.get(bill["billDocument"][0]["url"])).status_code == 200
    problem(await api.beta.get(f"{BILLS}/{bill['id']}"), 404, "not_found")
    assert set((await api.alpha.get(BILLS, fields="state")).json()[0]) == {"id", "href", "state"}
    assert (await api.alpha.get(BILLS, offset=1)).json() == []
