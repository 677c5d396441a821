"""Numbered migrations: sql/migrations/NNNN_name.sql, each once, in order, in a transaction, under one lock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from bridge.database import Connection
from bridge.errors import ConfigError, StoreError
from bridge.resources import SQL

SERVER_VERSION_MIN: Final = 180000
_LOCK: Final = 0x63616C6C62726467  # "callbrdg"


@dataclass(frozen=True, slots=True)
class Migration:
    """checksum: SHA-256 of the file; an applied file must never change."""

    number: int
    name: str
    text: str
    checksum: str


def migrations() -> list[Migration]:
    """All of them, in order."""
    found = []
    for path in sorted((SQL / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql")):
        text = path.read_text()
        found.append(
            Migration(int(path.name[:4]), path.stem, text, hashlib.sha256(text.encode()).hexdigest())
        )
    return found


async def migrate(conn: Connection) -> list[str]:
    """Bring the database up to date. Returns the names applied now; nothing when there was nothing to do.

    raises   ConfigError: the server is too old · StoreError: an applied migration has changed since
    """
    if conn.get_server_version().major * 10000 < SERVER_VERSION_MIN:
        raise ConfigError(
            "database.dsn", f"PostgreSQL {conn.get_server_version().major} is too old", "Use 18 or newer."
        )
    applied: list[str] = []
    await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        done = await _done(conn)
        for migration in migrations():
            if migration.number in done:
                if done[migration.number] != migration.checksum:
                    raise StoreError(f"{migration.name} was applied and has changed since: restore the file")
                continue
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0")
                await conn.execute(migration.text)
                await conn.execute(
                    "INSERT INTO public.callbridge_migration (number, name, checksum) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
            applied.append(migration.name)
        await conn.execute("SELECT bridge.partition_ensure_v1(3)")
    finally:
        await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return applied


async def ensure_current(conn: Connection) -> None:
    """Refuse to work on a database of another version.

    raises   ConfigError naming the command that mends it
    """
    known = {migration.number: migration.checksum for migration in migrations()}
    if await _done(conn, create=False) != known:
        raise ConfigError("database.dsn", "the database is of another version", "Run `callbridge migrate`.")


async def _done(conn: Connection, *, create: bool = True) -> dict[int, str]:
    if create:
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS public.callbridge_migration (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    elif not await conn.fetchval("SELECT to_regclass('public.callbridge_migration') IS NOT NULL"):
        return {}
    rows = await conn.fetch("SELECT number, checksum FROM public.callbridge_migration")
    return {row["number"]: row["checksum"] for row in rows}
