"""A fresh database and application for each test, whose books must be sound in the end, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.scene import Api, api_scene


@pytest.fixture
async def api(dsn: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    async with api_scene(dsn, tmp_path) as made:
        yield made
        if not request.node.get_closest_marker("breaks_books"):
            assert not await made.house.broken()
