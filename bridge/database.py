"""The pool of connections, how the database's refusals become ours, and what it says unasked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import asyncpg
import structlog

from bridge.config import Database
from bridge.errors import (
    AlreadySettled,
    BridgeError,
    Conflict,
    InsufficientFunds,
    Invalid,
    InvariantBroken,
    NotFound,
    StoreError,
    StoreUnavailable,
)

# Our SQLSTATEs, one to one.
_BY_SQLSTATE: dict[str, type[BridgeError]] = {
    "BR001": InvariantBroken,  # a transfer does not sum to zero
    "BR002": AlreadySettled,  # the ledger is insert-only
    "BR003": Invalid,  # what is asked for makes no sense, whatever the state of the books
    "BR004": Conflict,  # an idempotency key came with another payload, or something was done before
    "BR005": NotFound,
    "BR006": InsufficientFunds,
    "BR007": Conflict,  # the books of that period are closed
    "BR008": InvariantBroken,  # a leg of the phone network would meet one of WhatsApp
    "23505": Conflict,  # a unique key: another writer came first
    "23503": Invalid,  # it names something that does not exist
    "23514": Invalid,  # a check of the table
    "22021": Invalid,  # a character that is none, such as NUL
    "22003": Invalid,  # a number out of range
}

# What the database says of these names keys and values of others.
_IN_OUR_WORDS: dict[str, str] = {
    "23505": "The name, number or key is taken.",
    "23503": "It names something that does not exist.",
    "23514": "A value is not one of those that are allowed.",
}

LISTEN_AGAIN_S: Final = 1.0

log = structlog.get_logger("database")

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


async def _keep(_: Connection) -> None:
    """Nothing to reset on release: no code here leaves session state behind, and a round trip per call is saved."""


async def open_pool(
    settings: Database, dsn: str, *, lock_timeout_s: float = 1.0, role: str | None = None
) -> asyncpg.Pool:
    """Connect. `search_path` is ours, time is UTC, and no statement may keep a caller waiting for ever.

    role     what every connection begins as; None: the user of the DSN
    raises   StoreUnavailable: the server cannot be reached or does not let us in
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=min(4, settings.pool_max),
            max_size=settings.pool_max,
            timeout=5,
            command_timeout=settings.statement_timeout_s + 1,
            reset=_keep,
            server_settings={
                "search_path": "bridge, public",
                "TimeZone": "UTC",
                "application_name": "callbridge",
                "statement_timeout": str(int(settings.statement_timeout_s * 1000)),
                "lock_timeout": str(int(lock_timeout_s * 1000)),
                "jit": "off",
                # Planning the end of calls costs more than ending them; a list with filters is worth a plan.
                "plan_cache_mode": "auto" if role else "force_generic_plan",
                **({"role": role} if role else {}),
            },
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise StoreUnavailable(f"the database cannot be reached: {error}") from error


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Turn the driver's exceptions into `StoreError` and its kin."""
    try:
        yield
    except asyncpg.PostgresError as error:
        ours = _BY_SQLSTATE.get(error.sqlstate or "")
        if ours is not None:
            raise ours(_IN_OUR_WORDS.get(error.sqlstate or "", str(error))) from error
        # Classes 08, 40, 53, 57: connection, rollback (deadlock), resources, operator; 55P03: a lock came too late.
        if (error.sqlstate or "")[:2] in ("08", "40", "53", "57") or error.sqlstate == "55P03":
            raise StoreUnavailable(str(error)) from error
        raise StoreError(f"{error.sqlstate}: {error}") from error
    # InternalClientError: the server has said goodbye, and the driver has not seen the end of the connection yet.
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error


@asynccontextmanager
async def connection(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """One connection of the pool; waiting for it is bounded, too."""
    async with store_errors(), pool.acquire(timeout=2) as conn:
        yield conn


@asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """One connection in a transaction of its own. Never held across a word with the switch."""
    async with connection(pool) as conn, conn.transaction():
        yield conn


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection for a command: no pool, no time limit on statements.

    raises   StoreUnavailable: the server cannot be reached or does not let us in
    """
    try:
        conn = await asyncpg.connect(
            dsn, timeout=5, server_settings={"search_path": "bridge, public", "TimeZone": "UTC"}
        )
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise StoreUnavailable(f"the database cannot be reached: {error}") from error
    try:
        async with store_errors():
            yield conn
    finally:
        await conn.close()


async def listen(
    dsn: str, channel: str, heard: Callable[[str], None], begins: Callable[[], None]
) -> NoReturn:
    """Hear the database's notices, over a connection of its own, until cancelled.

    heard    is told what each says
    begins   called whenever hearing begins: something may have been said while nobody heard
    """
    while True:
        try:
            async with store_errors():
                conn = await asyncpg.connect(dsn, timeout=5)
                try:
                    await _hear(conn, channel, heard, begins)
                finally:
                    conn.terminate()
        except BridgeError as error:
            log.warning("notices not heard", channel=channel, error=str(error))
        await asyncio.sleep(LISTEN_AGAIN_S)


async def _hear(
    conn: asyncpg.Connection, channel: str, heard: Callable[[str], None], begins: Callable[[], None]
) -> None:
    lost = asyncio.Event()
    conn.add_termination_listener(lambda _: lost.set())
    await conn.add_listener(channel, lambda *said: heard(str(said[-1])))
    begins()
    await lost.wait()
