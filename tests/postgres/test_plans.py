"""A plan's file made true: what is created, what changes, what stays, and that calls cost what the file says."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from bridge.calls.ended import EndRecord
from bridge.calls.quote import quote
from bridge.cli.main import app
from bridge.database import connection, transaction
from bridge.errors import ConfigError, Conflict, NotFound
from bridge.observe import log
from bridge.rating.plan_file import parse_plan
from bridge.rating.store.allowances import buy
from bridge.rating.store.plan_list import plans, show_plan
from bridge.rating.store.plans import Applied, apply_plan
from bridge.rating.store.terms import apply_terms, terms_of
from bridge.rating.store.versions import history, rollback, show
from bridge.rating.terms_file import parse_terms
from bridge.telephony.money import format_micro
from bridge.telling.plan import tell_applied, tell_plan, tell_plans, tell_terms
from tests.seeded import GERMANY, Seeded, Who, at_once

BERLIN: Final = ZoneInfo("Europe/Berlin")
HOURS: Final = """
name = "hours"
currency = "EUR"
margin_floor = "-1.00"
time_zone = "Europe/Berlin"
boundary = "split"
quantum = "0.01"
holidays_of = "DE-NW"
years = [2030]
holidays = ["2030-11-11"]

[tax]
mode = "inclusive"
percent = "19"

[[home]]
destination = "Germany"
prefixes = ["49"]
a_minute = "0.10"
increment = "60/60"

[[band]]
name = "evening"
days = ["mon", "tue", "wed", "thu", "fri"]
from = "18:00"
to = "08:00"

[[band.home]]
destination = "Germany"
prefixes = ["49"]
a_minute = "0.04"
increment = "60/60"

[[band]]
name = "free days"
days = ["sat", "sun", "holiday"]
from = "00:00"
to = "24:00"

[[band.home]]
destination = "Germany"
prefixes = ["49"]
a_minute = "0.015"
increment = "60/1"

[[service]]
name = "sms"
price = "0.09"

