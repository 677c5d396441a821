"""The manager connection against a peer that misbehaves on purpose. Every wait has a deadline, none is a pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from bridge.asterisk.ami import Ami, AmiRefused, AmiSettings
from bridge.asterisk.ami_events import Event, Hangup, Shutdown
from bridge.errors import ChannelGone, LocalProtocolError, RemoteProtocolError, SwitchUnavailable

RECORDED = Path(__file__).parent.parent / "fixtures" / "ami"
DEADLINE_S = 5.0
GREETING = "Asterisk Call Manager/11.0.0\r\n"
SECRET = "correct-horse"
NUMBER = "+493023125001"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text().replace("\n", "\r\n")


def hangup(uniqueid: str) -> str:
    return f"Event: Hangup\r\nChannel: Local/{NUMBER}@x\r\nUniqueid: {uniqueid}\r\nCause: 16\r\n\r\n"


class Conversation:
    """One accepted connection, from the switch's side. `heard` is shared by all connections of a test."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[dict[str, str]]
    ) -> None:
        self._reader, self._writer, self._heard = reader, writer, heard

    async def next(self) -> dict[str, str]:
        block = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        action = dict(line.split(": ", 1) for line in block.strip().split("\r\n"))
        self._heard.append(action)
        return action

    def say(self, text: str | bytes) -> None:
        self._writer.write(text.encode() if isinstance(text, str) else text)

    async def say_in_pieces(self, text: str) -> None:
        for byte in text.encode():
            self._writer.write(bytes([byte]))
            await asyncio.sleep(0)  # lets the other side of the loop read this byte alone

    def answer(self, action: dict[str, str], text: str) -> None:
        self.say(f"{text}\r\nActionID: {action['ActionID']}\r\n\r\n")

    async def welcome(self) -> None:
        self.say(GREETING)
        self.answer(await self.next(), "Response: Success\r\nMessage: Authentication accepted")
        self.say("Event: FullyBooted\r\nPrivilege: system,all\r\n\r\n")

    async def answer_all(self, text: str = "Response: Success") -> None:
        while True:
            self.answer(await self.next(), text)

    async def until_closed(self) -> None:
        while await self._reader.read(65536):
            pass


Script = Callable[[Conversation], Awaitable[None]]


