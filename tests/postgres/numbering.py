"""What tests of records share: every kind of end there is, and the records made of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from bridge.calls import rerate
from bridge.calls.selection import Criteria
from bridge.database import connect, connection, transaction
from bridge.exports.completeness import audit_completeness
from bridge.exports.sequence import seal
from bridge.partners.store import add_partner
from tests.seeded import Seeded, Who, ended

SECOND = timedelta(seconds=1)
KEY = ("call_id", "leg", "attempt_no", "kind", "revision")


async def partner(house: Seeded, name: str, *, trunk: str | None = None, who: Who | None = None) -> UUID:
    """A new partner, whose a trunk or a subscriber is."""
    async with transaction(house.pool) as conn:
        made = await add_partner(conn, name, "EUR")
        partner_id: UUID = made["partner_id"]
        await conn.execute("UPDATE trunk SET partner_id = $1 WHERE name = $2", partner_id, trunk)
        if who:
            for table in ("account", "subscriber"):
                await conn.execute(
                    f"UPDATE {table} SET partner_id = $1 WHERE account_id = $2",
                    partner_id,
                    UUID(who.account_id),
                )
    return partner_id


async def talked(house: Seeded, who: Who, talk_s: int = 60) -> UUID:
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, talk_s * 1000))
    return call_id


async def failed_over(house: Seeded, who: Who) -> UUID:
    """The first trunk fails, the second answers."""
    frozen = (await house.admitted(who)).frozen
    await house.failed(frozen)
    await house.end(ended(frozen.call_id, 30_000, attempt_no=2))
    return frozen.call_id


async def rerated(house: Seeded, deck: str, a_second_micro: int) -> None:
    """What the deck says now it has always said, and all calls are priced again."""
    async with transaction(house.pool) as conn:
        await conn.execute(
            "UPDATE rate SET rate_micro = $2 FROM deck d WHERE d.deck_id = rate.deck_id AND d.name = $1"
            " AND prefix = '49'",
            deck,
            a_second_micro * 60,
        )
    asked = Criteria(since=datetime.now(UTC) - timedelta(days=1))
    async with connection(house.pool) as conn:
        told = await rerate.preview(conn, asked, author="anna", reason="a wrong deck")
        await rerate.run(conn, UUID(told["run_id"]))


def soon() -> datetime:
    return datetime.now(UTC) + SECOND


async def sealed(dsn: str, until: datetime | None = None, **options: Any) -> int:
    async with connect(dsn) as conn:
        return await seal(conn, until or soon(), **options)


async def incomplete(dsn: str) -> dict[str, list[dict[str, Any]]]:
    """What the audit of the records finds."""
    async with connect(dsn) as conn:
        return {name: rows for name, rows in (await audit_completeness(conn)).items() if rows}


async def records(house: Seeded, call_id: UUID | None = None) -> list[asyncpg.Record]:
    return await house.rows(
        "SELECT * FROM cdr WHERE $1::uuid IN (call_id) IS NOT FALSE ORDER BY cdr_no", call_id
    )


@asynccontextmanager
async def as_partner(dsn: str, partner_id: UUID) -> AsyncIterator[asyncpg.Connection]:
    async with connect(dsn) as conn:
        await conn.execute("SELECT set_config('role', 'callbridge_partner', false)")
        await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(partner_id))
        yield conn


async def stuck(house: Seeded) -> int:
    """The server process that waits for a table, once there is one."""
    async with asyncio.timeout(10):
        while True:
            found = await house.rows(
                "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted"
                " AND l.locktype = 'relation' AND a.datname = current_database()"
            )
            if found:
                return int(found[0]["pid"])
