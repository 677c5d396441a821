"""call_extend_v2: the next slice, in totals, beside a call that may be ending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest

from bridge.calls.extend import Extended
from bridge.rating.reserve import Reservation
from tests.seeded import KINGDOM, SECOND_MICRO, Seeded, Work, at_once, ended

ROUNDS = 30


async def extend(house: Seeded, call_id: UUID, held_micro: int, limit_ms: int = 20_000) -> tuple[str, int]:
    at = datetime.now(UTC) + timedelta(milliseconds=limit_ms)
    reserved = Reservation((), held_micro, limit_ms)
    return await house.store.extend(call_id, reserved, extend_at=at, expires_at=at, at=at)


async def test_totals_make_a_repeat_harmless(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    said = await at_once([partial(extend, house, call_id, 20_000)] * 8)
    assert said == [("ok", 0)] * 8
    hold = await house.row("SELECT * FROM hold")
    assert (hold["opened_micro"], hold["held_micro"], hold["extensions"]) == (10_000, 20_000, 1)
    assert (await house.account(who))["held_micro"] == 20_000
    assert await house.value("SELECT limit_ms FROM lease") == 20_000
    assert not await house.broken()


async def test_without_credit_it_says_what_is_left_and_changes_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=13_500)
    call_id = (await house.admitted(who)).frozen.call_id
    before = await house.row("SELECT * FROM lease")
    assert await extend(house, call_id, 20_000) == ("no_credit", 3_500)
    assert await house.row("SELECT * FROM lease") == before
    assert (await house.account(who))["held_micro"] == 10_000
    assert await extend(house, call_id, 13_500) == ("ok", 0)
    assert (await house.account(who))["held_micro"] == 13_500


async def test_postpaid_extends_up_to_its_credit(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=15_000)
    call_id = (await house.admitted(who)).frozen.call_id
    assert await extend(house, call_id, 15_001) == ("no_credit", 5_000)
    assert await extend(house, call_id, 15_000) == ("ok", 0)


async def test_a_call_that_ended_or_never_was_is_gone(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, talk_ms=1_000))
    assert await extend(house, call_id, 20_000) == ("gone", 0)
    assert await extend(house, uuid4(), 20_000) == ("gone", 0)
    assert (await house.account(who))["held_micro"] == 0
    assert not await house.broken()


@pytest.mark.parametrize("end_first", [True, False])
async def test_extension_and_end_at_once_never_block_each_other(house: Seeded, end_first: bool) -> None:
    """Two calls of one account: one is extended while the other ends, and both while they end themselves."""
    who = await house.subscriber(balance_micro=10**9)
    for _ in range(ROUNDS):
        one, two = [(await house.admitted(who)).frozen.call_id for _ in range(2)]
        work: list[Work] = [
            partial(house.end, ended(one, talk_ms=2_000), ended(two, talk_ms=3_000)),
            partial(extend, house, two, 20_000),
            partial(extend, house, one, 30_000),
            partial(house.end, ended(two, talk_ms=3_000, source="cdr")),
        ]
        await at_once(work if end_first else work[::-1])
    account = await house.account(who)
    assert account["held_micro"] == 0
    assert account["balance_micro"] == 10**9 - ROUNDS * 5 * SECOND_MICRO
    assert not await house.broken()


async def test_due_calls_get_their_next_slice_and_then_what_is_left(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=25 * SECOND_MICRO)
    call_id = (await house.admitted(who)).frozen.call_id
    assert await house.extensions.due(datetime.now(UTC)) == [], "nobody has answered"
    answered_at = datetime.now(UTC) - timedelta(seconds=9.5)
    await house.answer(call_id, at=answered_at)
    margin = timedelta(milliseconds=house.rules.cut_margin_ms)
    assert await house.extensions.due(datetime.now(UTC)) == [
        Extended(call_id, await house.value("SELECT channel FROM lease"), 20_000,
                 answered_at + timedelta(seconds=20) - margin)
    ]  # fmt: skip
    assert await house.extensions.due(datetime.now(UTC)) == [], "not due again before the new slice runs out"
    await house.rows("UPDATE lease SET extend_at = now()")
    (last,) = await house.extensions.due(datetime.now(UTC))
    assert last.limit_ms == 25_000
    assert (await house.account(who))["held_micro"] == 25 * SECOND_MICRO
    await house.rows("UPDATE lease SET extend_at = now()")
    assert await house.extensions.due(datetime.now(UTC)) == [], "no money for more"
    assert await house.value("SELECT extend_at > now() FROM lease"), "asked again later"
    await house.top_up(who, 5 * SECOND_MICRO, "while it lasts")
    await house.rows("UPDATE lease SET extend_at = now()")
    (more,) = await house.extensions.due(datetime.now(UTC))
    assert more.limit_ms == 30_000
    await house.end(ended(call_id, talk_ms=29_000))
    assert (await house.account(who))["balance_micro"] == SECOND_MICRO
    assert not await house.broken()


async def test_what_a_slice_holds_covers_fee_minimum_and_increments(house: Seeded) -> None:
    """The UK rate: 7 000 once, at least 90 s, 60/6 at 110 000 a minute."""
    who = await house.subscriber(balance_micro=10**7)
    admitted = await house.admitted(who, KINGDOM)
    assert await house.value("SELECT opened_micro FROM hold") == 7_000 + 110_000 * 90 // 60
    await house.answer(admitted.frozen.call_id, at=datetime.now(UTC) - timedelta(seconds=9.5))
    await house.extensions.due(datetime.now(UTC))
    await house.end(ended(admitted.frozen.call_id, talk_ms=96_001))
    charge = await house.row("SELECT * FROM charge")
    assert (charge["billed_s"], charge["amount_micro"]) == (102, 7_000 + 110_000 * 102 // 60)
    assert not await house.broken()
