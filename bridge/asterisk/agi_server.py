"""FastAGI server: one connection asks once and is answered once.

The answer is one `SET VARIABLE`, and our half of the connection is closed with it, so that Asterisk's reply and
its end of stream come together and nobody waits for anybody. A refusal, an expired deadline or a failed handler
says `FAILURE`: only then is AGISTATUS not SUCCESS, and the dialplan can take its other way.

The kernel is not asked to wake us later (SO_RCVLOWAT), though the header comes in some two dozen writes: Asterisk
leaves Nagle's algorithm on, which already joins them to two or three, and unread bytes delay the acknowledgement
it waits for. Measured: a quarter of all headers came 43 ms late.
"""

from __future__ import annotations

import asyncio
import re
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, cast

import structlog

from bridge.asterisk.agi_codec import FAILURE, HEADER_BYTES_MAX, AgiCodec, Closed, Event, Hangup, Reply
from bridge.asterisk.agi_header import Request
from bridge.errors import ChannelGone, RemoteProtocolError, SwitchUnavailable

BACKLOG = 1024

Handler = Callable[[Request], Awaitable[str | None]]
"""Answers one request: the text for the variable, or None to end without a word.

It is never cancelled while the server runs: what it admitted must be completed, whoever hangs up. So it must
bound its own waits.
"""


class Wait(NamedTuple):
    """A handler that may take long, for it waits for something.

    handler      is told, too, when switch or caller have gone
    deadline_s   from the end of the header to the answer
    """

    handler: Callable[[Request, asyncio.Event], Awaitable[str | None]]
    deadline_s: float

    def told(self, gone: asyncio.Event) -> Handler:
        """As a handler of one connection."""
        return lambda request: self.handler(request, gone)


log = structlog.get_logger("agi")


class Ending(StrEnum):
    """How a connection ended; each ends in exactly one."""

    ANSWERED = "answered"  # the switch took the answer, or there was none to give
    GONE = "gone"  # channel or switch left before it had the answer; ordinary
    REFUSED = "refused"  # over `sessions_max`
    TIMED_OUT = "timed_out"
    PROTOCOL_ERROR = "protocol_errors"
    FAILED = "failed"  # no such route, the handler raised, or the switch rejected the answer


@dataclass(slots=True)
class AgiStats:
    """Connections since the start, by ending. `accepted` less the sum of the others is what is open now."""

    accepted: int = 0
    answered: int = 0
    gone: int = 0
    refused: int = 0
    timed_out: int = 0
    protocol_errors: int = 0
    failed: int = 0

    def count(self, ending: Ending) -> None:
        setattr(self, ending, getattr(self, ending) + 1)


class AgiServer:
    """Listens on one address and runs a handler a session.

    routes            path of the AGI URL without its leading slash -> handler
    waits             the same for those that may take long; each with its own deadline
    variable          the channel variable that takes the answer
    deadline_s        from accept to answer, and again from answer to the switch's reply
    header_bytes_max  longest header taken
    sessions_max      open sessions, handlers that outlive their connection included; more are refused
    """

    def __init__(
        self,
        routes: Mapping[str, Handler],
        *,
        waits: Mapping[str, Wait] | None = None,
        variable: str = "BRIDGE",
        deadline_s: float = 2.0,
        header_bytes_max: int = HEADER_BYTES_MAX,
        sessions_max: int = 1000,
    ) -> None:
        self.routes, self.waits = dict(routes), dict(waits or {})
        self.variable = variable
        self.deadline_s = deadline_s
        self.header_bytes_max = header_bytes_max
        self.sessions_max = sessions_max
        self.stats = AgiStats()
        self.sessions: set[AgiSession] = set()
        self._idle = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = True) -> tuple[str, int]:
        """Listen on a numeric address; port 0 takes a free one. Returns the address bound.

        raises   SwitchUnavailable: the address cannot be bound
        """
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise SwitchUnavailable(
                f"cannot listen for FastAGI on {host} port {port}: {error.strerror}"
            ) from error
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: AgiSession(self, loop), sock=sock, backlog=BACKLOG)
        bound: tuple[str, int] = sock.getsockname()[:2]
        return bound

    async def stop(self, drain_s: float) -> None:
        """Listen no more, let open sessions end for `drain_s`, then cut the rest off."""
        if self._server is None:
            return
        self._server.close()
        try:
            async with asyncio.timeout(drain_s):
                await self._drained()
        except TimeoutError:
            log.warning("agi sessions cut off at stop", sessions=len(self.sessions))
            for session in tuple(self.sessions):
                session.cut_off()
            await self._drained()
        await self._server.wait_closed()
        self._server = None

    def left(self, session: AgiSession) -> None:
        self.sessions.discard(session)
        if not self.sessions:
            self._idle.set()

    async def _drained(self) -> None:
        while self.sessions:
            self._idle.clear()
            await self._idle.wait()


