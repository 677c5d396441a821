"""Quotes and route tests: what a call costs is what is told, and other carriers' prices are not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from bridge.api.fields import show_id
from bridge.calls.book import load_book
from bridge.calls.book_watch import BookWatch
from bridge.database import connection
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, Client, Partner, problem
from tests.postgres.test_quote import imported
from tests.seeded import GERMANY, KINGDOM, Who, ended

OURS = ("alpha", "beta", "margin", "cost", "carrier")


async def subscriber(api: Api, owner: Partner, **more: Any) -> tuple[Who, str]:
    who = await api.house.subscriber(**({"balance_micro": 100_000_000} | more))
    await api.own("subscriber", owner, account_id=who.account_id)
    key = await api.house.value("SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number)
    return who, show_id("sub", key)


async def asked(client: Client, path: str = "quotes", **body: Any) -> dict[str, Any]:
    """Without an idempotency key: nothing is made by asking."""
    said = await client.ask(
        "POST", f"/v1/{path}", json={"dialled": GERMANY} | body, headers={"Idempotency-Key": ""}
    )
    assert said.status_code == 200, said.text
    return dict(said.json())


@pytest.fixture(params=["worker's book", "book of the call"])
async def book(api: Api, request: pytest.FixtureRequest) -> str:
    if request.param == "worker's book":
        await api.books.load()
    return str(request.param)


@pytest.mark.parametrize("dialled", [GERMANY, KINGDOM])
async def test_a_quote_is_what_the_call_costs(api: Api, book: str, dialled: str) -> None:
    who, sub = await subscriber(api, api.alpha)
    told = await asked(api.alpha, subscriber_id=sub, dialled=dialled, seconds=97)
    assert (told["verdict"], told["number"], told["lasts_s"]) == ("admitted", dialled, 97)
    call_id = (await api.house.admitted(who, dialled)).frozen.call_id
    await api.house.end(ended(call_id, talk_ms=97_000))
    charge = await api.house.value("SELECT amount_micro FROM charge")
    assert round(float(told["charge"]) * 1_000_000) == charge > 0
    assert await api.house.value("SELECT count(*) FROM call") == 1, "asking writes nothing"
    assert await api.house.value("SELECT count(*) FROM audit_log") == 0


async def test_a_partner_is_told_the_selling_side_only(api: Api, book: str) -> None:
    _, sub = await subscriber(api, api.alpha)
    told = await asked(api.alpha, subscriber_id=sub)
    assert not any(name in json.dumps(told) for name in OURS), told
    whole = await asked(api.operator, subscriber_id=sub)
    assert [one["trunk"] for one in whole["routes"]] == ["alpha", "beta"]
    assert whole["routes"][0]["cost"] == "0.09"
    assert {name: whole[name] for name in told if name != "at"} == {
        name: told[name] for name in told if name != "at"
    }
    await api.house.rows("UPDATE plan SET margin_floor_micro = 10000000")
    await api.books.load()
    refused = await asked(api.alpha, subscriber_id=sub)
    assert (refused["verdict"], refused["reason"], refused["detail"]) == ("refused", "no_route", None)
    assert "margin" in (await asked(api.operator, subscriber_id=sub))["detail"]


async def test_a_route_test_shows_a_partner_its_own_trunks(api: Api, book: str) -> None:
    _, sub = await subscriber(api, api.alpha)
    await api.own("trunk", api.alpha, name="beta")
    trunk_id = show_id("trk", await api.house.value("SELECT trunk_id FROM trunk WHERE name = 'beta'"))
    whole = await asked(api.operator, "route-tests", subscriber_id=sub)
    assert [(one["place"], one["trunk"], one["cost"]) for one in whole["routes"]] == [
        (1, "alpha", "0.09"), (2, "beta", "0.108"),
    ]  # fmt: skip
    told = await asked(api.alpha, "route-tests", subscriber_id=sub)
    assert told["routes"] == [
        {"place": 1, "trunk_id": None, "trunk": None, "carrier": None},
        {"place": 2, "trunk_id": trunk_id, "trunk": "beta", "carrier": None},
    ]
    assert told["others"] == {"tried": 1, "left_out": 0}
    await api.house.rows("UPDATE plan SET margin_floor_micro = 10000000")
    await api.house.rows("UPDATE trunk SET enabled = false WHERE name = 'alpha'")
    await api.books.load()
    told = await asked(api.alpha, "route-tests", subscriber_id=sub)
    assert (told["verdict"], told["reason"], told["detail"]) == ("refused", "no_route", None)
    assert told["left_out"] == [{"trunk_id": trunk_id, "trunk": "beta", "why": "leaves too little margin"}]
    assert told["others"] == {"tried": 0, "left_out": 1}
    whole = await asked(api.operator, "route-tests", subscriber_id=sub)
    assert [one["trunk"] for one in whole["left_out"]] == ["alpha", "beta"]


async def test_routes_are_told_though_there_is_no_money(api: Api, book: str) -> None:
    _, sub = await subscriber(api, api.alpha, balance_micro=0)
    told = await asked(api.operator, "route-tests", subscriber_id=sub)
    assert (told["reason"], [one["trunk"] for one in told["routes"]]) == ("no_credit", ["alpha", "beta"])
    none = await asked(api.operator, "route-tests", subscriber_id=sub, dialled="+49900123456")
    assert (none["reason"], none["routes"], none["left_out"]) == ("barred_destination", [], [])


async def test_a_full_trunk_is_left_out(api: Api) -> None:
    _, sub = await subscriber(api, api.alpha)
    await api.house.rows("UPDATE trunk SET capacity = 0 WHERE name = 'alpha'")
    await api.books.load()
    told = await asked(api.operator, "route-tests", subscriber_id=sub)
    assert [one["why"] for one in told["left_out"]] == ["full, 0 of 0 calls"]


async def test_anybody_with_a_plan_and_another_plan_for_a_subscriber(api: Api, book: str) -> None:
    await api.own("plan", api.alpha)
    plan = show_id("plan", await api.house.value("SELECT plan_id FROM plan"))
    told = await asked(api.alpha, plan_id=plan, seconds=60, caller="+4915123456789")
    assert (told["charge"], told["currency"], told["steps"] != []) == ("0.06", "EUR", True)
    _, sub = await subscriber(api, api.alpha)
    assert (await asked(api.alpha, plan_id=plan, subscriber_id=sub, seconds=60))["charge"] == "0.06"


async def test_a_bundle_pays(api: Api, book: str) -> None:
    who, sub = await subscriber(api, api.alpha)
    await api.house.buy(who, SeedBundle("two", 1_000_000, 2, {"voice": 60}))
    told = await asked(api.alpha, subscriber_id=sub, seconds=180)
    assert told["bundles"] == [{"bundle": "two", "units": 2, "pays_for_s": 120}]
    assert told["charge"] == "0.06"


async def test_what_is_dialled_may_be_anything(api: Api, book: str) -> None:
    _, sub = await subscriber(api, api.alpha)
    for dialled, reason in (
        ("x", "invalid_number"),
        ("11833", "barred_destination"),
        ("+1 202 5550123", "no_rate"),
    ):
        told = await asked(api.alpha, subscriber_id=sub, dialled=dialled)
        assert (told["verdict"], told["reason"]) == ("refused", reason)
        assert (await asked(api.alpha, "route-tests", subscriber_id=sub, dialled=dialled))["reason"] == reason
    assert (await asked(api.alpha, subscriber_id=sub, dialled="112"))["verdict"] == "emergency"
    assert (await asked(api.alpha, "route-tests", subscriber_id=sub, dialled="110"))["verdict"] == "emergency"


async def test_another_instant_has_the_rates_of_then(api: Api, book: str) -> None:
    """Of the past, of tomorrow, and beside a worker's book that knows neither."""
    _, sub = await subscriber(api, api.alpha)
    later = datetime.now(UTC) + timedelta(days=3)
    await imported(
        api.house,
        "sell standard",
        f"prefix,destination,rate,effective_from\n49,Germany,0.12,{later:%Y-%m-%dT%H:%MZ}\n",
    )
    if book == "worker's book":
        await api.books.load()
    now = await asked(api.alpha, subscriber_id=sub, seconds=60)
    assert now["charge"] == "0.06"
    told = await asked(api.alpha, subscriber_id=sub, seconds=60, at=(later + timedelta(days=1)).isoformat())
    assert told["charge"] == "0.12"
    past = await asked(api.alpha, subscriber_id=sub, seconds=60, at="2026-01-01T00:00:00Z")
    assert past["charge"] == "0.06"


