"""Call-to-activate on a real database: who becomes enabled by whose call, exactly, however many call at once."""

from __future__ import annotations

from functools import partial

import asyncpg
import pytest

from bridge.config import Database
from bridge.database import open_pool
from bridge.partners.store import add_partner
from tests.postgres.rollouts import AT, Rolling, later, rolled_out
from tests.seeded import Seeded, at_once


@pytest.fixture
async def rolling(house: Seeded) -> Rolling:
    return await rolled_out(house)


async def test_a_call_enables_while_a_window_is_open(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person()
    assert await rolling.calls(ada, bob) == "no_window"
    window = await rolling.window()
    assert await rolling.calls(bob, eve) == "no_rollout"  # who may not call brings in nobody
    assert await rolling.calls(ada, bob) == "activated"
    assert await rolling.calls(ada, bob) == "enabled"
    assert await rolling.calls(bob, eve) == "activated"
    assert await rolling.calls(bob, bob) == "enabled"
    assert await rolling.window_state(window) == ("open", "operator", 2)
    assert await rolling.house.value("SELECT state FROM rollout") == "running"
    standing = await rolling.stands(eve)
    assert standing.may_call and standing.may_invite
    rows = await rolling.house.rows("SELECT seq, kind, cause FROM rollout_event ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (1, "rollout.made", "operator"), (2, "member.waiting", "sign_up"), (3, "member.waiting", "sign_up"),
        (4, "window.planned", "operator"), (5, "rollout.running", "operator"), (6, "window.open", "operator"),
        (7, "member.activated", "call"), (8, "member.activated", "call"),
    ]  # fmt: skip


async def test_two_hundred_are_called_at_once_and_fifty_are_enabled(rolling: Rolling, dsn: str) -> None:
    """Each call on a connection of its own; partners hear of fifty."""
    house = rolling.house
    async with house.pool.acquire() as conn:
        partner = (await add_partner(conn, "Listener", "EUR"))["partner_id"]
    await house.rows("UPDATE partner SET keeps_events = true")
    ada = await rolling.enabled()
    people = [await rolling.person() for _ in range(200)]
    await house.rows("UPDATE rollout_member SET partner_id = $1", partner)
    before = await house.value("SELECT count(*) FROM rollout_allow")
    window = await rolling.window(quota=50)
    pool: asyncpg.Pool = await open_pool(
        Database(pool_max=80, statement_timeout_s=30), dsn, lock_timeout_s=30
    )
    try:

        async def call(callee: object) -> str:
            async with pool.acquire() as conn:
                return str(await conn.fetchval("SELECT rollout_called_v1($1, $2, NULL, $3)", ada, callee, AT))

        said = await at_once([partial(call, callee) for callee in people])
    finally:
        await pool.close()
    assert sorted(set(said)) == ["activated", "quota"]
    assert said.count("activated") == 50
    assert await house.value("SELECT count(*) FROM rollout_allow") == before + 50
    assert await house.value("SELECT count(*) FROM rollout_member WHERE state = 'activated'") == 50
    assert await house.value("SELECT count(*) FROM event WHERE kind = 'member.activated'") == 50
    assert await house.value("SELECT count(*) FROM rollout_event WHERE kind = 'member.activated'") == 50
    assert await rolling.window_state(window) == ("closed", "quota", 50)
    late = await rolling.person()
    assert await rolling.calls(ada, late) == "quota"


async def test_one_who_is_called_by_many_is_enabled_once(rolling: Rolling) -> None:
    callers = [await rolling.enabled() for _ in range(20)]
    bob = await rolling.person()
    window = await rolling.window(quota=5)
    said = await at_once([partial(rolling.calls, caller, bob) for caller in callers])
    assert sorted(said) == ["activated"] + ["enabled"] * 19
    assert (await rolling.window_state(window))[2] == 1


async def test_limits_of_inviter_and_chain(rolling: Rolling) -> None:
    await rolling.settings(invite_limit=2, depth_max=2)
    ada = await rolling.enabled()
    people = [await rolling.person() for _ in range(6)]
    await rolling.window()
    assert [await rolling.calls(ada, one) for one in people[:3]] == ["activated", "activated", "limit"]
    assert await rolling.calls(people[0], people[3]) == "activated"
    assert await rolling.calls(people[3], people[4]) == "limit"  # the chain would be longer than two
    standing = await rolling.stands(people[3])
    assert (standing.may_invite, standing.why_not) == (False, "depth")


async def test_two_at_once_do_not_pass_the_inviters_limit(rolling: Rolling) -> None:
    await rolling.settings(invite_limit=3)
    ada = await rolling.enabled()
    people = [await rolling.person() for _ in range(12)]
    await rolling.window()
    said = await at_once([partial(rolling.calls, ada, one) for one in people])
    assert sorted(said) == ["activated"] * 3 + ["limit"] * 9


async def test_what_is_switched_off_or_no_member_is_not_enabled(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person()
    await rolling.window()
    await rolling.settings(call_activates=False)
    assert await rolling.calls(ada, bob) == "no_window"
    await rolling.settings(call_activates=True)
    await rolling.house.rows("UPDATE subscriber SET state = 'suspended' WHERE subscriber_id = $1", bob)
    assert await rolling.calls(ada, bob) == "no_rollout"
    await rolling.house.rows("UPDATE subscriber SET state = 'suspended' WHERE subscriber_id = $1", ada)
    assert await rolling.calls(ada, eve) == "no_rollout"
    assert await rolling.state_of(eve) == "waiting"


async def test_a_paused_window_enables_nobody_and_goes_on(rolling: Rolling) -> None:
    ada, bob = await rolling.enabled(), await rolling.person()
    window = await rolling.window()
    assert await rolling.set(window, "paused", "trial")
    assert await rolling.calls(ada, bob) == "no_window"
    assert not await rolling.set(window, "paused")
    assert await rolling.set(window, "open", at=later(minutes=1))
    assert await rolling.calls(ada, bob) == "activated"
