"""The composition root: the only file that knows every adapter. One `Worker` is one process's whole bridge."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from typing import Any, Self
from uuid import UUID

import asyncpg
import structlog
import uvicorn
from fastapi import FastAPI

from bridge import queries
from bridge.api.app import Services, create_app, guarded
from bridge.api.desk import PARTNER_ROLE
from bridge.asterisk.agi_routes import AgiRoutes
from bridge.asterisk.agi_server import AgiServer
from bridge.asterisk.ami import Ami, AmiSettings
from bridge.asterisk.ami_events import Event
from bridge.asterisk.keeper import Keeper
from bridge.calls.admit import Admissions
from bridge.calls.book_watch import BookWatch
from bridge.calls.end import Endings
from bridge.calls.overload import Overload
from bridge.calls.reach import Reach
from bridge.calls.snapshot import make_key
from bridge.calls.store import CallStore
from bridge.config import Settings, require_dsn
from bridge.database import connection, open_pool
from bridge.errors import ConfigError
from bridge.events.deliver import Deliverer
from bridge.events.send import Sender
from bridge.events.wake import Hub
from bridge.jobs.runner import Runner
from bridge.migrate import ensure_current
from bridge.web import page

DRAIN_S = 5.0
EVENTS_POOL = 2  # connections of its own, so that no caller waits for a webhook
JOBS_POOL = 2  # nor for a job
GC_THRESHOLD = 20_000  # a call makes a few hundred objects, and cycles hardly ever

log = structlog.get_logger("worker")


class Worker:
    """AGI server, API and, if nobody else has it, the switch's keeper, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let running sessions end and leave."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`.

        raises   ConfigError: no DSN, or a port is taken · StoreUnavailable: no database at the start
        """
        settings = self.settings
        with suppress(OSError):  # reading it says what is wrong
            make_key(settings.failsafe.key_file)
        dsn = require_dsn(settings)
        async with AsyncExitStack() as stack:
            pool = await open_pool(settings.database, dsn)
            stack.push_async_callback(pool.close)
            asking = await open_pool(settings.database, dsn, role=PARTNER_ROLE)
            stack.push_async_callback(asking.close)
            async with connection(pool) as conn:
                await ensure_current(conn)
                switch_id: UUID = await queries.switch.register.value(conn, name=settings.switch.name)
            books = BookWatch(pool, dsn)
            await books.load()
            store = CallStore(pool, switch_id)
            await store.ensure_partitions()
            endings = Endings(store)
            reach = Reach(store, settings.agi.sessions_max // 2)
            overload = await self._overload(stack, store)
            agi = self._agi(store, endings, books, overload, reach)
            keeper = Keeper(settings, pool, dsn, store, endings, books.current, self._make_ami)
            hub, deliverer = await self._telling(stack, dsn)
            jobs = Runner(await self._pool_of(stack, dsn, JOBS_POOL), settings)
            web = create_app(
                Services(
                    settings,
                    pool,
                    asking,
                    books,
                    lambda: asdict(agi.stats),
                    lambda: keeper.ami.state if keeper.ami else None,
                    hub,
                    overload.figures,
                    jobs=lambda: jobs.figures,
                )
            )
            page.install(web, settings)
            await agi.start(settings.agi.host, settings.agi.port)
            stack.push_async_callback(agi.stop, DRAIN_S)
            server = _ApiServer.of(web)
            sock = stack.enter_context(listen(settings.api.host, settings.api.port, "api.port"))
            tasks = [
                asyncio.create_task(books.run(), name="book"),
                asyncio.create_task(overload.run(), name="overload"),
                asyncio.create_task(keeper.run(), name="keeper"),
                asyncio.create_task(hub.run(dsn), name="events heard"),
                asyncio.create_task(reach.run(dsn), name="registrations heard"),
                asyncio.create_task(deliverer.run(), name="events told"),
                asyncio.create_task(jobs.run(dsn), name="jobs"),
                asyncio.create_task(server.serve(sockets=[sock]), name="api"),
            ]
            stack.push_async_callback(_cancel, tasks)
            stack.callback(hub.close)
            gc.freeze()  # what stands now stands for good: the collector need not look at it again
            gc.set_threshold(GC_THRESHOLD)
            self.ready.set()
            log.info("worker ready", pid=os.getpid(), agi=settings.agi.port, api=settings.api.port)
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            for task in done - {stopping}:
                task.result()  # none of them ends by itself: raise what ended it

    def _agi(
        self, store: CallStore, endings: Endings, books: BookWatch, overload: Overload, reach: Reach
    ) -> AgiServer:
        """What answers the switch."""
        settings = self.settings
        routes = AgiRoutes(
            Admissions(store, settings.calls),
            endings,
            store,
            settings.calls,
            books.current,
            overload=overload,
            reach=reach,
            messages=settings.messages,
        )
        return AgiServer(
            routes.handlers(),
            waits=routes.waits(),
            deadline_s=settings.agi.deadline_s,
            sessions_max=settings.agi.sessions_max,
        )

    async def _overload(self, stack: AsyncExitStack, store: CallStore) -> Overload:
        """What keeps new calls away when there are too many. The records it still has are written in the end."""
        overload = Overload(store, self.settings.pressure, self.settings.calls.home_region)
        stack.push_async_callback(overload.write)
        await overload.count()
        return overload

    async def _telling(self, stack: AsyncExitStack, dsn: str) -> tuple[Hub, Deliverer]:
        """What it takes to tell those who listen."""
        events = self.settings.events
        sender = Sender(events.allow_networks, events.timeout_s)
        stack.push_async_callback(sender.close)
        pool = await self._pool_of(stack, dsn, EVENTS_POOL)
        hub = Hub()
        return hub, Deliverer(pool, events, hub, sender)

    async def _pool_of(self, stack: AsyncExitStack, dsn: str, connections: int) -> asyncpg.Pool:
        pool = await open_pool(self.settings.database.model_copy(update={"pool_max": connections}), dsn)
        stack.push_async_callback(pool.close)
        return pool

    def _make_ami(
        self, on_up: Callable[[], Awaitable[None]], on_event: Callable[[Event], Awaitable[None]]
    ) -> Ami:
        ami = self.settings.ami
        address = AmiSettings(
            ami.host, ami.port, ami.username, ami.secret.get_secret_value(), events="system,security"
        )
        return Ami(address, on_up=on_up, on_event=on_event)


class _ApiServer(uvicorn.Server):
    """uvicorn without its own signal handling: the worker has one way to stop."""

    @classmethod
    def of(cls, web: FastAPI) -> Self:
        quiet: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
        return cls(uvicorn.Config(guarded(web), lifespan="off", **quiet))

    def install_signal_handlers(self) -> None:
        """None."""


def listen(host: str, port: int, key: str) -> socket.socket:
    """A listening TCP socket that several workers can share.

    raises   ConfigError naming the setting when the port is taken
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            key, f"{host}:{port} cannot be used: {error.strerror}", "Choose another port."
        ) from error
    return sock


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def serve_one(settings: Settings, *, leash: int | None = None) -> None:
    """Run one worker until SIGTERM or SIGINT, or until the file descriptor `leash` is closed at its other end."""
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if leash is not None:
        loop.add_reader(leash, _let_go, loop, leash, worker)
    await worker.run()


def _let_go(loop: asyncio.AbstractEventLoop, leash: int, worker: Worker) -> None:
    """Whoever started us is gone."""
    loop.remove_reader(leash)
    worker.stop()
