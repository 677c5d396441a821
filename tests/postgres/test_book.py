"""The book of rates and trunks is true: from one moment of the database, and reloaded when something changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, time, timedelta

import pytest

from bridge import queries
from bridge.calls.book import Book, load_book
from bridge.calls.book_watch import BookWatch
from bridge.database import connection
from bridge.errors import StoreUnavailable
from bridge.telephony.number import Number
from tests.seeded import Seeded, at_once

DEADLINE_S = 10.0
PUT_UP = "UPDATE rate r SET rate_micro = $1 FROM deck d WHERE d.deck_id = r.deck_id AND side = 'sell' AND prefix = '49'"


class Watched(BookWatch):
    """Says when another book is there, or could not be read."""

    read: asyncio.Queue[Book | ValueError]

    async def load(self) -> Book:
        try:
            book = await super().load()
        except ValueError as error:
            self.read.put_nowait(error)
            raise
        self.read.put_nowait(book)
        return book

    async def next(self) -> Book:
        async with asyncio.timeout(DEADLINE_S):
            found = await self.read.get()
        if isinstance(found, ValueError):
            raise found
        return found


@asynccontextmanager
async def watching(house: Seeded, dsn: str) -> AsyncIterator[Watched]:
    watch = Watched(house.pool, dsn)
    watch.read = asyncio.Queue()
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def price(book: Book) -> int:
    (plan,) = book.plans.values()
    rate = plan.deck.longest("493023125010")
    assert rate is not None
    return rate.rate_micro


async def test_without_a_book_nothing_is_decided(house: Seeded, dsn: str) -> None:
    with pytest.raises(StoreUnavailable):
        BookWatch(house.pool, dsn).current()


@pytest.mark.parametrize("table", ["deck", "rate", "plan", "trunk"])
async def test_every_change_of_the_configuration_is_heard(house: Seeded, dsn: str, table: str) -> None:
    async with watching(house, dsn) as watch:
        first = await watch.next()
        await house.rows(f"UPDATE {table} SET {table}_id = {table}_id WHERE false")
        assert await watch.next() is not first
        assert watch.versions == 2


async def test_a_new_price_is_in_the_next_book(house: Seeded, dsn: str) -> None:
    async with watching(house, dsn) as watch:
        assert price(await watch.next()) == 60_000
        await house.rows(PUT_UP, 72_000)
        assert price(await watch.next()) == 72_000
        assert price(watch.current()) == 72_000


async def test_a_replaced_router_lets_go_of_its_plans(house: Seeded, dsn: str) -> None:
    async with watching(house, dsn) as watch:
        first = await watch.next()
        (plan,) = first.plans.values()
        sell = plan.deck.tariff("493023125010")
        assert sell is not None
        made = first.router.plan(Number("+493023125010"), sell, {})
        assert [route.name for route in made.routes] == ["alpha", "beta"]
        assert any(first.router._kept)
        await house.rows("UPDATE trunk SET enabled = false WHERE name = 'alpha'")
        second = await watch.next()
        assert not any(first.router._kept)
        assert [one.name for one in second.router.plan(Number("+493023125010"), sell, {}).routes] == ["beta"]
        assert first.router.plan(Number("+493023125010"), sell, {}) == made, "a call may still be using it"


async def test_after_a_lost_connection_what_changed_meanwhile_is_read(house: Seeded, dsn: str) -> None:
    async with watching(house, dsn) as watch:
        await watch.next()
        await house.rows("ALTER TABLE rate DISABLE TRIGGER rate_changed")
        await house.rows(PUT_UP, 72_000)
        killed = await house.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        assert len(killed) == 1
        assert price(await watch.next()) == 72_000


async def test_a_book_that_cannot_be_read_leaves_the_last_one(house: Seeded, dsn: str) -> None:
    async with watching(house, dsn) as watch:
        first = await watch.next()
        await house.rows("ALTER TABLE trunk DROP CONSTRAINT trunk_ring_s_check")
        await house.rows("UPDATE trunk SET ring_s = 0")
        with pytest.raises(ValueError, match="ring_s 0"):
            await watch.next()
        assert watch.current() is first
        await house.rows("UPDATE trunk SET ring_s = 30")
        assert [one.name for one in (await watch.next()).trunks] == [one.name for one in first.trunks]


async def test_a_rate_comes_into_force_at_its_instant(house: Seeded, dsn: str) -> None:
    changes_at = datetime.now(UTC) + timedelta(seconds=1.5)
    await change_at(house, changes_at)
    async with watching(house, dsn) as watch:
        old = await watch.next()
        assert old.changes_at == changes_at
        assert price(old) == 60_000
        new = await watch.next()
        assert datetime.now(UTC) >= changes_at
        assert price(new) == 90_000
        assert new.changes_at is not None and new.changes_at > changes_at


async def test_the_books_before_and_after_a_change(house: Seeded) -> None:
    noon = datetime.combine(datetime.now(UTC) + timedelta(days=1), time(12), UTC)
    changes_at = noon + timedelta(minutes=1)
    await change_at(house, changes_at)
    async with connection(house.pool) as conn:
        before = await load_book(conn, changes_at - timedelta(microseconds=1))
        after = await load_book(conn, changes_at)
    assert (price(before), before.changes_at) == (60_000, changes_at)
    midnight = noon + timedelta(hours=12)  # the rates of exchange are those of a day
    assert (price(after), after.changes_at) == (90_000, midnight)


async def test_rates_of_an_origin_set_are_not_taken_for_everyones(house: Seeded) -> None:
    await house.rows("UPDATE rate SET origin_set = 'eu' WHERE prefix = '49'")
    async with connection(house.pool) as conn:
        book = await load_book(conn, datetime.now(UTC))
    (plan,) = book.plans.values()
    assert plan.deck.longest("493023125010") is None


async def test_capacities_make_live_calls_counted(house: Seeded) -> None:
    before = house.book
    await house.rows("UPDATE trunk SET capacity = 1 WHERE name = 'alpha'")
    await house.reload()
    assert (before.capped, house.book.capped) == (False, True)
    who = await house.subscriber(balance_micro=10**6)
    admitted = await at_once([lambda: house.admitted(who)] * 3)
    assert sorted(one.frozen.routes[0].name for one in admitted) == ["alpha", "beta", "beta"]
    async with connection(house.pool) as conn:
        live = await queries.calls.trunks_live.all(conn)
    assert [row["live"] for row in live] == [1]


async def change_at(house: Seeded, at: datetime) -> None:
    """From `at` on Germany costs 90 000 a minute."""
    async with connection(house.pool) as conn, conn.transaction():
        deck_id = await conn.fetchval("SELECT deck_id FROM deck WHERE side = 'sell'")
        await conn.execute(
            "UPDATE rate SET valid = tstzrange(lower(valid), $2) WHERE deck_id = $1 AND prefix = '49'",
            deck_id,
            at,
        )
        await conn.execute(
            "INSERT INTO rate (deck_id, prefix, destination, rate_micro, valid)"
            " VALUES ($1, '49', 'Germany', 90000, tstzrange($2, NULL))",
            deck_id,
            at,
        )
