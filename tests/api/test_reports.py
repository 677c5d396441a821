"""Reports and bills over the API: each sees its own, and no cost, margin or carrier of others."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

from pypdf import PdfReader

from bridge.api import reports
from bridge.api.fields import show_id
from bridge.database import connect
from tests.api.scene import Api, problem
from tests.reported import BEGUN, MONTH, ended_at, numbered
from tests.seeded import Who


async def scene(api: Api) -> tuple[Who, str]:
    """A call of alpha's subscriber over a trunk of beta's, in October; its id as the API has it."""
    who = await api.house.subscriber(5_000_000)
    await api.own("subscriber", api.alpha, account_id=who.account_id)
    await api.own("account", api.alpha, account_id=who.account_id)
    await api.own("trunk", api.beta, name="alpha")
    await api.house.reload()
    await ended_at(api.house, who, BEGUN + timedelta(hours=5), 60)
    async with connect(api.services.settings.database.dsn.get_secret_value()) as conn:
        await numbered(conn)
    key = await api.house.value("SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id)
    return who, show_id("sub", key)


async def test_each_sees_its_own_traffic(api: Api) -> None:
    await scene(api)
    told = (await api.alpha.get("/v1/reports/traffic", month=MONTH, by="carrier")).json()
    assert [one["calls"] for one in told["totals"]] == [1]
    assert told["complete_until"] is None
    text = str(told)
    assert "cost" not in text and "margin" not in text and "'alpha'" not in text
    theirs = (await api.beta.get("/v1/reports/traffic", month=MONTH, by="carrier")).json()
    assert [(one["carrier"], one["carried"], one["calls"]) for one in theirs["data"]] == [("alpha", 1, 0)]
    ours = (await api.operator.get("/v1/reports/traffic", month=MONTH, by="partner")).json()
    assert [(one["partner"], one["revenue"], one["cost"]) for one in ours["data"]] == [
        ("Alpha", "0.06", "0.03")
    ]
    narrowed = await api.operator.get("/v1/reports/quality", month=MONTH, partner_id=api.beta.id)
    assert narrowed.json()["data"] == []


async def test_nobody_reads_anothers_report(api: Api) -> None:
    await scene(api)
    for path in ("/v1/reports/traffic", "/v1/reports/quality"):
        problem(await api.beta.get(path, month=MONTH, partner_id=api.alpha.id), 404, "not_found")
    narrow = await api.key("subscribers:read", partner_id=api.alpha.partner_id)
    problem(await narrow.get("/v1/reports/traffic", month=MONTH), 403, "scope_missing")


async def test_what_is_no_report_or_month_is_refused(api: Api) -> None:
    for query in ({"month": "2026-13"}, {"month": "1999-99"}, {"month": MONTH, "by": "colour"}):
        assert (await api.alpha.get("/v1/reports/traffic", **query)).status_code in (400, 422)
    problem(await api.alpha.get("/v1/reports/traffic", month="0001-01"), 422, "invalid_request")
    problem(await api.alpha.get("/v1/reports/traffic", month=MONTH, by="partner"), 422, "invalid_request")
    assert (await api.alpha.get("/v1/reports/margin", month=MONTH)).status_code in (400, 404, 422)


async def test_the_partners_month_as_pdf(api: Api) -> None:
    await scene(api)
    answer = await api.alpha.get("/v1/reports/partner.pdf", month=MONTH)
    assert answer.headers["content-type"] == "application/pdf", answer.text
    text = _text(answer.content)
    assert "Alpha" in text and "October 2026" in text and "margin" not in text.lower()
    problem(await api.operator.get("/v1/reports/partner.pdf", month=MONTH), 400, "bad_request")
    # A month that is not over is not on paper
    problem(await api.alpha.get("/v1/reports/partner.pdf", month="2026-11"), 409, "conflict")


async def test_a_worker_makes_few_reports_at_once(api: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr(reports._gate, "inside", reports.AT_ONCE_MAX)
    busy = await api.alpha.get("/v1/reports/traffic", month=MONTH)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")
    monkeypatch.setattr(reports._gate, "inside", 0)
    assert (await api.alpha.get("/v1/reports/traffic", month=MONTH)).status_code == 200
    assert reports._gate.inside == 0


async def test_a_bill_and_how_it_names_numbers(api: Api) -> None:
    _, subscriber_id = await scene(api)
    path = f"/v1/subscribers/{subscriber_id}"
    assert (await api.alpha.get(f"{path}/bill-choice")).json() == {
        "subscriber_id": subscriber_id, "numbers": "short", "chosen_at": None,
    }  # fmt: skip
    bill = (await api.alpha.get(f"{path}/bill", month=MONTH)).json()
    assert [(one["number"], one["gross"]) for one in bill["calls"]] == [("+493023125xxx", "0.06")]
    assert bill["totals"]["calls_gross"] == "0.06"
    etag = {"If-Match": await api.alpha.etag(f"{path}/bill-choice")}
    chosen = await api.alpha.ask("PUT", f"{path}/bill-choice", json={"numbers": "full"}, headers=etag)
    assert chosen.status_code == 200 and chosen.json()["numbers"] == "full"
    assert (await api.alpha.get(f"{path}/bill-choice")).json() == chosen.json()
    late = await api.alpha.ask("PUT", f"{path}/bill-choice", json={"numbers": "short"}, headers=etag)
    problem(late, 412, "stale")
    # October has begun before it was chosen
    assert (await api.alpha.get(f"{path}/bill", month=MONTH)).json() == bill
    assert await api.house.value("SELECT action FROM audit_log WHERE subject = $1", subscriber_id) == (
        "subscriber.bill_choice"
    )
    answer = await api.alpha.get(f"{path}/bill.pdf", month=MONTH, language="en")
    assert answer.headers["content-type"] == "application/pdf", answer.text
    assert "+493023125xxx" in _text(answer.content)


async def test_anothers_subscriber_has_no_bill(api: Api) -> None:
    _, subscriber_id = await scene(api)
    path = f"/v1/subscribers/{subscriber_id}"
    problem(await api.beta.get(f"{path}/bill", month=MONTH), 404, "not_found")
    problem(await api.beta.get(f"{path}/bill.pdf", month=MONTH), 404, "not_found")
    problem(await api.beta.get(f"{path}/bill-choice"), 404, "not_found")
    etag = {"If-Match": '"0"'}
    refused = await api.beta.ask("PUT", f"{path}/bill-choice", json={"numbers": "full"}, headers=etag)
    problem(refused, 404, "not_found")
    assert await api.house.value("SELECT count(*) FROM bill_choice") == 0
    wrong = await api.alpha.ask("PUT", f"{path}/bill-choice", json={"numbers": "all"}, headers=etag)
    problem(wrong, 422, "invalid_request")


def _text(pdf: bytes) -> str:
    return " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
