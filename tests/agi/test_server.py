"""The FastAGI server against a switch that behaves, breaks off, stalls and lies. Every wait has a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import pytest
import structlog.testing

from bridge.asterisk.agi_header import Request
from bridge.asterisk.agi_server import AgiServer, Handler, Wait
from bridge.errors import ChannelGone, SwitchUnavailable

DEADLINE_S = 5.0
SHORT_S = 0.05  # a deadline that is meant to pass
ANSWER = b'SET VARIABLE BRIDGE "dial;PJSIP/1@a"\n'
FAILURE = b"FAILURE\n"
DONE = b"200 result=1\nHANGUP\n"
SECRETS = ("493023125001", "496990009001", "Mustermann")

Log = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert not [secret for secret in SECRETS if secret in repr(lines)]


async def authorise(request: Request) -> str | None:
    return "dial;PJSIP/1@a"


class Desk:
    """A handler that answers when told to."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.finished = self.cancelled = 0

    async def __call__(self, request: Request) -> str | None:
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return "dial;PJSIP/1@a"


class Switch:
    """The switch's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def hear(self) -> bytes:
        """All that comes until end of stream."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b"reset"

    async def call(self, header: bytes, reply: bytes = DONE) -> bytes:
        self.say(header)
        heard = await self.hear()
        self.say(reply)
        self.writer.close()
        return heard


class Line:
    """A running server and the way to it."""

    def __init__(self, server: AgiServer, port: int) -> None:
        self.server, self.port = server, port
        self.switches: list[Switch] = []

    async def connect(self) -> Switch:
        switch = Switch(*await asyncio.open_connection("127.0.0.1", self.port))
        self.switches.append(switch)
        return switch

    async def idle(self) -> dict[str, int]:
        """Stop in peace and return what was counted, but zeros; every connection must have ended, and once."""
        async with asyncio.timeout(DEADLINE_S):
            await self.server.stop(DEADLINE_S)
        assert self.server.sessions == set()
        counts = asdict(self.server.stats)
        assert counts["accepted"] == sum(counts.values()) - counts["accepted"]
        return {name: count for name, count in counts.items() if count}


@asynccontextmanager
async def listening(
    handler: Handler = authorise, waits: Mapping[str, Wait] | None = None, **limits: float
) -> AsyncIterator[Line]:
    server = AgiServer({"authorise": handler}, waits=waits, **limits)  # type: ignore[arg-type]
    _, port = await server.start("127.0.0.1", 0)
    line = Line(server, port)
    try:
        yield line
    finally:
        for switch in line.switches:
            switch.writer.close()
        await server.stop(0)
        assert server.sessions == set()


def events(log: Log) -> list[object]:
    return [entry["event"] for entry in log]


async def test_one_answer_and_our_half_closed_with_it(header: bytes, log: Log) -> None:
    async with listening() as line:
        switch = await line.connect()
        assert await switch.call(header) == ANSWER
        assert await line.idle() == {"accepted": 1, "answered": 1}
    assert log == []


async def test_the_handler_sees_the_request(header: bytes) -> None:
    seen: list[Request] = []

    async def look(request: Request) -> None:
        seen.append(request)

    async with listening(look) as line:
        assert await (await line.connect()).call(header, b"") == b""
        assert await line.idle() == {"accepted": 1, "answered": 1}
    assert [(r.route, r.query, r.args) for r in seen] == [("authorise", "a=1", ("one", "two words"))]


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_header_in_pieces(header: bytes, size: int) -> None:
    async with listening() as line:
        switch = await line.connect()
        for start in range(0, len(header), size):
            switch.say(header[start : start + size])
            await switch.writer.drain()
            await asyncio.sleep(0)
        assert await switch.call(b"") == ANSWER
        assert await line.idle() == {"accepted": 1, "answered": 1}


