"""A simulated month: its books are sound, its numbers are nobody's, and the same seed makes it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bridge.calls.audit import audit
from bridge.database import Connection, connect
from bridge.errors import Conflict, Invalid
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.simulate import Simulation, simulate
from bridge.sandbox.simulate_rows import COLUMNS
from tests.databases import copy_database

CALLS = 2_500
FICTION = re.compile(
    r"\+49(30 23125|69 90009|40 66969|221 4710|89 99998)\d{3}|\+49(171 39200|176 040690)\d\d"
    r"|\+44(20 7946 0|7700 900)\d{3}|\+33(1 99 00|6 39 98)\d{4}|\+1212 555 01\d\d".replace(" ", "")
)


def last_month() -> str:
    return f"{datetime.now(UTC).replace(day=1) - timedelta(days=2):%Y-%m}"


@pytest.fixture(scope="module")
def simulated(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The DSN of a database with a month in it, which tests here only read."""
    copy_database(postgres, template, "simulated_month")
    yield postgres.dsn("simulated_month")
    postgres.drop_database("simulated_month")


@pytest.fixture
async def month(simulated: str) -> AsyncIterator[Connection]:
    async with connect(simulated) as conn:
        if not await conn.fetchval("SELECT EXISTS (SELECT FROM call)"):
            await simulate(conn, Simulation(last_month(), CALLS))
        yield conn


async def test_the_audit_of_a_simulated_month_finds_nothing(month: Connection) -> None:
    found = await audit(month)
    assert {name: rows[:3] for name, rows in found.items() if rows} == {}


async def test_everything_there_is_to_see_happens_in_it(month: Connection) -> None:
    kinds = dict(map(tuple, await month.fetch("SELECT kind, count(*) FROM transfer GROUP BY kind")))
    assert {"call", "top_up", "purchase", "usage", "refund", "reversal", "rebooking"} <= set(kinds)
    states = dict(map(tuple, await month.fetch("SELECT state, count(*) FROM call GROUP BY state")))
    assert sum(states.values()) == CALLS
    assert 0.4 < states["answered"] / CALLS < 0.7
    assert {"refused", "unanswered", "failed"} < set(states)
    assert {row[0] for row in await month.fetch("SELECT DISTINCT direction FROM call")} == {
        "out",
        "on_net",
        "in",
    }
    assert await month.fetchval("SELECT count(*) FROM attempt WHERE attempt_no > 1")
    assert await month.fetchval("SELECT count(DISTINCT trunk_id) FROM attempt WHERE cost_micro > 0") == 3
    assert await month.fetchval("SELECT count(*) FROM charge WHERE covered_s > 0")
    assert await month.fetchval("SELECT count(*) FROM call WHERE sell ->> 'zero_rated' = 'destination'")
    assert {row[0] for row in await month.fetch("SELECT DISTINCT currency FROM entry")} == {"EUR", "USD"}


async def test_nobody_real_is_in_the_books(month: Connection) -> None:
    rows = await month.fetch(
        "SELECT a_number FROM subscriber UNION SELECT a_number FROM call WHERE a_number <> 'anonymous'"
        " UNION SELECT b_number FROM call WHERE state <> 'refused' UNION SELECT a_number FROM call_withheld"
    )
    assert [row[0] for row in rows if not FICTION.fullmatch(row[0])] == []


async def test_all_of_it_is_in_the_month(month: Connection) -> None:
    (span,) = await month.fetch("SELECT min(admitted_at), max(admitted_at) FROM call")
    since, until = span
    assert timedelta(days=26) < until - since < timedelta(days=32)
    late = await month.fetchval(
        "SELECT count(*) FROM transfer WHERE booked_at > $1 AND kind NOT IN ('reversal', 'rebooking')",
        until + timedelta(hours=4),
    )
    assert late == 0


async def test_a_database_with_something_in_it_is_refused_and_stays_as_it_is(month: Connection) -> None:
    before = await month.fetchval("SELECT count(*) FROM call")
    with pytest.raises(Conflict, match="Name an empty one"):
        await simulate(month, Simulation(last_month(), CALLS))
    assert await month.fetchval("SELECT count(*) FROM call") == before


async def test_one_account_is_enough_to_be_refused(conn: Connection) -> None:
    await conn.execute("INSERT INTO account (kind, name, currency) VALUES ('subscriber', 'Alice', 'EUR')")
    with pytest.raises(Conflict, match="there are accounts in this database"):
        await simulate(conn, Simulation(last_month(), 100))


async def test_a_month_that_has_not_passed_is_refused(conn: Connection) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)  # where the month ends before ours, it may be over today
    with pytest.raises(Invalid, match="has not passed"):
        await simulate(conn, Simulation(f"{soon:%Y-%m}", 100))


async def test_the_same_seed_makes_the_same_rows(
    conn: Connection, postgres: EmbeddedPostgres, template: str
) -> None:
    first = await _digests(conn, 7)
    copy_database(postgres, template, "simulated_again")
    try:
        async with connect(postgres.dsn("simulated_again")) as again:
            assert await _digests(again, 7) == first
    finally:
        postgres.drop_database("simulated_again")


async def _digests(conn: Connection, seed: int) -> dict[str, str]:
    """Of each table that is written, without the re-rating that the product makes when the month is over."""
    told = await simulate(conn, Simulation(last_month(), 300, seed))
    over = f"'{told['to']}'::timestamptz + interval '4 hours'"
    runs = f"WHERE run_id IN (SELECT run_id FROM rerate_run WHERE created_at < {over})"
    only = {
        "transfer": f"WHERE booked_at < {over}",
        "entry": f"JOIN transfer t USING (transfer_id) WHERE t.booked_at < {over}",
        **dict.fromkeys(("rerate_run", "rerate_tariff", "rerate_item", "rerating"), runs),
    }
    found = {}
    for table, columns in COLUMNS.items():
        query = f"SELECT ({', '.join(columns)})::text FROM {table} {only.get(table, '')} ORDER BY 1"
        rows = await conn.fetch(query)
        found[table] = hashlib.sha256("\n".join(one[0] for one in rows).encode()).hexdigest()
    return found
