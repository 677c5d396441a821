"""Lists of calls and their records are answered from indexes, whoever asks, however much history others have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.api.desk import PARTNER_ROLE
from bridge.calls import cdrs
from bridge.calls.cdrs import LAST, Search
from bridge.database import Connection
from bridge.partners.store import add_partner
from tests.postgres.conftest import Filled
from tests.postgres.test_explain import READ_MAX, ROWS, live_in
from tests.seeded import Seeded

pytestmark = pytest.mark.breaks_books
PAGE = 20
# Of the big partner most; of the small one a few, and these before all others
SHARES = """
    UPDATE account SET partner_id = '{big}' WHERE name ~ '^s[0-9]';
    UPDATE call SET partner_id = '{big}';
    UPDATE call SET partner_id = '{small}' WHERE call_id IN (SELECT call_id FROM call ORDER BY call_id LIMIT 30);
    UPDATE call c SET subscriber_id = s.subscriber_id FROM subscriber s JOIN account a USING (account_id)
     WHERE a.name = CASE WHEN c.a_number < '+4915102500' THEN 's7' ELSE 's' || ltrim(substr(c.a_number, 7), '0') END;
    UPDATE lease l SET partner_id = c.partner_id FROM call c WHERE c.call_id = l.call_id;
    INSERT INTO usage_record (account_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro, per,
                              amount_micro, written_off_micro, currency, throttled, used_at, partner_id)
    SELECT account_id, 'u' || n, 'sms', 'home', 1, 1, 1, 1, 1, 0, 'EUR', false, now(),
           CASE WHEN n <= 30 THEN '{small}'::uuid ELSE '{big}'::uuid END
      FROM account a, generate_series(1, 5000) n WHERE a.name = 's7';
    ANALYZE
"""


async def share(house: Seeded, conn: Connection) -> tuple[UUID, UUID]:
    """A big and a small one, in a database with history."""
    await live_in(house, conn)
    big, small = [(await add_partner(conn, name, "EUR"))["partner_id"] for name in ("big", "small")]
    await conn.execute(SHARES.format(big=big, small=small))
    return big, small


@pytest.fixture(scope="module")
def shared(filled: Filled) -> tuple[str, tuple[UUID, UUID]]:
    return filled(share)


@pytest.fixture
def dsn(shared: tuple[str, tuple[UUID, UUID]]) -> str:
    return shared[0]


@pytest.fixture
def partners(shared: tuple[str, tuple[UUID, UUID]]) -> tuple[UUID, UUID]:
    return shared[1]


@asynccontextmanager
async def asking(conn: Connection, partner_id: UUID | None) -> AsyncIterator[None]:
    """As the API asks: a partner in its role."""
    role = PARTNER_ROLE if partner_id else "none"
    await conn.execute("SELECT set_config('role', $1, false)", role)
    await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(partner_id or ""))
    try:
        yield
    finally:
        await conn.execute("SET role none")


READ = """SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid))::bigint
            FROM pg_class WHERE relkind IN ('r', 'i')
             AND relname ~ '^(call|charge|attempt|lease|hold|entry|usage|rerating|account|subscriber)(_|$)'"""


async def rows_read(conn: Connection, partner_id: UUID | None, work: Any) -> int:
    """Rows and index entries of the big tables that the server looks at, inside functions, too."""
    async with conn.transaction():
        before = await conn.fetchval(READ)
        async with asking(conn, partner_id):
            await work()
        return int(await conn.fetchval(READ) - before)


@pytest.mark.parametrize("warm", [0, 8], ids=["new", "planned"])
async def test_no_list_reads_more_than_its_page(
    conn: Connection, partners: tuple[UUID, UUID], warm: int
) -> None:
    """Also once the server has settled on a plan: what suits a big partner must not be taken for a small one."""
    big, small = partners
    account_id = await conn.fetchval("SELECT account_id FROM account WHERE name = 's7'")
    found = {}
    for partner_id in (big, small, None):
        lists = {
            "cdrs": lambda who=partner_id: cdrs.find(conn, Search(who), PAGE),
            "filtered": lambda who=partner_id: cdrs.find(conn, Search(who, state="answered"), PAGE),
            "live": lambda who=partner_id: cdrs.live(conn, who, LAST, PAGE),
            "usage": lambda who=partner_id: cdrs.usage(conn, who, LAST, cdrs.FIRST, PAGE),
        }
        if partner_id != small:
            lists["account"] = lambda who=big: cdrs.find(conn, Search(who, account_id=account_id), PAGE)
        for name, work in lists.items():
            for _ in range(warm):
                async with asking(conn, big):
                    await cdrs.find(conn, Search(big), PAGE)
                    await cdrs.usage(conn, big, LAST, cdrs.FIRST, PAGE)
            found[(name, partner_id)] = await rows_read(conn, partner_id, work)
    per_row = 12  # record, charge, its policy, later prices, account: heap and index
    assert {name: count for name, count in found.items() if count > PAGE * per_row} == {}
    assert min(found.values()) > 0


async def test_a_phone_reads_its_own_history(conn: Connection, partners: tuple[UUID, UUID]) -> None:
    """Of somebody with thousands of calls, and of somebody with two."""
    for name, most in (("s7", PAGE), ("s3000", 2)):
        subscriber_id = await conn.fetchval(
            "SELECT subscriber_id FROM subscriber JOIN account USING (account_id) WHERE name = $1", name
        )
        given = {"subscriber_id": subscriber_id, "before": LAST, "rows": PAGE}
        found: list[Any] = []

        async def work() -> None:
            found.extend(await queries.phone.calls.all(conn, **given))  # noqa: B023

        count = await rows_read(conn, None, work)
        assert len(found) == most
        assert 0 < count <= most * 12


async def test_a_whole_call_is_read_by_key(conn: Connection, partners: tuple[UUID, UUID]) -> None:
    big, _ = partners
    call_id = await conn.fetchval(
        "SELECT call_id FROM call WHERE partner_id = $1 ORDER BY call_id OFFSET $2 LIMIT 1", big, ROWS
    )
    for partner_id in (big, None):
        count = await rows_read(conn, partner_id, lambda who=partner_id: cdrs.whole(conn, call_id, who))
        assert 0 < count < READ_MAX


async def test_a_list_that_reads_all_is_seen(conn: Connection, partners: tuple[UUID, UUID]) -> None:
    big, _ = partners
    work = "SELECT count(*) FROM call WHERE sip_call_id = 'none'"
    assert await rows_read(conn, big, lambda: conn.fetchval(work)) >= ROWS
