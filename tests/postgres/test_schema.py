"""Months, keys and ranges: where a row belongs, and which rates cannot stand beside each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import asyncpg
import pytest

from bridge import queries
from bridge.database import Connection, connect
from tests.seeded import Seeded, at_once

MONTHLY = ("call", "attempt", "charge", "entry", "burn")
MILLISECOND = timedelta(milliseconds=1)


def floor(at: datetime) -> UUID:
    """The smallest UUIDv7 of an instant, worked out here: RFC 9562, 5.7."""
    return UUID(int=((at - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND) << 80)


def months_from_now(months: int) -> datetime:
    """The first instant of a month, in UTC."""
    now = datetime.now(UTC)
    year, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "at",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
async def test_the_floor_of_an_instant(conn: Connection, at: datetime) -> None:
    assert await conn.fetchval("SELECT uuid_floor_v1($1)", at) == floor(at)
    assert await conn.fetchval("SELECT uuid_floor_v1($1) < uuid_floor_v1($2)", at, at + MILLISECOND)


async def test_a_new_key_lies_between_the_floors_around_it(conn: Connection) -> None:
    before = datetime.now(UTC) - MILLISECOND
    key = await conn.fetchval("SELECT uuidv7()")
    assert floor(before) <= key < floor(datetime.now(UTC) + 2 * MILLISECOND)


async def test_partitions_are_made_once(conn: Connection) -> None:
    assert await queries.switch.partitions.value(conn, months=3) == 0, "migrate has made them"
    assert await queries.switch.partitions.value(conn, months=5) == 2 * len(MONTHLY)
    assert await queries.switch.partitions.value(conn, months=5) == 0


async def test_partitions_made_by_many_at_once(house: Seeded) -> None:
    async def make() -> int:
        async with house.pool.acquire() as conn:
            made: int = await queries.switch.partitions.value(conn, months=14)
            return made

    assert sorted(await at_once([make] * 6)) == [0] * 5 + [11 * len(MONTHLY)]


async def test_calls_go_on_while_partitions_are_made(conn: Connection, dsn: str) -> None:
    """A long read and an open write of the parents do not have to be waited for, nor are they in each other's way."""
    async with conn.transaction():
        await conn.execute("SELECT count(*) FROM call, attempt, charge, entry")
        await insert_call(conn, await conn.fetchval("SELECT uuidv7()"))
        async with connect(dsn) as other:
            await other.execute("SET lock_timeout = '200ms'")
            assert await queries.switch.partitions.value(other, months=4) == len(MONTHLY)


@pytest.mark.parametrize("month", [0, 1, 2, 3])
async def test_month_ends_fall_into_the_right_partition(conn: Connection, month: int) -> None:
    begin, end = months_from_now(month), months_from_now(month + 1)
    last = UUID(int=floor(end).int - 1)
    for key in (floor(begin), last):
        await insert_call(conn, key)
        assert await conn.fetchval("SELECT tableoid::regclass::text FROM call WHERE call_id = $1", key) == (
            f"call_{begin:%Y_%m}"
        )


@pytest.mark.parametrize("month", [-1, 4])
async def test_there_is_no_place_for_other_months(conn: Connection, month: int) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await insert_call(conn, floor(months_from_now(month)))


async def test_every_partition_has_the_parents_keys_and_checks(conn: Connection) -> None:
    rows = await conn.fetch(
        "SELECT inhrelid::regclass::text AS child, inhparent::regclass::text AS parent,"
        " (SELECT count(*) FROM pg_index WHERE indrelid = inhrelid)"
        " = (SELECT count(*) FROM pg_index WHERE indrelid = inhparent) AS indexes,"
        " (SELECT count(*) FROM pg_constraint WHERE conrelid = inhrelid)"
        " = (SELECT count(*) FROM pg_constraint WHERE conrelid = inhparent) AS constraints,"
        " (SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = inhrelid)"
        " IS NOT DISTINCT FROM (SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = inhparent)"
        " AS triggers FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE relkind = 'r'"
    )
    assert len(rows) == 4 * len(MONTHLY)
    assert [
        dict(row) for row in rows if not (row["indexes"] and row["constraints"] and row["triggers"])
    ] == []


@pytest.mark.parametrize(
    ("valid", "fits"),
    [
        ("[2027-01-01, 2027-07-01)", False),
        ("[2027-06-30, 2027-07-01)", False),
        ("[2020-01-01, 2027-01-02)", False),
        ("[2020-01-01,)", False),
        ("[2020-01-01, 2027-01-01)", True),
        ("[2027-07-01,)", True),
        ("empty", False),
    ],
)
async def test_rates_of_one_prefix_cannot_overlap(conn: Connection, valid: str, fits: bool) -> None:
    deck_id = await queries.seed.add_deck.value(conn, name="d", side="sell", currency="EUR", terms="{}")
    add = partial(
        conn.execute,
        "INSERT INTO rate (deck_id, prefix, origin_set, destination, rate_micro, valid)"
        " VALUES ($1, $2, $3, 'Germany', 1, $4::text::tstzrange)",
    )
    first = "[2027-01-01, 2027-07-01)"
    await add(deck_id, "49", "", first)
    if fits:
        await add(deck_id, "49", "", valid)
    else:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await add(deck_id, "49", "", valid)
    if valid != "empty":
        await add(deck_id, "4930", "", valid)
        await add(deck_id, "49", "eu", valid)


async def test_one_switch_however_many_workers_register_it(house: Seeded) -> None:
    async def register() -> UUID:
        async with house.pool.acquire() as conn:
            made: UUID = await queries.switch.register.value(conn, name="new")
            return made

    assert set(await at_once([register] * 16)) == {
        await house.value("SELECT switch_id FROM switch WHERE name = 'new'")
    }


async def insert_call(conn: Connection, call_id: UUID) -> None:
    await conn.execute(
        "INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, a_number, dialled, state)"
        " VALUES ($1, $2, '', '', '', '', 'live')",
        call_id,
        uuid4(),
    )
