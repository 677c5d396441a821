"""What tests of every kind share: the programs, one PostgreSQL for the run, and fresh, migrated databases on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
import structlog

from bridge.config import Database
from bridge.database import Connection, connect, open_pool
from bridge.sandbox.fetch import AsteriskInstall, default_cache, find_asterisk, find_sipp
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.progress import silent
from tests.databases import MEMORY, copy_database, make_template

# An exception is told as in production. With all its locals, as structlog does by itself, it takes seconds.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

MEMORY_BYTES = 4 << 30

_serial = count(1)


@pytest.fixture(scope="session")
def install() -> AsteriskInstall:
    return find_asterisk(None, default_cache(), silent)


@pytest.fixture(scope="session")
def sipp() -> tuple[str, ...]:
    return find_sipp(default_cache(), silent)


@pytest.fixture(scope="session")
def quick_dir() -> Iterator[Path]:
    """For servers whose data need not outlive the machine: in memory where there is room.

    A database is some thousand files: to copy and remove them for each test takes a disk five times as long.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    made = Path(tempfile.mkdtemp(prefix="callbridge-tests-", dir=MEMORY if roomy else None))
    made.chmod(0o755)  # a server runs as another user where the tests are root
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def postgres(quick_dir: Path) -> Iterator[EmbeddedPostgres]:
    """The run's server. Nothing on it outlives the run, so it need not be durable."""
    with EmbeddedPostgres(quick_dir / "cluster", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    return make_template(postgres)


@pytest.fixture
def database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The name of a fresh database, for this test alone."""
    name = f"test_{next(_serial)}"
    copy_database(postgres, template, name)
    yield name
    postgres.drop_database(name)


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, database: str) -> str:
    return postgres.dsn(database)


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[Connection]:
    """A connection to the fresh database."""
    async with connect(dsn) as conn:
        yield conn


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """The product's own pool on the fresh database."""
    pool = await open_pool(Database(), dsn)
    yield pool
    await pool.close()