[[bundle]]
name = "hundred"
price = "5.00"
units = 100
days = 30
covers = { sms = 1 }
"""
ROAMING: Final = """
[[roaming]]
destination = "Everywhere"
prefixes = ["1", "4"]
a_minute = "0.50"
increment = "60/60"
"""
DAY: Final = datetime(2030, 6, 12, 17, 58, tzinfo=BERLIN)  # a Wednesday
CORPUS_CHRISTI: Final = datetime(
    2030, 6, 20, 17, 58, tzinfo=BERLIN
)  # a Thursday, a holiday in the west of Germany
CARNIVAL: Final = datetime(2030, 11, 11, 12, 0, tzinfo=BERLIN)  # a Monday


async def applied(house: Seeded, text: str, *, author: str = "eve") -> Applied:
    async with connection(house.pool) as conn:
        done = await apply_plan(conn, parse_plan(text, "own.toml"), author=author, at=house.begin_at)
    json.dumps(done.to_json())
    tell_applied([one.to_json() for one in done.parts], done.notes)
    return done


def done_of(applied: Applied) -> dict[str, str]:
    return {one.part: one.done for one in applied.parts}


def changed_of(applied: Applied) -> dict[str, tuple[str, str]]:
    return {one.part: (one.done, one.detail) for one in applied.parts if one.done != "same"}


async def versions_of(house: Seeded) -> dict[str, int]:
    return {row["name"]: row["version"] for row in await house.rows("SELECT name, version FROM deck")}


async def subscriber_of(house: Seeded, plan: str) -> Who:
    who = await house.subscriber(10_000_000)
    async with transaction(house.pool) as conn:
        await conn.execute(
            "UPDATE subscriber SET plan_id = (SELECT plan_id FROM plan WHERE name = $1) WHERE account_id = $2",
            plan,
            who.account_id,
        )
    return who


async def called(house: Seeded, who: Who, at: datetime, talk_s: int) -> str:
    """A call that is answered at once; what it cost, and what a quote says it would."""
    async with connection(house.pool) as conn:
        told = await quote(conn, who.a_number, GERMANY, at=at, seconds=talk_s, rules=house.rules)
    call_id = (await house.admitted(who, GERMANY, at)).frozen.call_id
    answered_us = int(at.timestamp()) * 1_000_000
    record = EndRecord(
        call_id, 1, answered_us, answered_us + talk_s * 1_000_000, "journal", "ANSWER", 16, "caller", 100
    )
    assert await house.end(record) == {call_id}
    amount = await house.value("SELECT amount_micro FROM charge WHERE call_id = $1", call_id)
    assert told["charge"] == format_micro(amount)
    return format_micro(amount)


async def test_a_plan_is_made_and_made_again_changes_nothing(house: Seeded) -> None:
    first = await applied(house, HOURS)
    assert done_of(first) == {
        "deck sell hours": "created",
        "terms of sell hours": "changed",
        "deck sell hours evening": "created",
        "deck sell hours free days": "created",
        "band evening": "created",
        "band free days": "created",
        "plan hours": "created",
        "service sms (home)": "created",
        "bundle hundred": "created",
    }
    made = await versions_of(house)
    again = await applied(house, HOURS)
    assert not again.changed and again.plan_id == first.plan_id
    assert await versions_of(house) == made
    async with connection(house.pool) as conn:
        told = await history(conn, "sell hours")
    assert [(one["author"], one["file_name"]) for one in told["versions"]] == [("eve", "plan hours")]


async def test_two_who_apply_the_same_file_make_it_once(house: Seeded) -> None:
    done = await at_once([partial(applied, house, HOURS)] * 2)
    assert sorted(one.changed for one in done) == [False, True]


async def test_calls_cost_what_the_bands_say(house: Seeded) -> None:
    """Two minutes are of the day, three of the evening; a holiday and a named day are free days throughout."""
    await applied(house, HOURS)
    await house.reload()
    who = await subscriber_of(house, "hours")
    assert await called(house, who, DAY, 300) == "0.32"
    assert await called(house, who, DAY - timedelta(hours=2), 300) == "0.50"
    assert await called(house, who, DAY + timedelta(hours=1), 300) == "0.20"
    assert await called(house, who, CORPUS_CHRISTI, 300) == "0.08"  # 7.5 cents, rounded to whole ones
    assert await called(house, who, CARNIVAL, 61) == "0.02"


async def test_the_band_at_the_answer_may_price_the_whole_call(house: Seeded) -> None:
    await applied(house, HOURS.replace('"split"', '"answer"'))
    await house.reload()
    assert await called(house, await subscriber_of(house, "hours"), DAY, 300) == "0.50"


async def test_what_changed_is_a_version_and_can_be_taken_back(house: Seeded) -> None:
    await applied(house, HOURS)
    dearer = HOURS.replace('a_minute = "0.10"', 'a_minute = "0.12"').replace(
        'price = "5.00"', 'price = "6.00"'
    )
    told = changed_of(await applied(house, dearer, author="ada"))
    assert told == {
        "deck sell hours": ("changed", "version 3: 1 increase"),
        "bundle hundred": ("changed", "price 5.00 → 6.00"),
    }
    async with connection(house.pool) as conn:
        assert (await history(conn, "sell hours"))["versions"][0]["author"] == "ada"
        await rollback(conn, "sell hours", "ada")
        assert (await show(conn, "sell hours", house.begin_at))["rates"][0]["rate"] == "0.10"
    assert changed_of(await applied(house, HOURS)).keys() == {"bundle hundred"}


async def test_terms_and_bands_change_without_a_version_and_reach_the_book(house: Seeded) -> None:
    await applied(house, HOURS)
    versions = await versions_of(house)
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(*said: object) -> None:
        heard.put_nowait(str(said[-1]))

    async with connection(house.pool) as conn:
        await conn.add_listener("callbridge_config", hear)
        await applied(house, HOURS)
        late = HOURS.replace('to = "08:00"', 'to = "07:00"').replace('percent = "19"', 'percent = "7"')
        told = changed_of(await applied(house, late))
        await house.rows("SELECT pg_notify('callbridge_config', 'end')")
        async with asyncio.timeout(10):
            tables = [await heard.get() for _ in range(4)]
        await conn.remove_listener("callbridge_config", hear)
    assert tables == ["deck", "deck_band", "plan", "end"], "what changed nothing gave no notice"
    assert told == {
        "terms of sell hours": ("changed", "tax mode inclusive percent 19 → mode inclusive percent 7"),
        "band evening": ("changed", "priced by sell hours evening"),
    }
    assert await versions_of(house) == versions
    await house.reload()
    deck = next(plan.deck for plan in house.book.plans.values() if plan.name == "hours")
    assert deck.terms.tax_ppm == 70_000 and deck.bands[0][0].to_minute == 7 * 60


async def test_what_leaves_the_file_is_taken_away_and_what_was_bought_stays(house: Seeded) -> None:
    await applied(house, HOURS + ROAMING)
    who = await subscriber_of(house, "hours")
    async with transaction(house.pool) as conn:
        bought = await buy(conn, who.account_id, "hundred", key="b1", author="test", at=house.begin_at)
    short = HOURS.partition("[[band]]")[0]
    told = await applied(house, short)
    assert {part: done for part, (done, _) in changed_of(told).items()} == {
        "band evening": "removed",
        "band free days": "removed",
        "plan hours": "changed",
        "service sms (home)": "removed",
        "bundle hundred": "off sale",
    }
    assert not (await applied(house, short)).changed
    assert await house.units(bought) == (0, 0)
    with pytest.raises(NotFound, match="not on sale"):
        async with transaction(house.pool) as conn:
            await buy(conn, who.account_id, "hundred", key="b2", author="test", at=house.begin_at)
    back = done_of(await applied(house, HOURS))
    assert (back["bundle hundred"], back["deck sell hours evening"]) == ("changed", "same")


async def test_what_belongs_to_somebody_else_is_left_alone(house: Seeded) -> None:
    await applied(house, HOURS)
    before = await versions_of(house)
    for text, said in (
        (HOURS.replace('"EUR"', '"USD"'), "plan hours is in EUR, its file in USD. Give"),
        (HOURS.replace('"hours"', '"other"'), "bundle hundred belongs to plan hours. Give the new"),
        (
            HOURS.replace('"hours"', '"other"').replace('"EUR"', '"USD"'),
            "bundle hundred of plan hours is in EUR, plan other in USD. Give",
        ),
        (
            HOURS.replace('"hours"', '"hours evening"'),
            "deck sell hours evening prices a band of deck sell hours, too",
        ),
        (
            HOURS.replace('name = "hours"', 'name = "own"\nroaming_deck = "buy alpha"'),
            "is a buy deck in EUR. Name a sell",
        ),
    ):
        with pytest.raises(Conflict, match=said):
            await applied(house, text)
    with pytest.raises(NotFound, match="there is no deck 'none'"):
        await applied(house, 'name = "own"\ncurrency = "EUR"\nhome_deck = "none"\n')
    assert await versions_of(house) == before, "nothing of it was done"


async def test_a_plan_may_be_priced_by_a_deck_that_exists(house: Seeded) -> None:
    """And a plan that was priced by another one is, from then on, by the file's."""
    own = 'name = "own"\ncurrency = "EUR"\nhome_deck = "sell standard"\n'
    assert done_of(await applied(house, own)) == {"plan own": "created"}
    told = changed_of(
        await applied(house, own.replace("home_deck", "#") + ROAMING.replace("roaming", "home"))
    )
    assert told["plan own"] == ("changed", "deck sell standard → sell own")
    assert (await versions_of(house))["sell standard"] == 1


