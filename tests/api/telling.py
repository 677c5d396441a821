"""The part of a worker that tells those who listen, beside the API, and a receiver for what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg

from bridge.config import Database, Events
from bridge.database import open_pool
from bridge.events.deliver import Deliverer
from bridge.events.send import Sender
from bridge.events.wake import Hub
from tests.api.receiver import Receiver, receiving
from tests.api.scene import Api, Partner
from tests.seeded import Who, ended

SETTINGS = Events.model_validate({"allow_networks": ["127.0.0.0/8"], "timeout_s": 10, "streams_max": 2})


@dataclass
class Telling:
    """What a test of events works with."""

    api: Api
    dsn: str
    hub: Hub
    receiver: Receiver
    stack: AsyncExitStack

    async def deliverer(self, settings: Events = SETTINGS) -> Deliverer:
        """A deliverer of a worker, not running."""
        pool: asyncpg.Pool = await open_pool(Database(pool_max=2, statement_timeout_s=30), self.dsn)
        sender = Sender(settings.allow_networks, settings.timeout_s)
        self.stack.push_async_callback(sender.close)
        self.stack.push_async_callback(pool.close)
        return Deliverer(pool, settings, self.hub, sender)

    async def start(self) -> asyncio.Task[None]:
        """A deliverer at work; stopped in the end."""
        deliverer = await self.deliverer()
        return self.running(deliverer)

    def running(self, deliverer: Deliverer) -> asyncio.Task[None]:
        task = asyncio.create_task(deliverer.run())
        self.stack.push_async_callback(stop, task)
        return task

    async def endpoint(
        self, path: str = "/hook", partner: Partner | None = None, **more: Any
    ) -> dict[str, Any]:
        """An endpoint at the receiver, with its secret."""
        whose = partner or self.api.alpha
        made = await whose.post("/v1/webhooks", {"url": self.receiver.url(path), **more})
        assert made.status_code == 201, made.text
        return dict(made.json())

    async def caller(self, partner: Partner | None = None, balance_micro: int = 1_000_000) -> Who:
        """Somebody who belongs to a partner."""
        whose = partner or self.api.alpha
        who = await self.api.house.subscriber(balance_micro)
        for table in ("account", "subscriber"):
            await self.api.own(table, whose, account_id=UUID(who.account_id))
        return who

    async def call(self, who: Who, talk_ms: int = 5_000) -> UUID:
        """A whole call."""
        call_id = (await self.api.house.admitted(who)).frozen.call_id
        await self.api.house.answer(call_id)
        await self.api.house.end(ended(call_id, talk_ms=talk_ms))
        return call_id

    async def add(
        self, subject_id: UUID, seq: int = 1, partner: Partner | None = None, data: str = "{}"
    ) -> None:
        """An event of no consequence."""
        await self.api.house.rows(
            "SELECT event_add_v1($1, 'trunk.up', $2, $3, $4)",
            (partner or self.api.alpha).partner_id, subject_id, seq, data,
        )  # fmt: skip

    async def until(self, count: int, where: str = "state = 'done'") -> None:
        """Wait until so many deliveries are as said. Looks often: a note of what was sent sends no notice."""
        async with asyncio.timeout(20):
            while await self.api.house.value(f"SELECT count(*) FROM delivery WHERE {where}") < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def numbered(self) -> None:
        """Wait until no event is new."""
        async with asyncio.timeout(20):
            while await self.api.house.value("SELECT count(*) FROM event WHERE stream_no IS NULL"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def due(self) -> None:
        """Let the time pass until everything is due, and no worker that died holds on to anything."""
        await self.api.house.rows(
            "UPDATE delivery SET due_at = now(), claimed_until = CASE WHEN claimed_until IS NOT NULL THEN now() END "
            "WHERE state = 'pending'"
        )
        self.hub.wake_all()


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


@asynccontextmanager
async def telling(api: Api, dsn: str) -> AsyncIterator[Telling]:
    hub = Hub()
    api.app.state.services = replace(
        api.services, settings=api.services.settings.model_copy(update={"events": SETTINGS}), hub=hub
    )
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        stack.push_async_callback(stop, asyncio.create_task(hub.run(dsn)))
        yield Telling(api, dsn, hub, receiver, stack)
