"""Numbers events, sends them to those who are to be told, and notes what became of it. One in each worker.

At least once: what was sent and not noted, because the worker died in between, is sent again with the same webhook-id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge.config import Events
from bridge.database import connection
from bridge.errors import BridgeError
from bridge.events import store
from bridge.events.message import cloud_event, webhook
from bridge.events.schedule import retry_s
from bridge.events.send import Answer, Sender
from bridge.events.wake import Hub

FAN_OUT_S: Final = 0.2  # calls do not send notices: these would make their commits take turns
IDLE_S: Final = 1.0  # somebody else numbers, or nothing is due
GATHER_S: Final = 0.01  # where one ends, others do
EACH_MAX: Final = 16  # messages at a time to one endpoint, in all workers
FAILING_SHARE: Final = 4  # this part of the messages under way may go to endpoints that are failing
LEASE_S: Final = 30.0  # beyond the longest an attempt can take
HOUSEKEEPING_S: Final = 3600.0

log = structlog.get_logger("events")


class Deliverer:
    """pool   its own, so that no caller waits for a webhook"""

    def __init__(self, pool: asyncpg.Pool, settings: Events, hub: Hub, sender: Sender) -> None:
        self._pool, self._settings, self._hub, self._sender = pool, settings, hub, sender
        self._under_way: dict[bool, set[asyncio.Task[None]]] = {False: set(), True: set()}
        self._unsent: set[UUID] = set()

    async def run(self) -> None:
        """Until cancelled. What was not sent by then is let go, for others to send."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._number())
                tasks.create_task(self._deliver())
                tasks.create_task(self._every(HOUSEKEEPING_S, self._housekeeping))
        finally:
            under_way = self._under_way[False] | self._under_way[True]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self._let_go()

    async def fan_out(self) -> int:
        """Number what is new; see `store.fan_out`."""
        async with connection(self._pool) as conn:
            return await store.fan_out(conn)

    async def deliver_due(self) -> int:
        """Begin to send what is due, as far as there is room. Returns how many."""
        begun = 0
        failing_max = max(self._settings.concurrency // FAILING_SHARE, 1)
        for failing, at_once in ((False, self._settings.concurrency - failing_max), (True, failing_max)):
            room = at_once - len(self._under_way[failing])
            if room <= 0:
                continue
            async with connection(self._pool) as conn:
                claims = await store.claim(
                    conn,
                    failing=failing,
                    rows=room,
                    each=EACH_MAX,
                    lease_s=self._settings.timeout_s + LEASE_S,
                )
            for claim in claims:
                self._begin(claim, failing=failing)
            begun += len(claims)
        return begun

    async def settled(self) -> None:
        """Wait for what is under way."""
        while under_way := self._under_way[False] | self._under_way[True]:
            await asyncio.wait(under_way)

    def _begin(self, claim: store.Claim, *, failing: bool) -> None:
        self._unsent.add(claim.delivery_id)
        task = asyncio.create_task(self._send(claim))
        self._under_way[failing].add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._under_way[failing].discard(task)
            if not task.cancelled():
                self._unsent.discard(claim.delivery_id)
            self._hub.anything.set()  # what waited behind it may be due

        task.add_done_callback(done)

    async def _send(self, claim: store.Claim) -> None:
        try:
            if claim.to_sink:
                message = cloud_event(claim.event, claim.bearer)
            else:
                message = webhook(claim.event, claim.keys, datetime.now(UTC))
            answer = await self._sender.post(claim.url, message)
        except Exception as error:  # a fault of ours must not stop the others
            log.exception("message not sent", delivery=str(claim.delivery_id))
            answer = Answer(None, f"not sent: {type(error).__name__}", 0)
        wait_s = None
        if answer.said == "failed":
            wait_s = retry_s(claim.tries + 1, random.random(), answer.retry_after_s)  # noqa: S311
        try:
            async with connection(self._pool) as conn:
                await store.note(
                    conn, claim.delivery_id, answer, wait_s, self._settings.disable_after_days * 86_400
                )
        except BridgeError as error:  # it is sent again when the claim has ended
            log.warning("delivery not noted", delivery=str(claim.delivery_id), error=str(error))

    async def _number(self) -> NoReturn:
        while True:
            wait_s = FAN_OUT_S
            try:
                while (done := await self.fan_out()) == store.FAN_OUT_ROWS:
                    pass
                if done < 0:
                    wait_s = IDLE_S
            except BridgeError as error:
                log.warning("events not numbered", error=str(error))
                wait_s = IDLE_S
            await asyncio.sleep(wait_s)

    async def _deliver(self) -> NoReturn:
        anything = self._hub.anything
        while True:
            anything.clear()
            try:
                if await self.deliver_due():
                    continue
            except BridgeError as error:
                log.warning("events not delivered", error=str(error))
            try:
                async with asyncio.timeout(IDLE_S):
                    await anything.wait()
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass  # time to look again: something may be due once more

    async def _housekeeping(self) -> None:
        before = datetime.now(UTC) - timedelta(days=self._settings.keep_days)
        gone = store.PURGE_ROWS
        while gone == store.PURGE_ROWS:
            async with connection(self._pool) as conn:
                gone = await store.purge(conn, before)

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            try:
                await work()
            except BridgeError as error:
                log.warning("events work failed", error=str(error))
            await asyncio.sleep(period_s)

    async def _let_go(self) -> None:
        if not self._unsent:
            return
        try:
            async with connection(self._pool) as conn:
                await store.release(conn, self._unsent)
        except BridgeError as error:
            log.warning("deliveries not let go", error=str(error))
