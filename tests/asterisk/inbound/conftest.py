from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.asterisk.inbound.network import ABROAD_HOST, HOME_HOST, Carrier
from tests.asterisk.onnet.users import Users, users_of
from tests.asterisk.scene import Scene


@pytest.fixture
def users(scene: Scene) -> Iterator[Users]:
    with users_of(scene) as made:
        yield made


@pytest.fixture
def home(scene: Scene) -> Iterator[Carrier]:
    """A carrier of this country that may call in."""
    made = Carrier(scene, HOME_HOST)
    yield made
    made.close()


@pytest.fixture
def abroad(scene: Scene) -> Iterator[Carrier]:
    made = Carrier(scene, ABROAD_HOST, origin="foreign")
    yield made
    made.close()
