"""Usage and bills in TM Forum's words: calls, messages and data in one list, each partner's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from bridge.database import connection
from bridge.exports.sequence import seal
from bridge.partners.store.deal import add_deal
from bridge.sandbox.seed import SeedBundle
from tests.api.callers import called, people
from tests.api.scene import Api, Client, problem
from tests.seeded import Who

USAGE = "/tmf-api/usageManagement/v4/usage"
BILLS = "/tmf-api/customerBillManagement/v4/customerBill"


async def texted(api: Api, who: Who, key: str) -> UUID:
    """A message out of a bundle."""
    texts = SeedBundle("texts", 1_000_000, 10, {"sms": 1})
    if not await api.house.rows("SELECT 1 FROM allowance WHERE account_id = $1", who.account_id):
        await api.house.buy(who, texts)
    await api.house.usage(who, "sms", 1, key)
    await api.house.rows(
        """UPDATE usage_record u SET partner_id = a.partner_id FROM account a
            WHERE a.account_id = u.account_id AND u.idempotency_key = $1""",
        key,
    )
    found: UUID = await api.house.value("SELECT usage_id FROM usage_record WHERE idempotency_key = $1", key)
    return found


async def ids(client: Client, **query: object) -> list[str]:
    response = await client.get(USAGE, **query)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()]


def properties(usage: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in usage["usageCharacteristic"]}


async def test_usage_is_each_partners_own_newest_first(api: Api) -> None:
    who = await people(api)
    call, theirs = await called(api, who.alpha, 61_000), await called(api, who.beta, 1_000)
    text = await texted(api, who.alpha, "m1")
    later = await called(api, who.alpha, 0)
    mine = [f"cdr_{later.hex}", f"use_{text.hex}", f"cdr_{call.hex}"]
    assert await ids(api.alpha) == mine
    assert await ids(api.beta) == [f"cdr_{theirs.hex}"]
    assert set(await ids(api.operator)) == {*mine, f"cdr_{theirs.hex}"}
    for one in mine:
        assert (await api.alpha.get(f"{USAGE}/{one}")).json()["id"] == one
        problem(await api.beta.get(f"{USAGE}/{one}"), 404, "not_found")


async def test_a_call_and_a_message_in_their_words(api: Api) -> None:
    who = (await people(api)).alpha
    call, text = await called(api, who, 61_000), await texted(api, who, "m1")
    told = (await api.alpha.get(f"{USAGE}/cdr_{call.hex}")).json()
    assert (told["usageType"], told["status"], told["href"]) == ("VOICE", "rated", f"{USAGE}/cdr_{call.hex}")
    assert properties(told)["originatingNumber"] == who.a_number
    assert properties(told)["durationMs"] == "61000"
    assert told["ratedProductUsage"][0]["taxIncludedRatingAmount"] == {"unit": "EUR", "value": 0.061}
    assert told["relatedParty"][0] == {"id": api.alpha.id, "role": "partner", "@referredType": "Organization"}
    told = (await api.alpha.get(f"{USAGE}/use_{text.hex}")).json()
    assert (told["usageType"], properties(told)["quantity"]) == ("SMS", "1")


async def test_what_a_statement_has_is_billed(api: Api) -> None:
    """From its approval on; a call that ended after it is rated only, and others' statements say nothing of it."""
    who = await people(api)
    call = await called(api, who.alpha, 61_000)
    async with connection(api.house.pool) as conn:
        await seal(conn, datetime.now(UTC))
        deal_id = await add_deal(conn, UUID(api.alpha.id.removeprefix("prt_")), "d", "EUR")
    later = await called(api, who.alpha, 1_000)

    async def stated() -> list[tuple[str, bool]]:
        found = (await api.alpha.get(USAGE)).json()
        assert [one["id"] for one in found] == [f"cdr_{later.hex}", f"cdr_{call.hex}"]
        alone = [(await api.alpha.get(f"{USAGE}/{one['id']}")).json() for one in found]
        assert alone == found
        return [(one["status"], one["ratedProductUsage"][0]["isBilled"]) for one in found]

    assert await stated() == [("rated", False), ("rated", False)]
    statement_id = await api.house.value(
        """INSERT INTO statement (deal_id, partner_id, month, from_at, to_at, currency, total_micro, inputs,
                                  first_no, last_no, chain_day, drafted_by)
           SELECT $1, d.partner_id, '2026-10', now() - interval '20 days', (SELECT max(until) FROM cdr_pass),
                  'EUR', 0, '{}', 1, 1, current_date, 'anna' FROM deal d WHERE deal_id = $1
           RETURNING statement_id""",
        deal_id,
    )  # fmt: skip
    assert await stated() == [("rated", False), ("rated", False)]
    await api.house.rows(
        "UPDATE statement SET state = 'approved', approved_at = now(), approved_by = 'ben' WHERE statement_id = $1",
        statement_id,
    )
    assert await stated() == [("rated", False), ("billed", True)]


async def test_pages(api: Api) -> None:
    who = (await people(api)).alpha
    made = [f"cdr_{(await called(api, who, 1_000)).hex}" for _ in range(5)][::-1]
    assert await ids(api.alpha, offset=1, limit=2) == made[1:3]
    first = await api.alpha.get(USAGE, limit=2)
    assert (first.headers["x-result-count"], "x-total-count" in first.headers) == ("2", False)
    seen, response = [one["id"] for one in first.json()], first
    while "link" in response.headers:
        link = response.headers["link"]
        response = await api.alpha.ask("GET", link[1 : link.index(">")])
        seen += [one["id"] for one in response.json()]
    assert seen == made
    whole = await api.alpha.get(USAGE)
    assert (whole.headers["x-total-count"], whole.headers["x-result-count"]) == ("5", "5")
    assert [set(one) for one in (await api.alpha.get(USAGE, fields="status", limit=1)).json()] == [
        {"id", "href", "status"}
    ]


@pytest.mark.parametrize(
    "query", [{"offset": 1001}, {"offset": -1}, {"limit": 101}, {"fields": "a;b"}, {"colour": "x"}]
)
async def test_what_is_not_known_is_refused(api: Api, query: dict[str, object]) -> None:
    problem(await api.alpha.get(USAGE, **query), 400, "bad_request")


async def test_times(api: Api) -> None:
    who = (await people(api)).alpha
    await called(api, who, 1_000)
    assert len(await ids(api.alpha, **{"usageDate.gte": "2020-01-01T00:00:00Z"})) == 1
    assert await ids(api.alpha, **{"usageDate.lt": "2020-01-01T00:00:00Z"}) == []


async def test_what_is_not_there(api: Api) -> None:
    response = await api.alpha.get(BILLS)
    assert (response.json(), response.headers["x-total-count"]) == ([], "0")
    problem(await api.alpha.get(f"{BILLS}/inv_7"), 404, "not_found")
    problem(await api.client.get(BILLS), 401, "not_authenticated")
    for path in (f"{USAGE}/cdr_7", f"{USAGE}/use_{'f' * 32}", f"{USAGE}/cdr_{'f' * 32}"):
        problem(await api.alpha.get(path), 404, "not_found")
