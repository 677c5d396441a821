"""Figure `agi_codec`: what one FastAGI session costs a worker, next to panoramisk's server.

The bench plays the switch: 32 channels at a time, each writing Asterisk's header in its own 23 pieces, the channels in
turn, as their threads do on a switch with cores to spare. Nagle's algorithm stays on, as Asterisk leaves it.
The servers run as processes of their own and take turns.

Playing the switch costs more than answering it, so sessions per second of wall time would show the bench, not the
worker. What is counted is the worker's own processor time: sessions a second that one busy core could answer.
"""

from __future__ import annotations

import asyncio
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

from bridge.asterisk.agi_header import Request
from bridge.asterisk.agi_server import AgiServer
from bridge.errors import BridgeError

ROUTE = "authorise"
ANSWER = "dial;PJSIP/493023125001@carrier-a;30;17;7200"
CHANNELS = 32
TURN_S_MAX = 10.0

HEADER = f"""\
agi_network: yes
agi_network_script: {ROUTE}
agi_request: agi://127.0.0.1:4573/{ROUTE}
agi_channel: PJSIP/app-0000002a
agi_language: en
agi_type: PJSIP
agi_uniqueid: 1795357833.84
agi_version: 22.10.1
agi_callerid: 493023125001
agi_calleridname: unknown
agi_callingpres: 0
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: 496990009001
agi_rdnis: unknown
agi_context: call
agi_extension: 496990009001
agi_priority: 2
agi_enhanced: 0.0
agi_accountcode: app
agi_threadid: 140014177584832

"""
PIECES = tuple(line.encode() for line in HEADER.splitlines(keepends=True))


class Worker(NamedTuple):
    server: str
    loop: str
    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Processor time so far; the clock id is what clock_getcpuclockid(3) makes of a pid."""
        return time.clock_gettime((~self.process.pid << 3) | 2)


def agi_codec(*, smoke: bool) -> list[dict[str, object]]:
    """Two figures: panoramisk on asyncio's own loop, as it documents itself, and on the loop we run on."""
    sessions, rounds = (200, 3) if smoke else (2000, 7)
    ours = "uvloop" if find_spec("uvloop") else "asyncio"
    with (
        _worker("bridge", ours) as bridge,
        _worker("panoramisk", "asyncio") as documented,
        _worker("panoramisk", ours) as same_loop,
    ):
        workers = (bridge, documented, same_loop)
        for worker in workers:
            play(worker.port, CHANNELS)
        turns = [[_sessions_per_cpu_s(worker, sessions) for worker in workers] for _ in range(rounds)]
    n = sessions * rounds
    return [
        _figure("agi_codec", documented, [turn[0] for turn in turns], [turn[1] for turn in turns], 2.0, n),
        _figure("agi_codec_same_loop", same_loop, [t[0] for t in turns], [t[2] for t in turns], None, n),
    ]


def play(port: int, sessions: int) -> None:
    """Be the switch for so many sessions. raises BridgeError: one was not answered, or time ran out"""
    waiting = select.epoll()
    channels: dict[int, Channel] = {}
    opened = answered = 0
    end = time.monotonic() + TURN_S_MAX
    while opened < sessions or channels:
        if time.monotonic() > end:
            raise BridgeError(f"{sessions - answered} of {sessions} sessions unanswered after {TURN_S_MAX} s")
        while opened < sessions and len(channels) < CHANNELS:
            channel = Channel(port)
            channels[channel.fd] = channel
            waiting.register(channel.fd, select.EPOLLIN)
            opened += 1
        writing = [channel.write_piece() for channel in channels.values()]
        for fd, _ in waiting.poll(0 if any(writing) else TURN_S_MAX):
            if channels[fd].hear():
                waiting.unregister(fd)
                answered += channels.pop(fd).close()
    waiting.close()
    if answered != sessions:
        raise BridgeError(f"{sessions - answered} of {sessions} sessions ended without an answer")


class Channel:
    """One channel in AGI()."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self.pieces = iter(PIECES)
        self.answered = False

    def write_piece(self) -> bool:
        """Write the next piece of the header; False when there is none left."""
        piece = next(self.pieces, None)
        if piece is not None:
            self.sock.send(piece)
        return piece is not None

    def hear(self) -> bool:
        """Reply to a command; True at end of stream."""
        said = self.sock.recv(4096)
        if said:
            self.answered = said.startswith(b"SET VARIABLE BRIDGE ") and said.endswith(b"\n")
            self.sock.send(b"200 result=1\n")
            try:
                said = self.sock.recv(4096)
            except BlockingIOError:
                return False
        return not said

    def close(self) -> bool:
        with suppress(OSError):  # a server that has closed both halves, as panoramisk's does
            self.sock.send(b"HANGUP\n")
        self.sock.close()
        return self.answered


def _sessions_per_cpu_s(worker: Worker, sessions: int) -> float:
    before_s = worker.cpu_s()
    play(worker.port, sessions)
    return sessions / (worker.cpu_s() - before_s)


def _figure(
    name: str, baseline: Worker, ours: list[float], theirs: list[float], goal: float | None, n: int
) -> dict[str, object]:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "name": name,
        "value": round(statistics.median(ours)),
        "unit": "sessions per CPU second",
        "baseline": f"{baseline.server} on {baseline.loop}",
        "baseline_value": round(statistics.median(theirs)),
        "ratio": round(ratio, 2),
        "goal": goal,
        "n": n,
    }


@contextmanager
def _worker(server: str, loop: str) -> Iterator[Worker]:
    """A server in a process of its own; it lives as long as its stdin."""
    argv = (sys.executable, "-m", __name__, server, loop)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise BridgeError(f"the {server} server did not start")
            yield Worker(server, loop, process, int(port))
            process.stdin.close()
            process.wait(TURN_S_MAX)
        finally:
            process.kill()


async def _serve_bridge() -> None:
    async def authorise(_: Request) -> str:
        return ANSWER

    server = AgiServer({ROUTE: authorise})
    _, port = await server.start("127.0.0.1", 0)
    await _until_stdin_ends(port)
    await server.stop(drain_s=1.0)


async def _serve_panoramisk() -> None:
    from panoramisk import fast_agi  # noqa: PLC0415  the other process does without it

    async def authorise(request: fast_agi.Request) -> None:
        await request.send_command(f'SET VARIABLE BRIDGE "{ANSWER}"')

    application = fast_agi.Application(loop=asyncio.get_running_loop())
    application.add_route(ROUTE, authorise)
    server = await asyncio.start_server(application.handler, "127.0.0.1", 0)
    await _until_stdin_ends(server.sockets[0].getsockname()[1])
    server.close()


async def _until_stdin_ends(port: int) -> None:
    print(port, flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def _run(serving: Coroutine[Any, Any, None], loop: str) -> None:
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415  optional

        uvloop.run(serving)
    else:
        asyncio.run(serving)


if __name__ == "__main__":
    _run({"bridge": _serve_bridge, "panoramisk": _serve_panoramisk}[sys.argv[1]](), sys.argv[2])