class Owner:
    """What the callbacks were told, and events to wait on."""

    def __init__(self) -> None:
        self.told: list[str | Event] = []
        self.gate = asyncio.Event()  # closed: whatever event is told next is stuck
        self.gate.set()
        self.fail: list[BaseException] = []
        self._changed = asyncio.Event()

    async def up(self) -> None:
        await self._note("up")

    async def down(self) -> None:
        await self._note("down")

    async def event(self, event: Event) -> None:
        await self._note(event)

    async def _note(self, what: str | Event) -> None:
        self.told.append(what)
        self._changed.set()
        if not isinstance(what, str):
            await self.gate.wait()
        if self.fail:
            raise self.fail.pop(0)

    async def was_told(self, *expected: str | Event) -> None:
        """Wait until these came, in this order and nothing else between."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while self.told[: len(expected)] != list(expected):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"told {self.told}, expected {expected}") from None


class Stage:
    def __init__(self, ami: Ami, owner: Owner, heard: list[dict[str, str]]) -> None:
        self.ami, self.owner, self.heard = ami, owner, heard

    def asked(self, name: str) -> int:
        return sum(action["Action"] == name for action in self.heard)


@asynccontextmanager
async def stage(*scripts: Script, up: bool = True, **settings: Any) -> AsyncIterator[Stage]:
    """A peer that plays one script a connection (the last one again and again), and an Ami talking to it."""
    heard: list[dict[str, str]] = []
    played = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal played
        script = scripts[min(played, len(scripts) - 1)]
        played += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(Conversation(reader, writer, heard))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    base = AmiSettings("127.0.0.1", port, "bridge", SECRET, backoff_s_max=0.05, ping_s=60)
    owner = Owner()
    ami = Ami(replace(base, **settings), on_up=owner.up, on_down=owner.down, on_event=owner.event)
    running = asyncio.create_task(ami.run())
    try:
        if up:
            await ami.wait_up(DEADLINE_S)
        yield Stage(ami, owner, heard)
    finally:
        server.close()
        assert not running.done(), running
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert ami.state == "down" or not up


async def healthy(peer: Conversation) -> None:
    await peer.welcome()
    await peer.answer_all()


async def test_every_byte_on_its_own() -> None:
    async def script(peer: Conversation) -> None:
        await peer.say_in_pieces(GREETING)
        action = await peer.next()
        await peer.say_in_pieces(recorded("login").partition("\r\n")[2].replace("l1", action["ActionID"]))
        await peer.say_in_pieces(recorded("hangup"))
        action = await peer.next()
        await peer.say_in_pieces(
            recorded("core_show_channels").replace("ActionID: x", f"ActionID: {action['ActionID']}")
        )
        action = await peer.next()
        await peer.say_in_pieces(
            f"Response: Success\r\nActionID: {action['ActionID']}\r\nValue: Zoë Voilà\r\n\r\n"
        )
        await peer.until_closed()

    async with stage(script) as play:
        assert [c.uniqueid for c in await play.ami.channels()] == ["our-1", "our-1;2"]
        assert await play.ami.getvar("PJSIP/app-1", "CALLERID(name)") == "Zoë Voilà"
        one = Hangup("Local/s@ctx-00000000;2", "our-1;2", 16)
        await play.owner.was_told("up", one, replace(one, channel="Local/s@ctx-00000000;1", uniqueid="our-1"))


async def test_a_broken_character_is_seen_not_lost() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        action = await peer.next()
        peer.say(
            f"Response: Success\r\nActionID: {action['ActionID']}\r\nValue: Zo".encode() + b"\xeb!\r\n\r\n"
        )
        await peer.until_closed()

    async with stage(script) as play:
        assert await play.ami.getvar("PJSIP/app-1", "CALLERID(name)") == "Zo\ufffd!"


@pytest.mark.parametrize(
    "greeting", ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n\r\n"]
)
async def test_another_service_never_sees_the_secret(greeting: str) -> None:
    seen = asyncio.Event()

    async def script(peer: Conversation) -> None:
        peer.say(greeting)
        await peer.until_closed()
        seen.set()

    async with stage(script, healthy, up=False) as play:
        await asyncio.wait_for(seen.wait(), DEADLINE_S)
        assert play.heard == []
        await play.ami.wait_up(DEADLINE_S)


@pytest.mark.parametrize("port_open", [True, False])
async def test_why_it_is_down_is_said(port_open: bool) -> None:
    async with stage(
        Conversation.until_closed, up=False, connect_s=0.2, **({} if port_open else {"port": 1})
    ) as play:
        with pytest.raises(
            SwitchUnavailable, match="no greeting within" if port_open else "Connect call failed"
        ):
            await play.ami.wait_up(1)
        with pytest.raises(SwitchUnavailable):
            await play.ami.action("Ping")
        assert play.ami.state == "down"


async def test_a_refused_login_is_loud_visible_and_retried() -> None:
    refused = asyncio.Event()

    async def script(peer: Conversation) -> None:
        peer.say(GREETING)
        peer.answer(await peer.next(), "Response: Error\r\nMessage: Authentication failed")
        await peer.until_closed()
        refused.set()

    with structlog.testing.capture_logs() as logs:
        async with stage(script, up=False) as play:
            await asyncio.wait_for(refused.wait(), DEADLINE_S)
            with pytest.raises(SwitchUnavailable, match="refused: Authentication failed"):
                await play.ami.wait_up(0.1)
            assert play.ami.state == "refused"
        async with stage(script, healthy) as play:
            assert (play.ami.state, play.asked("Login")) == ("up", 2)
    alarms = [line for line in logs if line["event"] == "ami_login_refused"]
    assert alarms and alarms[0]["log_level"] == "error" and "manager.conf" in alarms[0]["fix"]


async def test_not_fully_booted_is_not_up() -> None:
    async def script(peer: Conversation) -> None:
        peer.say(GREETING)
        await peer.answer_all()

    async with stage(script, up=False, action_s=0.3) as play:
        with pytest.raises(SwitchUnavailable, match="read=system"):
            await play.ami.wait_up(1)


async def test_a_silent_switch_is_noticed_and_left() -> None:
    async def mute(peer: Conversation) -> None:
        await peer.welcome()
        await peer.until_closed()

    async with stage(mute, healthy, ping_s=0.02, action_s=0.5) as play:
        await play.owner.was_told("up", "down", "up")
        await play.ami.wait_up(DEADLINE_S)
        assert play.asked("Login") == 2


@pytest.mark.parametrize(
    "first_words", ["", "Response: Success\r\nEventList: start\r\nMessage: Channels will follow"]
)
async def test_what_was_asked_of_a_lost_connection_fails_at_once_and_is_never_sent_again(
    first_words: str,
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        action = await peer.next()
        if first_words:
            peer.answer(action, first_words)

    async with stage(script, healthy, action_s=60) as play:
        with pytest.raises(SwitchUnavailable, match="closed by the switch"):
            await asyncio.wait_for(
                play.ami.action("Originate", Channel="Local/s@x", Async="true"), DEADLINE_S
            )
        await play.owner.was_told("up", "down", "up")
        await play.ami.action("Ping")  # what a replay would have sent has been sent before this
        await play.ami.action("Ping")
        assert (play.asked("Originate"), play.asked("Login"), play.asked("Ping")) == (1, 2, 2)


async def test_a_late_answer_is_nobodys() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        late = await peer.next()
        second = await peer.next()
        peer.answer(late, "Response: Success\r\nValue: late")
        peer.answer(second, "Response: Success\r\nValue: mine")
        await peer.until_closed()

    async with stage(script) as play:
        with pytest.raises(SwitchUnavailable, match="no answer to Getvar within"):
            await play.ami.action("Getvar", timeout_s=0.02, Channel="a", Variable="b")
        assert play.ami._link is not None and not play.ami._link._parser.responses  # nothing piles up
        assert await play.ami.getvar("a", "b") == "mine"
        assert (play.ami.state, play.asked("Login")) == ("up", 1)


async def test_a_cancelled_caller_disturbs_nobody() -> None:
    asked = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.welcome()
        left = await peer.next()
        asked.set()
        second = await peer.next()
        peer.answer(left, "Response: Success")
        peer.answer(second, "Response: Success\r\nValue: mine")
        await peer.until_closed()

    async with stage(script) as play:
        caller = asyncio.create_task(play.ami.getvar("a", "b"))
        await asyncio.wait_for(asked.wait(), DEADLINE_S)
        caller.cancel()
        assert await play.ami.getvar("a", "b") == "mine"


async def test_answers_find_their_askers_in_any_order() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        for action in reversed([await peer.next() for _ in range(20)]):
            peer.answer(action, f"Response: Success\r\nValue: {action['Variable']}")
        await peer.until_closed()

    async with stage(script) as play:
        names = [f"V{n}" for n in range(20)]
        assert await asyncio.gather(*(play.ami.getvar("a", name) for name in names)) == names


@pytest.mark.parametrize(
    "poison",
    [
        "Event: X\r\nA: " + "x" * 600_000,
        "Event: Hangup\r\nChannel: a\r\nUniqueid: b\r\nCause: many\r\n\r\n",
        "Event: Hangup\r\n\r\n",
        "Event: X\r\nActionID: a\r\nActionID: b\r\n\r\n",
    ],
)
async def test_poison_costs_the_connection_and_no_more(poison: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        await peer.next()
        peer.say(poison)
        await peer.until_closed()

    async with stage(script, healthy) as play:
        with pytest.raises(SwitchUnavailable):
            await play.ami.action("Ping")
        await play.owner.was_told("up", "down", "up")
        await play.ami.action("Ping")


async def test_a_connection_lost_while_it_comes_up_was_never_up() -> None:
    async def script(peer: Conversation) -> None:
        peer.say(GREETING)
        accepted = f"Response: Success\r\nActionID: {(await peer.next())['ActionID']}\r\n\r\n"
        peer.say(f"{accepted}Event: FullyBooted\r\n\r\nEvent: Hangup\r\n\r\n")
        await peer.until_closed()

    async with stage(script, healthy) as play:
        await play.ami.action("Ping")
        await play.owner.was_told("up")
        assert play.asked("Login") == 2


@pytest.mark.parametrize(
    "noise",
    ["\r\n\r\n\r\n", "no colon\r\n\r\n", ": \r\n\r\n", "Response: Success\r\nActionID: forged\r\n\r\n"],
)
async def test_noise_is_passed_over(noise: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        peer.say(noise)
        await peer.answer_all("Response: Success\r\nValue: 1")

    async with stage(script) as play:
        assert await play.ami.getvar("a", "b") == "1"
        assert play.asked("Login") == 1


@pytest.mark.parametrize("answer", ["Response: Maybe", "Event: Odd", "Response: Success\r\nResponse: Error"])
async def test_an_answer_that_is_none(answer: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        await peer.answer_all(answer)

    async with stage(script) as play:
        with pytest.raises(RemoteProtocolError):
            await play.ami.setvar("a", "b", "c")


async def test_refusals_and_hangups_are_told_apart() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        for message in ("No such channel", "Permission denied", "Permission denied"):
            peer.answer(await peer.next(), f"Response: Error\r\nMessage: {message}")
        await peer.until_closed()

    async with stage(script) as play:
        with pytest.raises(ChannelGone):
            await play.ami.hangup("PJSIP/app-1", 16)
        with pytest.raises(AmiRefused, match="Permission denied"):
            await play.ami.channels()  # a refused list must not wait for its end
        with pytest.raises(AmiRefused, match="Reload"):
            await play.ami.reload("res_pjsip")


async def test_half_a_snapshot_is_an_error() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        action = await peer.next()
        blocks = recorded("core_show_channels").split("\r\n\r\n")
        peer.say(
            "\r\n\r\n".join([*blocks[:1], *blocks[2:]]).replace(
                "ActionID: x", f"ActionID: {action['ActionID']}"
            )
        )
        await peer.until_closed()

    async with stage(script) as play:
        with pytest.raises(RemoteProtocolError, match="1 channels came, 2 announced"):
            await play.ami.channels()


@pytest.mark.parametrize("name", ["originate_success", "originate_failure"])
async def test_the_end_of_an_originate_comes_with_its_reply(name: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        action = await peer.next()
        text = recorded(name)
        for recorded_id in ("o1", "o2"):
            text = text.replace(f"ActionID: {recorded_id}", f"ActionID: {action['ActionID']}")
        peer.say(text)
        await peer.until_closed()

    async with stage(script) as play:
        reply = await play.ami.action("Originate", Channel="Local/s@x", Async="true")
        assert reply.events[-1]["response"].lower() == name.partition("_")[2]


async def test_a_call_is_begun_without_waiting_for_how_it_goes() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        peer.answer(await peer.next(), "Response: Success\r\nMessage: Originate successfully queued")
        peer.answer(await peer.next(), "Response: Error\r\nMessage: Permission denied")
        await peer.until_closed()

    async with stage(script) as play:
        await play.ami.originate(Channel="Local/s@x", Context="y", Exten="s", Priority=1)
        assert (play.heard[-1]["Action"], play.heard[-1]["Async"]) == ("Originate", "true")
        with pytest.raises(AmiRefused, match="Permission denied"):
            await play.ami.originate(Channel="Local/s@x", Context="y", Exten="s", Priority=1)
        with pytest.raises(LocalProtocolError):
            await play.ami.originate(Channel="Local/s@x\r\nAsync: false")


async def test_nothing_is_written_when_a_value_would_inject() -> None:
    async with stage(healthy) as play:
        for call in (
            play.ami.setvar("a", "b", "c\r\nAction: Logoff"),
            play.ami.setvar("a\n", "b", "c"),
            play.ami.setvar("", "GLOBAL", "c"),
            play.ami.getvar("a", "b\0"),
            play.ami.hangup("/.*/", 16),
            play.ami.hangup("a", 0),
            play.ami.reload(""),
            play.ami.action("Ping\r\n\r\nAction: Logoff"),
            play.ami.action("Ping", timeout_s=1, **{"A: b\r\nAction": "x"}),
            play.ami.action("Ping", Value="\udc80"),
        ):
            with pytest.raises(LocalProtocolError):
                await call
        await play.ami.action("Ping")
        assert [action["Action"] for action in play.heard] == ["Login", "Ping"]


async def test_a_flood_is_bounded_counted_and_followed_by_a_snapshot() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        peer.answer(await peer.next(), "Response: Success")
        peer.say(hangup("first"))
        action = await peer.next()
        peer.say("".join(hangup(f"{n}") for n in range(1000)))
        peer.answer(action, "Response: Success")
        await peer.answer_all()

    async with stage(script, queue_max=10) as play:
        play.owner.gate.clear()
        first, *rest = (Hangup(f"Local/{NUMBER}@x", f"{n}", 16) for n in ("first", *range(1000)))
        await play.ami.action("Ping")
        await play.owner.was_told("up", first)  # and is stuck with it
        await play.ami.action("Ping")  # answered after the whole flood was read
        assert (play.ami.events_lost, play.owner.told) == (991, ["up", first])
        play.owner.gate.set()
        await play.owner.was_told("up", first, "up", *rest[991:])
        assert play.asked("Login") == 1


@pytest.mark.parametrize(
    "accident", [ValueError("bad day"), asyncio.CancelledError(), SwitchUnavailable("gone")]
)
async def test_an_owner_that_raises_gets_a_fresh_snapshot(accident: BaseException) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        peer.answer(await peer.next(), "Response: Success")
        peer.say(hangup("1") + hangup("2"))
        await peer.answer_all()

    async with stage(script) as play:
        await play.owner.was_told("up")
        play.owner.fail = [accident, ValueError("snapshot failed")]
        await play.ami.action("Ping")
        one, two = (Hangup(f"Local/{NUMBER}@x", n, 16) for n in "12")
        await play.owner.was_told("up", one, "up", "up", two)
        await play.ami.action("Ping")
        assert play.asked("Login") == 1


async def test_a_shutdown_is_heard_and_what_is_asked_still_answered() -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        action = await peer.next()
        peer.say(recorded("shutdown"))
        peer.answer(action, "Response: Success\r\nValue: still here")

    async with stage(script, healthy) as play:
        assert await play.ami.getvar("a", "b") == "still here"
        await play.owner.was_told("up", Shutdown(restart=False), "down", "up")


async def test_logs_hold_neither_secret_nor_number(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Conversation) -> None:
        await peer.welcome()
        peer.answer(await peer.next(), "Response: Success")
        await peer.next()
        peer.say(hangup("1") + f"Event: Hangup\r\nCause: {NUMBER}\r\n\r\n")
        await peer.until_closed()

    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with stage(script, healthy) as play:
            await play.ami.action("Setvar", Channel=f"Local/{NUMBER}@x", Variable="TO", Value=NUMBER)
            with pytest.raises(SwitchUnavailable):
                await play.ami.setvar(f"Local/{NUMBER}@x", "TO", NUMBER)
            await play.owner.was_told("up", Hangup(f"Local/{NUMBER}@x", "1", 16), "down", "up")
            shown = f"{logs} {caplog.text} {play.ami!r} {play.ami._settings!r}"
    assert "ami_down" in shown
    assert SECRET not in shown and NUMBER[3:] not in shown