async def test_everything_a_rate_can_say_is_kept(house: Seeded) -> None:
    rates = """
[[home]]
destination = "Germany"
prefixes = ["49", "4930"]
a_minute = "0.10"
increment = "60/6"
connect_fee = "0.05"
minimum_s = 30
grace_s = 3
tiers = [{ from_s = 180, a_minute = "0.05", next_s = 60 }, { from_s = 600, a_minute = "0.00", next_s = 60 }]

[[home]]
destination = "Premium, +49 900"
prefixes = ["49900"]
blocked = true
"""
    text = f'name = "full"\ncurrency = "EUR"\n{rates}'
    await applied(house, text)
    async with connection(house.pool) as conn:
        told = {one["prefix"]: one for one in (await show(conn, "sell full", house.begin_at))["rates"]}
    berlin, premium = told["4930"], told["49900"]
    assert (berlin["rate"], berlin["interval_1"], berlin["interval_n"]) == ("0.10", 60, 6)
    assert (berlin["connection_fee"], berlin["minimum_s"], berlin["grace_s"]) == ("0.05", 30, 3)
    assert berlin["tiers"] == "180:0.05/60;600:0.00/60"
    assert (premium["blocked"], premium["destination"]) == ("yes", "Premium, +49 900")
    assert not (await applied(house, text)).changed


