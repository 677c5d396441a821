"""The keeper's part of `switch_order`: takes orders, passes them on over the manager link, sees what becomes of them.

An originate is marked as sent, for good, before the switch hears of it. Should the link break in between, nobody knows
whether a call was begun: so it is not sent again, and what does not show up as a call in time will not any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge import queries
from bridge.asterisk.ami import Ami
from bridge.asterisk.ami_events import AmiRefused
from bridge.asterisk.channel_vars import CLICK, JOINED
from bridge.database import connection, transaction
from bridge.errors import BridgeError, ChannelGone, SwitchUnavailable

NOTICE: Final = "callbridge_order"
LOOK_S: Final = 0.25  # so soon a change of an origination is seen
IDLE_S: Final = 1.0  # where there is none; a new order is noticed at once
SETUP_S: Final = 300  # A has answered by then, on whichever trunk; its own ring time ends long before
CODECS: Final = "alaw,ulaw"
NORMAL_CLEARING: Final = 16

log = structlog.get_logger("orders")


class OrderRun:
    """Orders of one switch.

    ami      the link, while this worker has it
    wait_s   an order that could not be given by then is void; as long again it may take to become a call
    """

    def __init__(
        self, pool: asyncpg.Pool, switch_id: UUID, wait_s: int, ami: Callable[[], Ami | None]
    ) -> None:
        self._pool, self._switch_id, self._wait_s, self._ami = pool, switch_id, wait_s, ami
        self._noticed = asyncio.Event()

    def notice(self, *_: object) -> None:
        """Somebody wrote an order: do not wait for the next look."""
        self._noticed.set()

    async def run(self) -> NoReturn:
        while True:
            pause_s = IDLE_S
            try:
                pause_s = LOOK_S if await self.look() else IDLE_S
            except BridgeError as error:
                log.warning("orders not carried out", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._noticed.wait()
            self._noticed.clear()

    async def look(self) -> int:
        """Carry out what is waiting, and see how far the others are. Returns how many are not over."""
        ami = self._ami()
        if ami is not None and ami.state == "up":
            for order in await self._take():
                try:
                    await self._give(ami, order)
                except BridgeError as error:
                    log.warning("order not closed", order=str(order["order_id"]), error=str(error))
        async with transaction(self._pool) as conn:
            going: int = await queries.originations.follow.value(
                conn, switch_id=self._switch_id, lost_s=2 * self._wait_s
            )
        return going

    async def _take(self) -> list[Any]:
        async with transaction(self._pool) as conn:
            taken: list[Any] = await queries.originations.take.all(
                conn, switch_id=self._switch_id, wait_s=self._wait_s
            )
        return taken

    async def _give(self, ami: Ami, order: Any) -> None:
        if ami.state != "up":  # nothing was said yet
            await self._again(order, said=False)
            return
        problem: str | None = None
        try:
            if order["kind"] == "originate":
                await originate(ami, order["subject_id"])
            elif order["channel"] is not None:  # else it has ended meanwhile
                await ami.hangup(order["channel"], NORMAL_CLEARING)
        except ChannelGone:
            pass
        except AmiRefused as error:
            problem = error.answer
        except SwitchUnavailable as error:
            log.error("what became of an order is not known", order=str(order["order_id"]), error=str(error))
            await self._again(order, said=True)
            return
        log.info("order given", kind=order["kind"], subject=str(order["subject_id"]), problem=problem)
        async with connection(self._pool) as conn:
            await queries.originations.order_done.run(conn, order_id=order["order_id"], problem=problem)

    async def _again(self, order: Any, *, said: bool) -> None:
        async with connection(self._pool) as conn:
            await queries.originations.order_again.run(conn, order_id=order["order_id"], said=said)


async def originate(ami: Ami, origination_id: UUID) -> None:
    """Have the switch begin the first leg. Everything else it asks of the bridge, by this id alone.

    raises   AmiRefused: it will not · SwitchUnavailable: it may have, or not
    """
    await ami.originate(
        Channel=f"Local/a{origination_id.hex}@{CLICK}/n",  # /n: the halves last as long as the call
        Context=JOINED,
        Exten=f"b{origination_id.hex}",
        Priority=1,
        Timeout=SETUP_S * 1000,
        Codecs=CODECS,
        ChannelId=f"org_{origination_id.hex}",
    )
