"""Re-rating moves exactly the difference, once, and leaves what was."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from bridge.calls import rerate
from bridge.calls.explain import explain
from bridge.calls.selection import Criteria
from bridge.database import Connection, connect, connection, transaction
from bridge.errors import Conflict, NotFound, StoreError, StoreUnavailable
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.money import format_micro
from tests.seeded import GERMANY, KINGDOM, SECOND_MICRO, Seeded, Who, at_once, ended

TALK_S = 20


async def a_call(house: Seeded, who: Who, talk_s: int = TALK_S, dialled: str = GERMANY) -> UUID:
    call_id = (await house.admitted(who, dialled)).frozen.call_id
    assert await house.end(ended(call_id, talk_s * 1000)) == {call_id}
    return call_id


async def reprice(house: Seeded, deck: str, a_second_micro: int, prefix: str = "49") -> None:
    """As if the price had always been this."""
    async with transaction(house.pool) as conn:
        done = await conn.execute(
            "UPDATE rate SET rate_micro = $3 FROM deck d"
            " WHERE d.deck_id = rate.deck_id AND d.name = $1 AND prefix = $2",
            deck,
            prefix,
            a_second_micro * 60,
        )
    assert done == "UPDATE 1"


async def preview(house: Seeded, **criteria: Any) -> dict[str, Any]:
    asked = Criteria(**(criteria or {"since": datetime.now(UTC) - timedelta(days=1)}))
    async with connection(house.pool) as conn:
        return await rerate.preview(conn, asked, author="anna", reason="a wrong deck")


async def run(house: Seeded, run_id: str, **options: Any) -> dict[str, Any]:
    async with connection(house.pool) as conn:
        return await rerate.run(conn, UUID(run_id), **options)


async def balance(house: Seeded, who: Who) -> int:
    return int((await house.account(who))["balance_micro"])


async def carrier_micro(house: Seeded, name: str = "alpha") -> int:
    return int(
        await house.value(
            "SELECT coalesce(sum(amount_micro), 0) FROM entry JOIN account USING (account_id) WHERE name = $1",
            f"carrier {name}",
        )
    )


async def test_a_preview_moves_nothing_and_says_what_would(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    british = await a_call(house, who, 91, KINGDOM)
    live = (await house.admitted(who)).frozen.call_id
    await reprice(house, "sell standard", 1_500)
    before = await house.rows("SELECT * FROM account ORDER BY account_id")
    told = await preview(house)
    assert await house.rows("SELECT * FROM account ORDER BY account_id") == before
    assert await house.value("SELECT count(*) FROM transfer WHERE kind IN ('reversal', 'rebooking')") == 0
    found = told["preview"]
    assert (found["calls"], found["changed"], found["unchanged"], found["skipped"]) == (3, 1, 1, {"live": 1})
    germany, kingdom = found["destinations"]
    assert germany == {
        "destination": "Germany",
        "calls": 1,
        "changed": 1,
        "charge_before": "0.02",
        "charge_after": "0.03",
        "cost_before": "0.01",
        "cost_after": "0.01",
        "margin_before": "0.01",
        "margin_after": "0.02",
        "currency": "EUR",
        "cost_currency": "EUR",
    }
    assert kingdom["charge_before"] == kingdom["charge_after"] != "0.00"
    assert [skip["call_ids"] for skip in told["skips"]] == [[str(live)]]
    assert [call["differs"] for call in told["calls"]] == ["sell rate_micro"]
    assert str(british) not in json.dumps(told)
    assert not await house.broken()


async def test_a_run_books_exactly_the_difference(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    call_id = await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    await reprice(house, "buy alpha", 400)
    left = await balance(house, who)
    told = await run(house, (await preview(house))["run_id"])
    assert told["state"] == "done"
    assert told["progress"] == {"booked": 1, "skipped": 0, "waiting": 0}
    assert {one["accounts"]: one["amount"] for one in told["booked"]} == {
        "subscriber": "-0.01",
        "carrier": "-0.002",
    }
    assert await balance(house, who) == left - TALK_S * 500
    assert await carrier_micro(house) == TALK_S * 400
    revision = await house.row("SELECT * FROM rerating WHERE call_id = $1", call_id)
    assert (revision["revision"], revision["amount_micro"], revision["cost_micro"]) == (1, 30_000, 8_000)
    kept = await house.row("SELECT * FROM charge JOIN attempt USING (call_id) WHERE call_id = $1", call_id)
    assert (kept["amount_micro"], kept["cost_micro"]) == (20_000, 10_000), "what was stays as it was"
    booked = await house.rows(
        "SELECT * FROM transfer WHERE kind IN ('reversal', 'rebooking') ORDER BY transfer_id"
    )
    assert [(one["kind"], one["author"], one["note"], one["reverses"]) for one in booked] == [
        ("reversal", "anna", "a wrong deck", call_id),
        ("rebooking", "anna", "a wrong deck", None),
    ]
    ended_at = await house.value("SELECT ended_at FROM call WHERE call_id = $1", call_id)
    assert {one["value_at"] for one in booked} == {ended_at}
    assert not await house.broken()


async def test_a_run_again_changes_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    told = await run(house, (await preview(house))["run_id"])
    left = await balance(house, who)
    assert await run(house, told["run_id"]) == told
    assert await balance(house, who) == left
    again = await preview(house)
    assert again["preview"]["changed"] == 0, "the price it has now is the price it should have"
    assert (await run(house, again["run_id"]))["progress"]["booked"] == 0
    assert await balance(house, who) == left
    assert not await house.broken()


async def test_a_lower_price_returns_money(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    await reprice(house, "sell standard", 0)
    await reprice(house, "buy alpha", 0)
    await run(house, (await preview(house))["run_id"])
    assert await balance(house, who) == 10**6
    assert await carrier_micro(house) == 0
    revision = await house.row("SELECT * FROM rerating")
    assert revision["reversal_id"] is not None and revision["rebooking_id"] is None
    await reprice(house, "sell standard", 700)
    await run(house, (await preview(house))["run_id"])
    assert await balance(house, who) == 10**6 - TALK_S * 700
    second = await house.row("SELECT * FROM rerating WHERE revision = 2")
    assert second["reversal_id"] is None and second["rebooking_id"] is not None
    assert not await house.broken()


async def test_prepaid_pays_what_is_available_and_no_more(house: Seeded) -> None:
    """Three calls of 20 s for 0.02 become 0.06 each; 0.05 are left, of which a live call holds 0.01."""
    who = await house.subscriber(balance_micro=110_000)
    calls = [await a_call(house, who) for _ in range(3)]
    live = (await house.admitted(who)).frozen.call_id
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (50_000, 10_000)
    await reprice(house, "sell standard", 3_000)
    await run(house, (await preview(house))["run_id"])
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (10_000, 10_000)
    revisions = await house.rows("SELECT * FROM rerating ORDER BY call_id")
    assert [(one["call_id"], one["written_off_micro"]) for one in revisions] == list(
        zip(calls, (0, 40_000, 40_000), strict=True)
    ), "the first call comes first"
    assert not await house.broken()
    await house.end(ended(live, 1_000))
    await house.top_up(who, 10**6, "more")
    rich = await balance(house, who)
    await reprice(house, "sell standard", 2_500)
    await run(house, (await preview(house, call_ids=tuple(calls)))["run_id"])
    assert await balance(house, who) == rich + 10_000, "what was written off is not asked for again"
    assert not await house.broken()


async def test_what_one_call_returns_another_may_cost(house: Seeded) -> None:
    """In one batch, nothing available before."""
    who = await house.subscriber(balance_micro=2 * 10**6)
    await a_call(house, who)
    await a_call(house, who, 91, KINGDOM)
    spare = await balance(house, who)
    async with transaction(house.pool) as conn:
        await conn.execute(
            "UPDATE account SET held_micro = balance_micro WHERE account_id = $1", who.account_id
        )
    await reprice(house, "sell standard", 2_000)
    await reprice(house, "sell standard", 0, "44")
    told = await preview(house)
    await run(house, told["run_id"])
    assert await house.value("SELECT sum(written_off_micro) FROM rerating") == 0
    assert await balance(house, who) > spare
    async with transaction(house.pool) as conn:
        await conn.execute("UPDATE account SET held_micro = 0 WHERE account_id = $1", who.account_id)
    assert not await house.broken()


async def test_postpaid_owes_all_of_it(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=20_000)
    await a_call(house, who, 5)
    await reprice(house, "sell standard", 50_000)
    await run(house, (await preview(house))["run_id"])
    assert await balance(house, who) == -250_000
    assert not await house.broken()


async def test_one_run_after_another(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    call_id = await a_call(house, who)
    for a_second_micro in (1_500, 800, 1_200):
        await reprice(house, "sell standard", a_second_micro)
        await run(house, (await preview(house))["run_id"])
        assert await balance(house, who) == 10**6 - TALK_S * a_second_micro
    revisions = await house.rows("SELECT * FROM rerating WHERE call_id = $1 ORDER BY revision", call_id)
    assert [one["revision"] for one in revisions] == [1, 2, 3]
    standing = [call_id, *(one["rebooking_id"] for one in revisions)]
    for one, before in zip(revisions, standing, strict=False):
        assert (
            await house.value("SELECT reverses FROM transfer WHERE transfer_id = $1", one["reversal_id"])
            == before
        )
    assert not await house.broken()


async def test_whoever_is_quicker_wins(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    slow = await preview(house)
    await reprice(house, "sell standard", 900)
    await run(house, (await preview(house))["run_id"])
    told = await run(house, slow["run_id"])
    assert told["state"] == "done"
    assert [(skip["reason"], skip["calls"]) for skip in told["skips"]] == [("moved", 1)]
    assert await balance(house, who) == 10**6 - TALK_S * 900
    assert not await house.broken()


@pytest.mark.parametrize("batch", [1, 3, 1000])
async def test_two_at_once_on_one_run(house: Seeded, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(rerate, "BATCH", batch)
    people = [await house.subscriber(balance_micro=10**6) for _ in range(4)]
    for who in people * 3:
        await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_id = (await preview(house))["run_id"]
    told = await at_once([lambda: run(house, run_id)] * 4)
    assert {one["progress"]["booked"] for one in told} == {12}
    assert [await balance(house, who) for who in people] == [10**6 - 3 * TALK_S * 1_500] * 4
    assert not await house.broken()


async def test_two_runs_at_once_on_the_same_calls(house: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerate, "BATCH", 2)
    people = [await house.subscriber(balance_micro=10**6) for _ in range(3)]
    for who in people * 3:
        await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_ids = [(await preview(house))["run_id"] for _ in range(3)]
    told = await at_once([partial(run, house, run_id) for run_id in run_ids])
    assert sum(one["progress"]["booked"] for one in told) == 9
    assert sum(skip["calls"] for one in told for skip in one["skips"]) == 18
    assert [await balance(house, who) for who in people] == [10**6 - 3 * TALK_S * 1_500] * 3
    assert not await house.broken()


async def test_killed_in_the_middle_and_resumed(
    house: Seeded, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut while a batch is being booked, after each number of batches."""
    monkeypatch.setattr(rerate, "BATCH", 2)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(7):
        await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_id = (await preview(house))["run_id"]
    booked = []
    for _ in range(3):
        async with connect(dsn) as killer:
            await cut_after_a_batch(dsn, UUID(run_id), killer)
        booked.append(await house.value("SELECT count(*) FROM rerating"))
        assert not await house.broken()
    assert booked == [2, 4, 6]
    told = await run(house, run_id)
    assert told["progress"] == {"booked": 7, "skipped": 0, "waiting": 0}
    assert await balance(house, who) == 10**6 - 7 * TALK_S * 1_500
    assert not await house.broken()


