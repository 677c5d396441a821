"""What tests of every kind share: the programs, one PostgreSQL for the run, and fresh, migrated databases on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import asyncpg
import pytest
import structlog

from bridge.config import Database
from bridge.database import Connection, connect, open_pool
from bridge.migrate import migrate
from bridge.sandbox.fetch import AsteriskInstall, default_cache, find_asterisk, find_sipp
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.progress import silent

# An exception is told as in production. With all its locals, as structlog does by itself, it takes seconds.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

TEMPLATE = "template_callbridge"

_serial = count(1)


@pytest.fixture(scope="session")
def install() -> AsteriskInstall:
    return find_asterisk(None, default_cache(), silent)


@pytest.fixture(scope="session")
def sipp() -> tuple[str, ...]:
    return find_sipp(default_cache(), silent)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The run's server. Nothing on it outlives the run, so it need not be durable."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "cluster", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a database that is migrated and empty, for others to be copied from."""
    postgres.create_database(TEMPLATE)

    async def prepare() -> None:
        async with connect(postgres.dsn(TEMPLATE)) as conn:
            await migrate(conn)

    asyncio.run(prepare())
    return TEMPLATE


@pytest.fixture
def database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The name of a fresh database, for this test alone."""
    name = f"test_{next(_serial)}"
    postgres.create_database(name, template)
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
