"""Plans through the API: a partner makes its own, of its own decks, and gives away only what a deal pays for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.api.fields import show_id
from bridge.database import transaction
from bridge.errors import Conflict
from bridge.rating.plan_file import PlanFile
from bridge.rating.store.plans import apply_plan
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, Client, Partner, problem

GOLD: dict[str, Any] = {
    "name": "gold",
    "currency": "EUR",
    "time_zone": "Europe/Berlin",
    "tax": {"mode": "inclusive", "percent": "19"},
    "home": [
        {"destination": "Germany", "prefixes": ["49"], "a_minute": "0.09", "increment": "60/1"},
        {"destination": "Premium", "prefixes": ["49900"], "blocked": True},
    ],
    "service": [{"name": "sms", "price": "0.09"}],
    "bundle": [{"name": "hundred", "price": "5.00", "units": 100, "days": 30, "covers": {"voice": 60}}],
}


async def made(client: Client, **more: Any) -> str:
    """The path of a new plan."""
    said = await client.post("/v1/plans", GOLD | more)
    assert said.status_code == 201, said.text
    return str(said.headers["location"])


async def put(client: Client, path: str, body: Any, etag: str | None = None) -> Any:
    return await client.ask("PUT", path, json=body, headers={"If-Match": etag or await client.etag(path)})


async def owners(api: Api, table: str) -> set[tuple[str, UUID | None]]:
    return {(row["name"], row["partner_id"]) for row in await api.house.rows(f"SELECT * FROM {table}")}


async def test_made_read_listed_and_changed(api: Api) -> None:
    said = await api.alpha.post("/v1/plans", GOLD)
    assert said.status_code == 201, said.text
    path, told = said.headers["location"], said.json()
    assert {one["part"]: one["done"] for one in told["parts"]} == {
        "deck sell gold": "created", "terms of sell gold": "changed", "plan gold": "created",
        "service sms (home)": "created", "bundle hundred": "created",
    }  # fmt: skip
    assert (told["partner_id"], told["currency"], told["bundles"][0]["price"]) == (
        api.alpha.id,
        "EUR",
        "5.00",
    )
    assert [one["prefix"] for one in told["decks"][0]["rates"]] == ["49", "49900"]
    read = await api.alpha.get(path)
    assert read.json() | {"parts": told["parts"]} == told
    again = await api.alpha.ask("GET", path, headers={"If-None-Match": read.headers["etag"]})
    assert again.status_code == 200, "its rates change without it"
    (line,) = (await api.alpha.get("/v1/plans")).json()["data"]
    assert (line["name"], line["bundles"], line["subscribers"]) == ("gold", 1, 0)
    mine = {("sell gold", api.alpha.partner_id)}
    assert mine <= await owners(api, "deck")
    assert await owners(api, "bundle") == {("hundred", api.alpha.partner_id)}
    dearer = GOLD | {"home": [GOLD["home"][0] | {"a_minute": "0.10"}], "bundle": []}
    changed = await put(api.alpha, path, dearer, read.headers["etag"])
    assert changed.status_code == 200, changed.text
    assert changed.json()["decks"][0]["rates"][0]["rate"] == "0.10"
    assert changed.json()["bundles"][0]["on_sale"] is False
    problem(await put(api.alpha, path, GOLD, read.headers["etag"]), 412, "stale")
    same = await put(api.alpha, path, dearer, changed.headers["etag"])
    assert same.headers["etag"] == changed.headers["etag"], "the same file changes nothing"


async def test_what_we_earn_is_for_operators(api: Api) -> None:
    path = await made(api.alpha)
    floor = problem(await put(api.alpha, path, GOLD | {"margin_floor": "-5"}), 422, "invalid_request")
    assert floor["errors"][0]["pointer"] == "#/margin_floor"
    told = (await put(api.operator, path, GOLD | {"margin_floor": "0.01"})).json()
    assert (told["margin_floor"], told["partner_id"]) == ("0.01", api.alpha.id)
    for said in (
        await api.alpha.get(path),
        await api.alpha.get("/v1/plans"),
        await put(api.alpha, path, GOLD),
    ):
        assert said.status_code == 200
        assert "margin" not in said.text
    assert await api.house.value("SELECT margin_floor_micro FROM plan WHERE name = 'gold'") == 10_000, (
        "it stays"
    )
    (line, _) = (await api.operator.get("/v1/plans")).json()["data"]
    assert line["margin_floor"] == "0.01"


async def test_a_partner_gives_away_what_a_deal_pays_for(api: Api) -> None:
    free = GOLD | {"zero_rated": ["49800", "49900"], "on_net_free": True}
    body = problem(await api.alpha.post("/v1/plans", free), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "#/zero_rated/0"
    deal = {"partner_id": api.alpha.id, "name": "free", "currency": "EUR",
            "terms": {"zero_rated": {"destinations": ["49800"], "services": ["on_net"]}}}  # fmt: skip
    draft = await api.operator.post("/v1/deals", deal)
    problem(await api.alpha.post("/v1/plans", GOLD | {"on_net_free": True}), 422, "invalid_request")
    await api.operator.patch(draft.headers["location"], {"state": "signed"})
    body = problem(await api.alpha.post("/v1/plans", free), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "#/zero_rated/1"
    path = await made(api.alpha, zero_rated=["498001"], on_net_free=True)
    assert (await api.alpha.get(path)).json()["zero_rated"] == ["498001"]
    problem(
        await api.beta.post("/v1/plans", GOLD | {"name": "b", "on_net_free": True}), 422, "invalid_request"
    )
    assert await made(api.operator, name="ours", bundle=[], zero_rated=["1"]), "operators know what they do"


async def test_another_partners_plan_is_not_there(api: Api) -> None:
    theirs = await made(api.beta)
    ours = show_id("plan", await api.house.value("SELECT plan_id FROM plan WHERE name = 'standard'"))
    for path in (theirs, f"/v1/plans/{ours}", f"/v1/plans/plan_{uuid4().hex}"):
        problem(await api.alpha.get(path), 404, "not_found")
        problem(await put(api.alpha, path, GOLD, '"1"'), 404, "not_found")
    assert (await api.alpha.get("/v1/plans")).json()["data"] == []
    assert (await api.alpha.get("/v1/plans", partner_id=api.beta.id)).json()["data"] == []
    problem(await api.alpha.post("/v1/plans", GOLD | {"partner_id": api.beta.id}), 404, "not_found")
    missing = f"prt_{uuid4().hex}"
    problem(await api.operator.post("/v1/plans", GOLD | {"partner_id": missing}), 404, "not_found")
    reader = await api.key("plans:read", partner_id=api.alpha.partner_id)
    problem(await reader.post("/v1/plans", GOLD), 403, "scope_missing")


async def test_nothing_of_anybody_else_is_taken_over(api: Api) -> None:
    """By the name of a plan, of a deck, of a band's deck, of a bundle."""
    await made(api.beta)
    await api.house.sell([SeedBundle("ours", 1, 1, {"voice": 1})])
    for name, owner in (
        ("sell mine", api.beta),
        ("sell mine2 roaming", None),
        ("sell mine3 night", api.beta),
    ):
        await deck(api, name, owner)
    before = [dict(row) for row in await api.house.rows("SELECT * FROM deck ORDER BY deck_id")]
    bare = GOLD | {"bundle": []}
    night = {"name": "night", "days": ["mon"], "from": "00:00", "to": "08:00", "home": GOLD["home"][:1]}
    attempts: list[dict[str, Any]] = [
        GOLD,
        GOLD | {"name": "x"},  # beta's bundle
        GOLD | {"name": "x", "bundle": [GOLD["bundle"][0] | {"name": "ours"}]},
        bare | {"name": "standard"},
        bare | {"name": "mine"},
        bare | {"name": "mine2", "roaming": GOLD["home"]},
        bare | {"name": "mine3", "band": [night]},
    ]
    for body in attempts:
        told = problem(await api.alpha.post("/v1/plans", body), 409, "conflict")
        assert "beta" not in told["detail"].lower()
        assert "plan gold" not in told["detail"] or body["name"] == "gold"
    assert [dict(row) for row in await api.house.rows("SELECT * FROM deck ORDER BY deck_id")] == before
    assert (await api.alpha.get("/v1/plans")).json()["data"] == [], "nothing is half made"


