"""Accounts: balance, entries, holds, top-ups, settings and bundles; each sees and moves its own."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge import queries
from bridge.api.desk import PARTNER_ROLE
from bridge.api.fields import show_id
from bridge.calls.admit import Admitted
from bridge.database import transaction
from bridge.ledger.store import correct
from bridge.queries import Query
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, Client, Partner, problem
from tests.seeded import SECOND_MICRO, Who, ended

EURO = 10**6


async def owned(api: Api, partner: Partner, **more: Any) -> tuple[Who, str]:
    """A subscriber of a partner, with the path of the account."""
    who = await api.house.subscriber(**more)
    account_id = UUID(who.account_id)
    await api.own("account", partner, account_id=account_id)
    await api.own("subscriber", partner, account_id=account_id)
    return who, f"/v1/accounts/{show_id('acc', account_id)}"


def top_up(amount: str = "20.00", currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


async def test_read_and_listed(api: Api) -> None:
    who, path = await owned(api, api.alpha, balance_micro=EURO)
    told = (await api.alpha.get(path)).json()
    assert told | {"created_at": ""} == {
        "account_id": path.rpartition("/")[2], "partner_id": api.alpha.id, "kind": "subscriber",
        "name": f"subscriber {who.a_number}", "currency": "EUR", "funding": "prepaid", "state": "active",
        "balance": "1.00", "held": "0.00", "available": "1.00", "credit_limit": "0.00", "call_cap": None,
        "spend_cap": None, "low_balance": None, "created_at": "",
    }  # fmt: skip
    listed = (await api.alpha.get("/v1/accounts")).json()["data"]
    assert [one["kind"] for one in listed] == ["subscriber", "partner"]
    assert listed[0] == told
    assert (await api.alpha.get("/v1/accounts", kind="subscriber")).json()["data"] == [told]
    assert (await api.alpha.get("/v1/accounts", state="closed")).json()["data"] == []
    assert [one["kind"] for one in (await api.beta.get("/v1/accounts")).json()["data"]] == ["partner"]
    kinds = {one["kind"] for one in (await api.operator.get("/v1/accounts")).json()["data"]}
    assert kinds == {"subscriber", "partner", "carrier", "system"}


async def test_its_own_account_is_read_and_nothing_else(api: Api) -> None:
    account_id = await api.house.value("SELECT account_id FROM partner WHERE name = 'Alpha'")
    path = f"/v1/accounts/{show_id('acc', account_id)}"
    async with transaction(api.house.pool) as conn:
        await correct(conn, str(account_id), 5 * EURO, author="mk", reason="settled", key="k")
    told = (await api.alpha.get(path)).json()
    assert (told["balance"], told["held"], told["available"]) == ("5.00", None, None)
    (entry,) = (await api.alpha.get(f"{path}/entries")).json()["data"]
    assert (entry["kind"], entry["amount"]) == ("correction", "5.00")
    for client in (api.alpha, api.operator):
        problem(await client.post(f"{path}/top-ups", top_up()), 409, "conflict")
        problem(await client.post(f"{path}/bundles", {"bundle_id": "bdl_" + "0" * 32}), 409, "conflict")
        problem(await client.patch(path, {"credit_limit": "1"}), 409, "conflict")


async def test_a_top_up_is_booked_once(api: Api) -> None:
    who, path = await owned(api, api.alpha)
    key = {"Idempotency-Key": "voucher 1"}
    first = await api.alpha.post(f"{path}/top-ups", top_up() | {"note": "voucher"}, headers=key)
    assert first.status_code == 201, first.text
    assert (first.json()["kind"], first.json()["amount"]) == ("top_up", "20.00")
    again = await api.alpha.post(f"{path}/top-ups", top_up() | {"note": "voucher"}, headers=key)
    assert again.content == first.content
    await api.house.rows("UPDATE idempotency SET made_at = made_at - interval '25 hours'")
    later = await api.alpha.post(f"{path}/top-ups", top_up() | {"note": "voucher"}, headers=key)
    assert later.content == first.content, "a day later the books still know the key"
    await api.house.rows("UPDATE idempotency SET made_at = made_at - interval '25 hours'")
    problem(await api.alpha.post(f"{path}/top-ups", top_up("21"), headers=key), 409, "conflict")
    assert (await api.house.account(who))["balance_micro"] == 20 * EURO


async def test_keys_of_two_partners_do_not_meet(api: Api) -> None:
    key = {"Idempotency-Key": "the same"}
    for client, owner in ((api.alpha, api.alpha), (api.beta, api.beta), (api.operator, api.alpha)):
        who, path = await owned(api, owner)
        assert (await client.post(f"{path}/top-ups", top_up(), headers=key)).status_code == 201
        assert (await api.house.account(who))["balance_micro"] == 20 * EURO


async def test_a_key_as_long_as_keys_may_be(api: Api) -> None:
    who, path = await owned(api, api.alpha)
    for last in "ab":
        response = await api.alpha.post(
            f"{path}/top-ups", top_up("1"), headers={"Idempotency-Key": "k" * 254 + last}
        )
        assert response.status_code == 201, response.text
    assert (await api.house.account(who))["balance_micro"] == 2 * EURO


async def test_twenty_top_ups_at_once_with_one_key(api: Api) -> None:
    who, path = await owned(api, api.alpha)
    key = {"Idempotency-Key": "one"}
    said = await asyncio.gather(
        *(api.alpha.post(f"{path}/top-ups", top_up("1"), headers=key) for _ in range(20))
    )
    assert {one.status_code for one in said} <= {201, 409}
    assert (await api.house.account(who))["balance_micro"] == EURO


@pytest.mark.parametrize(
    "amount", ["0", "-1", "1e3", "1.0000001", "1" * 13, "", "1,5", "NaN", 5, 5.5, None, True]
)
async def test_what_is_no_amount(api: Api, amount: object) -> None:
    _, path = await owned(api, api.alpha)
    body = {"amount": amount, "currency": "EUR"}
    told = problem(await api.alpha.post(f"{path}/top-ups", body), 422, "invalid_request")
    assert [one["pointer"] for one in told["errors"]] == ["#/amount"]


async def test_balances_have_an_end(api: Api) -> None:
    _, path = await owned(api, api.alpha)
    most = "9" * 12
    assert (await api.alpha.post(f"{path}/top-ups", top_up(most))).status_code == 201
    problem(await api.alpha.post(f"{path}/top-ups", top_up(most)), 422, "invalid_request")
    told = problem(await api.alpha.post(f"{path}/top-ups", top_up(currency="USD")), 422, "invalid_request")
    assert [one["pointer"] for one in told["errors"]] == ["#/currency"]


async def test_entries_page_by_page_while_more_are_booked(api: Api) -> None:
    who, path = await owned(api, api.alpha)
    for cents in range(1, 6):
        await api.alpha.post(f"{path}/top-ups", top_up(f"0.0{cents}"))
    first = (await api.alpha.get(f"{path}/entries", limit=2)).json()
    await api.alpha.post(f"{path}/top-ups", top_up("9"))
    seen = [one["amount"] for one in first["data"]]
    cursor = first["next"]
    while cursor:
        page = (await api.alpha.get(f"{path}/entries", limit=2, cursor=cursor)).json()
        seen += [one["amount"] for one in page["data"]]
        cursor = page["next"]
    assert seen == ["0.05", "0.04", "0.03", "0.02", "0.01"]
    call_id = (await api.house.admitted(who)).frozen.call_id
    await api.house.end(ended(call_id, talk_ms=3000))
    newest = (await api.alpha.get(f"{path}/entries", limit=1)).json()["data"][0]
    assert (newest["kind"], newest["amount"]) == ("call", "-0.003")
    assert newest["transfer_id"] == show_id("tr", call_id)


async def test_a_partner_sees_its_side_of_a_booking_only(api: Api) -> None:
    """Not what the call cost us, nor whom; asked of the database itself, as the API asks."""
    who, _ = await owned(api, api.alpha, balance_micro=EURO)
    other, _ = await owned(api, api.beta, balance_micro=EURO)
    for one in (who, other):
        await api.house.end(ended((await api.house.admitted(one)).frozen.call_id, talk_ms=3000))
    held = await api.house.admitted(other)
    async with transaction(api.services.asking) as conn:
        await queries.access.enter.run(
            conn, role=PARTNER_ROLE, partner_id=str(api.alpha.partner_id), for_transaction=True
        )
        rows = await conn.fetch("SELECT account_id, amount_micro FROM entry ORDER BY transfer_id")
        assert [tuple(row) for row in rows] == [(UUID(who.account_id), EURO), (UUID(who.account_id), -3000)]
        assert await conn.fetchval("SELECT count(*) FROM transfer") == 2
        assert await conn.fetchval("SELECT count(*) FROM hold") == 1
        assert await conn.fetchval("SELECT array_agg(account_id) FROM charge") == [UUID(who.account_id)]
        for secret in ("SELECT note FROM transfer", "SELECT author FROM transfer", "SELECT hash FROM subscriber_proof",
                       "SELECT salt FROM subscriber_proof", "SELECT idempotency_key FROM usage_record",
                       "SELECT sip_secret FROM app", "SELECT * FROM allowance", "SELECT buy FROM attempt",
                       "INSERT INTO hold (call_id) VALUES (uuidv7())", "UPDATE account SET balance_micro = 1",
                       f"SELECT spend_cap_set_v1('{who.account_id}', 1, 'day', now())"):  # fmt: skip
            with pytest.raises(Exception, match="permission denied"):
                async with conn.transaction():
                    await conn.execute(secret)
    await api.house.end(ended(held.frozen.call_id))


async def test_holds_of_calls_that_go_on(api: Api) -> None:
    who, path = await owned(api, api.alpha, balance_micro=EURO)
    calls = [(await api.house.admitted(who)).frozen.call_id for _ in range(3)]
    await api.house.end(ended(calls[0], talk_ms=1000))
    page = (await api.alpha.get(f"{path}/holds", limit=1)).json()
    rest = (await api.alpha.get(f"{path}/holds", limit=1, cursor=page["next"])).json()
    assert [one["call_id"] for one in page["data"] + rest["data"]] == [
        show_id("call", call_id) for call_id in reversed(calls[1:])
    ]
    assert page["data"][0]["amount"] == "0.01"
    assert (await api.alpha.get(path)).json()["held"] == "0.02"
    await api.house.end(*(ended(call_id) for call_id in calls[1:]))


async def test_settings_are_changed_and_cleared(api: Api) -> None:
    who, path = await owned(api, api.alpha, balance_micro=EURO)
    etag = await api.alpha.etag(path)
    wanted = {"call_cap": 3, "low_balance": "2.50", "spend_cap": {"amount": "0.015", "period": "month"}}
    changed = await api.alpha.patch(path, wanted, etag)
    assert changed.status_code == 200, changed.text
    told = changed.json()
    assert (told["call_cap"], told["low_balance"]) == (3, "2.50")
    assert told["spend_cap"] == {"amount": "0.015", "period": "month", "spent": "0.00", "left": "0.015"}
    assert (
        await api.house.value("SELECT low_balance_micro FROM account WHERE account_id = $1", who.account_id)
        == 2_500_000
    )
    problem(await api.alpha.patch(path, {"call_cap": 4}, etag), 412, "stale")
    call = await api.house.admitted(who)
    await api.house.end(ended(call.frozen.call_id, talk_ms=4000))
    again = await api.house.admitted(who)
    assert (await api.alpha.get(path)).json()["spend_cap"] == {
        "amount": "0.015", "period": "month", "spent": "0.004", "left": "0.001",
    }  # fmt: skip
    await api.house.end(ended(again.frozen.call_id))
    lowered = (await api.alpha.patch(path, {"spend_cap": {"amount": "0.001", "period": "month"}})).json()
    assert lowered["spend_cap"]["left"] == "-0.003"
    kept = (await api.alpha.patch(path, {"call_cap": None})).json()
    assert (kept["call_cap"], kept["low_balance"], kept["spend_cap"]) == (None, "2.50", lowered["spend_cap"])
    none = (await api.alpha.patch(path, {"low_balance": None, "spend_cap": None})).json()
    assert (none["low_balance"], none["spend_cap"]) == (None, None)


async def test_a_balance_is_never_said_to_be_unchanged(api: Api) -> None:
    """The ETag counts the settings; the money beside them moves without it."""
    _, path = await owned(api, api.alpha)
    etag = await api.alpha.etag(path)
    await api.alpha.post(f"{path}/top-ups", top_up())
    again = await api.alpha.ask("GET", path, headers={"If-None-Match": etag})
    assert (again.status_code, again.json()["balance"]) == (200, "20.00")


@pytest.mark.parametrize(
    "body",
    [
        {"spend_cap": {"amount": "-1", "period": "day"}},
        {"spend_cap": {"amount": "1", "period": "week"}},
        {"spend_cap": {"amount": "1"}},
        {"spend_cap": "1"},
        {"call_cap": -1},
        {"call_cap": 2**31},
        {"call_cap": "three"},
        {"low_balance": "-1"},
        {"credit_limit": "-1"},
        {"balance": "1000"},
        {"state": "closed"},
    ],
)
async def test_settings_that_make_no_sense(api: Api, body: dict[str, Any]) -> None:
    _, path = await owned(api, api.alpha)
    problem(await api.alpha.patch(path, body), 422, "invalid_request")


async def test_credit(api: Api) -> None:
    _, prepaid = await owned(api, api.alpha)
    problem(await api.alpha.patch(prepaid, {"credit_limit": "1"}), 409, "conflict")
    _, path = await owned(api, api.alpha, funding="postpaid")
    assert (await api.alpha.patch(path, {"credit_limit": "500"})).json()["available"] == "500.00"
    problem(await api.alpha.patch(path, {"credit_limit": "500.000001"}), 403, "not_allowed")
    assert (await api.operator.patch(path, {"credit_limit": "900"})).json()["credit_limit"] == "900.00"
    assert (await api.alpha.patch(path, {"credit_limit": "800"})).json()["credit_limit"] == "800.00"
    problem(await api.alpha.patch(path, {"credit_limit": "900"}), 403, "not_allowed")
    assert (await api.alpha.patch(path, {"credit_limit": None})).json()["credit_limit"] == "0.00"


async def test_bundles_are_bought_and_listed(api: Api) -> None:
    who, path = await owned(api, api.alpha, balance_micro=EURO)
    await api.house.sell(
        [SeedBundle("minutes", EURO, 10, {"voice": 60}), SeedBundle("ours", 0, 1, {"sms": 1})]
    )
    await api.own("bundle", api.alpha, name="minutes")
    ids = {
        row["name"]: show_id("bdl", row["bundle_id"]) for row in await api.house.rows("SELECT * FROM bundle")
    }
    key = {"Idempotency-Key": "one"}
    bought = await api.alpha.post(f"{path}/bundles", {"bundle_id": ids["minutes"]}, headers=key)
    assert bought.status_code == 201, bought.text
    told = bought.json()
    assert (told["bundle"], told["units"], told["covers"], told["renews"]) == (
        "minutes",
        10,
        {"voice": 60},
        False,
    )
    await api.house.rows("UPDATE idempotency SET made_at = made_at - interval '25 hours'")
    again = await api.alpha.post(f"{path}/bundles", {"bundle_id": ids["minutes"]}, headers=key)
    assert again.json()["allowance_id"] == told["allowance_id"]
    assert (await api.house.account(who))["balance_micro"] == 0
    short = problem(
        await api.alpha.post(f"{path}/bundles", {"bundle_id": ids["minutes"]}), 402, "insufficient_funds"
    )
    assert "1" in short["detail"]
    problem(await api.alpha.post(f"{path}/bundles", {"bundle_id": ids["ours"]}), 404, "not_found")
    problem(await api.operator.post(f"{path}/bundles", {"bundle_id": ids["ours"]}), 404, "not_found")
    await api.house.rows("UPDATE bundle SET on_sale = false")
    problem(await api.alpha.post(f"{path}/bundles", {"bundle_id": ids["minutes"]}), 404, "not_found")
    listed = (await api.alpha.get(f"{path}/allowances")).json()
    assert (listed["data"], listed["next"]) == ([told], None)
    assert isinstance(await api.house.call(who), Admitted)
    assert (await api.alpha.get(f"{path}/allowances")).json()["data"][0]["held_units"] == 1
    await api.house.end(*[ended(row["call_id"]) for row in await api.house.rows("SELECT call_id FROM lease")])


async def test_what_is_anothers_is_not_there(api: Api) -> None:
    who, path = await owned(api, api.alpha, balance_micro=EURO)
    etag = await api.alpha.etag(path)
    await api.house.sell([SeedBundle("free", 0, 1, {"sms": 1})])
    await api.own("bundle", api.beta, name="free")
    bundle = {"bundle_id": show_id("bdl", await api.house.value("SELECT bundle_id FROM bundle"))}
    for lower in ("", "/entries", "/holds", "/allowances"):
        problem(await api.beta.get(path + lower), 404, "not_found")
    problem(await api.beta.patch(path, {"call_cap": 1}, etag), 404, "not_found")
    problem(await api.beta.post(f"{path}/top-ups", top_up()), 404, "not_found")
    problem(await api.beta.post(f"{path}/bundles", bundle), 404, "not_found")
    problem(await api.alpha.post(f"{path}/bundles", bundle), 404, "not_found")
    ours = await api.house.value("SELECT account_id FROM account WHERE name = 'cash EUR'")
    for lower in ("", "/entries"):
        problem(await api.alpha.get(f"/v1/accounts/{show_id('acc', ours)}{lower}"), 404, "not_found")
    problem(await api.alpha.get(f"/v1/accounts/{show_id('acc', uuid4())}"), 404, "not_found")
    assert (await api.house.account(who))["balance_micro"] == EURO
    assert (await api.house.account(who))["call_cap"] is None


async def test_scopes(api: Api) -> None:
    reader: Client = await api.key("accounts:read", partner_id=api.alpha.partner_id)
    _, path = await owned(api, api.alpha)
    assert (await reader.get(path)).status_code == 200
    problem(await reader.post(f"{path}/top-ups", top_up()), 403, "scope_missing")
    problem(await reader.patch(path, {"call_cap": 1}), 403, "scope_missing")


async def test_a_closed_account_takes_no_money(api: Api) -> None:
    who, path = await owned(api, api.alpha)
    await api.house.rows("UPDATE account SET state = 'closed' WHERE account_id = $1", who.account_id)
    problem(await api.alpha.post(f"{path}/top-ups", top_up()), 422, "invalid_request")


@pytest.mark.parametrize(
    ("query", "given", "index"),
    [
        (queries.accounts.accounts_partner, {"kind": None, "state": None}, "account_partner"),
        (queries.accounts.entries, {}, "entry_"),
        (queries.accounts.holds, {}, "hold_open"),
        (queries.subscribers.subscribers_partner, {"a_number": None, "state": None, "plan_id": None},
         "subscriber_partner"),
        (queries.subscribers.subscribers_partner, {"a_number": "+4915100000", "state": None, "plan_id": None},
         "subscriber_number"),
        (queries.subscribers.subscribers_partner, {"a_number": None, "state": "pending", "plan_id": None},
         "subscriber_state"),
        (queries.usage.usages_partner, {"since": None, "until": None}, "usage_newest"),
    ],
)  # fmt: skip
async def test_lists_stay_on_their_index(api: Api, query: Query, given: dict[str, Any], index: str) -> None:
    """As a partner asks, among many of others: no list is read through, nor sorted."""
    who, _ = await owned(api, api.alpha)
    await fill(api, who)
    async with transaction(api.services.asking) as conn:
        await queries.access.enter.run(
            conn, role=PARTNER_ROLE, partner_id=str(api.alpha.partner_id), for_transaction=True
        )
        more = {
            "before": UUID(int=2**128 - 1),
            "rows": 21,
            "account_id": UUID(who.account_id),
            "partner_id": api.alpha.partner_id,
        } | given
        lines = await conn.fetch(f"EXPLAIN {query.sql}", *[more[name] for name in query.names])
    plan = "\n".join(line[0] for line in lines)
    assert index in plan, plan
    top = plan.partition("SubPlan")[0].partition("InitPlan")[0]
    assert "Seq Scan on account" not in top, plan
    assert "Seq Scan on subscriber" not in top, plan
    assert "Seq Scan on entry" not in top, plan
    assert "Seq Scan on usage_record" not in top, plan


async def fill(api: Api, who: Who) -> None:
    """Thousands of rows, of which a hundredth is alpha's. They are on no books, and gone with the test."""
    await api.house.rows(
        "INSERT INTO account (kind, name, currency, partner_id)"
        " SELECT 'subscriber', 'filler ' || n, 'EUR', CASE WHEN n % 100 = 0 THEN $1::uuid ELSE $2 END"
        " FROM generate_series(1, 5000) n",
        api.alpha.partner_id, api.beta.partner_id,
    )  # fmt: skip
    await api.house.rows(
        "INSERT INTO subscriber (app_id, a_number, account_id, plan_id, partner_id, state)"
        " SELECT $1, '+4915' || 100000 + n, $2, $3, CASE WHEN n % 100 = 0 THEN $4::uuid ELSE $5 END,"
        " CASE WHEN n % 50 = 0 THEN 'pending' ELSE 'active' END FROM generate_series(1, 5000) n",
        api.house.app_id, who.account_id, api.house.plan_id, api.alpha.partner_id, api.beta.partner_id,
    )  # fmt: skip
    await api.house.rows(
        "INSERT INTO usage_record (account_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro,"
        " per, amount_micro, written_off_micro, currency, throttled, used_at, partner_id)"
        " SELECT $1, n::text, 'sms', 'home', 1, 1, 0, 1, 0, 0, 'EUR', false, now(),"
        " CASE WHEN n % 100 = 0 THEN $2::uuid ELSE $3 END FROM generate_series(1, 5000) n",
        who.account_id, api.alpha.partner_id, api.beta.partner_id,
    )  # fmt: skip
    for n in range(3):
        await api.house.top_up(who, SECOND_MICRO, f"filler {n}")
    await api.house.rows(
        "WITH booked AS (INSERT INTO transfer (kind) SELECT 'exchange' FROM generate_series(1, 5000)"
        " RETURNING transfer_id) INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)"
        " SELECT transfer_id, no, a.account_id, no * 2 - 3, 'EUR' FROM booked, generate_series(1, 2) no,"
        " (SELECT account_id FROM account WHERE name = 'cash EUR') a"
    )
    await api.house.rows(
        "INSERT INTO hold (call_id, account_id, currency, state, opened_micro, held_micro, closed_at)"
        " SELECT uuidv7(), $1, 'EUR', 'released', 0, 0, now() FROM generate_series(1, 5000)",
        who.account_id,
    )
    await api.house.rows("ANALYZE account, subscriber, usage_record, entry, transfer, hold")
