"""Bundles: units and money are held together, burnt in order, renewed when they end, and never overdrawn."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from bridge.calls.admit import Admitted
from bridge.database import transaction
from bridge.errors import Conflict, InsufficientFunds, NotFound
from bridge.rating.store.allowances import buy, cancel_renewal, renew_due
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.cause import Refuse
from tests.seeded import KINGDOM, SECOND_MICRO, Seeded, at_once, ended

TALK = SeedBundle("talk", 1_000_000, 10, {"voice": 10})  # ten units of ten seconds
SHARED = SeedBundle("shared", 1_000_000, 10, {"voice": 10, "sms": 1, "data": 1_000_000})


async def test_a_call_inside_a_bundle_burns_units_and_costs_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    allowance = await house.buy(who, TALK)
    call_id = (await house.admitted(who)).frozen.call_id  # a slice is ten seconds: one unit
    assert await house.units(allowance) == (0, 1)
    assert (await house.account(who))["held_micro"] == 0
    await house.end(ended(call_id, talk_ms=9_999))
    assert await house.units(allowance) == (1, 0)
    charge = await house.row("SELECT * FROM charge")
    assert (charge["amount_micro"], charge["covered_s"], charge["billed_s"]) == (0, 10, 0)
    assert (await house.account(who))["balance_micro"] == 0


async def test_a_call_nobody_answers_gives_its_units_back(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    allowance = await house.buy(who, TALK)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id))
    assert await house.units(allowance) == (0, 0)


async def test_a_call_that_begins_inside_and_ends_outside_has_one_seam(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_200_000)
    allowance = await house.buy(who, SeedBundle("two", 1_000_000, 2, {"voice": 10}))
    call_id = (await house.admitted(who)).frozen.call_id
    await house.answer(call_id)
    for expected_units, expected_micro in ((2, 0), (2, 10 * SECOND_MICRO), (2, 20 * SECOND_MICRO)):
        await house.rows("UPDATE lease SET extend_at = now()")
        assert len(await house.extensions.due(house.begin_at)) == 1
        assert await house.units(allowance) == (0, expected_units)
        assert (await house.account(who))["held_micro"] == expected_micro
    await house.end(ended(call_id, talk_ms=23_500))
    assert await house.units(allowance) == (2, 0)
    charge = await house.row("SELECT * FROM charge")
    assert (charge["covered_s"], charge["billed_s"], charge["amount_micro"]) == (20, 4, 4 * SECOND_MICRO)
    assert (await house.account(who))["balance_micro"] == 200_000 - 4 * SECOND_MICRO


async def test_once_outside_a_call_stays_outside(house: Seeded) -> None:
    """A bundle bought in the middle of a call that pays with money is for the next call."""
    who = await house.subscriber(balance_micro=3_000_000)
    first = await house.buy(who, SeedBundle("one", 1_000_000, 1, {"voice": 10}))
    call_id = (await house.admitted(who)).frozen.call_id
    await house.answer(call_id)
    await house.rows("UPDATE lease SET extend_at = now()")
    await house.extensions.due(house.begin_at)
    second = await house.buy(who, TALK)
    await house.rows("UPDATE lease SET extend_at = now()")
    await house.extensions.due(house.begin_at)
    await house.end(ended(call_id, talk_ms=30_000))
    assert (await house.units(first), await house.units(second)) == ((1, 0), (0, 0))


async def test_units_without_any_money_end_the_call_with_them(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    await house.buy(who, SeedBundle("one", 1_000_000, 1, {"voice": 7}))
    admitted = await house.admitted(who)
    assert admitted.limit_ms == 7_000
    assert isinstance(await house.call(who), Refuse)


async def test_units_need_no_credit(house: Seeded) -> None:
    """Over its limit, an account still talks on what it has bought, from slice to slice."""
    who = await house.subscriber(funding="postpaid", credit_limit_micro=1_200_000)
    allowance = await house.buy(who, TALK)
    await house.rows("UPDATE account SET credit_limit_micro = 0 WHERE account_id = $1", who.account_id)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.answer(call_id)
    await house.rows("UPDATE lease SET extend_at = now()")
    assert [one.limit_ms for one in await house.extensions.due(house.begin_at)] == [20_000]
    assert await house.units(allowance) == (0, 2)


async def test_what_ends_first_burns_first_unless_told_otherwise(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=3_000_000)
    late = await house.buy(who, SeedBundle("late", 1_000_000, 5, {"voice": 10}, days=60))
    soon = await house.buy(who, SeedBundle("soon", 1_000_000, 5, {"voice": 10}, days=7))
    first = await house.buy(who, SeedBundle("first", 1_000_000, 1, {"voice": 5}, days=90, burn_order=1))
    await house.admitted(who)
    assert [(await house.units(one))[1] for one in (first, soon, late)] == [1, 1, 0]


async def test_a_bundle_pays_for_its_destinations_only(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=2_000_000)
    allowance = await house.buy(who, SeedBundle("german", 1_000_000, 10, {"voice": 60}, prefixes=("49",)))
    await house.admitted(who, KINGDOM)
    assert await house.units(allowance) == (0, 0)


async def test_abroad_another_bundle_pays(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=2_000_000)
    home = await house.buy(who, TALK)
    away = await house.buy(who, SeedBundle("away", 1_000_000, 10, {"voice": 10}, zone="roaming"))
    await house.rows("UPDATE subscriber SET zone = 'roaming' WHERE account_id = $1", who.account_id)
    await house.admitted(who)
    assert (await house.units(home), await house.units(away)) == ((0, 0), (0, 1))


async def test_an_allowance_that_has_ended_pays_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=2_000_000)
    allowance = await house.buy(who, TALK)
    later = house.begin_at + timedelta(days=30)
    await house.admitted(who, at=later - timedelta(seconds=1))
    assert await house.units(allowance) == (0, 1)
    await house.admitted(who, at=later)
    assert await house.units(allowance) == (0, 1)
    assert (await house.account(who))["held_micro"] == 10 * SECOND_MICRO


async def test_many_calls_at_once_never_hold_more_units_than_there_are(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    allowance = await house.buy(who, TALK)
    verdicts = await at_once([partial(house.call, who)] * 30)
    admitted = [one for one in verdicts if isinstance(one, Admitted)]
    assert len(admitted) == 10
    assert await house.units(allowance) == (0, 10)
    await house.end(*(ended(one.frozen.call_id, talk_ms=1_000) for one in admitted))
    assert await house.units(allowance) == (10, 0)


async def test_messages_data_and_talk_share_one_bundle(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_500_000)
    allowance = await house.buy(who, SHARED)
    await house.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 90000, 1 FROM plan")
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, talk_ms=10_000))
    assert (await house.usage(who, "data", 2_500_000, "d1")).burns[0].units == 3
    assert (await house.usage(who, "sms", 5, "s1")).charged_quantity == 0
    beyond = await house.usage(who, "sms", 3, "s2")
    assert (beyond.burns[0].units, beyond.charged_quantity, beyond.amount_micro) == (1, 2, 180_000)
    assert await house.units(allowance) == (10, 0)
    assert await house.usage(who, "sms", 3, "s2") == beyond
    assert (await house.account(who))["balance_micro"] == 500_000 - 180_000
    with pytest.raises(Conflict, match="another usage"):
        await house.usage(who, "sms", 4, "s2")
    with pytest.raises(NotFound, match="no price"):
        await house.usage(who, "data", 1, "d2")


async def test_usage_beyond_the_balance_is_written_off(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=100_000)
    await house.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 90000, 1 FROM plan")
    used = await house.usage(who, "sms", 2, "s")
    assert (used.amount_micro, used.written_off_micro) == (180_000, 80_000)
    assert (await house.account(who))["balance_micro"] == 0


async def test_what_was_sold_keeps_the_tax_its_plan_had_then(house: Seeded) -> None:
    """A message and a bundle at 19 %; then the plan says 7 %, and the next message has that."""
    await house.rows(
        'UPDATE deck SET terms = \'{"tax": "inclusive", "tax_ppm": 190000}\' WHERE side = \'sell\''
    )
    await house.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 90000, 1 FROM plan")
    who = await house.subscriber(balance_micro=20_000_000)
    await house.usage(who, "sms", 1, "s")
    await house.buy(who, SeedBundle("M", 4_990_000, 100, {"data": 1}))
    await house.rows("UPDATE bundle SET plan_id = (SELECT plan_id FROM plan)")
    await house.buy(who, SeedBundle("M", 4_990_000, 100, {"data": 1}))
    await house.rows(
        'UPDATE deck SET terms = \'{"tax": "inclusive", "tax_ppm": 70000}\' WHERE side = \'sell\''
    )
    await house.usage(who, "sms", 1, "s2")
    taxed = "SELECT (tax ->> 'tax_ppm')::integer AS ppm FROM {} ORDER BY {}"
    assert [row["ppm"] for row in await house.rows(taxed.format("usage_record", "usage_id"))] == [
        190_000,
        70_000,
    ]
    # The first was a bundle of no plan
    assert [row["ppm"] for row in await house.rows(taxed.format("allowance", "allowance_id"))] == [
        None,
        190_000,
    ]
    records = "SELECT (tax ->> 'tax_ppm')::integer AS ppm FROM cdr_first WHERE leg = 'usage' ORDER BY call_id"
    assert [row["ppm"] for row in await house.rows(records)] == [190_000, 70_000]


async def test_fair_use_throttles_and_never_charges(house: Seeded) -> None:
    who = await house.subscriber()
    await house.buy(
        who, SeedBundle("messenger", 0, None, {"data.messenger": 1_000_000}, fair_use_units=1_000)
    )
    assert not (await house.usage(who, "data.messenger", 1_000_000_000, "a")).throttled
    over = await house.usage(who, "data.messenger", 1, "b")
    assert over.throttled
    assert over.amount_micro == 0


async def test_a_purchase_needs_money_and_is_made_once(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=999_999)
    with pytest.raises(InsufficientFunds):
        await house.buy(who, TALK)
    async with transaction(house.pool) as conn:
        with pytest.raises(NotFound, match="bundle list"):
            await buy(conn, who.account_id, "none", key="k", author="test", at=house.begin_at)


async def test_renewal_follows_without_a_gap_and_once(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=2_500_000)
    allowance = await house.buy(who, SeedBundle("monthly", 1_000_000, 10, {"voice": 60}, renews=True))
    end_at = house.begin_at + timedelta(days=30)

    async def renew() -> dict:
        async with transaction(house.pool) as conn:
            return await renew_due(conn, end_at - timedelta(seconds=2))

    done = await at_once([renew] * 8)
    (following,) = [new for made in done for new in made.values()]
    row = await house.row(
        "SELECT lower(n.valid) = upper(o.valid) AS seamless, o.renewed_by FROM allowance o, allowance n"
        " WHERE o.allowance_id = $1 AND n.allowance_id = $2",
        allowance,
        following,
    )
    assert row["seamless"]
    assert row["renewed_by"] == following
    assert (await house.account(who))["balance_micro"] == 500_000


async def test_a_renewal_waits_for_money_and_begins_when_it_comes(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    await house.buy(who, SeedBundle("monthly", 1_000_000, 10, {"voice": 60}, renews=True))
    days = [house.begin_at + timedelta(days=day) for day in (30, 33, 61)]
    async with transaction(house.pool) as conn:
        assert await renew_due(conn, days[0]) == {}
    await house.top_up(who, 1_000_000, "late")
    async with transaction(house.pool) as conn:
        assert await renew_due(conn, days[2]) == {}, "it does not wait for ever"
        (following,) = (await renew_due(conn, days[1])).values()
    assert (
        await house.value("SELECT lower(valid) FROM allowance WHERE allowance_id = $1", following) == days[1]
    )


async def test_what_waits_for_money_and_is_bought_by_hand_is_not_bought_again(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000_000)
    monthly = SeedBundle("monthly", 1_000_000, 10, {"voice": 60}, renews=True)
    await house.buy(who, monthly)
    await house.top_up(who, 2_000_000, "late")
    later = house.begin_at + timedelta(days=31)
    await house.buy(who, monthly, later)
    async with transaction(house.pool) as conn:
        assert await renew_due(conn, later + timedelta(seconds=5)) == {}
        assert len(await renew_due(conn, later + timedelta(days=30))) == 1, (
            "the new one is renewed like any other"
        )
    assert (await house.account(who))["balance_micro"] == 0


async def test_a_cancelled_renewal_does_not_happen(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=5_000_000)
    allowance = await house.buy(who, SeedBundle("monthly", 1_000_000, 10, {"voice": 60}, renews=True))
    async with transaction(house.pool) as conn:
        await cancel_renewal(conn, allowance)
        assert await renew_due(conn, house.begin_at + timedelta(days=30)) == {}


async def test_free_calls_need_no_balance_and_burn_nothing(house: Seeded) -> None:
    """On-net, and to a zero-rated destination."""
    await house.rows("UPDATE plan SET on_net_free = true, zero_rated = '{44}'")
    await house.reload()
    one, other = await house.subscriber(), await house.subscriber()
    rich = await house.subscriber(balance_micro=1_000_000)
    allowance = await house.buy(rich, TALK)
    for who in (one, rich):
        for dialled in (other.a_number, KINGDOM):
            call_id = (await house.admitted(who, dialled)).frozen.call_id
            await house.end(ended(call_id, talk_ms=600_000))
    assert await house.units(allowance) == (0, 0)
    assert await house.value("SELECT sum(amount_micro) FROM charge") == 0
    assert isinstance(await house.call(one), Refuse)
