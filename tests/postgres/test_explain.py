"""What is asked for every call, or by people, is answered from indexes, however much history there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.database import Connection, connect
from bridge.queries import Query
from bridge.sandbox.seed import APP
from tests.postgres.conftest import Filled
from tests.seeded import Seeded, ended

ROWS = 5_000
pytestmark = pytest.mark.breaks_books  # the tables are filled, not lived in
READ_MAX = 100
NOW = datetime.now(UTC)
BIG = (
    "account", "subscriber", "rollout_allow", "call", "charge", "attempt", "entry", "lease", "hold", "transfer",
    "allowance", "burn",
)  # fmt: skip
FILL = f"""
    DROP TRIGGER entry_sums_to_zero ON entry;
    INSERT INTO account (kind, name, currency, call_cap)
    SELECT 'subscriber', 's' || n, 'EUR', 2 FROM generate_series(1, {ROWS}) n;
    INSERT INTO subscriber (app_id, a_number, account_id, plan_id)
    SELECT app_id, '+4915' || 100000 + substr(a.name, 2)::int, a.account_id, plan_id
      FROM account a, app, plan WHERE a.name ~ '^s[0-9]';
    INSERT INTO rollout_allow (subscriber_id) SELECT subscriber_id FROM subscriber ON CONFLICT DO NOTHING;
    INSERT INTO call (switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, state, ended_at)
    SELECT switch_id, n, n, account_id, a_number, '+493023125010', 'answered', now()
      FROM subscriber, switch, generate_series(1, 2) n;
    INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)
    SELECT call_id, account_id, 1, 1, 'EUR' FROM call ON CONFLICT DO NOTHING;
    INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, ended_at, currency, buy)
    SELECT call_id, 1, trunk_id, 'answered', 'unknown', now(), 'EUR', '{{}}'
      FROM call, trunk WHERE trunk.name = 'alpha' ON CONFLICT DO NOTHING;
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
    SELECT call_id, switch_id, account_id, gen_random_uuid(), 'c', 1, now() + interval '1 h' FROM call;
    INSERT INTO bundle (name, currency, price_micro, units, covers, days)
    VALUES ('b', 'EUR', 0, 9, '{{"voice": 60}}', 30);
    INSERT INTO allowance (account_id, bundle_id, idempotency_key, units, covers, zone, prefixes, burn_order, valid,
                           renews, bought_at)
    SELECT account_id, bundle_id, a.name || n, 9, covers, 'home', '{{}}', 1, tstzrange(now() - n * interval '31 days',
           now() + interval '30 days' - n * interval '31 days'), true, now()
      FROM account a, bundle, generate_series(0, 2) n WHERE a.name ~ '^s[0-9]';
    INSERT INTO burn (source_id, burn_no, allowance_id, per, held_units)
    SELECT call_id, 1, allowance_id, 60, 1 FROM call JOIN allowance USING (account_id) WHERE valid @> now();
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    SELECT call_id, account_id, 'EUR', 1, 1 FROM call ON CONFLICT DO NOTHING;
    INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
    SELECT call_id, side, account_id, 3 - 2 * side, 'EUR' FROM call, generate_series(1, 2) side
    ON CONFLICT DO NOTHING;
    INSERT INTO transfer (transfer_id, kind) SELECT call_id, 'call' FROM call ON CONFLICT DO NOTHING;
    ANALYZE
