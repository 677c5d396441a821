"""call_end_v1: each call ends once, whoever tells, however many tell at once, and no prepaid account is overdrawn."""

from __future__ import annotations

import random
from functools import partial
from time import time
from uuid import UUID, uuid4

import pytest

from bridge.calls.token import Orphan, Token, uuid7
from tests.seeded import GERMANY, SECOND_MICRO, Seeded, at_once, ended


async def booked(house: Seeded) -> dict[str, int]:
    """The sum of each account's entries, by its name."""
    rows = await house.rows(
        "SELECT a.name, sum(e.amount_micro)::bigint AS micro FROM entry e JOIN account a USING (account_id)"
        " JOIN transfer t USING (transfer_id) WHERE t.kind = 'call' GROUP BY a.name"
    )
    return {row["name"]: row["micro"] for row in rows}


async def counts(house: Seeded) -> tuple[int, int, int, int]:
    """Charges, transfers of calls, open holds, leases."""
    row = await house.row(
        "SELECT (SELECT count(*) FROM charge), (SELECT count(*) FROM transfer WHERE kind = 'call'),"
        " (SELECT count(*) FROM hold WHERE state = 'open'), (SELECT count(*) FROM lease)"
    )
    return (row[0], row[1], row[2], row[3])


async def test_an_answered_call_is_charged_booked_and_closed(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    assert await house.end(ended(call_id, talk_ms=6_001)) == {call_id}
    call = await house.row("SELECT * FROM call")
    assert (call["state"], call["talk_ms"], call["ended_by"]) == ("answered", 6_001, "journal")
    hold = await house.row("SELECT * FROM hold")
    assert (hold["state"], hold["settled_micro"]) == ("settled", 7_000)
    attempt = await house.row("SELECT * FROM attempt")
    assert (attempt["outcome"], attempt["billed_s"], attempt["cost_micro"]) == ("answered", 7, 3_500)
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (43_000, 0)
    assert await booked(house) == {
        account["name"]: -7_000, "revenue EUR": 7_000, "cost EUR": -3_500, "carrier alpha": 3_500
    }  # fmt: skip
    assert await counts(house) == (1, 1, 0, 0)
    assert not await house.broken()


async def test_three_witnesses_at_once_end_a_call_once(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(20):
        call_id = (await house.admitted(who)).frozen.call_id
        witnesses = ("journal", "cdr", "resync", "journal", "cdr")
        done = await at_once(
            [partial(house.end, ended(call_id, 2_000 + ms, by)) for ms, by in enumerate(witnesses)]
        )
        assert sorted(map(len, done)) == [0, 0, 0, 0, 1]
    assert await counts(house) == (20, 20, 0, 0)
    charged = await house.value("SELECT sum(amount_micro)::bigint FROM charge")
    assert (await house.account(who))["balance_micro"] == 10**6 - charged
    assert not await house.broken()


async def test_who_comes_second_changes_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 3_000))
    before = [
        await house.rows(f"SELECT * FROM {table}")
        for table in ("call", "charge", "hold", "account", "attempt")
    ]
    assert await house.end(ended(call_id, 9_000, "cdr")) == set()
    after = [
        await house.rows(f"SELECT * FROM {table}")
        for table in ("call", "charge", "hold", "account", "attempt")
    ]
    assert after == before


async def test_batches_over_the_same_accounts_in_any_order_do_not_deadlock(house: Seeded) -> None:
    whos = [await house.subscriber(balance_micro=10**6) for _ in range(8)]
    shuffled = random.Random(7)
    for _ in range(8):
        batches: list[list[UUID]] = [
            [(await house.admitted(who)).frozen.call_id for who in whos] for _ in range(6)
        ]
        everything = [call_id for batch in batches for call_id in batch]
        for batch in batches:
            shuffled.shuffle(batch)
        shuffled.shuffle(everything)
        done = await at_once(
            [
                partial(house.end, *[ended(call_id, 1_000) for call_id in batch])
                for batch in (*batches, everything)
            ]
        )
        assert sum(map(len, done)) == len(everything)
    assert [(await house.account(who))["balance_micro"] for who in whos] == [10**6 - 48 * SECOND_MICRO] * 8
    assert not await house.broken()


async def test_beyond_the_hold_the_rest_of_the_balance_pays_and_what_is_missing_is_written_off(
    house: Seeded,
) -> None:
    who = await house.subscriber(balance_micro=12_345)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 30_000))
    charge = await house.row("SELECT * FROM charge")
    assert (charge["amount_micro"], charge["written_off_micro"]) == (30_000, 30_000 - 12_345)
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (0, 0)
    assert (await booked(house))["revenue EUR"] == 12_345, "what was not paid is no revenue"
    assert not await house.broken()


