"""Lists of deals, numbers and plans as the database reads them for a partner: by index, and granted columns only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge import queries
from bridge.api.page import LAST
from bridge.database import Connection, connection
from tests.api.scene import Api

NOT_ASKED = {
    "partner_id": None,
    "state": None,
    "in_force_at": None,
    "kind": None,
    "subscriber_id": None,
    "e164": None,
}
MANY = (
    """INSERT INTO deal (partner_id, name, currency, version)
       SELECT $1, 'd' || i, 'EUR', 1 FROM generate_series(1, 2000) i""",
    """INSERT INTO deal_version (deal_id, version, agreed, valid, terms, author)
       SELECT d.deal_id, 1, tstzrange(now(), NULL), tstzrange(now(), NULL), '{}', 'x' FROM deal d
        WHERE d.partner_id = $1""",
    """INSERT INTO number (partner_id, e164, country, kind)
       SELECT $1, '+4930' || (SELECT count(*) FROM number) + 20000000 + i, 'DE', 'geographic'
         FROM generate_series(1, 5000) i""",
    """INSERT INTO plan (name, deck_id, partner_id)
       SELECT $1::uuid || ' ' || i, (SELECT deck_id FROM deck LIMIT 1), $1 FROM generate_series(1, 2000) i""",
)


async def as_partner(api: Api, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    async with connection(api.services.asking) as conn:
        await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(api.alpha.partner_id))
        return await work(conn)


async def test_a_page_is_read_by_index(api: Api) -> None:
    for sql in MANY:
        for partner in (api.alpha, api.beta):
            await api.house.rows(sql, partner.partner_id)
    await api.house.rows("ANALYZE deal, deal_version, number, plan")
    given = NOT_ASKED | {"before": LAST, "rows": 21}
    for query, index in (
        (queries.deals.deals, "deal_partner"),
        (queries.numbers.numbers, "number_partner"),
        (queries.plans.plans_page, "plan_partner"),
    ):
        args = [given[name] for name in query.names]

        async def explained(conn: Connection, sql: str = query.sql, args: list[Any] = args) -> str:
            return "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {sql}", *args))

        plan = await as_partner(api, explained)
        assert index in plan, plan
        assert "Sort" not in plan
        assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT margin_floor_micro FROM plan",
        "SELECT deck_id FROM plan",
        "SELECT author FROM deal_version",
        "UPDATE number SET state = 'free'",
        "INSERT INTO deal (partner_id, name, currency) VALUES (partner_asking_v1(), 'x', 'EUR')",
        "DELETE FROM number",
        "SELECT deal_end_v1(uuidv7())",
        "SELECT deal_agree_v1(uuidv7(), 1, NULL, NULL, '{}', '', '')",
    ],
)
async def test_the_role_may_do_no_more_than_it_needs(api: Api, sql: str) -> None:
    async def run(conn: Connection) -> None:
        await conn.execute(sql)

    with pytest.raises(Exception, match="permission denied"):
        await as_partner(api, run)