async def test_a_plan_of_decks_that_exist(api: Api) -> None:
    await deck(api, "alpha retail", api.alpha)
    await deck(api, "beta retail", api.beta)
    named = {name: GOLD[name] for name in ("name", "currency")}
    for foreign in ("beta retail", "sell standard", "buy alpha", "none"):
        problem(await api.alpha.post("/v1/plans", named | {"home_deck": foreign}), 404, "not_found")
        away = named | {"home_deck": "alpha retail", "roaming_deck": foreign}
        problem(await api.alpha.post("/v1/plans", away), 404, "not_found")
        band = {"name": "b", "days": ["mon"], "from": "00:00", "to": "08:00", "deck": foreign}
        problem(await api.alpha.post("/v1/plans", GOLD | {"band": [band], "bundle": []}), 404, "not_found")
    said = await api.alpha.post("/v1/plans", named | {"home_deck": "alpha retail"})
    assert (said.status_code, said.json()["deck"]) == (201, "alpha retail")
    for_alpha = {"partner_id": api.alpha.id, "currency": "EUR"}
    ours = await api.operator.post("/v1/plans", for_alpha | {"name": "a", "home_deck": "sell standard"})
    assert ours.status_code == 201, "operators may sell a partner what is ours"
    theirs = await api.operator.post("/v1/plans", for_alpha | {"name": "b", "home_deck": "beta retail"})
    problem(theirs, 409, "conflict")