async def test_the_hold_of_another_call_is_not_touched(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=25_000)
    one, two = [(await house.admitted(who)).frozen.call_id for _ in range(2)]
    await house.end(ended(one, 30_000))
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (10_000, 10_000)
    await house.end(ended(two, 10_000))
    assert (await house.account(who))["balance_micro"] == 0
    assert await house.value("SELECT sum(written_off_micro) FROM charge") == 15_000
    assert not await house.broken()


async def test_several_overflowing_calls_in_one_batch_share_what_is_there(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=37_000)
    calls = [(await house.admitted(who)).frozen.call_id for _ in range(3)]
    await house.end(*[ended(call_id, 15_000) for call_id in calls])
    rows = await house.rows("SELECT written_off_micro FROM charge ORDER BY call_id")
    assert [row[0] for row in rows] == [0, 3_000, 5_000], "7 000 beyond the holds, to whoever called first"
    assert (await house.account(who))["balance_micro"] == 0
    assert not await house.broken()


@pytest.mark.parametrize("together", [True, False])
async def test_what_a_short_call_releases_pays_for_a_long_one(house: Seeded, together: bool) -> None:
    """What is written off does not depend on which records were read together."""
    who = await house.subscriber(balance_micro=20_000)
    long, short = [(await house.admitted(who)).frozen.call_id for _ in range(2)]
    records = [ended(short, 1_000), ended(long, 18_000)]
    if together:
        await house.end(*records)
    else:
        for record in records:
            await house.end(record)
    assert await house.value("SELECT sum(written_off_micro) FROM charge") == 0
    assert (await house.account(who))["balance_micro"] == 1_000
    assert not await house.broken()


@pytest.mark.parametrize(("source", "state"), [("journal", "released"), ("resync", "expired")])
async def test_an_unanswered_call_costs_nobody_anything(house: Seeded, source: str, state: str) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, source=source))
    assert await house.value("SELECT state FROM call") == "unanswered"
    hold = await house.row("SELECT * FROM hold")
    assert (hold["state"], hold["settled_micro"]) == (state, 0)
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (50_000, 0)
    assert await counts(house) == (0, 0, 0, 0)
    assert await booked(house) == {}
    assert not await house.broken()


async def test_postpaid_goes_below_zero_and_pays_every_second(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=12_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 30_000))
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (-30_000, 0)
    assert await house.value("SELECT written_off_micro FROM charge") == 0
    assert (await house.write(who, 1)).status == "no_credit"
    assert not await house.broken()


async def test_unknown_and_refused_calls_are_passed_over(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=0)
    await house.call(who)
    refused = await house.value("SELECT call_id FROM call WHERE state = 'refused'")
    rich = await house.subscriber(balance_micro=10**6)
    call_id = (await house.admitted(rich)).frozen.call_id
    assert await house.end(ended(uuid4(), 1_000), ended(refused, 1_000), ended(call_id, 1_000)) == {call_id}
    assert await counts(house) == (1, 1, 0, 0)
    assert not await house.broken()


async def test_a_failsafe_call_is_rated_by_its_hour_and_its_caller(house: Seeded) -> None:
    """Both sides have a band of the whole day; Germany is dearer for callers from Germany."""
    await house.rows("INSERT INTO origin_set VALUES ('home', '49')")
    for side, dear in (("sell standard", 180_000), ("buy alpha", 60_000)):
        await house.rows(
            "WITH d AS (INSERT INTO deck (name, side, currency) SELECT 'day ' || name, side, currency FROM deck"
            " WHERE name = $1 RETURNING deck_id), r AS (INSERT INTO rate (deck_id, prefix, origin_set, destination,"
            " rate_micro, initial_s, next_s, valid) SELECT deck_id, '49', 'home', 'Germany', $2::bigint, 1, 1,"
            " tstzrange('2020-01-01', NULL) FROM d) INSERT INTO deck_band SELECT o.deck_id, 0, 'day',"
            " '{0,1,2,3,4,5,6,7}', 0, 1440, d.deck_id, o.currency FROM d, deck o WHERE o.name = $1",
            side,
            dear,
        )
    await house.reload()
    who = await house.subscriber(funding="postpaid", credit_limit_micro=10**7)
    subscriber_id = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id
    )
    token = Token(uuid7(time()), 1, Orphan(subscriber_id, who.a_number, GERMANY, "alpha"))
    assert token.orphan is not None
    async with house.store.batch() as conn:
        await house.endings.adopt(conn, token, token.orphan, "1.1", house.begin_at, house.book)
    await house.end(ended(token.call_id, talk_ms=10_000))
    assert await house.value("SELECT amount_micro FROM charge") == 30_000
    assert await house.value("SELECT cost_micro FROM attempt") == 10_000
