"""Who waits for events in this worker: one connection hears the database's notice, and wakes those it is for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge.database import store_errors
from bridge.errors import BridgeError

CHANNEL: Final = "callbridge_events"
RETRY_S: Final = 1.0

log = structlog.get_logger("events")


class Hub:
    """Waiters by partner. What is missed here is found by looking again, so nothing depends on a notice."""

    def __init__(self) -> None:
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self.anything = asyncio.Event()  # for whoever delivers
        self.closed = False

    def count(self, partner_id: UUID) -> int:
        """How many wait for a partner's events."""
        return len(self._waiting.get(partner_id, ()))

    @contextmanager
    def waiting(self, partner_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever something may have happened to the partner, and when the worker stops."""
        mine = asyncio.Event()
        self._waiting[partner_id].add(mine)
        try:
            yield mine
        finally:
            self._waiting[partner_id].discard(mine)
            if not self._waiting[partner_id]:
                del self._waiting[partner_id]

    def wake(self, partner_id: UUID) -> None:
        self.anything.set()
        for one in self._waiting.get(partner_id, ()):
            one.set()

    def wake_all(self) -> None:
        self.anything.set()
        for waiters in self._waiting.values():
            for one in waiters:
                one.set()

    def close(self) -> None:
        """The worker stops: streams end."""
        self.closed = True
        self.wake_all()

    async def run(self, dsn: str) -> NoReturn:
        """Hear the database until cancelled."""
        while True:
            try:
                async with store_errors():
                    conn = await asyncpg.connect(dsn, timeout=5)
                    try:
                        await self._hear(conn)
                    finally:
                        conn.terminate()
            except BridgeError as error:
                log.warning("events not heard", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _hear(self, conn: asyncpg.Connection) -> None:
        lost = asyncio.Event()
        conn.add_termination_listener(lambda _: lost.set())

        def heard(*said: object) -> None:
            try:
                self.wake(UUID(str(said[-1])))
            except ValueError:
                self.wake_all()

        await conn.add_listener(CHANNEL, heard)
        self.wake_all()  # for what was said while nobody heard
        await lost.wait()
