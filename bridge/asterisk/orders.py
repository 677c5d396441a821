"""Orders a person gives the switch: reload what was rendered, hang up a call. Each over a manager link of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from bridge.asterisk.ami import Ami, AmiSettings
from bridge.config import Settings

UP_S: Final = 5.0
NORMAL_CLEARING: Final = 16


@asynccontextmanager
async def link(settings: Settings) -> AsyncIterator[Ami]:
    """The manager of the switch, for as long as the block lasts.

    raises   SwitchUnavailable: it does not answer, or does not let us in
    """
    ami = settings.ami
    manager = Ami(AmiSettings(ami.host, ami.port, ami.username, ami.secret.get_secret_value()))
    running = asyncio.create_task(manager.run())
    try:
        await manager.wait_up(UP_S)
        yield manager
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def reload(settings: Settings, modules: Iterable[str]) -> None:
    """Have the switch read its configuration again; calls in progress go on.

    raises   SwitchUnavailable · AmiRefused: a module is not loaded or did not accept its configuration
    """
    async with link(settings) as manager:
        for module in modules:
            await manager.reload(module)


async def hang_up(settings: Settings, channel: str) -> None:
    """End the call of a caller's channel. It is billed like any other.

    raises   SwitchUnavailable · ChannelGone: it has ended by itself
    """
    async with link(settings) as manager:
        await manager.hangup(channel, NORMAL_CLEARING)
