"""Tests of the schema and its functions: a seeded database for each, whose books must be sound in the end, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.seeded import Seeded, seeded


@pytest.fixture
async def house(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Seeded]:
    async with seeded(dsn) as made:
        yield made
        if not request.node.get_closest_marker("breaks_books"):
            assert not await made.broken()
