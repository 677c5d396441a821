"""The manager connection against the real switch.

A call is two halves of a Local channel, one in our own context, so no trunk and no phone is needed. The manager's user
needs read=system,call and write=system,call,config,reporting,originate; the switch needs pbx_config and func_timeout.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol

import pytest

from bridge.asterisk.ami import Ami, AmiRefused, AmiSettings
from bridge.asterisk.ami_events import Event, Hangup, LiveChannel
from bridge.errors import ChannelGone, SwitchUnavailable

DEADLINE_S = 20.0


class RunningSwitch(Protocol):
    """What this file needs of the fixture `switch`."""

    @property
    def ami_settings(self) -> AmiSettings: ...
    def cli(self, command: str) -> str: ...
    def kill9(self) -> None: ...
    def start(self) -> None: ...


class Line:
    """An Ami on the real switch, and what it told."""

    def __init__(self, settings: AmiSettings) -> None:
        self.ami = Ami(settings, on_up=self._up, on_down=self._down, on_event=self._event)
        self.down, self.up_again = asyncio.Event(), asyncio.Event()
        self._hangups: asyncio.Queue[Hangup] = asyncio.Queue()

    async def _up(self) -> None:
        if self.down.is_set():
            self.up_again.set()

    async def _down(self) -> None:
        self.down.set()

    async def _event(self, event: Event) -> None:
        if isinstance(event, Hangup):
            self._hangups.put_nowait(event)

    async def hangup_of(self, uniqueid: str) -> Hangup:
        async with asyncio.timeout(DEADLINE_S):
            while (event := await self._hangups.get()).uniqueid != uniqueid:
                pass
            return event

    async def call(self) -> LiveChannel:
        """Start one answered call; its far half, which runs our dialplan."""
        linkedid = f"ami-{uuid.uuid4().hex}"
        reply = await self.ami.action(
            "Originate",
            Channel="Local/answer@ami-test",
            Application="Wait",
            Data=60,
            ChannelId=linkedid,
            CallerID="Zoë Voilà <+493023125001>",
            Async="true",
        )
        assert reply.events[-1]["response"] == "Success"
        halves = [each for each in await self.ami.channels() if each.linkedid == linkedid]
        assert {each.uniqueid for each in halves} == {linkedid, f"{linkedid};2"}
        return next(each for each in halves if each.uniqueid.endswith(";2"))


@asynccontextmanager
async def line(settings: AmiSettings) -> AsyncIterator[Line]:
    each = Line(settings)
    running = asyncio.create_task(each.ami.run())
    try:
        yield each
    finally:
        assert not running.done(), running
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def live(switch: RunningSwitch) -> AsyncIterator[Line]:
    for step in ("answer,1,Answer", "answer,2,Wait,60", "silent,1,Wait,60"):
        await asyncio.to_thread(switch.cli, f"dialplan add extension {step} into ami-test replace")
    async with line(replace(switch.ami_settings, backoff_s_max=0.5)) as each:
        await each.ami.wait_up(DEADLINE_S)
        yield each


async def test_the_end_of_a_live_call_is_moved(live: Line) -> None:
    far = await live.call()
    assert far.state == "Up"
    await live.ami.setvar(far.channel, "TIMEOUT(absolute)", 3600)
    assert 3590 < float(await live.ami.getvar(far.channel, "TIMEOUT(absolute)")) <= 3600
    await live.ami.setvar(far.channel, "TIMEOUT(absolute)", 1)
    assert (await live.hangup_of(far.uniqueid)).channel == far.channel


async def test_variables_keep_their_characters(live: Line) -> None:
    far = await live.call()
    for value in ("Voilà", "Zoë 🎈", 'a "b" \\c;d|e,f$1', "x" * 1000, ""):
        await live.ami.setvar(far.channel, "TEXT", value)
        assert await live.ami.getvar(far.channel, "TEXT") == value
    await live.ami.hangup(far.channel, 16)


async def test_a_call_is_ended_with_our_cause_and_then_is_gone(live: Line) -> None:
    far = await live.call()
    await live.ami.hangup(far.channel, 34)
    assert await live.hangup_of(far.uniqueid) == Hangup(far.channel, far.uniqueid, 34)
    for action in (
        live.ami.hangup(far.channel, 16),
        live.ami.setvar(far.channel, "TEXT", "x"),
        live.ami.getvar(far.channel, "TEXT"),
    ):
        with pytest.raises(ChannelGone):
            await action
    assert far.uniqueid not in {each.uniqueid for each in await live.ami.channels()}


async def test_reload(live: Line) -> None:
    await live.ami.reload("pbx_config.so")
    with pytest.raises(AmiRefused, match="No such module"):
        await live.ami.reload("no_such_module")


async def test_a_wrong_secret_is_refused(switch: RunningSwitch) -> None:
    async with line(replace(switch.ami_settings, secret="wrong")) as each:
        with pytest.raises(SwitchUnavailable, match="refused: Authentication failed"):
            await each.ami.wait_up(3)
        assert each.ami.state == "refused"


async def test_a_killed_switch_is_noticed_rejoined_and_told_nothing_twice(
    live: Line, switch: RunningSwitch
) -> None:
    ringing = asyncio.create_task(
        live.ami.action(
            "Originate", timeout_s=60, Channel="Local/silent@ami-test", Application="Wait", Async="true"
        )
    )
    async with asyncio.timeout(DEADLINE_S):
        while not any("silent@ami-test" in each.channel for each in await live.ami.channels()):
            pass
        switch.kill9()
        with pytest.raises(SwitchUnavailable):
            await ringing
        await live.down.wait()
        with pytest.raises(SwitchUnavailable):
            await live.ami.channels()
        await asyncio.to_thread(switch.start)
        await live.up_again.wait()
        assert await live.ami.channels() == []