async def test_many_at_once(header: bytes) -> None:
    pieces = header.splitlines(keepends=True)
    async with listening() as line:
        switches = await asyncio.gather(*(line.connect() for _ in range(100)))
        for piece in pieces:
            for switch in switches:
                switch.say(piece)
            await asyncio.sleep(0)
        assert set(await asyncio.gather(*(switch.call(b"") for switch in switches))) == {ANSWER}
        assert await line.idle() == {"accepted": 100, "answered": 100}


async def test_an_unknown_route_fails(header: bytes, log: Log) -> None:
    async with listening() as line:
        heard = await (await line.connect()).call(
            header.replace(b"script: authorise", b"script: To/496990009001")
        )
        assert heard == FAILURE
        assert await line.idle() == {"accepted": 1, "failed": 1}
    assert [(e["event"], e["asked"]) for e in log] == [("agi route unknown", "#o/############")]


async def test_a_handler_that_raises_costs_one_call(header: bytes, log: Log) -> None:
    calls = iter([True, False])

    async def stumble(request: Request) -> str | None:
        if next(calls):
            raise KeyError(request.env["agi_callerid"])
        return "dial;PJSIP/1@a"

    async with listening(stumble) as line:
        assert await (await line.connect()).call(header) == FAILURE
        assert await (await line.connect()).call(header) == ANSWER
        assert await line.idle() == {"accepted": 2, "failed": 1, "answered": 1}
    assert [(e["event"], e["error"], e["route"]) for e in log] == [
        ("agi handler failed", "KeyError", "authorise")
    ]
    assert "test_server.py:" in str(log[0]["at"])


async def test_an_answer_we_must_not_send_fails(header: bytes, log: Log) -> None:
    async def inject(request: Request) -> str | None:
        return "dial\nHANGUP"

    async with listening(inject) as line:
        assert await (await line.connect()).call(header) == FAILURE
        assert await line.idle() == {"accepted": 1, "failed": 1}
    assert [e["error"] for e in log] == ["LocalProtocolError"]


async def test_a_channel_gone_is_no_failure(header: bytes, log: Log) -> None:
    async def gone(request: Request) -> str | None:
        raise ChannelGone

    async with listening(gone) as line:
        assert await (await line.connect()).call(header) == b""
        assert await line.idle() == {"accepted": 1, "gone": 1}
    assert log == []


async def test_an_answer_the_switch_rejects_is_logged(header: bytes, log: Log) -> None:
    async with listening() as line:
        assert (
            await (await line.connect()).call(header, b"510 Invalid or unknown command\nHANGUP\n") == ANSWER
        )
        assert await line.idle() == {"accepted": 1, "failed": 1}
    assert [(e["event"], e["code"]) for e in log] == [("agi answer rejected", 510)]


async def test_a_switch_that_leaves_without_a_reply_is_gone(header: bytes, log: Log) -> None:
    async with listening() as line:
        assert await (await line.connect()).call(header, b"") == ANSWER
        assert await line.idle() == {"accepted": 1, "gone": 1}
    assert log == []


@pytest.mark.parametrize("cut", [1, 200, 400, -1])
async def test_a_header_never_finished_runs_into_the_deadline(header: bytes, log: Log, cut: int) -> None:
    async with listening(deadline_s=SHORT_S) as line:
        switch = await line.connect()
        switch.say(header[:cut])
        assert await switch.hear() == FAILURE
        assert await line.idle() == {"accepted": 1, "timed_out": 1}
    assert [(e["event"], e["phase"]) for e in log] == [("agi deadline passed", "header")]


async def test_a_slow_handler_is_answered_for_and_still_completes(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk, deadline_s=SHORT_S) as line:
        assert await (await line.connect()).call(header) == FAILURE
        assert (desk.finished, len(line.server.sessions)) == (0, 1)
        desk.go.set()
        assert await line.idle() == {"accepted": 1, "timed_out": 1}
    assert (desk.finished, desk.cancelled) == (1, 0)
    assert [(e["event"], e["phase"]) for e in log] == [("agi deadline passed", "handler")]


