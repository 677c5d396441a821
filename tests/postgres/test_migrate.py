"""Migrations lead to schema.sql, each once, and never silently to anything else."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bridge import migrate as module
from bridge.database import Connection, connect
from bridge.errors import ConfigError, StoreError
from bridge.migrate import ensure_current, migrate, migrations
from bridge.resources import SQL
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.seeded import at_once

# Other databases of the server may have keepers of theirs.
LOCKS_HERE = """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = pg_locks.database
                 WHERE locktype = 'advisory' AND d.datname = current_database()"""


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with nothing in it."""
    postgres.create_database("empty")
    yield "empty"
    postgres.drop_database("empty")


def dump(postgres: EmbeddedPostgres, database: str) -> list[str]:
    """The layout as pg_dump writes it, without comments, blank lines and the bookkeeping of migrations."""
    argv = (
        str(postgres.bin("pg_dump")),
        "-s",
        "-O",
        "-T",
        "public.callbridge_migration",
        postgres.dsn(database),
    )
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if line and not line.startswith(("--", "\\"))]


async def test_migrations_lead_to_the_schema(postgres: EmbeddedPostgres, database: str, empty: str) -> None:
    async with connect(postgres.dsn(empty)) as conn:
        await conn.execute((SQL / "schema.sql").read_text())
        await conn.execute("SELECT bridge.partition_ensure_v1(3)")
    declared, reached = dump(postgres, empty), dump(postgres, database)
    assert len(declared) > 500
    assert "\n".join(difflib.unified_diff(declared, reached, "schema.sql", "migrations", lineterm="")) == ""


async def test_the_second_run_finds_nothing_to_do(postgres: EmbeddedPostgres, empty: str) -> None:
    async with connect(postgres.dsn(empty)) as conn:
        with pytest.raises(ConfigError, match="callbridge migrate"):
            await ensure_current(conn)
        assert await migrate(conn) == [one.name for one in migrations()]
        await ensure_current(conn)
        before = dump(postgres, empty)
        assert await migrate(conn) == []
    assert dump(postgres, empty) == before


async def test_two_at_once_apply_each_migration_once(postgres: EmbeddedPostgres, empty: str) -> None:
    async def run() -> list[str]:
        async with connect(postgres.dsn(empty)) as conn:
            return await migrate(conn)

    applied = await at_once([run] * 4)
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]
    async with connect(postgres.dsn(empty)) as conn:
        await ensure_current(conn)


async def test_an_applied_migration_that_changed_is_refused(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [replace(one, checksum="0" * 64) for one in migrations()]
    monkeypatch.setattr(module, "migrations", lambda: changed)
    with pytest.raises(StoreError, match=f"{changed[0].name} was applied and has changed"):
        await migrate(conn)
    with pytest.raises(ConfigError, match="another version"):
        await ensure_current(conn)
    assert await conn.fetchval(LOCKS_HERE) == 0


async def test_a_migration_that_fails_leaves_nothing(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    (*known, last) = migrations()
    broken = replace(
        last, number=9999, name="9999_broken", text="CREATE TABLE half (); SELECT 1 / 0", checksum="c"
    )
    monkeypatch.setattr(module, "migrations", lambda: [*known, last, broken])
    with pytest.raises(Exception, match="division by zero"):
        await migrate(conn)
    assert await conn.fetchval("SELECT to_regclass('half')") is None
    assert await conn.fetchval(LOCKS_HERE) == 0
    monkeypatch.undo()
    await ensure_current(conn)


async def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch, conn: Connection) -> None:
    monkeypatch.setattr(module, "SERVER_VERSION_MIN", 990000)
    with pytest.raises(ConfigError, match="too old"):
        await migrate(conn)
