"""Legs that begin once, orders that are given once, and what becomes of them, as the database sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge import queries
from bridge.calls import orders
from bridge.calls.admit import Admitted
from bridge.calls.ended import EndRecord
from bridge.calls.originate import Leg, LegGoingOn, LegName, Legs
from bridge.calls.store import SwitchCall
from bridge.database import transaction
from bridge.sandbox.seed import APP
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from tests.postgres.rollouts import Rolling
from tests.seeded import GERMANY, SECOND_MICRO, Seeded, Who, at_once, ended, seeded

MICRO = 1_000_000
LOST_S = 20

_serial = count(1)


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[Seeded]:
    async with seeded(dsn) as made:
        yield made
        assert not await made.broken()


async def ordered(house: Seeded, who: Who, b_number: str = GERMANY) -> UUID:
    async with transaction(house.pool) as conn:
        payer = await orders.payer(conn, a_number=who.a_number)
        row = await orders.add_origination(conn, "seeded", payer["subscriber_id"], b_number, None, 50)
        return UUID(str(row["origination_id"]))


async def begin(house: Seeded, origination_id: UUID, name: LegName) -> Admitted | Refuse | None:
    place = next(_serial)
    leg = Leg(origination_id, name, f"Local/{name}-{place};2", f"{place};2")
    return await Legs(house.admissions, house.store).begin(leg, house.book, datetime.now(UTC))


async def begun(house: Seeded, origination_id: UUID, name: LegName) -> UUID:
    verdict = await begin(house, origination_id, name)
    assert isinstance(verdict, Admitted), verdict
    return verdict.frozen.call_id


async def take(house: Seeded, wait_s: int = 10) -> list[Any]:
    async with transaction(house.pool) as conn:
        return list(await queries.originations.take.all(conn, switch_id=house.store.switch_id, wait_s=wait_s))


async def follow(house: Seeded) -> Any:
    async with transaction(house.pool) as conn:
        await queries.originations.follow.value(conn, switch_id=house.store.switch_id, lost_s=LOST_S)
    return await house.row("SELECT * FROM origination")


async def state(house: Seeded) -> tuple[str, str | None]:
    row = await follow(house)
    return row["state"], row["reason"]


async def nothing_held(house: Seeded) -> bool:
    return not await house.value("SELECT sum(held_micro) FROM account") and not await house.value(
        "SELECT count(*) FROM lease"
    )


async def test_an_order_is_taken_by_one(house: Seeded) -> None:
    who = await house.subscriber(MICRO)
    for place in range(20):
        await ordered(house, who, f"+4930231251{place:02d}")
    taken = [order for batch in await at_once([lambda: take(house)] * 8) for order in batch]
    assert len({order["order_id"] for order in taken}) == len(taken) == 20
    assert {order["channel"] for order in taken} == {f"org_{order['subject_id'].hex}" for order in taken}
    assert await take(house) == []


async def test_an_order_that_waited_too_long_is_void(house: Seeded) -> None:
    await ordered(house, await house.subscriber(MICRO))
    assert await take(house, wait_s=0) == []
    assert await state(house) == ("failed", "not_placed")
    assert await house.value("SELECT state FROM switch_order") == "failed"


async def test_an_order_the_switch_refused_is_over(house: Seeded) -> None:
    await ordered(house, await house.subscriber(MICRO))
    [order] = await take(house)
    async with transaction(house.pool) as conn:
        await queries.originations.order_done.run(
            conn, order_id=order["order_id"], problem="Originate failed"
        )
    assert await state(house) == ("failed", "not_placed")


@pytest.mark.parametrize(
    ("kind", "said", "after"),
    [
        ("originate", False, "queued"),
        ("originate", True, "sent"),
        ("hangup", True, "queued"),
        ("hangup", False, "queued"),
    ],
)
async def test_only_what_does_no_harm_is_said_again(house: Seeded, kind: str, said: bool, after: str) -> None:
    await ordered(house, await house.subscriber(MICRO))
    await house.rows("UPDATE switch_order SET kind = $1", kind)
    [order] = await take(house)
    async with transaction(house.pool) as conn:
        await queries.originations.order_again.run(conn, order_id=order["order_id"], said=said)
    assert await house.value("SELECT state FROM switch_order") == after


async def test_what_was_sent_and_never_begun_is_void_and_stays_so(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    await take(house)
    assert await state(house) == ("initiating", None)
    await house.rows("UPDATE origination SET made_at = made_at - make_interval(secs => $1)", LOST_S)
    assert await state(house) == ("failed", "not_placed")
    assert await begin(house, made, "a") is None
    assert await nothing_held(house)


async def test_a_leg_that_was_claimed_and_never_admitted_is_given_up(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    async with transaction(house.pool) as conn:
        await queries.originations.leg.one(
            conn, origination_id=made, switch_id=house.store.switch_id, leg="a"
        )
    assert await begin(house, made, "a") is None
    assert await begin(house, made, "b") is None
    await house.rows("UPDATE origination SET leg_a_at = leg_a_at - make_interval(secs => $1)", LOST_S)
    assert await state(house) == ("failed", "a_failure")


async def test_a_leg_begins_once(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    assert await begin(house, made, "b") is None
    assert await begin(house, uuid4(), "a") is None
    for name in ("a", "b"):
        verdicts = await at_once([lambda name=name: begin(house, made, name)] * 8)  # type: ignore[misc]
        assert sum(isinstance(verdict, Admitted) for verdict in verdicts) == 1
        assert verdicts.count(None) == 7
    rows = await house.rows("SELECT call_id FROM call WHERE state = 'live' ORDER BY call_id")
    row = await house.row("SELECT leg_a_call_id, leg_b_call_id FROM origination")
    assert list(row) == [call["call_id"] for call in rows]
    await house.end(*(ended(call["call_id"]) for call in rows))


async def test_a_leg_of_another_switchs_order_does_not_begin(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    await house.rows("INSERT INTO switch (name) VALUES ('elsewhere')")
    await house.rows(
        "UPDATE origination SET switch_id = (SELECT switch_id FROM switch WHERE name = 'elsewhere')"
    )
    assert await begin(house, made, "a") is None


@pytest.mark.parametrize(
    ("b_number", "balance_micro", "more", "reason", "why"),
    [
        ("+49900123456", MICRO, {}, "b_refused", "barred_destination"),
        ("+12125550100", MICRO, {}, "b_refused", "no_rate"),
        (GERMANY, 0, {}, "a_refused", "no_credit"),
        (GERMANY, 10 * SECOND_MICRO, {}, "b_refused", "no_credit"),  # one leg holds ten seconds
        (GERMANY, MICRO, {"call_cap": 1}, "b_refused", "too_many_calls"),
        (GERMANY, MICRO, {"allowed": False}, "a_refused", "not_invited"),
    ],
)
async def test_nothing_rings_unless_both_may(
    house: Seeded, b_number: str, balance_micro: int, more: dict[str, Any], reason: str, why: str
) -> None:
    made = await ordered(house, await house.subscriber(balance_micro, **more), b_number)
    verdict = await begin(house, made, "a")
    assert isinstance(verdict, Refuse)
    row = await house.row("SELECT state, reason, refuse_reason, leg_a_call_id FROM origination")
    assert tuple(row) == ("failed", reason, why, None)
    assert await nothing_held(house)
    assert await begin(house, made, "a") is None
    assert await house.value("SELECT count(*) FROM call WHERE refuse_reason = $1", why) == 1


async def test_b_refused_after_a_answered_ends_with_a(house: Seeded) -> None:
    who = await house.subscriber(MICRO)
    made = await ordered(house, who)
    leg_a = await begun(house, made, "a")
    await house.answer(leg_a)
    await house.rows("UPDATE subscriber SET state = 'suspended' WHERE a_number = $1", who.a_number)
    assert isinstance(await begin(house, made, "b"), Refuse)
    assert await state(house) == ("calling_b", "b_refused")
    await house.end(ended(leg_a, 1500))
    row = await follow(house)
    assert (row["state"], row["reason"], row["refuse_reason"]) == ("failed", "b_refused", "account_suspended")


def outcome(call_id: UUID, dialstatus: str, cause: int) -> EndRecord:
    record = ended(call_id)
    return EndRecord(call_id, 1, 0, record.ended_us, "journal", dialstatus, cause, "callee")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (("BUSY", 17), None, ("failed", "a_busy")),
        (("NOANSWER", 19), None, ("failed", "a_no_answer")),
        (("CHANUNAVAIL", 34), None, ("failed", "a_failure")),
        (2000, None, ("failed", "a_abandoned")),
        (2000, ("BUSY", 17), ("failed", "b_busy")),
        (2000, ("NOANSWER", 19), ("failed", "b_no_answer")),
        (2000, ("CONGESTION", 34), ("failed", "b_failure")),
        (2000, ("CANCEL", 16), ("failed", "a_abandoned")),
        (3000, 1000, ("ended", "hang_up")),
    ],
)
async def test_how_it_ended(house: Seeded, a: Any, b: Any, expected: tuple[str, str]) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    leg_a = await begun(house, made, "a")
    assert await state(house) == ("calling_a", None)
    if isinstance(a, int):
        await house.answer(leg_a)
    leg_b = await begun(house, made, "b") if b is not None else None
    if leg_b is not None:
        assert await state(house) == ("calling_b", None)
        await house.end(ended(leg_b, b) if isinstance(b, int) else outcome(leg_b, *b))
        assert (await follow(house))["ended_at"] is None  # while A is still on the line
    await house.end(ended(leg_a, a) if isinstance(a, int) else outcome(leg_a, *a))
    assert await state(house) == expected
    assert await state(house) == expected
    if expected[0] == "ended":
        assert await house.value("SELECT talk_ms FROM origination") == b
    assert await nothing_held(house)


@pytest.fixture
async def phones(house: Seeded) -> Seeded:
    """The users of the app have phones, none of which is there."""
    await house.have_phones()
    return house


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (17, None, "a_busy"),
        (21, None, "a_busy"),
        (19, None, "a_no_answer"),
        (20, None, "a_no_answer"),
        (58, None, "a_failure"),
        (0, 17, "b_busy"),
        (0, 19, "b_no_answer"),
        (0, 20, "b_no_answer"),
        (0, 16, "a_abandoned"),
        (0, 58, "b_failure"),
    ],
)
async def test_how_it_ended_where_phones_rang(phones: Seeded, a: int, b: int | None, expected: str) -> None:
    anna, ben = await phones.subscriber(), await phones.subscriber()
    made = await ordered(phones, anna, ben.a_number)
    leg_a = await begun(phones, made, "a")
    if a == 0:
        leg_b = await begun(phones, made, "b")
        await phones.end(replace(outcome(leg_b, "", 1), q850_cause=b))
        await phones.answer(leg_a)
        await phones.end(ended(leg_a, 1500))
    else:
        await phones.end(replace(outcome(leg_a, "", 1), q850_cause=a))
    assert await state(phones) == ("failed", expected)


@pytest.mark.parametrize("leg", ["a", "b"])
@pytest.mark.parametrize("refused", [True, False])
async def test_a_leg_that_goes_on_is_not_over_in_between(phones: Seeded, leg: LegName, refused: bool) -> None:
    anna, ben = await phones.subscriber(MICRO), await phones.subscriber()
    made = await ordered(phones, anna, ben.a_number)
    before = [await begun(phones, made, "a")]
    if leg == "b":
        await phones.answer(before[0])
        before.append(await begun(phones, made, "b"))
    legs, first = Legs(phones.admissions, phones.store), before[-1]
    async with phones.store.batch() as conn:
        left = await legs.leaves(conn, first)
        await phones.endings.end(conn, [outcome(first, "CHANUNAVAIL", 20)], phones.book)
    assert left == LegGoingOn(made, leg)
    assert await state(phones) == (f"calling_{leg}", None)
    verdict: Admitted | Refuse = refuse(RefuseReason.no_credit)
    if not refused:
        asked = SwitchCall(APP, anna.a_number, ben.a_number, "Local/x;2", "x", "x")
        [frozen] = (await phones.store.frozen([first])).values()
        verdict = await phones.admissions.go_on(frozen, asked, phones.book, datetime.now(UTC))
        assert isinstance(verdict, Admitted)
        before.append(verdict.frozen.call_id)
    await legs.went_on(left, verdict)
    row = await follow(phones)
    if refused:
        assert (row["reason"], row["refuse_reason"]) == (f"{leg}_refused", "no_credit")
        assert (row["ended_at"] is not None) == (leg == "a")
    else:
        assert (row["state"], row["reason"]) == (f"calling_{leg}", None)
        assert row[f"leg_{leg}_call_id"] == before[-1]
    for call_id in {before[0], before[-1]} - {first}:
        await phones.end(ended(call_id, 1000))
    assert (await follow(phones))["ended_at"] is not None
    async with phones.store.batch() as conn:
        assert await legs.leaves(conn, before[-1]) is None  # it is over, and stays so


async def test_a_leg_that_went_on_and_was_never_admitted_is_given_up(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(MICRO), await phones.subscriber()
    made = await ordered(phones, anna, ben.a_number)
    first = await begun(phones, made, "a")
    # However long its phone was awaited.
    await phones.rows("UPDATE origination SET leg_a_at = leg_a_at - make_interval(secs => $1)", LOST_S)
    async with phones.store.batch() as conn:
        await Legs(phones.admissions, phones.store).leaves(conn, first)
        await phones.endings.end(conn, [outcome(first, "CHANUNAVAIL", 20)], phones.book)
    assert await state(phones) == ("calling_a", None)
    await phones.rows("UPDATE origination SET leg_a_at = leg_a_at - make_interval(secs => $1)", LOST_S)
    assert await state(phones) == ("failed", "a_failure")


async def test_legs_that_ring_phones_need_no_money_but_each_its_place(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(), await phones.subscriber()
    made = await ordered(phones, anna, ben.a_number)
    legs = [await begun(phones, made, "a"), await begun(phones, made, "b")]
    assert not await phones.value("SELECT sum(held_micro) FROM account")
    await phones.end(*(ended(leg) for leg in legs))
    made = await ordered(phones, await phones.subscriber(call_cap=1), ben.a_number)
    verdict = await begin(phones, made, "a")
    assert isinstance(verdict, Refuse)
    assert verdict.reason is RefuseReason.too_many_calls


async def test_nothing_rings_if_the_rollout_keeps_b_out(phones: Seeded) -> None:
    made = await phones.value(
        "INSERT INTO rollout (app_id, name) VALUES ($1, 'first') RETURNING rollout_id", phones.app_id
    )
    rolling = Rolling(phones, made)
    made = await ordered(phones, await phones.subscriber(), await rolling.number_of(await rolling.person()))
    assert isinstance(await begin(phones, made, "a"), Refuse)
    row = await phones.row("SELECT reason, refuse_reason, leg_a_call_id FROM origination")
    assert tuple(row) == ("b_refused", "not_enabled", None)
    row = await phones.row("SELECT direction, refuse_detail FROM call")
    assert tuple(row) == ("on_net", "no_window")


async def test_a_talk_that_was_over_before_anybody_looked_is_told_whole(house: Seeded) -> None:
    await house.rows(
        "INSERT INTO account (kind, name, currency, funding) VALUES ('partner', 'p', 'EUR', 'postpaid')"
    )
    await house.rows(
        "INSERT INTO partner (name, account_id, keeps_events)"
        " SELECT 'P', account_id, true FROM account WHERE name = 'p'"
    )
    who = await house.subscriber(MICRO)
    await house.rows("UPDATE subscriber SET partner_id = (SELECT partner_id FROM partner)")
    made = await ordered(house, who)
    leg_a = await begun(house, made, "a")
    await house.answer(leg_a)
    leg_b = await begun(house, made, "b")
    await house.end(ended(leg_b, 100), ended(leg_a, 200))
    await asyncio.gather(*(follow(house) for _ in range(4)))
    told = await house.rows("SELECT seq, data->>'state' AS state FROM event ORDER BY seq")
    states = ("initiating", "calling_a", "calling_b", "connected", "ended")
    assert [tuple(row) for row in told] == list(enumerate(states, 1))


async def test_a_cancelled_one_begins_no_leg(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    await take(house)
    async with transaction(house.pool) as conn:
        await orders.cancel(conn, made)
    assert await begin(house, made, "a") is None
    assert await state(house) == ("failed", "cancelled")
    [order] = await take(house)
    assert (order["kind"], order["channel"]) == ("hangup", f"org_{made.hex}")


async def test_a_cancelled_one_does_not_go_on_to_b(house: Seeded) -> None:
    made = await ordered(house, await house.subscriber(MICRO))
    leg_a = await begun(house, made, "a")
    await house.answer(leg_a)
    async with transaction(house.pool) as conn:
        await orders.cancel(conn, made)
    assert await begin(house, made, "b") is None
    await house.end(ended(leg_a, 500))
    assert await state(house) == ("failed", "cancelled")