"""


async def live_in(house: Seeded, conn: Connection) -> UUID:
    """Gives it history; returns a call in it."""
    who = await house.subscriber(balance_micro=10**6, call_cap=2)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 1_000))
    await conn.execute(FILL)
    return call_id


@pytest.fixture(scope="module")
def lived_in(filled: Filled) -> tuple[str, UUID]:
    return filled(live_in)


@pytest.fixture
async def full(lived_in: tuple[str, UUID]) -> AsyncIterator[tuple[Connection, UUID]]:
    """A connection to a database with history, and a call in it."""
    async with connect(lived_in[0]) as conn:
        yield conn, lived_in[1]


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def literal(value: object) -> str:
    return "'{" + ",".join(map(str, value)) + "}'" if isinstance(value, list) else f"'{value}'"


async def rows_read(conn: Connection, query: Query, **given: object) -> int:
    """How many rows of the big tables the server looks at to answer, found or not."""
    await conn.execute(f"PREPARE asked AS {query.sql.rstrip().rstrip(';')}")
    try:
        arguments = ", ".join(literal(given[name]) for name in query.names)
        execute = f"EXECUTE asked ({arguments})" if arguments else "EXECUTE asked"
        text = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}")
    finally:
        await conn.execute("DEALLOCATE asked")
    return round(
        sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes(json.loads(text)[0]["Plan"])
            if node.get("Relation Name", "").startswith(BIG)
        )
    )


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_question_reads_a_whole_table(full: tuple[Connection, UUID], mode: str) -> None:
    conn, call_id = full
    await conn.execute(f"SET plan_cache_mode = {mode}")
    calls = queries.calls
    payer = await conn.fetchval("SELECT account_id FROM call WHERE call_id = $1", call_id)
    refunded = Query("SELECT * FROM refunded WHERE transfer_id = $1", ("transfer_id",))  # in transfer_book_v1
    asked = {
        "caller": await rows_read(
            conn, calls.caller, app=APP, a_number="+4915100007", b_number="+4915100008", at=NOW
        ),
        "trunks_live": await rows_read(conn, calls.trunks_live),
        "frozen": await rows_read(conn, calls.frozen, call_ids=[call_id]),
        "endings": await rows_read(conn, calls.endings, call_ids=[call_id]),
        "bundled": await rows_read(
            conn,
            calls.bundled,
            call_id=call_id,
            at=NOW,
            subscriber_id=await conn.fetchval(
                "SELECT subscriber_id FROM subscriber WHERE a_number = '+4915100007'"
            ),
        ),
        "burns": await rows_read(conn, calls.burns, call_ids=[call_id]),
        "lock_accounts": await rows_read(conn, calls.lock_accounts, call_ids=[call_id]),
        "renew": await rows_read(
            conn, queries.allowance.renew, at=NOW - timedelta(days=60), ahead_s=5.0, page=200
        ),
        "story_call": await rows_read(conn, calls.story_call, call_id=call_id),
        "story_attempts": await rows_read(conn, calls.story_attempts, call_id=call_id),
        "story_charge": await rows_read(conn, calls.story_charge, call_id=call_id),
        "story_bundles": await rows_read(conn, calls.story_bundles, call_id=call_id),
        "story_hold": await rows_read(conn, calls.story_hold, call_id=call_id),
        "story_entries": await rows_read(conn, calls.story_entries, call_id=call_id),
        "account": await rows_read(conn, queries.ledger.account, name="s7"),
        "booked": await rows_read(conn, queries.ledger.booked, transfer_id=call_id),
        "statement": await rows_read(
            conn, queries.ledger.statement, account_id=payer, since="-infinity", until="infinity", most=9
        ),
        "balance_before": await rows_read(
            conn, queries.ledger.balance_before, account_id=payer, before="infinity"
        ),
        "refunded": await rows_read(conn, refunded, transfer_id=call_id),
    }
    assert {name: count for name, count in asked.items() if count > READ_MAX} == {}
    # What has an answer was looked up at all: the count above is not empty for another reason.
    assert min(asked[name] for name in ("caller", "frozen", "story_entries", "account", "statement")) > 0


async def test_leases_are_counted_by_index(full: tuple[Connection, UUID]) -> None:
    """As inside call_admit_v1, where EXPLAIN does not reach."""
    conn, _ = full
    for column in ("account_id", "trunk_id"):
        count = Query(
            f"SELECT count(*) FROM lease l WHERE l.{column} = $1 AND l.expires_at > now()", ("key",)
        )
        assert (
            0
            < await rows_read(conn, count, key=await conn.fetchval(f"SELECT {column} FROM lease LIMIT 1"))
            < 10
        )


async def test_a_whole_table_read_is_seen(full: tuple[Connection, UUID]) -> None:
    conn, _ = full
    blind = Query("SELECT 1 FROM call WHERE sip_call_id = $1", ("sip_call_id",))
    assert await rows_read(conn, blind, sip_call_id="none") > ROWS
