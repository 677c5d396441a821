"""A house of its own for every scenario, for its parts are killed, on a server whose commits survive that."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.chaos.house import House, build_house
from tests.databases import TEMPLATE, make_template

Build = Callable[..., House]

HOUSE = pytest.StashKey[House]()
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def cluster(quick_dir: Path) -> Iterator[EmbeddedPostgres]:
    """It need not outlive the machine: what was committed survives its own death in the kernel's memory."""
    root = quick_dir / "chaos"
    with EmbeddedPostgres(root, durable=False, settings={"synchronous_commit": "on"}) as server:
        make_template(server)
        yield server


@pytest.fixture
def sturdy(cluster: EmbeddedPostgres) -> EmbeddedPostgres:
    """The server of all houses, running, whatever the test before has done to it."""
    cluster.start()
    return cluster


@pytest.fixture
def build(
    sturdy: EmbeddedPostgres,
    install: AsteriskInstall,
    sipp: tuple[str, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Build]:
    """Builds the test's house as `build_house` takes it. When the test has passed, its books are proved."""
    with ExitStack() as houses:

        def build(**given: Any) -> House:
            house = houses.enter_context(build_house(sturdy, TEMPLATE, install, sipp, tmp_path, **given))
            request.node.stash[HOUSE] = house
            return house

        yield build
        if HOUSE in request.node.stash and FAILED not in request.node.stash:
            request.node.stash[HOUSE].prove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A scenario that fails shows what bridge, switch and SIPp said."""
    report = yield
    if report.failed and HOUSE in item.stash:
        item.stash[FAILED] = True
        report.sections += item.stash[HOUSE].report()
    return report
