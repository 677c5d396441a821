"""Capacity trials on a real database: what is measured of seeded calls, and what follows from a verdict."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest

from bridge.config import Database
from bridge.database import Connection, open_pool
from bridge.errors import Invalid, NotFound, StoreUnavailable
from bridge.partners.store import add_partner
from bridge.rollout.store.trials import Ended, Trials, trials
from tests.postgres.rollouts import Rolling
from tests.postgres.test_explain import READ_MAX
from tests.seeded import Seeded, at_once, ended

LIVE: Final = {"live_max": 2}


@pytest.fixture
async def rolling(house: Seeded) -> Rolling:
    made = await house.value(
        "INSERT INTO rollout (app_id, name) VALUES ($1, 'first') RETURNING rollout_id", house.app_id
    )
    return Rolling(house, made)


async def window(rolling: Rolling, thresholds: Any, trial_s: int | None = 60, **more: Any) -> UUID:
    return await rolling.window(thresholds=json.dumps(thresholds), trial_s=trial_s, **more)


async def goes_by(rolling: Rolling, seconds: float) -> None:
    """As if so much time had gone by since each trial began, and somebody had looked until a second ago."""
    await rolling.house.rows(
        "UPDATE trial SET began_at = began_at - make_interval(secs => $1),"
        " clock_at = clock_at - make_interval(secs => $1), sampled_at = now() - interval '1 second'"
        " WHERE ended_at IS NULL",
        seconds,
    )


async def look(rolling: Rolling, seconds: float = 1) -> Sequence[Ended | Invalid]:
    """The next look at what runs, so much later."""
    keeper = Trials(rolling.house.pool, 0)
    await goes_by(rolling, seconds)
    return await keeper.step()


async def begin(rolling: Rolling) -> None:
    assert list(await Trials(rolling.house.pool, 0).step()) == []


async def first(looks: Callable[[], Awaitable[Sequence[Ended | Invalid]]]) -> Sequence[Ended | Invalid]:
    """What ends, as soon as the server has let go of what a connection that died had locked."""
    async with asyncio.timeout(10):
        while not (found := await looks()):
            pass
    return found


async def cut_off(rolling: Rolling, after_s: float = 0) -> None:
    """End the connection that has been waiting for a lock for so long."""
    async with asyncio.timeout(20):
        while not await rolling.house.value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND now() - query_start > make_interval(secs => $1)",
            after_s,
        ):
            pass


async def told(rolling: Rolling) -> list[str]:
    return [row["kind"] for row in await rolling.house.rows("SELECT kind FROM rollout_event ORDER BY seq")]


async def calls(house: Seeded, many: int) -> list[UUID]:
    who = await house.subscriber(balance_micro=10**7)
    return [(await house.admitted(who)).frozen.call_id for _ in range(many)]


async def test_what_is_measured_of_the_calls_of_a_minute(rolling: Rolling) -> None:
    house = rolling.house
    live = await calls(house, 8)
    await house.answer(*live[:3])  # each rang after 100 ms
    await house.end(ended(live[0], 2_000), ended(live[3]), ended(live[4]))
    for reason in ("overloaded", "no_route", "no_credit", "not_invited"):
        await house.rows(
            "INSERT INTO call (switch_id, uniqueid, sip_call_id, a_number, dialled, state, refuse_reason, ended_at)"
            " SELECT switch_id, '', '', '', '', 'refused', $1, now() FROM switch", reason,
        )  # fmt: skip
    row = await house.row(
        "SELECT * FROM rollout_sample_v1(NULL, now() - interval '1 minute', now() - interval '1 minute',"
        " now() + interval '1 minute', now() + interval '1 second')"
    )
    assert (row["live"], row["attempts"], row["answered"]) == (5, 5, 3)
    assert (row["pdds"], row["pdd_p95_ms"]) == (3, 100)
    assert (row["asked"], row["refused"], row["fresh"], row["fresh_refused"]) == (10, 2, 8, 2)
    assert row["cps"] <= row["cps_peak"] <= 8
    assert row["cps_peak"] >= 1


async def test_of_a_partners_rollout_only_its_own_calls_are_looked_at(rolling: Rolling) -> None:
    house = rolling.house
    mine, _ = await calls(house, 1), await calls(house, 4)
    partner = await _partner(house)
    for table in ("call", "lease"):
        await house.rows(f"UPDATE {table} SET partner_id = $1 WHERE call_id = $2", partner, mine[0])
    minute = "now() - interval '1 minute', now() - interval '1 minute', now() + interval '1 minute', now()"
    row = await house.row(f"SELECT * FROM rollout_sample_v1($1, {minute})", partner)
    assert (row["live"], row["asked"], row["cps_peak"]) == (1, 1, 1)
    row = await house.row(f"SELECT * FROM rollout_sample_v1(NULL, {minute})")
    assert (row["live"], row["asked"]) == (5, 5)


@pytest.mark.breaks_books
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_calls_of_before_are_not_read(rolling: Rolling, conn: Connection, mode: str) -> None:
    await conn.execute(
        "INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, a_number, dialled, state, ended_at)"
        " SELECT uuidv7(interval '-1 hour'), switch_id, '', '', '', '', 'answered', now()"
        " FROM switch, generate_series(1, 5000)"
    )
    await conn.execute(
        "INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, ended_at, currency, buy, pdd_ms)"
        " SELECT call_id, 1, gen_random_uuid(), 'answered', 'unknown', now(), 'EUR', '{}', 1 FROM call"
    )
    await calls(rolling.house, 3)
    await conn.execute(f"SET plan_cache_mode = {mode}; ANALYZE")
    read = """SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid))::bigint
                FROM pg_class WHERE relkind IN ('r', 'i') AND relname ~ '^(call|attempt|lease)(_|$)'"""
    for partner in (None, UUID(int=1)):
        async with conn.transaction():
            before = await conn.fetchval(read)
            await conn.fetchrow(
                "SELECT * FROM rollout_sample_v1($1, now() - interval '1 minute', now(), now(), now())",
                partner,
            )
            assert await conn.fetchval(read) - before < READ_MAX


async def test_a_breach_pauses_the_window_at_the_next_look(rolling: Rolling) -> None:
    partner = await _partner(rolling.house)
    await rolling.house.rows("UPDATE rollout SET partner_id = $1", partner)
    window_id = await window(rolling, LIVE)
    await begin(rolling)
    *theirs, ours = await calls(rolling.house, 4)
    await rolling.house.rows("UPDATE lease SET partner_id = $1 WHERE call_id = ANY ($2)", partner, theirs[:2])
    assert list(await look(rolling)) == []
    await rolling.house.rows("UPDATE lease SET partner_id = $1 WHERE call_id <> $2", partner, ours)
    assert list(await look(rolling)) == [Ended(window_id, "failed", "live_max", 3, 2)]
    assert (await rolling.window_state(window_id))[:2] == ("paused", "trial")
    assert (await told(rolling))[-2:] == ["window.paused", "trial.failed"]
    event = json.loads(await rolling.house.value("SELECT data FROM event WHERE kind = 'trial.failed'"))
    assert (event["threshold"], event["value"], event["limit"], event["verdict"]) == (
        "live_max",
        3,
        2,
        "failed",
    )
    assert event["window_id"] == f"win_{window_id.hex}"
    assert list(await look(rolling)) == []


async def test_a_trial_that_was_resumed_begins_anew(rolling: Rolling) -> None:
    window_id = await window(rolling, {"refusal_rate_max": 0.1, "attempts_min": 1}, 60)
    await begin(rolling)
    await rolling.house.rows(
        "INSERT INTO call (switch_id, uniqueid, sip_call_id, a_number, dialled, state, refuse_reason, ended_at)"
        " SELECT switch_id, '', '', '', '', 'refused', 'overloaded', now() FROM switch"
    )
    assert [one.verdict for one in await look(rolling, 50) if isinstance(one, Ended)] == ["failed"]
    assert await rolling.set(window_id, "open")
    await begin(rolling)
    # What was refused before it was resumed is not held against it, and the fifty seconds before do not count.
    await rolling.house.rows(
        "UPDATE trial SET sampled_at = sampled_at - interval '1 s' WHERE ended_at IS NULL"
    )
    assert list(await Trials(rolling.house.pool, 0).step()) == []
    await goes_by(rolling, 0)
    runs = await rolling.house.rows("SELECT verdict, refused FROM trial ORDER BY trial_id")
    assert [tuple(run) for run in runs] == [("failed", 1), ("running", 0)]


async def test_a_passed_trial_opens_the_next_window(rolling: Rolling) -> None:
    following = await rolling.window(state="planned", quota=100)
    first = await window(rolling, {"live_max": 10, "calls_min": 3}, 60, next_window_id=following)
    await begin(rolling)
    assert list(await look(rolling, 61)) == []  # nobody has called
    await calls(rolling.house, 3)
    assert list(await look(rolling, 5)) == [Ended(first, "passed")]
    assert (await rolling.window_state(first))[:2] == ("closed", "trial")
    assert (await rolling.window_state(following))[:2] == ("open", "trial")
    assert (await told(rolling))[-3:] == ["window.closed", "trial.passed", "window.open"]
    async with rolling.house.pool.acquire() as conn:
        (run,) = await trials(conn, first, rolling.rollout_id)
    assert (run["verdict"], run["calls"], run["next_opened"]) == ("passed", 3, True)
    measures = json.loads(run["measures"])
    assert measures["live_max"][0] == 3
    assert measures["asr_min"] == [None, None]  # nobody has answered or given up
    assert measures["database_ms_max"][0] > 0


async def test_a_next_window_that_cannot_open_is_told(rolling: Rolling) -> None:
    following = await rolling.window(state="planned")
    first = await window(rolling, LIVE, 1, next_window_id=following)
    await rolling.set(following, "closed")
    await begin(rolling)
    assert list(await look(rolling, 2)) == [Ended(first, "passed")]
    assert await rolling.house.value("SELECT next_opened FROM trial") is False


async def test_two_keepers_see_it_once(rolling: Rolling) -> None:
    following = await rolling.window(state="planned")
    await window(rolling, {"live_max": 10}, 1, next_window_id=following)
    keepers = [Trials(rolling.house.pool, 0) for _ in range(8)]
    assert not any(await at_once([keeper.step for keeper in keepers]))
    assert await rolling.house.value("SELECT count(*) FROM trial") == 1
    await calls(rolling.house, 2)
    await goes_by(rolling, 4)
    found = [one for each in await at_once([keeper.step for keeper in keepers]) for one in each]
    assert [one.verdict for one in found] == ["passed"]
    assert await rolling.house.value("SELECT calls FROM trial") == 2
    kinds = await told(rolling)
    assert (kinds.count("trial.passed"), kinds.count("window.closed"), kinds.count("window.open")) == (
        1,
        1,
        2,
    )


async def test_what_a_keeper_leaves_another_goes_on_with(rolling: Rolling, dsn: str) -> None:
    """One dies in the midst of a look: nothing of it is there, and every call is counted once."""
    await window(rolling, {"live_max": 10, "calls_min": 4}, 5)
    await begin(rolling)
    await calls(rolling.house, 2)
    assert list(await look(rolling, 3)) == []
    assert await rolling.house.value("SELECT calls FROM trial") == 2
    pool = await open_pool(Database(pool_max=4, statement_timeout_s=30), dsn, lock_timeout_s=30)
    dying = Trials(pool, 0)
    await calls(rolling.house, 2)
    await goes_by(rolling, 3)
    async with rolling.house.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE trial_sample IN ACCESS EXCLUSIVE MODE")
        looking = asyncio.create_task(dying.step())
        await cut_off(rolling)
        with pytest.raises(StoreUnavailable):
            await looking
    pool.terminate()
    assert await rolling.house.value("SELECT calls FROM trial") == 2
    assert [one.verdict for one in await first(partial(look, rolling, 0)) if isinstance(one, Ended)] == [
        "passed"
    ]
    assert await rolling.house.value("SELECT calls FROM trial") == 4


async def test_time_in_which_nobody_looked_proves_nothing(rolling: Rolling) -> None:
    await window(rolling, LIVE, 60)
    await begin(rolling)
    await rolling.house.rows(
        "UPDATE trial SET began_at = began_at - interval '1 hour', clock_at = clock_at - interval '1 hour',"
        " sampled_at = sampled_at - interval '1 hour'"
    )
    assert list(await Trials(rolling.house.pool, 0).step()) == []
    assert await rolling.house.value("SELECT now() - clock_at < interval '15 seconds' FROM trial")


async def test_a_database_that_did_not_answer_is_told_once_it_does(
    rolling: Rolling,
) -> None:
    window_id = await window(rolling, {"database_ms_max": 1000}, 60)
    await begin(rolling)
    keeper = Trials(rolling.house.pool, 0)
    await goes_by(rolling, 1)
    async with rolling.house.pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE trial_sample IN ACCESS EXCLUSIVE MODE")
        looking = asyncio.create_task(keeper.step())
        await cut_off(rolling, after_s=1.1)
        with pytest.raises(StoreUnavailable):
            await looking
    (found,) = await first(keeper.step)
    assert isinstance(found, Ended)
    assert (found.window_id, found.verdict, found.which) == (window_id, "failed", "database_ms_max")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rolling, one: rolling.set(one, "paused"), "operator"),
        (lambda rolling, one: rolling.set(one, "closed", "quota"), "quota"),
        (lambda rolling, one: rolling.house.rows(
            "UPDATE rollout_window SET thresholds = '{\"cps_max\": 9}' WHERE window_id = $1", one), "changed"),
        (lambda rolling, one: rolling.house.rows(
            "UPDATE rollout_window SET trial_s = 9 WHERE window_id = $1", one), "changed"),
    ],
    ids=["paused", "full", "other thresholds", "other time"],
)  # fmt: skip
async def test_what_somebody_else_changes_cuts_it_short(rolling: Rolling, change: Any, why: str) -> None:
    window_id = await window(rolling, LIVE, 60)
    await begin(rolling)
    assert list(await look(rolling)) == []
    await change(rolling, window_id)
    assert list(await look(rolling, 100)) == []
    runs = await rolling.house.rows("SELECT verdict, why, measures FROM trial ORDER BY trial_id")
    assert (runs[0]["verdict"], runs[0]["why"]) == ("cut_short", why)
    assert json.loads(runs[0]["measures"])["live_max"][0] == 0
    assert len(runs) == (2 if why == "changed" else 1)
    assert "trial.passed" not in await told(rolling)


async def test_the_kill_switch_is_final(rolling: Rolling) -> None:
    """It comes between a look and its verdict: nothing opens afterwards."""
    following = await rolling.window(state="planned")
    first = await window(rolling, LIVE, 1, next_window_id=following)
    await begin(rolling)
    trial_id = await rolling.house.value("SELECT trial_id FROM trial")
    await rolling.house.value(
        "SELECT rollout_state_set_v1($1, 'killed', 'kill', 'tests', now())", rolling.rollout_id
    )
    came_to = await rolling.house.value(
        "SELECT trial_end_v1($1, 'passed', NULL, NULL, NULL, now())", trial_id
    )
    assert came_to == "cut_short"
    assert (await rolling.window_state(first))[:2] == ("closed", "kill")
    assert (await rolling.window_state(following))[0] == "closed"


async def test_thresholds_nobody_checked_hold_up_no_other_trial(rolling: Rolling) -> None:
    bad = await window(rolling, {"csp_max": 1})
    other_app = await rolling.house.value(
        "INSERT INTO app (name, sip_host) VALUES ('other', '127.0.0.9') RETURNING app_id"
    )
    other = Rolling(
        rolling.house,
        await rolling.house.value(
            "INSERT INTO rollout (app_id, name) VALUES ($1, 'o') RETURNING rollout_id", other_app
        ),
    )
    good = await window(other, LIVE, 1)
    await Trials(rolling.house.pool, 0).step()
    found = await look(rolling, 2)
    assert sorted(type(one).__name__ for one in found) == ["Ended", "Invalid"]
    assert (await rolling.window_state(bad))[0] == "open"
    assert (await rolling.window_state(good))[:2] == ("closed", "trial")


async def test_a_window_without_a_trial_has_none_to_show(rolling: Rolling) -> None:
    window_id = await rolling.window()
    await begin(rolling)
    async with rolling.house.pool.acquire() as conn:
        with pytest.raises(NotFound):
            await trials(conn, window_id)


async def test_of_many_looks_the_worst_of_a_bucket_is_kept(rolling: Rolling) -> None:
    await window(rolling, {"live_max": 10}, 36_000)  # ten seconds a bucket
    await begin(rolling)
    who = await calls(rolling.house, 3)
    keeper = Trials(rolling.house.pool, 0)
    again = partial(
        rolling.house.rows,
        "UPDATE trial SET sampled_at = sampled_at - interval '1 second' WHERE ended_at IS NULL",
    )
    for end in (None, *who):
        if end:
            await rolling.house.end(ended(end))
        await again()
        await keeper.step()
    rows = await rolling.house.rows("SELECT * FROM trial_sample ORDER BY at")
    assert len(rows) <= 2
    assert rows[0]["live"] == 3


async def _partner(house: Seeded) -> UUID:
    async with house.store.batch() as conn:
        partner: UUID = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
        await conn.execute("UPDATE partner SET keeps_events = true")
        return partner