async def test_a_buy_deck_has_terms_and_bands_from_a_file(house: Seeded) -> None:
    text = """
time_zone = "Europe/London"
rounding = "up"
quantum = "0.0001"
[[band]]
name = "night"
days = ["mon", "tue"]
from = "22:00"
to = "06:00"
deck = "buy beta"
"""
    async with connection(house.pool) as conn:
        done = await apply_terms(conn, "buy alpha", parse_terms(text, "terms.toml"))
        assert [one.done for one in done] == ["changed", "created"]
        told = await terms_of(conn, "buy alpha")
        assert told["bands"] == [
            {"name": "night", "days": ["mon", "tue"], "from": "22:00", "to": "06:00", "deck": "buy beta"}
        ]
        assert (told["time_zone"], told["quantum"], told["tax"]) == ("Europe/London", "0.0001", None)
        assert "night: mon tue 22:00 to 06:00, deck buy beta" in tell_terms(told)
        done = await apply_terms(conn, "buy alpha", parse_terms(text, "terms.toml"))
        assert [one.done for one in done] == ["same", "same"]
        for deck, error in (("sell standard", Conflict), ("buy alpha", Conflict), ("none", NotFound)):
            with pytest.raises(error):
                await apply_terms(
                    conn, "buy alpha", parse_terms(text.replace("buy beta", deck), "terms.toml")
                )
        assert await terms_of(conn, "buy alpha") == told
        done = await apply_terms(conn, "buy alpha", parse_terms("", "terms.toml"))
        assert [one.done for one in done] == ["changed", "removed"]


async def test_plans_are_told(house: Seeded) -> None:
    await applied(house, HOURS + ROAMING)
    async with connection(house.pool) as conn:
        found = await plans(conn)
        assert [one["plan"] for one in found] == ["hours", "standard"]
        tell_plans(found)
        told = await show_plan(conn, "hours", house.begin_at)
        json.dumps(told)
        assert [(one["zone"], one["deck"], len(one["bands"])) for one in told["decks"]] == [
            ("home", "sell hours", 2),
            ("roaming", "sell hours roaming", 0),
        ]
        said = tell_plan(told)
        assert "holidays   12, 2030-01-01 to 2030-12-26" in said
        assert "half_up to 0.01" in said
        with pytest.raises(NotFound, match="Known: hours, standard"):
            await show_plan(conn, "none", house.begin_at)


def test_at_the_command_line(dsn: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure", lambda _: None)  # it would go on to the runner's stream
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)
    file, terms = tmp_path / "own.toml", tmp_path / "terms.toml"
    file.write_text(HOURS)
    terms.write_text('quantum = "0.001"\n')

    def run(*words: str) -> Any:
        plain = CliRunner().invoke(app, [*words], catch_exceptions=False, prog_name="callbridge")
        assert plain.exit_code == 0 and plain.stdout
        ran = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False, prog_name="callbridge")
        return json.loads(ran.stdout)

    assert run("plan", "check", str(file))["bands"] == 2
    assert run("plan", "apply", str(file), "--dry-run", "--author", "eve")["changed"]
    assert run("plan", "list") == []
    assert not run("plan", "apply", str(file))[
        "changed"
    ]  # told as text it was made, and here it is made again
    assert [one["bundles"] for one in run("plan", "list")] == [1]
    assert run("plan", "show", "hours")["services"][0]["price"] == "0.09"
    run("deck", "terms", "sell hours", "--file", str(terms))
    assert run("deck", "terms", "sell hours")["quantum"] == "0.001"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"own.toml: is not UTF-8. Save"):
        CliRunner().invoke(app, ["plan", "check", str(file)], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"none.toml: No such file or directory. Name"):
        CliRunner().invoke(app, ["plan", "apply", "none.toml"], catch_exceptions=False)