class AgiSession(asyncio.Protocol):
    """One connection and its handler. In `server.sessions` until both have ended."""

    _transport: asyncio.Transport

    def __init__(self, server: AgiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._codec = AgiCodec(server.header_bytes_max)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: Ending | None = None
        self._lost = False
        self._gone = asyncio.Event()  # set with the ending
        self._answered_at = 0.0  # loop time; 0 until our half is closed
        self._route = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        server = self._server
        server.stats.accepted += 1
        if len(server.sessions) >= server.sessions_max:
            self._end(Ending.REFUSED)
            return
        server.sessions.add(self)
        self._timer = self._loop.call_later(server.deadline_s, self._expire)
        self._acknowledge()

    def data_received(self, data: bytes) -> None:
        if self._ending is not None:
            return
        self._codec.receive_data(data)
        try:
            events = list(self._codec)  # all of them, before any is acted upon
        except RemoteProtocolError as fault:
            self._log("agi protocol error", fault=str(fault))
            self._end(Ending.PROTOCOL_ERROR)
            return
        for event in events:
            self._meet(event)
        if not events:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge at once while the header comes: Nagle's algorithm holds the rest of it back until then."""
        sock = self._transport.get_extra_info("socket")
        with suppress(OSError):  # the peer may be gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio names it
        if self._timer is not None:
            self._timer.cancel()
        self._end(Ending.GONE)
        self._lost = True
        self._leave()

    def cut_off(self) -> None:
        """The server stops: cancel the handler, drop the connection."""
        if self._task is not None:
            self._task.cancel()
        self._end(Ending.FAILED)

    def _meet(self, event: Event) -> None:
        match event:
            case Request():
                self._begin(event)
            case Reply(code=200):
                self._end(Ending.ANSWERED)
            case Reply(code=100):
                pass
            case Reply(code=code):
                self._log("agi answer rejected", code=code)
                self._end(Ending.FAILED)
            case Hangup() | Closed():
                self._end(Ending.GONE)

    def _begin(self, request: Request) -> None:
        handler = self._server.routes.get(request.route)
        if (found := self._server.waits.get(request.route)) is not None:
            handler = found.told(self._gone)
            self._wait_until(found.deadline_s)
        if handler is None:
            self._log("agi route unknown", asked=_masked(request.route))
            self._end(Ending.FAILED)
            return
        self._route = request.route
        self._task = self._loop.create_task(self._run(handler, request))
        self._task.add_done_callback(self._handled)

    def _wait_until(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(deadline_s, self._expire)

    async def _run(self, handler: Handler, request: Request) -> None:
        try:
            self._answer(await handler(request))
        except ChannelGone:
            self._end(Ending.GONE)
        except Exception as error:  # noqa: BLE001  the edge: one call fails, the server lives
            # The kind and the place, not the message: that may hold a number.
            at = traceback.extract_tb(error.__traceback__)[-1]
            self._log("agi handler failed", error=type(error).__name__, at=f"{at.filename}:{at.lineno}")
            self._end(Ending.FAILED)

    def _handled(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._leave()

    def _answer(self, text: str | None) -> None:
        """Send the answer and close our half; too late, it is dropped."""
        if self._ending is not None or self._transport.is_closing():
            return
        if text is None:
            self._end(Ending.ANSWERED)
            return
        command = self._codec.set_variable(self._server.variable, text)
        self._answered_at = self._loop.time()
        self._transport.write(command)
        self._transport.write_eof()

    def _expire(self) -> None:
        left_s = self._answered_at + self._server.deadline_s - self._loop.time() if self._answered_at else 0.0
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._expire)
            return
        phase = "reply" if self._answered_at else "handler" if self._task else "header"
        self._log("agi deadline passed", phase=phase)
        self._end(Ending.TIMED_OUT)

    def _end(self, ending: Ending) -> None:
        """Count the first ending, tell the switch, close. The handler, if it still runs, goes on."""
        if self._ending is not None:
            return
        self._ending = ending
        self._gone.set()
        self._server.stats.count(ending)
        if ending not in (Ending.ANSWERED, Ending.GONE) and not self._answered_at:
            self._transport.write(FAILURE)
        self._transport.close()

    def _leave(self) -> None:
        if self._lost and self._task is None:
            self._server.left(self)

    def _log(self, happening: str, **facts: object) -> None:
        log.warning(happening, route=self._route, **facts)


def _masked(route: str) -> str:
    """A route nobody knows, safe to log: it may be a number dialled into an URL."""
    return re.sub(r"[^a-z/_-]", "#", route[:40])
