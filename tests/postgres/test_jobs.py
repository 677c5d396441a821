"""Jobs on a real database, in real processes: one at a time, ended in time, killed, lost, tried again, given up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from bridge import queries
from bridge.config import Database, Exports, Settings
from bridge.database import Connection, connect, open_pool
from bridge.errors import Conflict, NotFound
from bridge.exports import extract
from bridge.exports.store import export
from bridge.jobs import store
from bridge.jobs.process import LEASH_GONE, NICE, plain
from bridge.jobs.runner import PROBLEM_LOST, Runner
from bridge.jobs.work import WORK
from bridge.observe.metrics import render
from bridge.observe.requests import Requests
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.command import Callbridge
from tests.jobs import job_processes

SEAL = {"seal": WORK["seal"]}
IN_TIME_S = 20


@pytest.fixture
def settings(dsn: str, tmp_path: Path) -> Settings:
    return Settings(
        database=Database(dsn=SecretStr(dsn)), exports=Exports(folder=tmp_path / "exports", lag_s=5)
    )


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    made = await open_pool(Database(pool_max=4), dsn)
    yield made
    await made.close()


async def due(conn: Connection) -> None:
    """A seal that is due now."""
    await conn.execute(
        "INSERT INTO job (key, kind, rhythm, time_zone) VALUES ('seal', 'seal', 'often', 'Europe/Berlin')"
    )


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Numbering is at work elsewhere: whoever else numbers waits until this ends."""
    async with connect(dsn) as conn:
        await queries.sequence.lock.run(conn)
        yield


async def row(conn: Connection, key: str = "seal") -> Mapping[str, Any]:
    return await store.job(conn, key)


