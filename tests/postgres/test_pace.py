"""Calls a second over a trunk that has a limit of these: exact, and nothing left of those that came too late.

The trunk's second is set into the future, so that it does not end while a test runs.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from bridge.calls.admit import Admitted
from bridge.database import transaction
from bridge.partners.store import add_partner
from bridge.telephony.cause import Refuse, RefuseReason
from tests.seeded import Seeded, Work, at_once

LASTS: Final = """
    INSERT INTO trunk_pace (trunk_id, second, starts)
    SELECT trunk_id, extract(epoch FROM now())::bigint + 3600, 0 FROM trunk
"""


@pytest.fixture
async def paced(house: Seeded) -> Seeded:
    """Alpha, the cheaper one, takes five calls a second."""
    await house.rows("UPDATE trunk SET cps = 5 WHERE name = 'alpha'")
    await house.rows(LASTS)
    await house.reload()
    return house


async def test_many_at_once_get_exactly_so_many_and_the_others_the_next_trunk(paced: Seeded) -> None:
    whos = [await paced.subscriber(balance_micro=10**6) for _ in range(20)]
    said = await at_once([partial(paced.call, who) for who in whos])
    assert all(isinstance(one, Admitted) for one in said)
    first = sorted(one.frozen.routes[0].name for one in said)
    assert first == ["alpha"] * 5 + ["beta"] * 15
    starts = await paced.value(
        "SELECT starts FROM trunk_pace JOIN trunk USING (trunk_id) WHERE name = 'alpha'"
    )
    assert starts == 5
    reason = "5 calls a second, and so many this second"
    left_out = await paced.value(
        "SELECT count(*) FROM call WHERE routes -> 'left_out' ->> 'alpha' = $1", reason
    )
    assert left_out == 15


async def test_when_no_trunk_takes_more_nothing_is_held(paced: Seeded) -> None:
    await paced.rows("UPDATE trunk SET cps = 1")
    await paced.reload()
    who = await paced.subscriber(balance_micro=10**6)
    said = await at_once([partial(paced.call, who) for _ in range(6)])
    refused = [one for one in said if isinstance(one, Refuse)]
    assert [one.reason for one in refused] == [RefuseReason.no_route] * 4
    assert await paced.value("SELECT count(*) FROM lease") == 2
    held = await paced.value("SELECT held_micro FROM account WHERE account_id = $1", who.account_id)
    assert held == await paced.value("SELECT sum(held_micro) FROM hold")
    states = await paced.rows("SELECT state, count(*) FROM call GROUP BY state ORDER BY state")
    assert [tuple(row) for row in states] == [("live", 2), ("refused", 4)]


async def test_failover_and_admission_share_one_second(paced: Seeded) -> None:
    who = await paced.subscriber(balance_micro=10**9)
    calls = [(await paced.admitted(who)).frozen for _ in range(5)]  # alpha's share is used up
    await paced.rows("UPDATE trunk SET cps = 4 WHERE name = 'beta'")
    await paced.reload()
    failing_over: list[Work] = [partial(paced.failed, frozen, next_cps=4) for frozen in calls]
    asking: list[Work] = [partial(paced.call, who) for _ in range(5)]
    said = await at_once([*failing_over, *asking])
    assert said[:5].count("ok") + sum(isinstance(one, Admitted) for one in said[5:]) == 4
    assert set(said[:5]) <= {"ok", "full"}
    beta = "SELECT count(*) FROM lease JOIN trunk USING (trunk_id) WHERE trunk.name = 'beta'"
    assert await paced.value(beta) == 4
    assert await paced.value("SELECT count(*) FROM attempt") == said[:5].count("ok")


async def test_the_next_second_is_another(paced: Seeded) -> None:
    who = await paced.subscriber(balance_micro=10**6)
    await paced.rows("UPDATE trunk_pace SET starts = 5")
    assert (await paced.admitted(who)).frozen.routes[0].name == "beta"
    await paced.rows("UPDATE trunk_pace SET second = second - 3700")
    assert (await paced.admitted(who)).frozen.routes[0].name == "alpha"
    row = await paced.row(
        "SELECT second, starts FROM trunk_pace JOIN trunk USING (trunk_id) WHERE name = 'alpha'"
    )
    assert row["starts"] == 1
    assert abs(row["second"] - await paced.value("SELECT extract(epoch FROM now())::bigint")) <= 2


async def test_trunks_without_a_limit_are_not_counted(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    await house.failed((await house.admitted(who)).frozen)
    assert await house.value("SELECT count(*) FROM trunk_pace") == 0


async def test_a_call_without_money_takes_no_place(paced: Seeded) -> None:
    await paced.rows("UPDATE account SET call_cap = 0")
    who = await paced.subscriber(balance_micro=10**6, call_cap=1)
    assert isinstance(await paced.call(who), Admitted)
    assert isinstance(await paced.call(who), Refuse)
    starts = await paced.value(
        "SELECT starts FROM trunk_pace JOIN trunk USING (trunk_id) WHERE name = 'alpha'"
    )
    assert starts == 1


async def test_a_trunk_that_falls_silent_is_told_of_once(house: Seeded) -> None:
    async with transaction(house.pool) as conn:
        partner_id = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
    await house.rows("UPDATE partner SET keeps_events = true")
    await house.rows("UPDATE trunk SET partner_id = $1 WHERE name = 'alpha'", partner_id)
    trunk_id = await house.value("SELECT trunk_id FROM trunk WHERE name = 'alpha'")
    for health, new in (
        ("up", True), ("up", False), ("down", True), ("down", False), ("up", True), ("unknown", True), ("up", True),
    ):  # fmt: skip
        assert await house.value("SELECT trunk_seen_v1($1, $2)", trunk_id, health) is new
    events = await house.rows("SELECT kind, subject_id, data ->> 'name' AS name FROM event ORDER BY seq")
    assert [tuple(row) for row in events] == [
        ("trunk.down", trunk_id, "alpha"),
        ("trunk.up", trunk_id, "alpha"),
    ]
    assert await house.value("SELECT trunk_seen_v1(uuidv7(), 'down')") is False