async def test_a_plan_that_is_newer_than_the_book_is_read(api: Api) -> None:
    await api.books.load()
    await api.house.rows(
        "INSERT INTO plan (name, deck_id, partner_id) SELECT 'new', deck_id, $1 FROM deck WHERE side = 'sell'",
        api.alpha.partner_id,
    )
    plan = show_id("plan", await api.house.value("SELECT plan_id FROM plan WHERE name = 'new'"))
    assert (await asked(api.alpha, plan_id=plan))["verdict"] == "admitted"


async def test_what_is_anothers_is_not_there(api: Api, book: str) -> None:
    _, theirs = await subscriber(api, api.beta)
    _, mine = await subscriber(api, api.alpha)
    ours = show_id("plan", await api.house.value("SELECT plan_id FROM plan"))
    for path in ("quotes", "route-tests"):
        for named in (
            {"subscriber_id": theirs},
            {"subscriber_id": f"sub_{uuid4().hex}"},
            {"plan_id": ours},
            {"plan_id": f"plan_{uuid4().hex}"},
            {"subscriber_id": mine, "plan_id": ours},
            {"subscriber_id": theirs, "plan_id": ours},
        ):
            problem(await api.alpha.post(f"/v1/{path}", {"dialled": GERMANY} | named), 404, "not_found")
        reader = await api.key("plans:read", partner_id=api.alpha.partner_id)
        body = {"dialled": GERMANY, "subscriber_id": mine}
        problem(await reader.post(f"/v1/{path}", body), 403, "scope_missing")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dialled": GERMANY},
        {"dialled": ""},
        {"dialled": "1" * 41},
        {"dialled": "a\0"},
        {"dialled": GERMANY, "seconds": 0},
        {"dialled": GERMANY, "seconds": 10**9},
        {"dialled": GERMANY, "at": "now"},
        {"dialled": GERMANY, "caller": GERMANY},
    ],
)
async def test_questions_without_sense(api: Api, body: dict[str, Any]) -> None:
    named = {"subscriber_id": f"sub_{uuid4().hex}"} if len(body) > 1 else {}
    problem(await api.alpha.post("/v1/quotes", body | named), 422, "invalid_request")


async def test_the_book_of_a_call_prices_as_the_whole_book(api: Api) -> None:
    """With a deck of many prefixes, and bands: the few rates that are read are the ones that count."""
    rows = "".join(f"49{number},x,0.{number:03}\n" for number in range(100, 999))
    await imported(api.house, "sell standard", f"prefix,destination,rate\n{rows}")
    _, sub = await subscriber(api, api.alpha)
    without = api.books
    whole = BookWatch(api.house.pool, "")
    await whole.load()
    async with connection(api.house.pool) as conn:
        assert len((await load_book(conn, datetime.now(UTC))).decks) == 3
    for dialled in ("+493023125010", "+4910012345678", "+4991112345", "+4915123456789"):
        object.__setattr__(api.services, "books", without)
        one = await asked(api.operator, subscriber_id=sub, dialled=dialled)
        object.__setattr__(api.services, "books", whole)
        other = await asked(api.operator, subscriber_id=sub, dialled=dialled)
        assert one | {"at": ""} == other | {"at": ""}
