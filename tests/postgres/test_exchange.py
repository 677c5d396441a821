"""Rates of exchange, and closed periods: what was noted stays, and nothing gains or is booked back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest

from bridge.database import Connection, connection, store_errors, transaction
from bridge.errors import (
    AlreadySettled,
    Conflict,
    InsufficientFunds,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from bridge.ledger import store
from bridge.ledger.exchange import NANO
from bridge.ledger.listing import periods
from tests.bookings import (
    MICRO,
    american,
    balance,
    booked,
    purchase,
    sound,
    transfers,
)
from tests.seeded import Seeded, at_once

TODAY = datetime.now(UTC).date()

# ---------------------------------------------------------------- exchange


async def rate(house: Seeded, base: str, quote: str, text_nano: int, on: date = TODAY) -> None:
    await booked(house, "note_fx", base, quote, text_nano, on, source="test")


async def test_money_is_exchanged_at_the_rate_of_the_day(house: Seeded) -> None:
    who, abroad = await house.subscriber(10 * MICRO), await american(house)
    now = datetime.now(UTC)
    with pytest.raises(NotFound, match="no rate between EUR and USD"):
        await booked(house, "exchange", who.account_id, abroad, MICRO, now, key="x")
    await rate(house, "EUR", "USD", 1_087_300_001)
    first = await booked(house, "exchange", who.account_id, abroad, MICRO, now, key="x")
    assert await balance(house, abroad) == 1_087_300
    assert await house.value("SELECT note FROM transfer WHERE transfer_id = $1", first) == (
        f"1 EUR = 1.087300001 USD of {TODAY}, rounded down"
    )
    await rate(house, "USD", "EUR", 900_000_000, TODAY + timedelta(days=1))
    tomorrow = now + timedelta(days=1)
    again = await booked(house, "exchange", who.account_id, abroad, MICRO, tomorrow, key="x")
    assert again == first, "asked for the same, though the rate is another one"
    await booked(house, "exchange", who.account_id, abroad, 9 * MICRO, tomorrow, key="y")
    assert await balance(house, abroad) == 1_087_300 + 10 * MICRO
    with pytest.raises(InsufficientFunds):
        await booked(house, "exchange", who.account_id, abroad, MICRO, tomorrow, key="z")
    rows = await house.rows(
        "SELECT a.name, sum(e.amount_micro)::bigint FROM entry e JOIN account a USING (account_id)"
        " WHERE a.name LIKE 'exchange %' GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("exchange EUR", 10 * MICRO), ("exchange USD", -11_087_300)]
    await sound(house)


async def test_what_is_not_exchanged(house: Seeded) -> None:
    who, other, abroad = await house.subscriber(MICRO), await house.subscriber(), await american(house)
    now = datetime.now(UTC)
    await rate(house, "EUR", "USD", NANO // 10, TODAY - timedelta(days=8))
    exchange = partial(booked, house, "exchange")
    with pytest.raises(NotFound, match="of the last 7 days"):
        await exchange(who.account_id, abroad, MICRO, now, key="x")
    await rate(house, "EUR", "USD", NANO // 10, TODAY - timedelta(days=7))
    with pytest.raises(StoreError, match="that little EUR is nothing in USD"):
        await exchange(who.account_id, abroad, 9, now, key="x")
    for amount_micro in (0, -1):
        with pytest.raises(StoreError, match="must be positive"):
            await exchange(who.account_id, abroad, amount_micro, now, key="x")
    with pytest.raises(StoreError, match="Name two currencies"):
        await exchange(who.account_id, other.account_id, MICRO, now, key="x")
    await exchange(who.account_id, abroad, MICRO, now, key="x")
    await sound(house)


async def test_there_and_back_at_once_neither_deadlocks_nor_gains(house: Seeded) -> None:
    who, abroad = await house.subscriber(50 * MICRO), await american(house, 50 * MICRO)
    await rate(house, "EUR", "USD", 1_087_300_000)
    now = datetime.now(UTC)
    there = [
        partial(booked, house, "exchange", who.account_id, abroad, MICRO + n, now, key=f"t{n}")
        for n in range(15)
    ]
    back = [
        partial(booked, house, "exchange", abroad, who.account_id, MICRO + n, now, key=f"b{n}")
        for n in range(15)
    ]
    await at_once([one for pair in zip(there, back, strict=True) for one in pair])
    worth = await balance(house, who.account_id) * 1_087_300_000 + await balance(house, abroad) * NANO
    assert worth <= 50 * MICRO * 1_087_300_000 + 50 * MICRO * NANO
    await sound(house)


async def test_rates_are_noted_once_a_day_and_never_gain(house: Seeded) -> None:
    await rate(house, "EUR", "USD", 1_250_000_000)
    await rate(house, "EUR", "USD", 1_250_000_000)
    with pytest.raises(Conflict, match="what was used stays"):
        await rate(house, "EUR", "USD", 1_250_000_001)
    with pytest.raises(Conflict, match="there and back"):
        await rate(house, "USD", "EUR", 800_000_001)
    await rate(house, "USD", "EUR", 799_000_000)
    await rate(house, "EUR", "CHF", 937_000_001, TODAY - timedelta(days=3))
    async with connection(house.pool) as conn:
        assert await store.load_fx(conn, TODAY) == {
            ("EUR", "USD"): 1_250_000_000,
            ("USD", "EUR"): 799_000_000,
            ("EUR", "CHF"): 937_000_001,
            ("CHF", "EUR"): 10**18 // 937_000_001,
        }
        assert await store.load_fx(conn, TODAY - timedelta(days=4)) == {}
    for base, quote, nano in (("EUR", "EUR", NANO), ("eur", "USD", NANO), ("EUR", "XXX", NANO)):
        with pytest.raises(StoreError):
            await rate(house, base, quote, nano)
    for nano in (0, -1, 10**18, 2**70):
        with pytest.raises(StoreError):
            await rate(house, "EUR", "GBP", nano)


# ---------------------------------------------------------------- periods


async def test_nothing_is_booked_back_into_a_closed_period(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    until = datetime.now(UTC) - timedelta(hours=1)
    earlier = until - timedelta(microseconds=1)
    await purchase(house, who, 1, "before", value_at=earlier)
    assert await booked(house, "booking_at", earlier) == earlier
    assert await booked(house, "close_period", until, author="anna") == until
    assert await booked(house, "close_period", until, author="anna") == until
    before = await transfers(house)
    with pytest.raises(Conflict, match="the books are closed until"):
        await purchase(house, who, 1, "after", value_at=earlier)
    with pytest.raises(Conflict, match="open period"):
        await booked(house, "booking_at", earlier)
    assert await transfers(house) == before
    assert await booked(house, "booking_at", until) == until
    assert await booked(house, "booking_at", earlier, into_open=True) > until
    await purchase(house, who, 1, "after", value_at=until)
    await purchase(house, who, 1, "whenever")
    async with connection(house.pool) as conn:
        assert [one["closed_until"] for one in await periods(conn)] == [until.isoformat()]
    await sound(house)


async def test_a_period_closes_forward_and_never_ahead(house: Seeded) -> None:
    close = partial(booked, house, "close_period")
    now = datetime.now(UTC)
    with pytest.raises(StoreError, match="has not passed"):
        await close(now + timedelta(hours=1), author="anna")
    with pytest.raises(StoreError, match="author"):
        await close(now, author=" ")
    await close(now, author="anna")
    with pytest.raises(Conflict, match="does not open again"):
        await close(now - timedelta(seconds=1), author="anna")
    with pytest.raises(StoreError):
        await house.rows("INSERT INTO period VALUES ('infinity', now(), 'mallory')")
    with pytest.raises(StoreError):
        await house.rows("SELECT period_close_v1('-infinity', 'mallory')")
    with pytest.raises(StoreError, match="has not passed"):
        await house.rows("SELECT period_close_v1(NULL, 'mallory')")


async def test_closing_waits_for_bookings_under_way_but_not_for_ever(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    async with transaction(house.pool) as conn:
        await store.top_up(conn, who.account_id, 1, "EUR", key="under way")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await booked(house, "close_period", datetime.now(UTC), author="anna")
    await booked(house, "close_period", datetime.now(UTC), author="anna")


@pytest.mark.parametrize("table", ["period", "fx_rate", "referral"])
@pytest.mark.parametrize("statement", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}"])
async def test_what_was_noted_stays(house: Seeded, conn: Connection, table: str, statement: str) -> None:
    who, other = await house.subscriber(), await house.subscriber()
    await booked(house, "refer", who.account_id, other.account_id, MICRO, key="k")
    await rate(house, "EUR", "USD", NANO)
    await booked(house, "close_period", datetime.now(UTC), author="anna")
    column = {"period": "author", "fx_rate": "source", "referral": "referrer_id"}[table]
    with pytest.raises(AlreadySettled, match="insert-only"):
        async with store_errors():
            await conn.execute(statement.format(table, column))