async def test_a_switch_that_never_replies_runs_into_the_deadline(header: bytes, log: Log) -> None:
    async with listening(deadline_s=SHORT_S) as line:
        switch = await line.connect()
        switch.say(header)
        assert await switch.hear() == ANSWER
        assert await line.idle() == {"accepted": 1, "timed_out": 1}
    assert [(e["event"], e["phase"]) for e in log] == [("agi deadline passed", "reply")]


async def test_the_switch_has_its_own_time_to_reply(header: bytes, log: Log) -> None:
    desk = Desk()
    loop = asyncio.get_running_loop()
    async with listening(desk, deadline_s=0.6) as line:
        switch = await line.connect()
        switch.say(header)
        async with asyncio.timeout(DEADLINE_S):
            await desk.asked.wait()
        asked_s = loop.time()
        loop.call_later(0.3, desk.go.set)
        assert await switch.hear() == ANSWER
        assert await line.idle() == {"accepted": 1, "timed_out": 1}
        assert loop.time() - asked_s > 0.85  # 0.3 and 0.6, and loop clocks tick in milliseconds
    assert [e["phase"] for e in log] == ["reply"]


@pytest.mark.parametrize("leave", ["hangup", "end of stream", "reset"])
async def test_an_admitted_call_is_completed_whoever_hangs_up(header: bytes, log: Log, leave: str) -> None:
    desk = Desk()
    async with listening(desk) as line:
        switch = await line.connect()
        switch.say(header)
        async with asyncio.timeout(DEADLINE_S):
            await desk.asked.wait()
        if leave == "hangup":
            switch.say(b"HANGUP\n")
        elif leave == "end of stream":
            switch.writer.write_eof()
        else:
            switch.writer.transport.abort()
        assert await switch.hear() == b""
        assert (desk.finished, len(line.server.sessions)) == (0, 1)
        desk.go.set()
        assert await line.idle() == {"accepted": 1, "gone": 1}
    assert (desk.finished, desk.cancelled) == (1, 0)
    assert log == []


@pytest.mark.parametrize(("cut", "counted"), [(0, "gone"), (1, "protocol_errors"), (400, "protocol_errors")])
async def test_end_of_stream_before_a_request(header: bytes, log: Log, cut: int, counted: str) -> None:
    async with listening() as line:
        switch = await line.connect()
        switch.say(header[:cut])
        switch.writer.write_eof()
        assert await switch.hear() == (FAILURE if cut else b"")
        assert await line.idle() == {"accepted": 1, counted: 1}
    assert events(log) == (["agi protocol error"] if cut else [])


async def test_over_the_limit_is_refused_at_once(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk, sessions_max=2, deadline_s=SHORT_S) as line:
        for _ in range(2):  # connections over, handlers not: they still count
            assert await (await line.connect()).call(header) == FAILURE
        assert await (await line.connect()).hear() == FAILURE
        desk.go.set()
        assert await line.idle() == {"accepted": 3, "timed_out": 2, "refused": 1}
    assert events(log) == ["agi deadline passed"] * 2


def forged(header: bytes) -> tuple[bytes, bytes]:
    """A header whose caller completed it himself, and the true rest."""
    name = b"agi_calleridname: Erika Mustermann\n"
    before, _, rest = header.partition(name)
    return before + name + rest, rest


async def test_a_forged_header_is_not_acted_upon(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk) as line:
        false, rest = forged(header)
        assert await (await line.connect()).call(false + rest) == FAILURE
        assert await line.idle() == {"accepted": 1, "protocol_errors": 1}
    assert not desk.asked.is_set()
    assert [e["fault"] for e in log] == ["a line that is no reply"]


async def test_a_forged_header_whose_rest_comes_late_gets_no_answer(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk) as line:
        false, rest = forged(header)
        switch = await line.connect()
        switch.say(false)
        async with asyncio.timeout(DEADLINE_S):
            await desk.asked.wait()
        switch.say(rest[:9])
        assert await switch.hear() == FAILURE
        desk.go.set()
        assert await line.idle() == {"accepted": 1, "protocol_errors": 1}
    assert desk.finished == 1
    assert events(log) == ["agi protocol error"]


