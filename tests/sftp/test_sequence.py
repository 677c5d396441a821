"""The numbered files of a recipient on its SFTP server, whatever happens: no gap, no second, each whole."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from bridge.config import Database, Settings
from bridge.database import Connection, open_pool
from bridge.exports.spans import Every
from bridge.exports.store.cdr_files import add_recipient
from bridge.jobs.runner import Runner
from bridge.jobs.work import WORK, Task, Undelivered
from tests.jobs import job_processes
from tests.sftp.server import Stage

IN_TIME_S = 20


@dataclass
class Line:
    """A recipient with some hours of files to be delivered."""

    partner: Stage
    settings: Settings
    conn: Connection
    recipient_id: UUID

    async def deliver(self) -> None:
        await WORK["cdr_files"].do(Task(self.settings, self.conn, {"recipient_id": str(self.recipient_id)}))

    async def whole(self) -> None:
        """All is there, once: numbers without gaps, each with its sum and its manifest, and we know it."""
        there = self.partner.there()
        rows = await self.conn.fetch("SELECT * FROM cdr_file ORDER BY file_no")
        assert len(rows) >= 3
        assert {one["state"] for one in rows} == {"delivered"}
        names = [one["name"] for one in rows]
        assert [int(re.findall(r"_([0-9]{8})_", name)[0]) for name in names] == list(range(1, len(rows) + 1))
        assert set(there) == {name + end for name in names for end in ("", ".sha256", ".json")}
        for one in rows:
            content = there[one["name"]]
            assert hashlib.sha256(content).digest() == one["sha256"]
            assert json.loads(there[one["name"] + ".json"])["sha256"] == one["sha256"].hex()
        assert self.partner.trouble.renamed == [
            name + end for name in names for end in ("", ".sha256", ".json")
        ]


@pytest.fixture
async def line(partner: Stage, conn: Connection, dsn: str, tmp_path: Path) -> Line:
    exports = partner.settings.model_copy(update={"folder": tmp_path / "exports", "lag_s": 5})
    settings = Settings(database=Database(dsn=SecretStr(dsn)), exports=exports)
    target = partner.target
    recipient_id = await add_recipient(
        conn,
        "partner",
        None,
        types=["cdr"],
        form="csv",
        every=Every.HOURLY,
        zone="UTC",
        target={
            "kind": "sftp",
            "host": "127.0.0.1",
            "port": target.port,
            "user": target.user,
            "folder": target.folder,
            "host_key": target.host_key,
        },
        since_at=datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=4),
    )
    return Line(partner, settings, conn, recipient_id)


async def test_all_arrive_and_nothing_twice(line: Line) -> None:
    await line.deliver()
    await line.whole()
    await line.deliver()
    await line.whole()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"rename": "refused"}, "renaming"),
        ({"rename": "refused", "rename_of": "_00000002_"}, "renaming"),
        ({"rename": "refused", "rename_of": ".json"}, "renaming"),
        ({"rename": "unanswered", "rename_of": ".csv.gz"}, "connection was lost"),
        ({"rename": "unanswered", "rename_of": ".json"}, "connection was lost"),
        ({"room": 0}, "No space left"),
        ({"room": 500}, "No space left"),
        ({"drop_at": 1}, "connection was lost"),
        ({"drop_at": 700}, "connection was lost"),
    ],
)
async def test_after_trouble_the_sequence_goes_on(line: Line, trouble: dict[str, Any], said: str) -> None:
    quiet = replace(line.partner.trouble)
    for name, value in trouble.items():
        setattr(line.partner.trouble, name, value)
    with pytest.raises(Undelivered, match=f"partner: .*{said}"):
        await line.deliver()
    planned = await line.conn.fetch("SELECT file_no, name, sha256, state FROM cdr_file ORDER BY file_no")
    assert {one["state"] for one in planned} > {"planned"} or {one["state"] for one in planned} == {
        "planned",
        "written",
    }
    for name in trouble:
        setattr(line.partner.trouble, name, getattr(quiet, name))
    await line.deliver()
    await line.whole()
    kept = await line.conn.fetch("SELECT file_no, name FROM cdr_file ORDER BY file_no")
    assert [tuple(one) for one in kept] == [(one["file_no"], one["name"]) for one in planned]


@pytest.mark.parametrize("of", [".csv.gz", ".sha256", ".json"])
async def test_killed_between_a_rename_and_what_follows(line: Line, of: str) -> None:
    """The process is killed for good while the server has renamed and not said so."""
    trouble = line.partner.trouble
    trouble.rename, trouble.rename_of = "silent", of
    pool: asyncpg.Pool = await open_pool(Database(pool_max=2), line.settings.database.dsn.get_secret_value())
    runner = Runner(pool, line.settings, {"cdr_files": WORK["cdr_files"]})
    try:
        await runner.begin_due()
        key = await line.conn.fetchval("SELECT key FROM job")
        working = asyncio.create_task(runner.do_key(key))
        async with asyncio.timeout(IN_TIME_S):
            await trouble.silent.wait()
        [pid] = job_processes()
        os.kill(pid, signal.SIGKILL)
        outcome = await working
        assert outcome is not None
        assert outcome.problem == "It ended by signal SIGKILL before it was through."
        trouble.rename = ""
        again = await runner.do_key(key)
        assert again is not None
        assert again.problem is None
    finally:
        await pool.close()
    await line.whole()
