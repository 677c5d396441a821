"""Who waits for events in this worker: one connection hears the database's notice, and wakes those it is for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn
from uuid import UUID

from bridge.database import listen

CHANNEL: Final = "callbridge_events"


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
        await listen(dsn, CHANNEL, self._heard, self.wake_all)

    def _heard(self, partner: str) -> None:
        try:
            self.wake(UUID(partner))
        except ValueError:
            self.wake_all()
