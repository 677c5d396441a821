"""Keeps a worker's book true: reloaded when the configuration changes, and when a rate comes into force."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final, NoReturn

import asyncpg
import structlog

from bridge.calls.book import Book, load_book
from bridge.database import connection, store_errors
from bridge.errors import BridgeError, StoreUnavailable

CHANNEL: Final = "callbridge_config"
SETTLE_S: Final = 0.1  # a change is rarely one statement
RETRY_S: Final = 1.0
STALE_S_MAX: Final = 3600.0

log = structlog.get_logger("book")


class BookWatch:
    """Holds the current book. `current` raises StoreUnavailable until the first one is loaded."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool, self._dsn = pool, dsn
        self._book: Book | None = None
        self._changed = asyncio.Event()
        self.versions = 0  # books loaded since the start
        self.loaded_at: datetime | None = None  # the one in use

    def current(self) -> Book:
        if self._book is None:
            raise StoreUnavailable("no rate deck has been loaded yet")
        return self._book

    async def load(self) -> Book:
        """Read the book now: what has changed of it, beside what stays."""
        before = self._book
        async with connection(self._pool) as conn:
            book = self._book = await load_book(conn, datetime.now(UTC), before)
        self.versions += 1
        self.loaded_at = datetime.now(UTC)
        log.info("book loaded", trunks=len(book.trunks), plans=len(book.plans))
        if before is not None and before.router is not book.router:
            for _ in before.router.forget():
                await asyncio.sleep(0)
        return book

    async def run(self) -> NoReturn:
        """Follow changes until cancelled. Without a database the last book stays in use."""
        while True:
            try:
                async with store_errors():
                    listener = await asyncpg.connect(self._dsn, timeout=5)
                    try:
                        await self._follow(listener)
                    finally:
                        listener.terminate()
            except BridgeError as error:
                log.warning("book not followed", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _follow(self, listener: asyncpg.Connection) -> None:
        lost = asyncio.Event()

        def gone(_: object) -> None:
            lost.set()
            self._changed.set()

        listener.add_termination_listener(gone)
        await listener.add_listener(CHANNEL, lambda *_: self._changed.set())
        while not lost.is_set():
            self._changed.clear()
            try:
                book = await self.load()  # first of all, for what changed while nobody listened
                wait_s = _until(book.changes_at)
            except StoreUnavailable:
                raise
            except (BridgeError, ValueError) as error:
                log.error("book not loaded, the last one stays", error=str(error))
                wait_s = RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                await asyncio.sleep(SETTLE_S)
            except TimeoutError:
                pass  # a rate has come into force, or it is time to try again


def _until(at: datetime | None) -> float:
    left_s = (at - datetime.now(UTC)).total_seconds() if at else STALE_S_MAX
    return min(max(left_s, 0.0), STALE_S_MAX)