async def until(conn: Connection, sql: str, *given: object) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while not await conn.fetchval(f"SELECT {sql}", *given):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def waiting(conn: Connection) -> int:
    """The process that waits for the numbering to end elsewhere."""
    await until(conn, "count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    [pid] = job_processes()
    return pid


async def test_it_is_done_and_due_again(pool: asyncpg.Pool, settings: Settings, conn: Connection) -> None:
    await due(conn)
    runner = Runner(pool, settings, SEAL)
    assert await runner.begin_due() == 1
    await runner.settled()
    done = await row(conn)
    assert (done["state"], done["tries"], done["problem"]) == ("done", 0, "")
    assert json.loads(done["said"])["records"] == 0
    assert 0 < (done["due_at"] - done["ended_at"]).total_seconds() <= 300
    assert await queries.sequence.horizon.value(conn) is not None
    assert await runner.begin_due() == 0
    assert runner.figures == {"done": 1, "late_s": 0}
    told = render({"accepted": 0}, 0, Requests(), {}, runner.figures).decode()
    assert 'callbridge_jobs{state="done"} 1.0' in told
    assert 'callbridge_jobs{state="failed"} 0.0' in told


async def test_one_worker_is_at_it_whoever_asks(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str
) -> None:
    await due(conn)
    first, second = Runner(pool, settings, SEAL), Runner(pool, settings, SEAL)
    async with held(dsn):
        assert sum(await asyncio.gather(first.begin_due(), second.begin_due())) == 1
        pid = await waiting(conn)
        assert os.getpriority(os.PRIO_PROCESS, pid) >= NICE
        with pytest.raises(Conflict, match="seal is at work"):
            await second.do_key("seal")
    await asyncio.gather(first.settled(), second.settled())
    assert (await row(conn))["state"] == "done"


async def test_so_many_at_a_time_in_the_whole_house(
    pool: asyncpg.Pool, settings: Settings, conn: Connection
) -> None:
    runner = Runner(pool, settings, SEAL)
    await store.ensure(conn, [])
    for number in range(4):
        await conn.execute("INSERT INTO job (key, kind) VALUES ($1, 'seal')", f"seal {number}")
    claimed = [await store.claim(conn, ["seal"], 2, 60) for _ in range(3)]
    assert [one is not None for one in claimed] == [True, True, False]
    assert await runner.begin_due() == 0


async def test_what_takes_too_long_is_ended_and_tried_later(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it hears nothing."""
    await due(conn)
    monkeypatch.setattr("bridge.jobs.process.END_S", 0.2)
    runner = Runner(pool, settings, {"seal": replace(WORK["seal"], limit_s=5)})
    async with held(dsn):
        await runner.begin_due()
        os.kill(await waiting(conn), signal.SIGSTOP)
        await runner.settled()
    late = await row(conn)
    assert (late["state"], late["tries"]) == ("queued", 1)
    assert late["problem"] == "It took longer than 5 s and was ended."
    assert 0 < (late["due_at"] - late["ended_at"]).total_seconds() <= 60
    assert not job_processes()


async def test_a_killed_process_is_told_and_in_the_end_given_up(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str
) -> None:
    await due(conn)
    told: list[str] = []

    async def given_up(conn: Connection, payload: Mapping[str, Any], problem: str) -> None:
        told.append(problem)

    runner = Runner(pool, settings, {"seal": replace(WORK["seal"], given_up=given_up)})
    async with held(dsn):
        for tries, state in ((1, "queued"), (7, "failed")):
            await runner.begin_due()
            os.kill(await waiting(conn), signal.SIGKILL)
            await runner.settled()
            failed = await row(conn)
            assert (failed["state"], failed["tries"]) == (state, tries)
            assert failed["problem"] == "It ended by signal SIGKILL before it was through."
            await conn.execute("UPDATE job SET tries = 6, due_at = now() WHERE state = 'queued'")
    assert told == ["It ended by signal SIGKILL before it was through."]
    assert (await row(conn))["due_at"] is not None, "a rhythm goes on"
    assert await store.retry(conn, None) == ["seal"]
    await runner.begin_due()
    await runner.settled()
    assert ((await row(conn))["state"], (await row(conn))["problem"]) == ("done", "")


async def test_a_worker_that_stops_lets_it_go(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str
) -> None:
    await due(conn)
    runner = Runner(pool, settings, SEAL)
    async with held(dsn):
        running = asyncio.create_task(runner.run(dsn))
        await waiting(conn)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        left = await row(conn)
        assert (left["state"], left["tries"], left["problem"]) == ("queued", 0, "")
        assert not job_processes()
    other = Runner(pool, settings, SEAL)
    assert await other.begin_due() == 1
    await other.settled()
    assert (await row(conn))["state"] == "done"


async def test_a_worker_that_died_is_followed(
    pool: asyncpg.Pool, settings: Settings, conn: Connection
) -> None:
    runner = Runner(pool, settings, SEAL)
    await store.ensure(conn, [store.Line("seal", "seal", "often", await conn.fetchval("SELECT now()"))])
    dead = await store.claim(conn, ["seal"], 2, 60)
    assert dead is not None
    assert await runner.begin_due() == 0
    await conn.execute("UPDATE job SET leased_until = now() - interval '1 second'")
    assert await runner.begin_due() == 0
    lost = await row(conn)
    assert (lost["state"], lost["problem"], lost["tries"]) == ("queued", PROBLEM_LOST, 1)
    assert lost["due_at"] > lost["ended_at"]
    assert not await store.ended(conn, dead, "done", due_at=None, tries=0), (
        "whoever was taken for dead notes nothing"
    )
    assert not await store.renew(conn, dead, 60)


async def test_a_process_ends_with_its_worker(settings: Settings, conn: Connection, dsn: str) -> None:
    async with held(dsn):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bridge",
            "job",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None
        task = {"kind": "seal", "payload": {}, "settings": plain(settings)}
        child.stdin.write(json.dumps(task).encode() + b"\n")
        await waiting(conn)
        child.stdin.close()
        async with asyncio.timeout(IN_TIME_S):
            assert await child.wait() == LEASH_GONE


async def test_what_is_asked_for_begins_at_once(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await due(conn)
    monkeypatch.setattr("bridge.jobs.runner.LOOK_S", 600)
    runner = Runner(pool, settings, SEAL)
    running = asyncio.create_task(runner.run(dsn))
    try:
        await until(conn, "state = 'done' FROM job WHERE key = 'seal'")
        before = (await row(conn))["ended_at"]
        await conn.execute("UPDATE job SET problem = 'try again'")
        assert await store.retry(conn, "seal") == ["seal"]
        await until(conn, "state = 'done' AND ended_at > $1 FROM job", before)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_extract_is_made_from_end_to_end(
    pool: asyncpg.Pool, settings: Settings, conn: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in one process, made in a second, by way of a third, and nobody looks before the notice comes."""
    monkeypatch.setattr("bridge.jobs.runner.LOOK_S", 600)
    runner = Runner(pool, settings, {"extract": WORK["extract"]})
    running = asyncio.create_task(runner.run(dsn))
    try:
        await until(conn, "count(*) > 0 FROM pg_stat_activity WHERE query ILIKE 'LISTEN%callbridge_jobs%'")
        now = await conn.fetchval("SELECT now()")
        row = await export.add(
            conn,
            None,
            kind="cdr",
            form="csv",
            since=now - timedelta(days=2),
            until=now - timedelta(days=1),
            due_at=now,
        )
        await until(conn, "state <> 'queued' AND state <> 'running' FROM export")
        made = await export.export(conn, row["export_id"])
        assert (made["state"], made["rows"], made["problem"]) == ("done", 0, "")
        home = extract.home(settings, row["export_id"])
        assert {path.name for path in home.iterdir()} == {
            made["name"] + end for end in ("", ".sha256", ".json")
        }
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_cannot_help_is_not_tried_again(
    pool: asyncpg.Pool, settings: Settings, conn: Connection
) -> None:
    now = await conn.fetchval("SELECT now()")
    runner = Runner(pool, settings, {"extract": WORK["extract"]})
    await export.add(conn, None, kind="cdr", form="csv", since=now - timedelta(days=2), until=now, due_at=now)
    await conn.execute("UPDATE job SET payload = jsonb_build_object('export_id', uuidv7())")
    assert await runner.begin_due() == 1
    await runner.settled()
    failed = (await store.jobs(conn))[0]
    assert (failed["state"], failed["due_at"], failed["problem"]) == (
        "failed",
        None,
        "There is no such export.",
    )


async def test_what_is_no_longer_meant_goes(pool: asyncpg.Pool, settings: Settings, conn: Connection) -> None:
    now = await conn.fetchval("SELECT now()")
    await store.ensure(conn, [store.Line("a", "seal", "daily", now), store.Line("b", "seal", "hourly", now)])
    await conn.execute("INSERT INTO job (key, kind) VALUES ('once', 'seal')")
    later = now.replace(year=2030)
    await store.ensure(
        conn, [store.Line("b", "seal", "hourly", later), store.Line("c", "seal", "often", now)]
    )
    assert [one["key"] for one in await store.jobs(conn)] == ["b", "c", "once"]
    assert (await row(conn, "b"))["due_at"] == now, "what has not changed is due when it was"
    await store.ensure(conn, [store.Line("b", "seal", "daily", later)])
    assert (await row(conn, "b"))["due_at"] == later
    with pytest.raises(NotFound):
        await store.retry(conn, "a")


def test_commands(callbridge: Callbridge, dsn: str, postgres: EmbeddedPostgres, database: str) -> None:
    assert "There are no jobs yet" in callbridge("jobs", "list", text=True)
    postgres.sql("INSERT INTO bridge.job (key, kind, rhythm) VALUES ('seal', 'seal', 'often')", database)
    done = json.loads(
        callbridge("jobs", "run", "seal", "--json", text=True).splitlines()[-1]
    )  # the log is above
    assert (done["problem"], done["said"]["records"]) == (None, 0)
    [listed] = callbridge("jobs", "list")
    assert (listed["key"], listed["state"], listed["said"]["records"]) == ("seal", "done", 0)
    shown = callbridge("jobs", "list", text=True)
    assert all(word in shown for word in ("seal", "often", "done", "records 0"))
    assert callbridge("jobs", "retry") == []
    with pytest.raises(NotFound, match="There is no job x"):
        callbridge("jobs", "retry", "x")


def test_every_kind_has_its_time() -> None:
    assert all(0 < one.limit_s <= 6 * 3600 for one in WORK.values())
