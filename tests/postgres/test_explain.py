"""What is asked for every call, or by people, is answered from indexes, however much history there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.api.app import LAST_CALL
from bridge.database import Connection
from bridge.queries import Query
from bridge.sandbox.seed import APP
from tests.seeded import Seeded, ended

ROWS = 5_000
BIG = ("account", "subscriber", "rollout_allow", "call", "charge", "attempt", "entry", "lease", "hold")
FILL = (
    "INSERT INTO account (kind, name, currency, call_cap) SELECT 'subscriber', 's' || n, 'EUR', 2 FROM generate_series(1, $1) n",
    "INSERT INTO subscriber (app_id, a_number, account_id, plan_id)"
    " SELECT (SELECT app_id FROM app), '+4915' || 100000 + substr(name, 2)::int, account_id, (SELECT plan_id FROM plan)"
    " FROM account WHERE name ~ '^s[0-9]' LIMIT $1",
    "INSERT INTO rollout_allow (subscriber_id) SELECT subscriber_id FROM subscriber LIMIT $1 ON CONFLICT DO NOTHING",
    "INSERT INTO call (switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, state, ended_at)"
    " SELECT (SELECT switch_id FROM switch), n, n, account_id, a_number, '+493023125010', 'answered', now()"
    " FROM subscriber, generate_series(1, 2) n LIMIT $1 * 2",
    "INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)"
    " SELECT call_id, account_id, 1, 1, 'EUR' FROM call LIMIT $1 ON CONFLICT DO NOTHING",
    "INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, ended_at, currency, buy)"
    " SELECT call_id, 1, (SELECT min(trunk_id::text)::uuid FROM trunk), 'answered', 'unknown', now(), 'EUR', '{}'"
    " FROM call LIMIT $1 ON CONFLICT DO NOTHING",
    "INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)"
    " SELECT call_id, switch_id, account_id, gen_random_uuid(), 'c', 1, now() + interval '1 h' FROM call LIMIT $1",
    "INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)"
    " SELECT call_id, account_id, 'EUR', 1, 1 FROM call LIMIT $1 ON CONFLICT DO NOTHING",
    "INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)"
    " SELECT call_id, side, account_id, 3 - 2 * side, 'EUR' FROM (SELECT * FROM call LIMIT $1), generate_series(1, 2) side"
    " ON CONFLICT DO NOTHING",
)


@pytest.fixture
async def full(house: Seeded, conn: Connection) -> AsyncIterator[tuple[Connection, UUID]]:
    """A connection to a database with history, and a call in it."""
    who = await house.subscriber(balance_micro=10**6, call_cap=2)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 1_000))
    await conn.execute("DROP TRIGGER entry_sums_to_zero ON entry")
    for statement in FILL:
        await conn.execute(statement, ROWS)
    await conn.execute("ANALYZE")
    yield conn, call_id


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def scanned(conn: Connection, query: Query, **given: object) -> list[str]:
    """The big tables of which every row is read."""
    text = await conn.fetchval(f"EXPLAIN (FORMAT JSON) {query.sql}", *[given[name] for name in query.names])
    found = [node["Relation Name"] for node in nodes(json.loads(text)[0]["Plan"]) if node["Node Type"] == "Seq Scan"]
    return [name for name in found if name.startswith(BIG)]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_question_reads_a_whole_table(full: tuple[Connection, UUID], mode: str) -> None:
    conn, call_id = full
    await conn.execute(f"SET plan_cache_mode = {mode}")
    calls = queries.calls
    asked = {
        "caller": await scanned(conn, calls.caller, app=APP, a_number="+4915100007"),
        "trunks_live": await scanned(conn, calls.trunks_live),
        "frozen": await scanned(conn, calls.frozen, call_ids=[call_id]),
        "endings": await scanned(conn, calls.endings, call_ids=[call_id]),
        "recent": await scanned(conn, calls.recent, before=LAST_CALL, page=21),
        "older": await scanned(conn, calls.recent, before=call_id, page=21),
        "story_call": await scanned(conn, calls.story_call, call_id=call_id),
        "story_attempts": await scanned(conn, calls.story_attempts, call_id=call_id),
        "story_charge": await scanned(conn, calls.story_charge, call_id=call_id),
        "story_hold": await scanned(conn, calls.story_hold, call_id=call_id),
        "story_entries": await scanned(conn, calls.story_entries, call_id=call_id),
        "account": await scanned(conn, queries.ledger.account, name="s7"),
        "system_account": await scanned(conn, queries.ledger.system_account, name="cash EUR", currency="EUR"),
    }
    assert {name: tables for name, tables in asked.items() if tables} == {}


async def test_leases_are_counted_by_index(full: tuple[Connection, UUID]) -> None:
    """As inside call_admit_v1, where EXPLAIN does not reach."""
    conn, _ = full
    for column in ("account_id", "trunk_id"):
        count = Query(f"SELECT count(*) FROM lease l WHERE l.{column} = $1 AND l.expires_at > now()", ("key",))
        assert await scanned(conn, count, key=await conn.fetchval(f"SELECT {column} FROM lease LIMIT 1")) == []


async def test_the_guard_sees_a_whole_table_read(full: tuple[Connection, UUID]) -> None:
    conn, _ = full
    sighted = Query("SELECT count(*) FROM call c JOIN charge USING (call_id) WHERE c.sip_call_id = $1", ("sip_call_id",))
    assert "call" in {name.split("_")[0] for name in await scanned(conn, sighted, sip_call_id="1")}
