"""Making files is killed at random points, again and again. In the end everything is as if nobody had."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.database import connect
from bridge.exports.cdr_files import files_agree
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.exporting import BEGIN, lay, recipient
from tests.killing import Forks, leftovers

KILLS = 50
CALLS = 2000
STEP = timedelta(hours=4)  # so much more is due in each run
WITHIN_MS = 150.0  # of a run, at first: the longer runs live, the sooner the next is killed
RUNS_MAX = 200

TYPES = ("cdr", "quality", "correction")


@pytest.fixture
def twins(postgres: EmbeddedPostgres, database: str) -> Iterator[tuple[str, str]]:
    """Two names of databases, the second is not there yet."""
    yield database, f"{database}_twin"
    postgres.drop_database(f"{database}_twin")


async def fill(dsn: str, target: Path) -> None:
    async with connect(dsn) as conn:
        laid = await lay(conn, CALLS)
        where = {"kind": "directory", "path": str(target)}
        await recipient(conn, "ACME", laid.ours, types=TYPES, target=where)
        await recipient(conn, "BETA", laid.carrier, form="parquet", target=where)
        await recipient(conn, "finance", types=("cdr", "quality"), form="jsonl", target=where)


async def test_fifty_kills_leave_no_gap_and_no_double(
    postgres: EmbeddedPostgres, twins: tuple[str, str], tmp_path: Path
) -> None:
    target, made = tmp_path / "target", tmp_path / "made"
    target.mkdir()
    await fill(postgres.dsn(twins[0]), target)
    postgres.create_database(twins[1], template=twins[0])
    chance = random.Random(20261123)
    seen: Counter[str] = Counter()
    words = ("export", "run", "--json", "--until")
    async with connect(postgres.dsn(twins[0])) as conn:
        with Forks(
            CALLBRIDGE__DATABASE__DSN=postgres.dsn(twins[0]), CALLBRIDGE__EXPORTS__FOLDER=str(made)
        ) as forks:
            within_ms, turn = WITHIN_MS, 0
            while seen["killed"] < KILLS and turn < RUNS_MAX:
                turn += 1
                until = (BEGIN + turn * STEP).isoformat()
                status, said = forks.run(*words, until, kill_ms=chance.uniform(0, within_ms))
                assert status in (0, -9), said
                within_ms *= 1.15 if status else 0.7
                seen["killed" if status else "ended"] += 1
                states = await conn.fetch("SELECT state, count(*) AS n FROM cdr_file GROUP BY state")
                seen.update({f"left {row['state']}": 1 for row in states if row["state"] != "delivered"})
                seen["left a part"] += bool(leftovers(target, made))
            end = BEGIN + (turn + 1) * STEP
            status, said = forks.run(*words, end.isoformat())
            assert status == 0, said
    assert seen["killed"] == KILLS and min(seen["left planned"], seen["ended"]) > 2, seen
    assert leftovers(target, made) == []

    calm, undisturbed = tmp_path / "calm", tmp_path / "undisturbed"
    calm.mkdir()
    async with connect(postgres.dsn(twins[1])) as conn:
        await conn.execute(
            "UPDATE cdr_recipient SET target = jsonb_build_object('kind', 'directory', 'path', $1::text)",
            str(calm),
        )
    with Forks(
        CALLBRIDGE__DATABASE__DSN=postgres.dsn(twins[1]), CALLBRIDGE__EXPORTS__FOLDER=str(undisturbed)
    ) as forks:
        status, said = forks.run(*words, end.isoformat())
        assert status == 0, said
    assert content(target) == content(calm)
    assert content(made) == content(undisturbed)
    await prove(postgres.dsn(twins[0]), target)


def content(folder: Path) -> dict[str, str]:
    """Each file's path and hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def prove(dsn: str, target: Path) -> None:
    """By the files alone: numbers, hashes, chain. By the records: each is in one of them."""
    async with connect(dsn) as conn:
        assert not any((await files_agree(conn)).values())
        recipients = await conn.fetch("SELECT * FROM cdr_recipient")
        assert len(recipients) == 3
        for one in recipients:
            for kind in one["types"]:
                manifests = chain(target, kind, one["code"])
                kept = await conn.fetchval(
                    """SELECT count(*) FROM cdr WHERE file_type = $1 AND at < $2::timestamptz
                          AND ($3::uuid IS NULL OR partner_id = $3)""",
                    kind, await conn.fetchval("SELECT max(to_at) FROM cdr_file"), one["partner_id"],
                )  # fmt: skip
                assert sum(told["rows"] for told in manifests) == kept


def chain(target: Path, kind: str, code: str) -> list[dict[str, Any]]:
    """The manifests of a sequence, in order, each proved against its file and the one before."""
    head = f"{kind.upper()}_callbridge_{code}_"
    found = sorted(path for path in target.rglob(f"{head}*.json"))
    manifests = [json.loads(path.read_text()) for path in found]
    assert [told["sequence"] for told in manifests] == list(range(1, len(found) + 1))
    assert len(found) > 5
    for before, told in zip([None, *manifests], manifests, strict=False):
        data = next(target.rglob(told["file"]))
        assert hashlib.sha256(data.read_bytes()).hexdigest() == told["sha256"]
        sums = data.with_name(data.name + ".sha256").read_text()
        assert sums == f"{told['sha256']}  {told['file']}\n"
        assert told["previous"] == (before and {"file": before["file"], "sha256": before["sha256"]})
        assert told["records"]["after"] == (before["records"]["last"] if before else 0)
    return manifests
