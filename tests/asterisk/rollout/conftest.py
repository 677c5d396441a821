"""A stack of its own: two workers that take on as much as comes, and apps that are rolled out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.stack import Stack
from tests.asterisk.rollout.rolling import RolloutWorld


@pytest.fixture(scope="module")
def world() -> RolloutWorld:
    return RolloutWorld()


@pytest.fixture(scope="module")
def stack(
    install: AsteriskInstall,
    postgres: EmbeddedPostgres,
    world: RolloutWorld,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("rollout")
    with Stack(root, install, postgres, database="rollouts", workers=2, overrides=world.overrides) as made:
        made.prepare(world.seed)
        made.start()
        yield made
