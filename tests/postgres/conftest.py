"""Tests of the schema and its functions: a seeded database for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.seeded import Seeded, seeded


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[Seeded]:
    async with seeded(dsn) as made:
        yield made
