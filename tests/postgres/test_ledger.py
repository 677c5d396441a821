"""The ledger: sums to zero, insert-only, and money comes in once a key."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from bridge.database import Connection, store_errors, transaction
from bridge.errors import Conflict, InvariantBroken, NotFound, StoreError
from bridge.ledger.store import system_account, top_up
from bridge.sandbox.seed import CURRENCY
from tests.seeded import Seeded, at_once, ended

ENTRY = "INSERT INTO {table} (transfer_id, entry_no, account_id, amount_micro, currency) VALUES "


async def of_month(conn: Connection, table: str) -> str:
    """The partition that takes today's rows."""
    found: str = await conn.fetchval(f"SELECT '{table}' || to_char(now() AT TIME ZONE 'UTC', '_YYYY_MM')")
    return found


@pytest.mark.parametrize("table", ["entry", "partition"])
@pytest.mark.parametrize(
    "amounts",
    [
        [(5, "EUR")],
        [(5, "EUR"), (-4, "EUR")],
        [(5, "EUR"), (-5, "USD")],
        [(2**62, "EUR"), (2**62, "EUR"), (-(2**62), "EUR"), (-(2**62), "EUR"), (1, "EUR")],
    ],
)
async def test_a_transfer_that_does_not_sum_to_zero_is_refused(
    conn: Connection, table: str, amounts: list[tuple[int, str]]
) -> None:
    name = "entry" if table == "entry" else await of_month(conn, "entry")
    transfer_id = await conn.fetchval("SELECT uuidv7()")
    values = ", ".join(
        f"('{transfer_id}', {n}, '{uuid4()}', {micro}, '{unit}')" for n, (micro, unit) in enumerate(amounts)
    )
    with pytest.raises(InvariantBroken, match="does not sum to zero"):
        async with store_errors():
            await conn.execute(ENTRY.format(table=name) + values)
    assert await conn.fetchval("SELECT count(*) FROM entry") == 0


async def test_copy_is_checked_too(conn: Connection) -> None:
    row = (await conn.fetchval("SELECT uuidv7()"), 1, uuid4(), 5, "EUR")
    with pytest.raises(asyncpg.PostgresError, match="does not sum to zero"):
        await conn.copy_records_to_table("entry", records=[row])


async def test_two_currencies_may_balance_in_one_transfer(conn: Connection) -> None:
    transfer_id = await conn.fetchval("SELECT uuidv7()")
    values = [(5, "EUR"), (-5, "EUR"), (7, "USD"), (-7, "USD")]
    await conn.execute(
        ENTRY.format(table="entry")
        + ", ".join(
            f"('{transfer_id}', {n}, '{uuid4()}', {micro}, '{unit}')"
            for n, (micro, unit) in enumerate(values)
        )
    )
    assert await conn.fetchval("SELECT count(*) FROM entry") == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET transfer_id = transfer_id",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "TRUNCATE {} CASCADE",
        "TRUNCATE call, {}",
    ],
)
@pytest.mark.parametrize("table", ["entry", "transfer", "partition"])
async def test_what_is_booked_stays(house: Seeded, conn: Connection, statement: str, table: str) -> None:
    await house.subscriber(balance_micro=1_000)
    name = await of_month(conn, "entry") if table == "partition" else table
    # Disputes refer to transfers: Postgres itself refuses to empty these alone, before it asks our trigger.
    with pytest.raises(StoreError, match=r"insert-only|referenced in a foreign key"):
        async with store_errors():
            await conn.execute(statement.format(name))
    assert await conn.fetchval("SELECT count(*) FROM entry") == 2
    assert await conn.fetchval("SELECT count(*) FROM transfer") == 1


async def test_a_top_up_is_one_transfer_of_two_entries(house: Seeded) -> None:
    who = await house.subscriber()
    transfer_id = await house.top_up(who, 5_000, "voucher 1")
    rows = await house.rows(
        "SELECT a.name, e.amount_micro, e.currency FROM entry e JOIN account a USING (account_id)"
        " WHERE transfer_id = $1 ORDER BY entry_no",
        transfer_id,
    )
    assert [tuple(row) for row in rows] == [
        (f"subscriber {who.a_number}", 5_000, "EUR"),
        ("cash EUR", -5_000, "EUR"),
    ]
    assert (await house.account(who))["balance_micro"] == 5_000


async def test_the_same_key_at_once_books_once(house: Seeded) -> None:
    who = await house.subscriber()
    ids = await at_once([partial(house.top_up, who, 5_000, "voucher 2")] * 12)
    assert len(set(ids)) == 1
    assert (await house.account(who))["balance_micro"] == 5_000
    assert not await house.broken()


async def test_a_key_of_another_top_up_is_a_conflict(house: Seeded) -> None:
    who, other = await house.subscriber(), await house.subscriber()
    await house.top_up(who, 5_000, "voucher 3")
    for whose, amount_micro in ((who, 5_001), (other, 5_000)):
        with pytest.raises(Conflict, match="voucher 3"):
            await house.top_up(whose, amount_micro, "voucher 3")
    assert await house.value("SELECT sum(balance_micro)::bigint FROM account") == 5_000
    assert not await house.broken()


@pytest.mark.parametrize("amount_micro", [0, -1, -(2**63)])
async def test_a_top_up_is_positive(house: Seeded, amount_micro: int) -> None:
    who = await house.subscriber()
    with pytest.raises(StoreError, match="must be positive"):
        await house.top_up(who, amount_micro, "voucher 4")
    await house.top_up(who, 1, "voucher 4")  # a refused key is not used up


async def test_only_subscribers_of_the_same_currency_are_topped_up(house: Seeded) -> None:
    who = await house.subscriber()
    carrier = await house.value("SELECT account_id FROM account WHERE name = 'carrier alpha'")
    for account_id, currency in ((carrier, CURRENCY), (uuid4(), CURRENCY), (who.account_id, "USD")):
        with pytest.raises(NotFound):
            async with transaction(house.pool) as conn:
                await top_up(conn, str(account_id), 1_000, currency, key="voucher 5")
    assert await house.value("SELECT count(*) FROM transfer") == 0
    assert not await house.broken()


async def test_our_own_account_is_made_once_however_many_ask(house: Seeded) -> None:
    async def ask() -> str:
        async with transaction(house.pool) as conn:
            return await system_account(conn, "revenue", "CHF")

    for _ in range(3):
        made = set(await at_once([ask] * 16))
        assert len(made) == 1
        assert await house.value("SELECT account_id::text FROM account WHERE name = 'revenue CHF'") in made
        await house.rows("DELETE FROM account WHERE name = 'revenue CHF'")


async def test_a_call_cannot_be_booked_twice(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 1_000))
    with pytest.raises(StoreError, match="is taken"):
        await house.rows("INSERT INTO transfer (transfer_id, kind) VALUES ($1, 'call')", call_id)
