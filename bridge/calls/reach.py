"""Calls that wait for a phone of their callee to register. One connection of a worker hears the database say so."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn
from uuid import UUID

import structlog

from bridge.calls.store import CallStore
from bridge.database import listen
from bridge.telephony.endpoint import subscriber_of

CHANNEL: Final = "callbridge_registered"
WAITERS_MAX: Final = 1000

log = structlog.get_logger("calls")


class Reach:
    """Waiters by callee. A notice only says where to look: what counts is what the database says then.

    waiters_max   more are told at once that no phone is there
    """

    def __init__(self, store: CallStore, waiters_max: int = WAITERS_MAX) -> None:
        self._store, self._waiters_max = store, waiters_max
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self.waiters = 0

    async def wait(self, subscriber_id: UUID, wait_s: float, gone: asyncio.Event) -> bool:
        """Whether a phone of the subscriber is registered, now or within `wait_s`.

        gone     set when the caller has hung up; then False is said at once
        raises   StoreUnavailable
        """
        with self._awaiting(subscriber_id) as seen:
            full = self.waiters > self._waiters_max
            # A phone that registers from here on is noticed; one that did before is found by looking.
            if await self._store.reached(subscriber_id):
                return True
            if full:
                log.warning("too many calls wait for phones", waiters=self.waiters)
                return False
            left = asyncio.create_task(gone.wait())
            try:
                async with asyncio.timeout(wait_s):
                    while not gone.is_set():
                        noticed = asyncio.create_task(seen.wait())
                        await asyncio.wait({noticed, left}, return_when=asyncio.FIRST_COMPLETED)
                        noticed.cancel()
                        seen.clear()
                        if await self._store.reached(subscriber_id):
                            return True
            except TimeoutError:
                pass
            finally:
                left.cancel()
        return False

    async def run(self, dsn: str) -> NoReturn:
        """Hear the database until cancelled."""
        await listen(dsn, CHANNEL, self._heard, self._look_again)

    def _heard(self, endpoint: str) -> None:
        if (subscriber_id := subscriber_of(endpoint)) is not None:
            for one in self._waiting.get(subscriber_id, ()):
                one.set()

    def _look_again(self) -> None:
        for waiters in self._waiting.values():
            for one in waiters:
                one.set()

    @contextmanager
    def _awaiting(self, subscriber_id: UUID) -> Iterator[asyncio.Event]:
        mine = asyncio.Event()
        self._waiting[subscriber_id].add(mine)
        self.waiters += 1
        try:
            yield mine
        finally:
            self.waiters -= 1
            self._waiting[subscriber_id].discard(mine)
            if not self._waiting[subscriber_id]:
                del self._waiting[subscriber_id]
