"""The switch's manager interface (AMI): one supervised connection.

From panoramisk we take the protocol layer: parsing, and the matching of answers and lists to their action.
Its `Manager` stays out, because it sends unanswered actions again after a reconnect (one Originate becomes
two calls), takes a refused login for a login, ignores missing ping answers and closes the socket when a
callback raises. `_Link` stands in its place: one object a connection, so that nothing can outlive it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, cast

import structlog
from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol

from bridge.asterisk import ami_events
from bridge.asterisk.ami_events import AmiRefused, AmiReply, Event, FullyBooted, LiveChannel
from bridge.errors import BridgeError, LocalProtocolError, RemoteProtocolError, SwitchUnavailable

__all__ = ["Ami", "AmiRefused", "AmiReply", "AmiSettings", "State"]

State = Literal["down", "up", "refused"]

_BACKOFF_S_MIN = 0.1
_LOGIN_FIX = "compare username, secret and permit with manager.conf"
_BOOTED = "FullyBooted (still starting, or no read=system in manager.conf)"

log: structlog.stdlib.BoundLogger = structlog.get_logger("ami")
_silent = logging.getLogger("ami.silent")  # panoramisk logs whole actions and events: secrets, phone numbers
_silent.disabled = True


@dataclass(frozen=True, slots=True)
class AmiSettings:
    """Where the manager listens and how long we wait for it. The secret is sent in clear: loopback only."""

    host: str
    port: int
    username: str
    secret: str = field(repr=False)
    events: str = "system"  # classes to be told of; Hangup and the answer to Originate are of the class call
    connect_s: float = 2  # TCP and greeting
    action_s: float = 5  # one answer; also FullyBooted after the login
    ping_s: float = 5  # pause between pings; a silent switch is noticed within ping_s + action_s
    backoff_s_max: float = 10  # between attempts; always this long after a refused login
    queue_max: int = 1000  # events waiting for on_event


class _Link(asyncio.Protocol):
    """One connection, from greeting to loss. `lost` is set once, with the reason, and wakes whoever waits."""

    def __init__(self, heard: Callable[[Event], None]) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.booted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._heard = heard
        self._framing = ami_events.Framing()
        self._parser = AMIProtocol()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._parser.connection_made(transport)
        self._parser.factory, self._parser.encoding, self._parser.log = self, "utf-8", _silent
        # "closed" keeps its hands off: on a Shutdown event it would close and put actions aside to re-send.
        self._parser.closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(f"connection lost: {type(exc).__name__}" if exc else "closed by the switch")

    def drop(self, reason: str) -> None:
        """End it; the first reason stands. An abort: a peer that reads nothing never lets us flush."""
        if not self.lost.done():
            self.lost.set_result(reason)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.lost.done():
            return
        try:
            whole = self._framing.feed(data)
            if self._framing.greeted and not self.greeted.done():
                self.greeted.set_result(None)
            if whole:
                self._parser.data_received(whole.encode())
        except RemoteProtocolError as error:
            self.drop(str(error))
        except Exception as error:  # noqa: BLE001  panoramisk stumbled; the text may hold phone numbers
            self.drop(f"unreadable message ({type(error).__name__})")

    def dispatch(self, message: Mapping[str, object]) -> None:
        """Called by panoramisk with each event that answers no action of ours."""
        event = ami_events.event_from(ami_events.headers(message))
        if isinstance(event, FullyBooted) and not self.booted.done():
            self.booted.set_result(None)
        if event is not None:
            self._heard(event)

    async def wait(self, wanted: asyncio.Future[Any], deadline_s: float, what: str) -> Any:
        """`wanted`, or SwitchUnavailable: at once when the link is lost, else after `deadline_s`."""
        await asyncio.wait((wanted, self.lost), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        late = f"no {what} within {deadline_s:g} s"
        raise SwitchUnavailable(self.lost.result() if self.lost.done() else late)

    async def ask(
        self, name: str, fields: Mapping[str, str | int], deadline_s: float, *, first_only: bool = False
    ) -> AmiReply:
        if self.lost.done():
            raise SwitchUnavailable(self.lost.result())
        action_id = uuid.uuid4().hex  # so that no channel variable can forge an answer
        action = Action({"Action": name, "ActionID": action_id, **fields})
        try:
            answer = await self.wait(
                self._parser.send(action, as_list=False if first_only else None),
                deadline_s,
                f"answer to {name}",
            )
        finally:
            self._parser.responses.pop(action_id, None)
        messages = answer if isinstance(answer, list) else [answer]
        return AmiReply.from_messages(name, [ami_events.headers(message) for message in messages])


class Ami:
    """The manager connection: keeps itself up, carries actions out, hands events over.

    One task calls the callbacks, one at a time and in order: `on_up` after each (re)connect, before the
    events of that connection; `on_down` after its last. `on_up` means "take a fresh snapshot", also twice.

    Events wait in a queue of `queue_max`. When it is full, dropping the oldest (or the newest) would leave
    the owner with a picture that is wrong and looks right, and making the switch wait would get us cut off
    (writetimeout). So the whole queue is dropped and counted in `events_lost`, and `on_up` is called again:
    the owner reads the truth from the switch. The same happens after an `on_event` that raised, because that
    event is lost, too. An `on_up` that raises is called again, with back-off, before any later event.
    """

    def __init__(
        self,
        settings: AmiSettings,
        *,
        on_up: Callable[[], Awaitable[None]] | None = None,
        on_down: Callable[[], Awaitable[None]] | None = None,
        on_event: Callable[[Event], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._on_up, self._on_down, self._on_event = on_up, on_down, on_event
        self._state: State = "down"
        self._problem = "not started"
        self._link: _Link | None = None  # only while up
        self._up = asyncio.Event()
        self._pending: deque[Event | Literal["up", "down"]] = deque()
        self._wake = asyncio.Event()
        self.events_lost = 0

    @property
    def state(self) -> State:
        """`refused`: the switch answers and does not let us in; tried again every `backoff_s_max`."""
        return self._state

    async def wait_up(self, deadline_s: float) -> None:
        """Return once actions can be sent; SwitchUnavailable with the last reason after `deadline_s`."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._up.wait()
        except TimeoutError:
            raise self._unavailable() from None

    async def run(self) -> None:
        """Keep the connection until cancelled. Stopping calls no callback."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver())
            await self._keep_connected()

    async def action(self, name: str, /, *, timeout_s: float | None = None, **fields: str | int) -> AmiReply:
        """Send one action, once, and wait for its answer.

        raises  LocalProtocolError  a control character, bad field name or line too long; nothing was written
                SwitchUnavailable   down, lost, or silent for `timeout_s`: effect unknown, never re-sent
                ChannelGone         no such channel
                AmiRefused          any other Error
        """
        ami_events.check_action(name, fields)
        if self._link is None:
            raise self._unavailable()
        return await self._link.ask(name, fields, self._settings.action_s if timeout_s is None else timeout_s)

    async def originate(self, **fields: str | int) -> None:
        """Begin a call, once, and do not wait for how it goes: that is told to the class `call` only.

        raises  as `action`; AmiRefused: nothing was begun
        """
        wanted = {"Async": "true", **fields}
        ami_events.check_action("Originate", wanted)
        if self._link is None:
            raise self._unavailable()
        await self._link.ask("Originate", wanted, self._settings.action_s, first_only=True)

    async def channels(self) -> list[LiveChannel]:
        """Every channel of the switch, complete or RemoteProtocolError."""
        return ami_events.listed_channels((await self.action("CoreShowChannels")).events)

    async def getvar(self, channel: str, name: str) -> str:
        """A channel variable or function; "" when unset, and also when the function is not loaded."""
        reply = await self.action("Getvar", Channel=ami_events.one_channel(channel), Variable=name)
        return reply.fields.get("value", "")

    async def setvar(self, channel: str, name: str, value: str | int) -> None:
        await self.action("Setvar", Channel=ami_events.one_channel(channel), Variable=name, Value=value)

    async def hangup(self, channel: str, cause: int) -> None:
        """End one channel. `cause` is Q.850, 1 to 127."""
        if not 1 <= cause <= 127:
            raise LocalProtocolError(f"hangup cause {cause} is not in 1..127")
        await self.action("Hangup", Channel=ami_events.one_channel(channel), Cause=cause)

    async def reload(self, module: str) -> None:
        """Reload one module; AmiRefused when it is not loaded or its configuration was not accepted."""
        if not module:
            raise LocalProtocolError("reload names no module: that would reload all of them")
        await self.action("Reload", Module=module)

    def _unavailable(self) -> SwitchUnavailable:
        s = self._settings
        return SwitchUnavailable(f"Asterisk manager at {s.host}:{s.port} is {self._state}: {self._problem}")

    async def _keep_connected(self) -> NoReturn:
        s, delay_s = self._settings, _BACKOFF_S_MIN
        while True:
            try:
                held_s = await self._connection()
                if held_s > s.backoff_s_max:  # one that falls at once does not earn a fast retry
                    delay_s = _BACKOFF_S_MIN
            except AmiRefused as error:
                self._state, self._problem, delay_s = "refused", error.answer, s.backoff_s_max
                log.error("ami_login_refused", username=s.username, answer=error.answer, fix=_LOGIN_FIX)
            except (BridgeError, OSError) as error:
                self._state, self._problem = "down", str(error) or f"no connection in {s.connect_s:g} s"
                log.warning("ami_unreachable", reason=self._problem, retry_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, s.backoff_s_max)

    async def _connection(self) -> float:
        """One connection, from dialling to loss. Returns the seconds it was up; raises when it never was."""
        s, loop = self._settings, asyncio.get_running_loop()
        async with asyncio.timeout(s.connect_s):
            _, link = await loop.create_connection(lambda: _Link(self._heard), s.host, s.port)
        try:
            await link.wait(link.greeted, s.connect_s, "greeting")
            login = {"Username": s.username, "Secret": s.secret, "Events": s.events}
            await link.ask("Login", login, s.action_s)
            await link.wait(link.booted, s.action_s, _BOOTED)
            if link.lost.done():
                raise SwitchUnavailable(link.lost.result())
            up_at = loop.time()
            self._link, self._state, self._problem = link, "up", ""
            self._up.set()
            self._push("up")
            log.info("ami_up", host=s.host, port=s.port)
            await self._watch(link)
            return loop.time() - up_at
        finally:
            link.drop("closed by us")
            if self._link is link:
                self._link, self._state, self._problem = None, "down", link.lost.result()
                self._up.clear()
                self._push("down")
                log.warning("ami_down", reason=self._problem)

    async def _watch(self, link: _Link) -> None:
        """Ping until the link is lost; an unanswered ping loses it."""
        while not link.lost.done():
            await asyncio.wait({link.lost}, timeout=self._settings.ping_s)
            try:
                await link.ask("Ping", {}, self._settings.action_s)
            except BridgeError as error:
                link.drop(str(error))

    def _heard(self, event: Event) -> None:
        if self._link is not None:  # what comes before is part of the snapshot that on_up takes
            self._push(event)

    def _push(self, item: Event | Literal["up", "down"]) -> None:
        if len(self._pending) >= self._settings.queue_max:
            lost = sum(not isinstance(each, str) for each in (*self._pending, item))
            self.events_lost += lost
            self._pending.clear()
            log.warning("ami_events_lost", lost=lost, total=self.events_lost)
            item = item if item == "down" else "up"
        self._pending.append(item)
        self._wake.set()

    async def _deliver(self) -> NoReturn:
        while True:
            await self._wake.wait()
            while self._pending:
                item = self._pending.popleft()
                if item == "up":
                    await self._resync()
                elif item == "down":
                    await self._survived(self._on_down)
                elif not await self._survived(self._on_event, item):
                    await self._resync()
            self._wake.clear()

    async def _resync(self) -> None:
        """Call on_up until it succeeds; give up when the link is gone, for its successor brings its own."""
        delay_s = _BACKOFF_S_MIN
        while self._link is not None and not await self._survived(self._on_up):
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, self._settings.backoff_s_max)

    async def _survived(self, callback: Callable[..., Awaitable[None]] | None, *given: Event) -> bool:
        """The edge of the link: what the owner's code raises is logged, and never loses the connection."""
        try:
            if callback is not None:
                await callback(*given)
        except SwitchUnavailable as error:
            log.warning("ami_callback_without_switch", reason=str(error))
            return False
        except (Exception, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # run() ends; any other is the callback's own
                raise
            log.exception("ami_callback_failed")
            return False
        return True
