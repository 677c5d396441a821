"""What the README promises: `callbridge up` prints a link, and whoever opens it has a phone."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.house import BERLIN
from tests.browser.phone import new_phone

CALLBRIDGE = Path(sys.executable).with_name("callbridge")


async def callbridge(state: Path, *words: str) -> str:
    running = await asyncio.create_subprocess_exec(
        CALLBRIDGE,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"XDG_STATE_HOME": str(state)},
    )
    said, complained = await running.communicate()
    assert running.returncode == 0, complained.decode()
    return said.decode()


@asynccontextmanager
async def sandbox(state: Path) -> AsyncIterator[str]:
    """What it says when it is up."""
    try:
        yield await callbridge(state, "up")
    finally:
        await callbridge(state, "down")


@pytest.mark.timeout(240)
async def test_a_person_starts_the_sandbox_opens_the_link_and_calls(
    browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with sandbox(tmp_path) as said:
        link = re.search(r"http://\S+/phone#\S+", said)
        assert link, said
        phone = await new_phone(browser, request.node.name, "person")
        await phone.sign_in(link[0])
        await phone.call(f"{BERLIN}000")
        await phone.is_in_call()
        await phone.talks()
        await phone.press("hangup")
        await phone.is_over()
        (row,) = await phone.history()
        assert row["state"] == "answered"
        await phone.close()
    assert not phone.faults