async def test_two_with_one_name_make_one(api: Api) -> None:
    said = await asyncio.gather(
        *(client.post("/v1/plans", GOLD) for client in (api.alpha, api.beta, api.alpha, api.operator))
    )
    assert Counter(one.status_code for one in said) == {201: 1, 409: 3}
    won = await api.house.value("SELECT partner_id FROM plan WHERE name = 'gold'")
    assert ("sell gold", won) in await owners(api, "deck")
    assert await owners(api, "bundle") == {("hundred", won)}


async def test_two_changes_at_once_are_one(api: Api) -> None:
    path = await made(api.alpha)
    tag = await api.alpha.etag(path)
    bodies = [GOLD | {"service": [{"name": "sms", "price": f"0.{cents}"}]} for cents in range(10, 15)]
    said = await asyncio.gather(*(put(api.alpha, path, body, tag) for body in bodies))
    assert Counter(one.status_code for one in said) == {200: 1, 412: 4}


async def test_the_command_line_changes_a_partners_plan_and_its_edition(api: Api) -> None:
    path = await made(api.alpha)
    tag = await api.alpha.etag(path)
    file = PlanFile.model_validate(GOLD | {"service": []})
    async with transaction(api.house.pool) as conn:
        await apply_plan(conn, file, author="ada", at=api.house.begin_at)
    problem(await put(api.alpha, path, GOLD, tag), 412, "stale")
    assert (await api.alpha.get(path)).json()["partner_id"] == api.alpha.id
    async with transaction(api.house.pool) as conn:
        other = PlanFile.model_validate(GOLD | {"name": "other"})
        with pytest.raises(Conflict, match="bundle hundred is taken"):
            await apply_plan(conn, other, author="ada", at=api.house.begin_at)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"home": []}, "#"),
        ({"colour": "blue"}, "#/colour"),
        ({"currency": "XXX"}, "#/currency"),
        ({"name": "Gold"}, "#/name"),
        ({"name": "a\0"}, "#/name"),
        ({"home": [GOLD["home"][0] | {"a_minute": 0.09}]}, "#/home/0/a_minute"),
        ({"home": [GOLD["home"][0] | {"a_minute": "-1"}]}, "#/home/0/a_minute"),
        ({"home": [GOLD["home"][0] | {"increment": [60, 1]}]}, "#/home/0/increment"),
        ({"home": [GOLD["home"][0] | {"destination": "=cmd|' /C calc'!A0"}]}, "#/home/0/destination"),
        ({"home": [GOLD["home"][0] | {"destination": "\ud800"}]}, "#/home/0/destination"),
        ({"home": [GOLD["home"][0], GOLD["home"][0]]}, "#"),
        ({"home": [GOLD["home"][0] | {"prefixes": ["+49"]}]}, "#/home/0/prefixes/0"),
        ({"service": [{"name": "a" * 10_000, "price": "1"}]}, "#/service/0/name"),
        ({"bundle": [GOLD["bundle"][0] | {"units": 2**70}]}, "#/bundle/0/units"),
        ({"bundle": [GOLD["bundle"][0] | {"price": "1e5"}]}, "#/bundle/0/price"),
        ({"holidays_of": "DE", "years": [10**12]}, "#"),
        ({"time_zone": "../../etc/passwd"}, "#/time_zone"),
        ({"home_deck": "\ud800", "home": []}, "#/home_deck"),
    ],
)
async def test_what_is_no_plan(api: Api, change: dict[str, Any], pointer: str) -> None:
    said = await api.alpha.ask(
        "POST",
        "/v1/plans",
        content=json.dumps(GOLD | change).encode(),
        headers={"Content-Type": "application/json"},
    )
    body = problem(said, 422, "invalid_request")
    assert [one["pointer"] for one in body["errors"]][:1] == [pointer]


