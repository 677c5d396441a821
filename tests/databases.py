"""A migrated, empty database, and copies of it: a copy takes a tenth of what the migrations take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from bridge.database import connect
from bridge.migrate import migrate
from bridge.sandbox.postgres import EmbeddedPostgres

MEMORY: Final = Path("/dev/shm")
TEMPLATE: Final = "template_callbridge"


def make_template(server: EmbeddedPostgres) -> str:
    """The name of a database on it that is migrated and empty, for others to be copied from."""
    server.create_database(TEMPLATE)

    async def prepare() -> None:
        async with connect(server.dsn(TEMPLATE)) as conn:
            await migrate(conn)

    asyncio.run(prepare())
    return TEMPLATE


def copy_database(server: EmbeddedPostgres, template: str, name: str) -> None:
    strategy = "FILE_COPY" if MEMORY in server.root.parents else "WAL_LOG"  # each the quicker one there
    server.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {strategy}")
