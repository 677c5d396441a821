"""Tests of the schema and its functions: a seeded database for each, whose books must be sound in the end, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import pytest

from bridge.database import Connection, connect
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.command import Callbridge, command
from tests.databases import copy_database
from tests.seeded import Seeded, seeded

# Fills a seeded database. Returns what tests must know of it.
Fill = Callable[[Seeded, Connection], Awaitable[Any]]
Filled = Callable[[Fill], tuple[str, Any]]

_serial = count(1)


@pytest.fixture
async def house(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Seeded]:
    async with seeded(dsn) as made:
        yield made
        if not request.node.get_closest_marker("breaks_books"):
            assert not await made.broken()


@pytest.fixture(scope="module")
def filled(postgres: EmbeddedPostgres, template: str) -> Iterator[Filled]:
    """Fills one database for all tests of a file, which only read it. Returns its DSN, and what `fill` returned."""
    name = f"filled_{next(_serial)}"
    copy_database(postgres, template, name)

    async def work(fill: Fill) -> Any:
        async with seeded(postgres.dsn(name)) as house, connect(postgres.dsn(name)) as conn:
            return await fill(house, conn)

    yield lambda fill: (postgres.dsn(name), asyncio.run(work(fill)))
    postgres.drop_database(name)


@pytest.fixture
def callbridge(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callbridge:
    """The command line on the fresh database."""
    return command(dsn, monkeypatch)
