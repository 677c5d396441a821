"""What a call would cost is what it costs, and every step of a price is told."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import uuid4

import pytest

from bridge.calls.explain import explain
from bridge.calls.quote import quote
from bridge.database import connection
from bridge.errors import ConfigError, NotFound
from bridge.rating.store.imports import DeckFile, apply, stage
from bridge.rating.store.versions import preview
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.money import parse_micro
from bridge.telling.prices import tell_explanation, tell_quote
from tests.seeded import GERMANY, KINGDOM, Seeded, ended


async def asked(house: Seeded, caller: str, dialled: str = GERMANY, **given: Any) -> dict[str, Any]:
    async with connection(house.pool) as conn:
        told = await quote(conn, caller, dialled, at=house.begin_at, rules=house.rules, **given)
        json.dumps(told)
        tell_quote(told)
        return told


async def explained(house: Seeded, call_id: Any) -> dict[str, Any]:
    async with connection(house.pool) as conn:
        told = await explain(conn, call_id)
        json.dumps(told)
        return told


@pytest.mark.parametrize("seconds", [1, 61, 90, 97, 3_600])
@pytest.mark.parametrize("dialled", [GERMANY, KINGDOM])
async def test_a_quote_is_what_the_call_costs(house: Seeded, dialled: str, seconds: int) -> None:
    who = await house.subscriber(balance_micro=100_000_000)
    told = await asked(house, who.a_number, dialled, seconds=seconds)
    call_id = (await house.admitted(who, dialled)).frozen.call_id
    await house.end(ended(call_id, talk_ms=seconds * 1000))
    charge = await house.row("SELECT * FROM charge")
    cost = await house.value("SELECT cost_micro FROM attempt")
    assert parse_micro(told["charge"]) == charge["amount_micro"]
    assert parse_micro(told["routes"][0]["cost"]) == cost
    assert parse_micro(told["routes"][0]["margin"]) == charge["amount_micro"] - cost
    assert await house.value("SELECT count(*) FROM call") == 1, "a quote writes nothing"


async def test_a_quote_says_which_bundle_pays_and_what_for(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=5_000_000)
    await house.buy(who, SeedBundle("two", 1_000_000, 2, {"voice": 60}))
    told = await asked(house, who.a_number, seconds=180)
    assert told["bundles"] == [{"bundle": "two", "units": 2, "pays_for_s": 120}]
    assert told["charge"] == "0.06"
    free = await asked(house, who.a_number, seconds=120)
    assert free["charge"] == "0.00"
    assert "2 units of two pay for 120 s" in tell_quote(free)


async def test_a_quote_says_when_the_money_ends(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=30_000)
    told = await asked(house, who.a_number, seconds=180)
    assert (told["lasts_s"], told["charge"]) == (30, "0.18")
    assert "cut after 30 s" in tell_quote(told)


async def test_a_refusal_is_told_with_its_reason(house: Seeded) -> None:
    who = await house.subscriber()
    assert (await asked(house, who.a_number))["reason"] == "no_credit"
    assert (await asked(house, who.a_number, "0900123456"))["reason"] == "barred_destination"
    told = await asked(house, who.a_number, "x")
    assert (told["verdict"], told["reason"]) == ("refused", "invalid_number")


async def test_nobody_needs_a_plan_and_a_plan_must_exist(house: Seeded) -> None:
    assert (await asked(house, "+4915100000000", plan="standard"))["verdict"] == "admitted"
    with pytest.raises(ConfigError, match="no phone number"):
        await asked(house, "x", plan="standard")
    with pytest.raises(NotFound, match="--plan"):
        await asked(house, "+4915100000000")
    with pytest.raises(NotFound, match="Known: standard"):
        await asked(house, "+4915100000000", plan="none")
    with pytest.raises(ValueError, match="at least one second"):
        await asked(house, "+4915100000000", plan="standard", seconds=0)


async def test_an_explanation_leads_from_the_number_to_the_price(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=5_000_000)
    await house.buy(who, SeedBundle("one", 1_000_000, 1, {"voice": 10}))
    call_id = (await house.admitted(who)).frozen.call_id
    await house.answer(call_id)
    await house.rows("UPDATE lease SET extend_at = now()")
    await house.extensions.due(house.begin_at)
    await house.end(ended(call_id, talk_ms=12_500))
    told = await explained(house, call_id)
    sell = told["sell"]
    assert (sell["deck"], sell["version"], sell["prefix"]) == ("sell standard", 1, "49")
    assert sell["candidates"] == [{"prefix": "49", "origin_set": "", "why": "applied: the longest that fits"}]
    assert told["units"] == [{"bundle": "one", "unit_s": 10, "held": 1, "burnt": 1}]
    assert sell["steps"][-1]["amount_micro"] == 3_000
    assert [one["trunk"] for one in told["buy"]] == ["alpha"]
    assert (told["charge"], told["cost"], told["margin"]) == ("0.003", "0.0065", "-0.0035")
    text = tell_explanation(told)
    for said in ("Bundle   one: 1 units of 10 s held, 1 burnt", "prefix 49", "Margin   -0.0035"):
        assert said in text


async def test_longer_prefixes_say_why_they_did_not_count(house: Seeded) -> None:
    """One for other callers, one that comes later, one that a later version brought, and one that has gone."""
    deck = "sell standard"
    later = "2031-01-01T00:00Z"
    await house.rows("INSERT INTO origin_set VALUES ('eu', '33')")
    await imported(house, deck, f"prefix,destination,rate,origin_set,effective_from\n4930,Berlin,0.05,eu,\n"
                                f"49302,Berlin later,0.04,,{later}\n493023125,gone,0.03,,\n")  # fmt: skip
    await imported(house, deck, "prefix,destination,rate,change\n493023125,gone,0.03,delete\n")
    await house.reload()
    who = await house.subscriber(balance_micro=5_000_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, talk_ms=1_000))
    await imported(house, deck, "prefix,destination,rate\n4930231,new,0.02\n")
    told = {one["prefix"]: one["why"] for one in (await explained(house, call_id))["sell"]["candidates"]}
    assert told["49"] == "applied: the longest that fits"
    assert told["4930"] == "for callers from eu only"
    assert told["49302"].startswith("in force from 2031-01-01")
    assert told["4930231"] == "came later, with version 4"
    assert told["493023125"] == "was gone since version 3"


async def imported(house: Seeded, deck: str, csv: str) -> None:
    """A new version of a deck, from a file."""
    file = DeckFile(io.BytesIO(csv.encode()), "rates.csv", "tester")
    async with connection(house.pool) as conn:
        staged = await stage(conn, deck, file, "add", at=house.begin_at)
        assert staged.state == "staged", await preview(conn, staged.import_id)
        await apply(conn, staged.import_id)


async def test_a_refused_call_and_none_at_all(house: Seeded) -> None:
    who = await house.subscriber()
    await house.call(who)
    told = await explained(house, await house.value("SELECT call_id FROM call"))
    assert (told["sell"], told["refuse_reason"]) == (None, "no_credit")
    assert "no credit" in tell_explanation(told)
    with pytest.raises(NotFound):
        await explained(house, uuid4())
