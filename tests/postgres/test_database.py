"""What the driver and the server say becomes the product's own exceptions, and nothing else comes through."""

from __future__ import annotations

import asyncpg
import pytest

from bridge.config import Database
from bridge.database import Connection, connection, open_pool, store_errors, transaction
from bridge.errors import (
    AlreadySettled,
    BridgeError,
    Conflict,
    Invalid,
    InvariantBroken,
    NotFound,
    StoreError,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BR001", InvariantBroken),
        ("BR002", AlreadySettled),
        ("BR003", Invalid),
        ("BR004", Conflict),
        ("BR005", NotFound),
        ("40001", StoreUnavailable),
        ("40P01", StoreUnavailable),
        ("53300", StoreUnavailable),
        ("55P03", StoreUnavailable),
        ("57014", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("23505", Conflict),
        ("23502", StoreError),
        ("22012", StoreError),
    ],
)
async def test_each_state_has_its_exception(conn: Connection, code: str, kind: type[BridgeError]) -> None:
    with pytest.raises(BridgeError) as caught:
        async with store_errors():
            await conn.execute(f"DO $$ BEGIN RAISE EXCEPTION 'said so' USING ERRCODE = '{code}'; END $$")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
)
async def test_a_lost_connection_is_unavailability(error: Exception) -> None:
    with pytest.raises(StoreUnavailable, match=r".+"):
        async with store_errors():
            raise error


async def test_no_lock_and_no_connection_is_waited_for_without_end(dsn: str) -> None:
    pool = await open_pool(Database(pool_max=2), dsn, lock_timeout_s=0.05)
    try:
        async with transaction(pool) as holder:
            await holder.execute("LOCK TABLE account")
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                async with transaction(pool) as other:
                    await other.execute("LOCK TABLE account")
            async with connection(pool):
                with pytest.raises(StoreUnavailable):
                    async with connection(pool):
                        pass
    finally:
        pool.terminate()


async def test_a_server_that_is_not_there(dsn: str) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await open_pool(Database(), dsn.replace("/test_", "/no_such_"))