async def test_other_wrong_plans(api: Api) -> None:
    path = await made(api.alpha)
    problem(await put(api.alpha, path, GOLD | {"name": "silver"}), 422, "invalid_request")
    problem(await put(api.alpha, path, GOLD | {"currency": "USD"}), 409, "conflict")
    problem(await put(api.alpha, path, GOLD | {"partner_id": api.beta.id}), 422, "invalid_request")
    problem(await api.alpha.ask("PUT", path, json=GOLD), 428, "if_match_required")
    nul = {"name": "nul", "currency": "EUR", "home_deck": "a\0b"}
    assert (await api.alpha.post("/v1/plans", nul)).status_code in (404, 422)


async def test_as_many_prefixes_as_fit_are_read_quickly(api: Api) -> None:
    """What is there twice is found without comparing each with each."""
    prefixes = [str(number) for number in range(1_000_000, 1_090_000)]
    rate = GOLD["home"][0] | {"prefixes": [*prefixes, prefixes[0]]}
    async with asyncio.timeout(20):
        said = await api.alpha.post("/v1/plans", GOLD | {"home": [rate]})
    body = problem(said, 422, "invalid_request")
    assert "twice" in body["errors"][0]["detail"]


async def deck(api: Api, name: str, owner: Partner | None) -> None:
    await api.house.rows(
        "INSERT INTO deck (name, side, currency, partner_id) VALUES ($1, 'sell', 'EUR', $2)",
        name, owner.partner_id if owner else None,
    )  # fmt: skip


async def test_whom_no_phone_reaches_is_called_over_a_carrier_where_the_plan_says_so(api: Api) -> None:
    path = await made(api.alpha)
    assert (await api.alpha.get(path)).json()["on_net_fallback"] is False
    said = await put(api.alpha, path, GOLD | {"on_net_fallback": True})
    assert said.json()["on_net_fallback"] is True
    assert {one["part"]: one["done"] for one in said.json()["parts"]}["plan gold"] == "changed"
    assert (await api.alpha.get("/v1/plans")).json()["data"][0]["on_net_fallback"] is True
    await api.house.reload()
    (plan,) = [one for one in api.house.book.plans.values() if one.name == "gold"]
    assert plan.on_net_fallback
    assert (await put(api.alpha, path, GOLD)).json()["on_net_fallback"] is False, "the file says it no more"
    problem(await put(api.alpha, path, GOLD | {"on_net_fallback": "yes"}), 422, "invalid_request")