async def cut_after_a_batch(dsn: str, run_id: UUID, killer: Connection) -> None:
    killing: list[asyncio.Task[bool]] = []

    async def doomed_run() -> None:
        async with connect(dsn) as doomed:
            pid = doomed.get_server_pid()

            def kill(step: str, done: int, total: int) -> None:
                end = killer.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
                killing.append(asyncio.get_running_loop().create_task(end))

            await rerate.run(doomed, run_id, progress=kill)

    with pytest.raises(StoreUnavailable):
        await doomed_run()
    assert await asyncio.gather(*killing) == [True]


async def test_a_batch_is_whole_or_not_at_all(house: Seeded, dsn: str) -> None:
    """Its backend is ended while the batch waits for an account."""
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(3):
        await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_id = (await preview(house))["run_id"]
    async with connect(dsn) as doomed:
        pid = doomed.get_server_pid()
        async with transaction(house.pool) as blocker:
            await blocker.execute("SELECT 1 FROM account WHERE account_id = $1 FOR UPDATE", who.account_id)
            running = asyncio.create_task(rerate.run(doomed, UUID(run_id)))
            async with connection(house.pool) as watcher:
                async with asyncio.timeout(10):
                    while not await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
                        pass
                assert await watcher.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await running
    assert await house.value("SELECT count(*) FROM rerating") == 0
    assert (await run(house, run_id))["progress"]["booked"] == 3
    assert await balance(house, who) == 10**6 - 3 * TALK_S * 1_500
    assert not await house.broken()