async def test_a_header_too_long_is_refused(header: bytes, log: Log) -> None:
    async with listening(header_bytes_max=400) as line:
        assert await (await line.connect()).call(header) == FAILURE
        assert await line.idle() == {"accepted": 1, "protocol_errors": 1}
    assert [e["fault"] for e in log] == ["a header longer than 400 bytes"]


async def test_stop_waits_for_open_sessions(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk) as line:
        switch = await line.connect()
        switch.say(header)
        async with asyncio.timeout(DEADLINE_S):
            await desk.asked.wait()
        stopping = asyncio.create_task(line.idle())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", line.port)
        desk.go.set()
        assert await switch.call(b"") == ANSWER
        assert await stopping == {"accepted": 1, "answered": 1}
    assert log == []


async def test_stop_cuts_off_what_does_not_end(header: bytes, log: Log) -> None:
    desk = Desk()
    async with listening(desk) as line:
        switch, silent = await line.connect(), await line.connect()
        switch.say(header)
        async with asyncio.timeout(DEADLINE_S):
            await desk.asked.wait()
        await line.server.stop(0)
        assert (await switch.hear(), await silent.hear()) == (FAILURE, FAILURE)
        assert await line.idle() == {"accepted": 2, "failed": 2}
    assert desk.cancelled == 1
    assert [(e["event"], e["sessions"]) for e in log] == [("agi sessions cut off at stop", 2)]


async def test_workers_share_a_port_only_when_told(header: bytes) -> None:
    async with listening() as line:
        second = AgiServer({"authorise": authorise})
        assert (await second.start("127.0.0.1", line.port))[1] == line.port
        await second.stop(0)
        with pytest.raises(SwitchUnavailable, match=f"port {line.port}: Address already in use"):
            await second.start("127.0.0.1", line.port, reuse_port=False)


AWAITED = b"script: awaited"


async def test_who_may_wait_has_a_deadline_of_its_own(header: bytes) -> None:
    """The server's is over long before the answer."""
    ready = asyncio.Event()

    async def awaited(request: Request, gone: asyncio.Event) -> str | None:
        await ready.wait()
        assert not gone.is_set()
        return "dial;PJSIP/1@a"

    async with listening(waits={"awaited": Wait(awaited, DEADLINE_S)}, deadline_s=0.05) as line:
        slow, late = await line.connect(), await line.connect()
        slow.say(header.replace(b"script: authorise", AWAITED))
        late.say(header[:20])
        assert (
            await late.hear() == FAILURE
        )  # whose header never ended: by then the deadline has passed for all
        ready.set()
        assert await slow.call(b"") == ANSWER
        assert await line.idle() == {"accepted": 2, "answered": 1, "timed_out": 1}


async def test_who_waits_too_long_fails(header: bytes) -> None:
    async def awaited(request: Request, gone: asyncio.Event) -> str | None:
        await gone.wait()
        return "dial;PJSIP/1@a"

    async with listening(waits={"awaited": Wait(awaited, 0.05)}) as line:
        assert await (await line.connect()).call(header.replace(b"script: authorise", AWAITED)) == FAILURE
        assert await line.idle() == {"accepted": 1, "timed_out": 1}


@pytest.mark.parametrize("said", [b"HANGUP\n", b""])
async def test_who_waits_is_told_that_the_caller_has_gone(header: bytes, said: bytes) -> None:
    began, told = asyncio.Event(), asyncio.Event()

    async def awaited(request: Request, gone: asyncio.Event) -> str | None:
        began.set()
        await gone.wait()
        told.set()
        return None

    async with listening(waits={"awaited": Wait(awaited, DEADLINE_S)}) as line:
        switch = await line.connect()
        switch.say(header.replace(b"script: authorise", AWAITED))
        async with asyncio.timeout(DEADLINE_S):
            await began.wait()
            switch.say(said)
            if not said:
                switch.writer.close()
            await told.wait()
        assert await line.idle() == {"accepted": 1, "gone": 1}
