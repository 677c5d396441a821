"""The named queries of sql/queries/, loaded once: `await queries.calls.caller.one(conn, app=…, a_number=…)`.

aiosql reads the files and numbers the parameters. Its own asyncpg calls are passed by, because they look through
`dir(connection)` each time, which costs more than the query's parsing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter

from bridge.database import Connection
from bridge.resources import SQL

PREFETCH: Final = 1000  # rows a cursor fetches at a time


class Query:
    """One named query. Parameters are given by name, and all of them."""

    __slots__ = ("names", "sql")

    def __init__(self, sql: str, names: tuple[str, ...]) -> None:
        self.sql, self.names = sql, names

    async def one(self, conn: Connection, /, **given: object) -> Any:
        """The first row, or None."""
        return await conn.fetchrow(self.sql, *[given[name] for name in self.names])

    async def all(self, conn: Connection, /, **given: object) -> list[Any]:
        return await conn.fetch(self.sql, *[given[name] for name in self.names])

    async def value(self, conn: Connection, /, **given: object) -> Any:
        """The first column of the first row, or None."""
        return await conn.fetchval(self.sql, *[given[name] for name in self.names])

    async def stream(self, conn: Connection, /, **given: object) -> AsyncIterator[Any]:
        """Row by row through a cursor, inside a transaction only: memory stays flat however many there are."""
        async for row in conn.cursor(self.sql, *[given[name] for name in self.names], prefetch=PREFETCH):
            yield row

    async def batches(self, conn: Connection, size: int, /, **given: object) -> AsyncIterator[list[Any]]:
        """Like `stream`, so many rows at a time: for loops in which a switch a row would count."""
        cursor = await conn.cursor(self.sql, *[given[name] for name in self.names])
        while rows := await cursor.fetch(size):
            yield rows

    async def run(self, conn: Connection, /, **given: object) -> None:
        await conn.execute(self.sql, *[given[name] for name in self.names])


def _load(name: str) -> Any:
    adapter: Any = AsyncPGAdapter()  # type: ignore[no-untyped-call]
    loaded = aiosql.from_path(
        SQL / "queries" / f"{name}.sql", lambda *_, **__: adapter, mandatory_parameters=False
    )
    found = {
        query: getattr(loaded, query) for query in loaded.available_queries if not query.endswith("_cursor")
    }
    return SimpleNamespace(
        **{query: Query(made.sql, tuple(adapter.var_sorted[query])) for query, made in found.items()}
    )


calls = _load("calls")
book = _load("book")
ledger = _load("ledger")
switch = _load("switch")
access = _load("access")
rerating = _load("rerating")
seed = _load("seed")
bench = _load("bench")
decks = _load("decks")
failsafe = _load("failsafe")
allowance = _load("allowance")
explain = _load("explain")
plans = _load("plans")
partners = _load("partners")
deals = _load("deals")
numbers = _load("numbers")
quotes = _load("quotes")
subscribers = _load("subscribers")
accounts = _load("accounts")
usage = _load("usage")
trunks = _load("trunks")
originations = _load("originations")
deck_pages = _load("deck_pages")
events = _load("events")
webhooks = _load("webhooks")
whatsapp = _load("whatsapp")
cdrs = _load("cdrs")
cdr_files = _load("cdr_files")
messages = _load("messages")
inbound = _load("inbound")
rollouts = _load("rollouts")
members = _load("members")
trials = _load("trials")
credentials = _load("credentials")
apps = _load("apps")
phone = _load("phone")
jobs = _load("jobs")
exports = _load("exports")
reports = _load("reports")
retention = _load("retention")
sequence = _load("sequence")
bills = _load("bills")
statements = _load("statements")
invoices = _load("invoices")
simulate = _load("simulate")
closing = _load("closing")
reconcile = _load("reconcile")
disputes = _load("disputes")
