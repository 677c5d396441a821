"""A cap on what an account's calls may cost in a day or month: exact, however many come at once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from bridge import queries
from bridge.calls.admit import Admitted
from bridge.database import transaction
from bridge.ledger.store import correct, refund, reverse
from bridge.partners.store import SpendCap, set_spend_cap
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.cause import Refuse, RefuseReason
from tests.seeded import SECOND_MICRO, Seeded, Who, at_once, ended

AT_ONCE = 20
RICH = 10**9


async def cap(house: Seeded, who: Who, cap_micro: int | None, period: str = "day") -> None:
    async with transaction(house.pool) as conn:
        given = None if cap_micro is None else SpendCap(cap_micro, period)
        await set_spend_cap(conn, UUID(who.account_id), given)


async def left(house: Seeded, who: Who, at: datetime | None = None) -> int:
    told: int = await house.value("SELECT spend_left_v1($1, $2)", who.account_id, at or datetime.now(UTC))
    return told


async def talked(house: Seeded, who: Who, seconds: int) -> UUID:
    """One call that has ended. Returns its id."""
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, talk_ms=seconds * 1000))
    return call_id


async def test_twenty_at_once_on_a_cap_for_five(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 5_999)
    async with AsyncExitStack() as stack:
        ready = []
        for _ in range(AT_ONCE):
            session = await stack.enter_async_context(house.store.session())
            ready.append((session, await house.caller(session, who), who))
        written = await at_once([partial(house.write_on, *one, 1_000) for one in ready])
    assert sorted(one.status for one in written) == ["ok"] * 5 + ["spend_cap"] * 15
    assert {one.available_micro for one in written if one.status != "ok"} == {999}
    assert (await house.account(who))["held_micro"] == 5_000
    assert await left(house, who) == 999


async def test_whole_admissions_at_once(house: Seeded) -> None:
    """Through `decide`, which sees less and less of the cap: whole slices first, then what is left."""
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 45 * SECOND_MICRO)
    said = await at_once([partial(house.call, who)] * 4)
    said += await at_once([partial(house.call, who)] * 4)
    limits = sorted(one.limit_ms for one in said if isinstance(one, Admitted))
    assert limits == [5_000, 10_000, 10_000, 10_000, 10_000]
    assert [one.reason for one in said if isinstance(one, Refuse)] == [RefuseReason.spend_cap] * 3
    assert await house.value("SELECT count(*) FROM call WHERE refuse_reason = 'spend_cap'") == 3


async def test_what_was_charged_counts_and_what_was_only_held_does_not(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 25 * SECOND_MICRO)
    await talked(house, who, 4)
    assert await left(house, who) == 21 * SECOND_MICRO
    calls = [(await house.admitted(who)).frozen.call_id for _ in range(3)]
    assert isinstance(await house.call(who), Refuse)
    await house.end(*[ended(call_id) for call_id in calls])
    assert await left(house, who) == 21 * SECOND_MICRO, "nobody answered"


async def test_spent_before_there_was_a_cap(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await talked(house, who, 7)
    await cap(house, who, 10 * SECOND_MICRO, "month")
    assert await left(house, who) == 3 * SECOND_MICRO
    assert (await house.admitted(who)).limit_ms == 3_000
    refused = await house.call(who)
    assert isinstance(refused, Refuse)
    assert (refused.reason, refused.cause) == (RefuseReason.spend_cap, 21)


async def test_a_cap_of_nothing_lets_only_free_calls_through(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await house.buy(who, SeedBundle("minutes", 0, 1, {"voice": 60}))
    await cap(house, who, 0)
    covered = await house.admitted(who)
    assert await house.value("SELECT held_micro FROM hold") == 0
    assert isinstance(await house.call(who), Refuse), "its unit is held by the first call"
    await house.end(ended(covered.frozen.call_id))
    assert isinstance(await house.call(who), Admitted)


async def test_without_a_cap_nothing_is_counted(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, SECOND_MICRO)
    await cap(house, who, None)
    assert isinstance(await house.call(who), Admitted)
    row = await house.account(who)
    assert [row[f"spend_{name}"] for name in ("cap_micro", "period", "since", "base_micro")] == [None] * 4


async def test_a_long_call_is_cut_at_the_cap_and_goes_on_when_it_is_raised(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 15 * SECOND_MICRO)
    call_id = (await house.admitted(who)).frozen.call_id
    answered_at = datetime.now(UTC) - timedelta(seconds=9.5)
    await house.answer(call_id, at=answered_at)
    (cut,) = await house.extensions.due(datetime.now(UTC))
    margin = timedelta(milliseconds=house.rules.cut_margin_ms)
    assert (cut.limit_ms, cut.cut_at) == (15_000, answered_at + timedelta(seconds=15) - margin)
    await house.rows("UPDATE lease SET extend_at = now()")
    assert await house.extensions.due(datetime.now(UTC)) == [], "the cap is reached"
    assert await house.value("SELECT extend_at > now() FROM lease"), "asked again later"
    await cap(house, who, 18 * SECOND_MICRO)
    await house.rows("UPDATE lease SET extend_at = now()")
    (more,) = await house.extensions.due(datetime.now(UTC))
    assert more.limit_ms == 18_000
    assert await left(house, who) == 0
    await house.end(ended(call_id, talk_ms=18_000))
    assert await left(house, who) == 0
    assert isinstance(await house.call(who), Refuse)


async def test_a_cap_lowered_below_what_is_held_stops_the_next_slice(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 100 * SECOND_MICRO)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.answer(call_id, at=datetime.now(UTC) - timedelta(seconds=9.5))
    await cap(house, who, 5 * SECOND_MICRO)
    assert await left(house, who) == -5 * SECOND_MICRO
    assert await house.extensions.due(datetime.now(UTC)) == []
    assert (await house.account(who))["held_micro"] == 10 * SECOND_MICRO, "what is held stays"
    await house.end(ended(call_id, talk_ms=10_000))


async def test_extensions_and_admissions_at_once_stay_below_the_cap(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 77 * SECOND_MICRO)
    calls = [(await house.admitted(who)).frozen.call_id for _ in range(4)]
    await house.answer(*calls, at=datetime.now(UTC) - timedelta(seconds=9.5))
    await at_once([partial(house.extensions.due, datetime.now(UTC))] * 4 + [partial(house.call, who)] * 6)
    assert (await house.account(who))["held_micro"] == 77 * SECOND_MICRO
    assert await left(house, who) == 0


async def test_a_new_day_and_a_new_month_begin_at_home(house: Seeded) -> None:
    """Midnight in Berlin is 22:00 or 23:00 in UTC, in both nights in which the clock is changed, too."""
    since = partial(house.value, "SELECT spend_since_v1($1, $2::text::timestamptz)")
    for period, at, began in (
        ("day", "2026-03-29T21:59:59Z", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("day", "2026-03-29T22:00:00Z", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("day", "2026-10-25T22:59:59Z", datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("day", "2026-10-25T23:00:00Z", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        ("month", "2026-10-31T22:59:59Z", datetime(2026, 9, 30, 22, tzinfo=UTC)),
        ("month", "2026-10-31T23:00:00Z", datetime(2026, 10, 31, 23, tzinfo=UTC)),
    ):
        assert await since(period, at) == began


@pytest.mark.parametrize(("period", "days"), [("day", 1), ("month", 31)])
async def test_the_first_call_of_a_day_or_month_begins_it(house: Seeded, period: str, days: int) -> None:
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 10 * SECOND_MICRO, period)
    await talked(house, who, 10)
    assert isinstance(await house.call(who), Refuse)
    later = datetime.now(UTC) + timedelta(days=days)
    assert await left(house, who, later) == 10 * SECOND_MICRO
    assert (await house.call(who, at=later)).limit_ms == 10_000  # type: ignore[union-attr]
    assert isinstance(await house.call(who, at=later), Refuse)
    assert isinstance(await house.call(who), Refuse), (
        "a worker whose clock is behind does not bring the old one back"
    )


async def test_a_call_that_lasts_beyond_midnight_counts_when_it_is_booked(house: Seeded) -> None:
    """The day is not begun by a call of its own, but found in the books."""
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 10 * SECOND_MICRO)
    await house.rows(
        "UPDATE account SET spend_since = spend_since - interval '1 day', spend_base_micro = balance_micro + 9000"
        " WHERE account_id = $1",
        who.account_id,
    )
    assert await left(house, who) == 10 * SECOND_MICRO, "what was spent yesterday"
    await talked(house, who, 4)
    await house.rows(
        "UPDATE account SET spend_since = spend_since - interval '1 day' WHERE account_id = $1",
        who.account_id,
    )
    assert await left(house, who) == 6 * SECOND_MICRO
    assert (await house.admitted(who)).limit_ms == 6_000


async def test_only_spending_counts(house: Seeded) -> None:
    """Money put in, taken back or put right by hand moves the balance and not what was spent."""
    who = await house.subscriber(balance_micro=RICH)
    await cap(house, who, 100 * SECOND_MICRO)
    call_id = await talked(house, who, 10)

    async def now_left() -> int:
        """By the running count, and by the entries."""
        spent = await house.value(
            "SELECT spend_base_micro - balance_micro FROM account WHERE account_id = $1", who.account_id
        )
        assert spent == await house.value(
            "SELECT account_spent_v1(account_id, spend_since) FROM account WHERE account_id = $1",
            who.account_id,
        )
        return await left(house, who) // SECOND_MICRO

    assert await now_left() == 90
    top_up = await house.top_up(who, 7 * SECOND_MICRO, "k1")
    assert await now_left() == 90
    async with transaction(house.pool) as conn:
        await correct(conn, who.account_id, -3 * SECOND_MICRO, author="mk", reason="r", key="k2")
    assert await now_left() == 90
    async with transaction(house.pool) as conn:
        bounced = await reverse(conn, UUID(top_up), author="mk", reason="it bounced", key="k3")
    assert await now_left() == 90
    assert bounced
    async with transaction(house.pool) as conn:
        given_back = await refund(conn, call_id, 4 * SECOND_MICRO, key="k4")
    assert await now_left() == 94
    async with transaction(house.pool) as conn:
        await reverse(conn, UUID(given_back), author="mk", reason="it was right", key="k5")
    assert await now_left() == 90
    await house.buy(who, SeedBundle("minutes", 5 * SECOND_MICRO, 1, {"voice": 60}))
    assert await now_left() == 85
    await house.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 3000, 1 FROM plan")
    await house.usage(who, "sms", 2, "k6")
    assert await now_left() == 79


async def test_the_failsafe_lets_nobody_with_a_cap_through(house: Seeded) -> None:

    who = await house.subscriber(funding="postpaid", credit_limit_micro=RICH)
    for capped, known in ((None, 1), (RICH, 0)):
        await cap(house, who, capped)
        async with transaction(house.pool) as conn:
            assert len(await queries.failsafe.subscribers.all(conn)) == known


async def test_a_cap_holds_for_postpaid_accounts_too(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=RICH)
    await cap(house, who, 12 * SECOND_MICRO)
    assert (await house.admitted(who)).limit_ms == 10_000
    assert (await house.admitted(who)).limit_ms == 2_000
    assert isinstance(await house.call(who), Refuse)
