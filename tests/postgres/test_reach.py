"""Calls wait for a phone: they hear of it at once, miss none, and let go when they should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

import pytest

from bridge.calls.reach import Reach
from bridge.sandbox.process import Deadline
from tests.postgres.test_ring import id_of, register
from tests.seeded import Seeded

LONG_S = 20.0
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%callbridge_registered%'"


@pytest.fixture
async def reach(house: Seeded, dsn: str) -> AsyncIterator[Reach]:
    made = Reach(house.store, 5)
    hearing = asyncio.create_task(made.run(dsn))
    deadline = Deadline(LONG_S)
    while not await house.value(LISTENING):
        assert deadline.left_s > 0
        await asyncio.sleep(0)
    yield made
    hearing.cancel()
    with suppress(asyncio.CancelledError):
        await hearing


async def waiting(reach: Reach, count: int) -> None:
    """Whoever was told to wait before does so now."""
    await asyncio.sleep(0)
    assert reach.waiters == count


async def test_a_phone_that_registers_ends_the_wait_of_its_own_callers(house: Seeded, reach: Reach) -> None:
    ben, eve = await house.subscriber(), await house.subscriber()
    ids: list[UUID] = [await id_of(house, ben), await id_of(house, eve)]
    gone = asyncio.Event()
    for_ben = [asyncio.create_task(reach.wait(ids[0], LONG_S, asyncio.Event())) for _ in range(3)]
    for_eve = asyncio.create_task(reach.wait(ids[1], LONG_S, gone))
    await waiting(reach, 4)
    await register(house, ben)
    async with asyncio.timeout(LONG_S / 2):
        assert await asyncio.gather(*for_ben) == [True] * 3
        assert not for_eve.done()
        gone.set()
        assert await for_eve is False
    assert reach.waiters == 0


async def test_a_phone_that_is_there_is_not_waited_for(house: Seeded, reach: Reach) -> None:
    ben = await house.subscriber()
    await register(house, ben)
    assert await reach.wait(await id_of(house, ben), 0, asyncio.Event())


async def test_a_phone_that_does_not_come_is_given_up(house: Seeded, reach: Reach) -> None:
    ben = await house.subscriber()
    assert not await reach.wait(await id_of(house, ben), 0.05, asyncio.Event())


async def test_no_phone_is_missed_while_nobody_hears(house: Seeded, dsn: str) -> None:
    """It registers before anybody listens; whoever begins to listen looks again."""
    ben = await house.subscriber()
    deaf = Reach(house.store)
    found = asyncio.create_task(deaf.wait(await id_of(house, ben), LONG_S, asyncio.Event()))
    await waiting(deaf, 1)
    await register(house, ben)
    hearing = asyncio.create_task(deaf.run(dsn))
    async with asyncio.timeout(LONG_S / 2):
        assert await found
    hearing.cancel()
    with suppress(asyncio.CancelledError):
        await hearing


async def test_only_so_many_wait(house: Seeded, reach: Reach) -> None:
    ben = await house.subscriber()
    subscriber_id, gone = await id_of(house, ben), asyncio.Event()
    waiters = [asyncio.create_task(reach.wait(subscriber_id, LONG_S, gone)) for _ in range(5)]
    await waiting(reach, 5)
    async with asyncio.timeout(LONG_S / 2):
        assert await reach.wait(subscriber_id, LONG_S, asyncio.Event()) is False
        assert not any(one.done() for one in waiters)
        gone.set()
        assert await asyncio.gather(*waiters) == [False] * 5