async def test_a_cancelled_run_books_no_more(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_id = UUID((await preview(house))["run_id"])
    async with connection(house.pool) as conn:
        assert (await rerate.cancel(conn, run_id))["state"] == "cancelled"
        assert (await rerate.cancel(conn, run_id))["state"] == "cancelled"
        with pytest.raises(Conflict, match="preview again"):
            await rerate.run(conn, run_id)
        assert [one["state"] for one in await rerate.runs(conn)] == ["cancelled"]
    assert await balance(house, who) == 10**6 - TALK_S * SECOND_MICRO
    done = UUID((await run(house, (await preview(house))["run_id"]))["run_id"])
    async with connection(house.pool) as conn:
        with pytest.raises(Conflict, match="another run"):
            await rerate.cancel(conn, done)
        for work in (rerate.run, rerate.cancel, rerate.show):
            with pytest.raises(NotFound):
                await work(conn, uuid4())


async def close_books(house: Seeded) -> None:
    async with transaction(house.pool) as conn:
        await conn.fetchval("SELECT period_close_v1(clock_timestamp(), 'the auditor')")


async def test_a_closed_period_is_refused_or_booked_into_the_open_one(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    old = await a_call(house, who)
    await close_books(house)
    new = await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    told = await preview(house)
    with pytest.raises(
        Conflict, match=rf"1 calls ended .*{old}\. Book them into the open period with --into-open"
    ):
        await run(house, told["run_id"])
    assert await house.value("SELECT count(*) FROM rerating") == 0
    async with connection(house.pool) as conn:
        assert (await rerate.show(conn, UUID(told["run_id"])))["state"] == "previewed"
    begun = datetime.now(UTC)
    assert (await run(house, told["run_id"], into_open=True))["progress"]["booked"] == 2
    rows = await house.rows(
        "SELECT r.call_id, t.value_at, c.ended_at FROM rerating r JOIN call c USING (call_id)"
        " JOIN transfer t ON t.transfer_id IN (r.reversal_id, r.rebooking_id)"
    )
    assert len(rows) == 4
    assert all(row["value_at"] >= begun for row in rows if row["call_id"] == old)
    assert all(row["value_at"] == row["ended_at"] for row in rows if row["call_id"] == new)
    assert not await house.broken()


async def test_a_period_that_closes_during_a_run_stops_it(
    house: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerate, "BATCH", 1)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(3):
        await a_call(house, who)
    await reprice(house, "sell standard", 1_500)
    run_id = UUID((await preview(house))["run_id"])
    async with connection(house.pool) as conn:
        await conn.execute("UPDATE rerate_run SET state = 'running'")
        await conn.fetchrow("SELECT * FROM rerate_book_v1($1, 1)", run_id)
        await close_books(house)
        with pytest.raises(asyncpg.PostgresError) as refused:
            await conn.fetchrow("SELECT * FROM rerate_book_v1($1, 1)", run_id)
    assert refused.value.sqlstate == "BR007"
    with pytest.raises(Conflict, match="2 calls ended"):
        await run(house, str(run_id))
    assert (await run(house, str(run_id), into_open=True))["progress"]["booked"] == 3
    assert not await house.broken()


async def test_what_cannot_be_rated_is_left_and_named(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    german, british = await a_call(house, who), await a_call(house, who, 91, KINGDOM)
    damaged = await a_call(house, who, 3)
    async with transaction(house.pool) as conn:
        await conn.execute(
            "DELETE FROM rate WHERE prefix = '44' AND deck_id IN (SELECT deck_id FROM deck WHERE side = 'sell')"
        )
        await conn.execute(
            "UPDATE rate SET blocked = true WHERE deck_id = (SELECT deck_id FROM deck WHERE name = 'buy alpha')"
        )
        await conn.execute("UPDATE call SET sell = '{}' WHERE call_id = $1", damaged)
    told = await preview(house)
    assert {skip["reason"]: skip["call_ids"] for skip in told["skips"]} == {
        "buy_blocked": [str(german)],
        "sell_no_rate": [str(british)],
        "unreadable": [str(damaged)],
    }
    assert told["preview"]["skipped"] == {"buy_blocked": 1, "sell_no_rate": 1, "unreadable": 1}
    assert (await run(house, told["run_id"]))["progress"] == {"booked": 0, "skipped": 3, "waiting": 0}
    async with transaction(house.pool) as conn:
        await conn.execute(
            "UPDATE call SET sell = (SELECT sell FROM call WHERE call_id = $2) WHERE call_id = $1",
            damaged,
            german,
        )
    assert not await house.broken()


async def test_a_booking_that_was_refunded_or_reversed_by_hand_is_left_alone(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    before, meanwhile, free = [await a_call(house, who) for _ in range(3)]
    await reprice(house, "sell standard", 1_500)
    await take_back(house, before)
    told = await preview(house)
    assert told["preview"]["skipped"] == {"taken_back": 1}
    await take_back(house, meanwhile)
    told = await run(house, told["run_id"])
    assert {call_id for skip in told["skips"] for call_id in skip["call_ids"]} == {
        str(before),
        str(meanwhile),
    }
    assert await house.value("SELECT array_agg(call_id) FROM rerating") == [free]


async def take_back(house: Seeded, call_id: UUID) -> None:
    async with transaction(house.pool) as conn:
        await conn.fetchval(
            "SELECT transfer_book_v1('reversal', $2, 'anna', 'goodwill', $1, array_agg(account_id ORDER BY entry_no),"
            " array_agg(-amount_micro ORDER BY entry_no), array_agg(currency::text ORDER BY entry_no))"
            " FROM entry WHERE transfer_id = $1",
            call_id,
            f"back {call_id}",
        )


async def test_a_closed_account_is_left_alone(house: Seeded) -> None:
    who, gone = await house.subscriber(balance_micro=10**6), await house.subscriber(balance_micro=10**6)
    for one in (who, gone):
        await a_call(house, one)
    await reprice(house, "sell standard", 1_500)
    told = await preview(house)
    async with transaction(house.pool) as conn:
        await conn.execute("UPDATE account SET state = 'closed' WHERE account_id = $1", gone.account_id)
    assert (await preview(house))["preview"]["skipped"] == {"account_closed": 1}
    assert (await run(house, told["run_id"]))["progress"] == {"booked": 1, "skipped": 1, "waiting": 0}
    assert await balance(house, gone) == 10**6 - TALK_S * SECOND_MICRO
    assert not await house.broken()


async def test_calls_are_selected_by_carrier_deck_period_and_id(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    first = await a_call(house, who)
    over = (await house.admitted(who)).frozen
    await house.failed(over)
    await house.end(ended(over.call_id, 1_000, attempt_no=2))
    refused = await house.subscriber()
    await house.call(refused)
    refused_id = await house.value("SELECT call_id FROM call WHERE state = 'refused'")
    await reprice(house, "sell standard", 1_500)
    await reprice(house, "buy beta", 100)

    async def changed(**criteria: Any) -> tuple[list[str], dict[str, int]]:
        told = await preview(house, **criteria)
        return [call["call_id"] for call in told["calls"]], told["preview"]["skipped"]

    both = [str(first), str(over.call_id)]
    now = datetime.now(UTC)
    assert await changed(since=now - timedelta(hours=1)) == (both, {})
    assert await changed(until=now + timedelta(hours=1)) == (both, {})
    assert await changed(until=now - timedelta(hours=1)) == ([], {})
    assert await changed(since=now + timedelta(hours=1)) == ([], {})
    assert await changed(deck="sell standard") == (both, {})
    assert await changed(deck="buy beta") == ([str(over.call_id)], {})
    assert await changed(deck="buy alpha") == ([], {})
    assert await changed(carrier="beta") == await changed(carrier="carrier beta") == ([str(over.call_id)], {})
    assert await changed(carrier="alpha") == ([], {}), "a carrier is paid; what is sold stays as it is"
    assert await changed(carrier="beta", deck="sell standard") == ([str(over.call_id)], {})
    assert await changed(call_ids=(first,)) == ([str(first)], {})
    assert await changed(call_ids=(first, refused_id)) == ([str(first)], {"not_charged": 1})
    for wrong in ({"carrier": "gamma"}, {"deck": "sell"}, {"call_ids": (uuid4(),)}):
        with pytest.raises(NotFound):
            await preview(house, **wrong)


async def test_on_another_deck(house: Seeded) -> None:
    """As if the customer had had the other plan."""
    who = await house.subscriber(balance_micro=10**6)
    call_id = await a_call(house, who)
    async with transaction(house.pool) as conn:
        await conn.execute(
            "INSERT INTO deck (name, side, currency) VALUES ('dear', 'sell', 'EUR'), ('usd', 'sell', 'USD')"
        )
        await conn.execute(
            "INSERT INTO rate (deck_id, prefix, destination, rate_micro, initial_s, next_s, valid)"
            " SELECT deck_id, '49', 'DE', 120000, 1, 1, tstzrange('2020-01-01', NULL) FROM deck"
            " WHERE name IN ('dear', 'usd')"
        )
    assert (await preview(house, call_ids=(call_id,), on=("usd",)))["preview"]["skipped"] == {
        "sell_currency": 1
    }
    told = await run(house, (await preview(house, call_ids=(call_id,), on=("dear",)))["run_id"])
    assert told["calls"][0]["charge_after"] == format_micro(TALK_S * 2_000)
    assert told["calls"][0]["differs"] == "sell deck_id destination rate_micro"
    assert await balance(house, who) == 10**6 - TALK_S * 2_000
    with pytest.raises(NotFound, match="no version 9"):
        await preview(house, call_ids=(call_id,), on=("dear@9",))
    with pytest.raises(StoreError, match="second sell deck"):
        await preview(house, call_ids=(call_id,), on=("dear", "sell standard"))
    assert not await house.broken()


@pytest.mark.parametrize(
    "criteria",
    [{}, {"since": datetime(2026, 1, 2, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}],
)
def test_criteria_must_select(criteria: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        Criteria(**criteria)


@pytest.mark.parametrize(("author", "reason"), [("", "x"), (" ", "x"), ("x", ""), ("x", "\t")])
async def test_who_and_why_must_be_said(house: Seeded, author: str, reason: str) -> None:
    async with connection(house.pool) as conn:
        with pytest.raises(StoreError, match="author and a reason"):
            await rerate.preview(conn, Criteria(deck="sell standard"), author=author, reason=reason)


async def test_what_was_rerated_is_never_changed(house: Seeded) -> None:
    await a_call(house, await house.subscriber(balance_micro=10**6))
    await reprice(house, "sell standard", 1_500)
    await run(house, (await preview(house))["run_id"])
    for sql in ("UPDATE rerating SET amount_micro = 0", "DELETE FROM rerating", "TRUNCATE rerating"):
        async with connection(house.pool) as conn:
            with pytest.raises(asyncpg.PostgresError, match="insert-only"):
                await conn.execute(sql)


NO_TRIGGERS = "SET LOCAL session_replication_role = replica; "


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rerating SET amount_micro = amount_micro + 1",
        "UPDATE rerating SET billed_s = billed_s + 1",
        "UPDATE rerating SET cost_micro = cost_micro + 1",
        "UPDATE rerating SET sell = '{}'",
        "UPDATE rerating SET buy = '[]'",
        "UPDATE rerating SET written_off_micro = 1",
        "UPDATE call SET talk_ms = talk_ms + 1000",
        "DELETE FROM rerating WHERE revision = 2",
        "DELETE FROM entry e USING transfer t WHERE t.transfer_id = e.transfer_id AND t.kind = 'reversal'",
        "UPDATE entry SET amount_micro = amount_micro * 2 WHERE transfer_id IN (SELECT rebooking_id FROM rerating)",
    ],
)
@pytest.mark.breaks_books
async def test_every_damage_is_found(house: Seeded, damage: str) -> None:
    await a_call(house, await house.subscriber(balance_micro=10**6))
    for a_second_micro in (1_500, 800):
        await reprice(house, "sell standard", a_second_micro)
        await run(house, (await preview(house))["run_id"])
    assert not await house.broken()
    async with transaction(house.pool) as conn:
        await conn.execute(NO_TRIGGERS + damage)
    assert (await house.broken()).keys() & {"reratings_are_booked", "reratings_follow_from_frozen_rates"}


async def test_a_free_call_stays_free_and_units_stay_burnt(house: Seeded) -> None:
    """A price that rises does not reach what on-net or a bundle has paid for."""
    await house.rows("UPDATE plan SET on_net_free = true")
    await house.reload()
    other, who = await house.subscriber(), await house.subscriber(balance_micro=2_000_000)
    await house.buy(who, SeedBundle("one", 1_000_000, 1, {"voice": 10}))
    free = (await house.admitted(who, other.a_number)).frozen.call_id
    bundled = (await house.admitted(who)).frozen.call_id
    await house.end(ended(free, 5_000), ended(bundled, 12_000))
    await reprice(house, "sell standard", 2_000)
    done = await run(house, (await preview(house, call_ids=(free, bundled)))["run_id"])
    assert done["progress"]["booked"] == 1
    rows = await house.rows("SELECT call_id, amount_micro FROM rerating")
    assert [(row["call_id"], row["amount_micro"]) for row in rows] == [(bundled, 4_000)]
    async with connection(house.pool) as conn:
        (revision,) = (await explain(conn, bundled))["rerated"]
    assert (revision["charge"], revision["rate"]) == ("0.004", "0.12")
