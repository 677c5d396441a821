"""One browser and one house for the run; a stage of its own, with fresh users, for each test.

Everything of a browser belongs to one event loop, so these fixtures and tests share the session's.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from bridge.sandbox.chromium import BrowserInstall, find_chromium
from bridge.sandbox.fetch import AsteriskInstall, default_cache
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.progress import silent
from tests.browser.house import House
from tests.browser.stage import Stage

# As in a desktop's browser, but that the microphone is a tone and nobody is asked for leave to use it. There is no
# --allow-loopback-in-peer-connection: a person has none either.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def chromium() -> BrowserInstall:
    """A browser that is missing is a failure: its message says how to come by one."""
    return find_chromium(default_cache(), silent)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: BrowserInstall) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium.program,
            env={**os.environ, **chromium.env},
            args=FLAGS,
            chromium_sandbox=False,  # it needs user namespaces, which a container seldom has
        )
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def house(
    install: AsteriskInstall, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("browser"), install, postgres) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def stage(browser: Browser, house: House, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with Stage(house, browser, request.node.name) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what pages, bridge and switch said."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and isinstance(stage, Stage):
        report.sections += stage.report()
    return report
