from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.asterisk.click.clicks import Clicks, clicks
from tests.asterisk.onnet.users import Users, users_of
from tests.asterisk.scene import Scene


@pytest.fixture
def click(scene: Scene) -> Clicks:
    return clicks(scene)


@pytest.fixture
def users(scene: Scene) -> Iterator[Users]:
    with users_of(scene) as made:
        yield made
