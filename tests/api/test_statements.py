"""Statements over the API: operators make them, a partner reads its own once they are approved; and who tries more."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from bridge import queries
from bridge.api.fields import show_id
from bridge.api.page import LAST
from tests.api.scene import Api, problem
from tests.seeded import at_once
from tests.stating import MONTH, Scene, scene_of


@pytest.fixture
async def scene(api: Api) -> AsyncIterator[Scene]:
    """180 s of alpha's subscriber over alpha's trunk."""
    made = await scene_of(
        api.house, api.services.settings.database.dsn.get_secret_value(), api.alpha.partner_id
    )
    await made.talk(180)
    await made.seal()
    await made.close()
    yield made
    await made.sound()


async def drafted(api: Api, scene: Scene) -> str:
    """The path of a new draft."""
    new = {"deal_id": show_id("deal", await scene.deal()), "month": MONTH}
    made = await api.operator.post("/v1/statements", new)
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


async def step(api: Api, path: str, what: str, body: Any = None, etag: str | None = None) -> Any:
    headers = {"If-Match": etag or await api.operator.etag(path)}
    return await api.operator.post(f"{path}/{what}", body, headers=headers)


async def test_from_a_draft_to_settled(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    draft = (await api.operator.get(path)).json()
    assert (draft["state"], draft["total"], draft["open"]) == ("draft", "0.141", "0.141")
    assert [
        (one["kind"], one["quantity"], one["unit"], one["rate"], one["amount"]) for one in draft["lines"]
    ] == [
        ("wholesale", "2", "minute", "0.036", "0.072"),
        ("wholesale", "1", "minute", "0.024", "0.024"),
        ("revenue_share", None, None, None, "0.045"),
    ]
    assert draft["evidence"]["first_no"] == 1 and draft["evidence"]["last_no"] == 2
    assert len(draft["evidence"]["chain_hash"]) == 64
    approved = await step(api, path, "approve")
    assert approved.json()["state"] == "approved", approved.text
    sent = await step(api, path, "send", {"channel": "email"})
    assert (sent.json()["state"], sent.json()["channel"]) == ("sent", "email")
    part = await api.operator.post(f"{path}/payments", {"amount": "0.10", "note": "first"})
    assert (part.status_code, part.json()["state"], part.json()["open"]) == (201, "sent", "0.041")
    problem(await api.operator.post(f"{path}/payments", {"amount": "0.05"}), 409, "conflict")
    rest = (await api.operator.post(f"{path}/payments", {})).json()
    assert (rest["state"], rest["open"], [one["amount"] for one in rest["payments"]]) == (
        "settled", "0.00", ["0.10", "0.041"],
    )  # fmt: skip
    log = await api.house.rows(
        "SELECT action FROM audit_log WHERE subject = $1 ORDER BY audit_id", draft["statement_id"]
    )
    assert [row["action"] for row in log] == [
        "statement.draft", "statement.approve", "statement.send", "statement.pay", "statement.pay",
    ]  # fmt: skip


async def test_a_partner_sees_no_draft_and_nobody_elses(api: Api, scene: Scene) -> None:
    await api.house.rows("UPDATE partner SET keeps_events = true")
    path = await drafted(api, scene)
    problem(await api.alpha.get(path), 404, "not_found")
    assert (await api.alpha.get("/v1/statements")).json()["data"] == []
    assert await api.house.value("SELECT count(*) FROM event WHERE kind = 'statement.changed'") == 0
    await step(api, path, "approve")
    told = (await api.alpha.get(path)).json()
    assert told == (await api.operator.get(path)).json()
    assert [one["statement_id"] for one in (await api.alpha.get("/v1/statements")).json()["data"]] == [
        told["statement_id"]
    ]
    event = await api.house.row("SELECT partner_id, data::text FROM event WHERE kind = 'statement.changed'")
    assert event["partner_id"] == api.alpha.partner_id and '"approved"' in event["data"]
    for way in (path, f"{path}/statement.csv"):
        problem(await api.beta.get(way), 404, "not_found")
    assert (await api.beta.get("/v1/statements")).json()["data"] == []
    problem(await api.beta.get("/v1/statements", partner_id=api.alpha.id), 404, "not_found")


async def test_a_partner_changes_nothing(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    new = {"deal_id": show_id("deal", uuid4()), "month": MONTH}
    problem(await api.alpha.post("/v1/statements", new), 403, "not_allowed")
    for what, body in (("approve", None), ("send", {"channel": "email"}), ("payments", {})):
        refused = await api.alpha.post(f"{path}/{what}", body, headers={"If-Match": '"1"'})
        problem(refused, 403, "not_allowed")
    reader = await api.key("statements:read")
    problem(await reader.post("/v1/statements", new), 403, "scope_missing")


async def test_changes_name_the_edition_they_know(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    problem(await api.operator.post(f"{path}/approve"), 428, "if_match_required")
    problem(await step(api, path, "approve", etag='"7"'), 412, "stale")
    said = await at_once([lambda: step(api, path, "approve", etag='"1"')] * 6)
    assert sorted(one.status_code for one in said) == [200] + [412] * 5
    problem(await step(api, path, "approve"), 409, "conflict")


async def test_a_payment_with_one_key_is_one(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    await step(api, path, "approve")
    problem(await api.operator.post(f"{path}/payments", {}), 409, "conflict")
    await step(api, path, "send", {"channel": "portal"})
    key = {"Idempotency-Key": str(uuid4())}
    said = await asyncio.gather(
        *(api.operator.post(f"{path}/payments", {"amount": "0.10"}, headers=key) for _ in range(6))
    )
    assert {one.status_code for one in said} <= {201, 409}
    assert await api.house.value("SELECT count(*) FROM statement_payment") == 1
    other = await api.operator.post(f"{path}/payments", {"amount": "0.01"}, headers=key)
    problem(other, 422, "idempotency_key_reused")
    for wrong in ("0", "-1", 5):
        problem(await api.operator.post(f"{path}/payments", {"amount": wrong}), 422, "invalid_request")


async def test_months_are_months_that_are_over(api: Api, scene: Scene) -> None:
    deal_id = show_id("deal", await scene.deal())
    for wrong in ("2026-13", "2199-01", "1999-01", "2026-1"):
        answer = await api.operator.post("/v1/statements", {"deal_id": deal_id, "month": wrong})
        problem(answer, 422, "invalid_request")
    none = {"deal_id": show_id("deal", uuid4()), "month": MONTH}
    problem(await api.operator.post("/v1/statements", none), 404, "not_found")


async def test_lines_come_as_csv_that_no_spreadsheet_runs(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    file = await api.operator.get(f"{path}/statement.csv")
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [row["amount"] for row in rows] == ["0.072", "0.024", "0.045", "0.141"]
    assert (rows[-1]["kind"], rows[-1]["currency"]) == ("total", "EUR")
    await api.house.rows("ALTER TABLE statement_line DISABLE TRIGGER statement_line_stays")
    await api.house.rows("UPDATE statement_line SET title = '=1+1' WHERE line_no = 1")
    rows = list(csv.DictReader(io.StringIO((await api.operator.get(f"{path}/statement.csv")).text)))
    assert rows[0]["title"] == "'=1+1"
    again = {"deal_id": (await api.operator.get(path)).json()["deal_id"], "month": MONTH}
    assert (await api.operator.post("/v1/statements", again)).json()["lines"][0]["title"] != "=1+1"


async def test_lists_are_filtered(api: Api, scene: Scene) -> None:
    path = await drafted(api, scene)
    one = (await api.operator.get(path)).json()
    for query, found in (
        ({"month": MONTH}, 1), ({"month": "2020-01"}, 0), ({"state": "draft"}, 1), ({"state": "sent"}, 0),
        ({"deal_id": one["deal_id"]}, 1), ({"partner_id": api.alpha.id}, 1), ({"partner_id": api.beta.id}, 0),
    ):  # fmt: skip
        assert len((await api.operator.get("/v1/statements", **query)).json()["data"]) == found, query
    problem(await api.operator.get("/v1/statements", month="10-2026"), 400, "bad_request")


async def test_the_role_may_do_no_more_than_it_needs(api: Api) -> None:
    for sql in (
        "SELECT inputs FROM statement",
        "SELECT drafted_by FROM statement",
        "SELECT author FROM statement_payment",
        "SELECT idempotency_key FROM statement_payment",
        "UPDATE statement SET state = 'sent'",
        "DELETE FROM statement_line",
        "INSERT INTO statement_payment (statement_id) VALUES (uuidv7())",
        "SELECT partner_account_v1(partner_asking_v1(), 'USD')",
    ):
        async with api.services.asking.acquire() as conn:
            await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(api.alpha.partner_id))
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(sql)


async def test_a_partners_page_is_read_by_its_index(api: Api) -> None:
    for partner in (api.alpha, api.beta):
        await api.house.rows(
            """WITH made AS (INSERT INTO deal (partner_id, name, currency, version)
                             SELECT $1, 'd' || i, 'EUR', 1 FROM generate_series(1, 2000) i RETURNING deal_id)
               INSERT INTO statement (deal_id, partner_id, month, from_at, to_at, currency, total_micro, inputs,
                                      first_no, last_no, chain_day, drafted_by)
               SELECT m.deal_id, $1, '2026-01', '2026-01-01', '2026-02-01', 'EUR', 0, '{}', 0, 0, '2026-01-31', 'x'
                 FROM made m""",
            partner.partner_id,
        )
    await api.house.rows("UPDATE statement SET state = 'approved', approved_at = now(), approved_by = 'x'")
    await api.house.rows("ANALYZE statement")
    query = queries.statements.statements_partner
    given = {"before": LAST, "rows": 21, "partner_id": api.alpha.partner_id}
    async with api.services.asking.acquire() as conn:
        await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(api.alpha.partner_id))
        args = [given.get(name) for name in query.names]
        plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {query.sql}", *args))
    assert "statement_partner" in plan, plan
    assert "Sort" not in plan
