"""Turning new calls away when there are too many, and keeping a record of each of them all the same.

A call that is turned away costs no round trip: its record waits in memory, and goes to the database with many others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import Final, NoReturn
from uuid import UUID

import structlog

from bridge import queries
from bridge.calls.originate import sip_call_id_of
from bridge.calls.pressure import Gate, Limit
from bridge.calls.store import CallStore, SwitchCall, kept
from bridge.calls.token import uuid7
from bridge.config import Pressure
from bridge.errors import StoreError, StoreUnavailable
from bridge.telephony.cause import RefuseReason, refuse
from bridge.telephony.endpoint import subscriber_of
from bridge.telephony.number import Number, parse_called, parse_caller, parse_dialled

OVERLOADED: Final = refuse(RefuseReason.overloaded)
PERIOD_S: Final = 1.0
BATCH: Final = 500  # rows of one insert
KEPT_MAX: Final = 20_000  # records that wait at most: minutes of a flood, some megabytes

log = structlog.get_logger("overload")


@dataclass(frozen=True, slots=True)
class Order:
    """The first leg of a call by order, whose numbers only the database knows."""

    origination_id: UUID


@dataclass(frozen=True, slots=True)
class _Kept:
    asked: SwitchCall | Order
    at: datetime


class Passage:
    """How one new call came through. admitted: to be set when it was."""

    __slots__ = ("admitted", "over")

    def __init__(self, over: Limit | None) -> None:
        self.over, self.admitted = over, False


class Overload:
    """The gate of one worker, and the records of those it turned away."""

    def __init__(self, store: CallStore, limits: Pressure, home_region: str) -> None:
        self.gate = Gate(limits)
        self._store, self._home = store, home_region
        self._waiting: deque[_Kept] = deque()
        self._batch: list[tuple[UUID, _Kept]] = []  # under way; again with the same ids, so written once
        self._lost = 0
        self._told: Counter[Limit] = Counter()

    @contextmanager
    def passing(self, asked: SwitchCall | Order) -> Iterator[Passage]:
        """A new call, for as long as it is being decided. Where `over` is set it is refused, and recorded here."""
        passage = Passage(self.gate.enter(monotonic()))
        if passage.over is not None:
            self._keep(asked)
            yield passage
            return
        try:
            yield passage
        finally:
            self.gate.leave(admitted=passage.admitted)

    def figures(self) -> dict[str, float]:
        """For the metrics: now, and since the start."""
        gate = self.gate
        counts = {f"refused_{limit}": float(gate.turned_away[limit]) for limit in Limit}
        now = {"deciding": gate.deciding, "live": gate.live, "database_ms": gate.database_ms}
        return {**counts, **now, "waiting": len(self._waiting) + len(self._batch), "lost": self._lost}

    async def run(self) -> NoReturn:
        """Each second: count the calls that live, and write the records of those that were turned away."""
        while True:
            await self.count()
            self._tell()
            await self.write()
            await asyncio.sleep(PERIOD_S)

    async def count(self) -> None:
        """Count the calls of the switch. How long that takes is what the gate knows of the database."""
        self.gate.asks(monotonic())
        live: int | None = None
        try:
            async with self._store.session() as session:
                live = await session.live_now()
        except StoreError as error:
            log.warning("calls not counted", error=str(error))
        finally:
            self.gate.told(live, monotonic())

    async def write(self) -> None:
        """Write the records that wait, the oldest first; what cannot be written now stays."""
        while batch := self.next_batch():
            try:
                await self.insert(batch)
            except StoreUnavailable as error:
                log.warning("refusals not recorded yet", waiting=self.figures()["waiting"], error=str(error))
                return
            except StoreError as error:  # for these rows it will never be otherwise
                self._lost += len(batch)
                log.error("refusals not recorded", lost=len(batch), error=str(error))
            self._batch = []

    def next_batch(self) -> Sequence[tuple[UUID, _Kept]]:
        """The rows to be written next: those under way, else the oldest."""
        if not self._batch:
            many = min(BATCH, len(self._waiting))
            self._batch = [(uuid7(time()), self._waiting.popleft()) for _ in range(many)]
        return self._batch

    def _keep(self, asked: SwitchCall | Order) -> None:
        if len(self._waiting) >= KEPT_MAX:
            self._lost += 1
            return
        self._waiting.append(_Kept(asked, datetime.now(UTC)))

    def _tell(self) -> None:
        """One line for all of a second: a line a call would be a load, too."""
        fresh = self.gate.turned_away - self._told
        if fresh:
            self._told = Counter(self.gate.turned_away)
            counts = {limit.value: number for limit, number in fresh.items()}
            log.warning("calls refused", reason="overloaded", lost=self._lost, **counts)

    async def insert(self, batch: Sequence[tuple[UUID, _Kept]]) -> None:
        """One round trip for all of them. Rows that are there already change nothing."""
        calls = [(call_id, one.asked, one.at) for call_id, one in batch if isinstance(one.asked, SwitchCall)]
        orders = [(call_id, one.asked, one.at) for call_id, one in batch if isinstance(one.asked, Order)]
        told = {"reason": OVERLOADED.reason.value, "q850_cause": OVERLOADED.cause}
        async with self._store.batch() as conn:
            if calls:
                rows = [(call_id, *self._columns(asked), at) for call_id, asked, at in calls]
                names = (
                    "call_ids",
                    "apps",
                    "subscriber_ids",
                    "trunk_in_ids",
                    "anonymous",
                    "uniqueids",
                    "sip_call_ids",
                    "a_numbers",
                    "callers",
                    "dialleds",
                    "b_numbers",
                    "ats",
                )
                columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
                await queries.calls.turned_away.run(conn, switch_id=self._store.switch_id, **columns, **told)
            if orders:
                ids = [asked.origination_id for _, asked, _ in orders]
                await queries.originations.turned_away.run(
                    conn,
                    call_ids=[call_id for call_id, _, _ in orders],
                    origination_ids=ids,
                    sip_call_ids=[sip_call_id_of(origination_id, "a") for origination_id in ids],
                    ats=[at for _, _, at in orders],
                    **told,
                )
                await queries.originations.end_turned_away.run(
                    conn, origination_ids=ids, refuse_reason=OVERLOADED.reason.value
                )

    def _columns(self, asked: SwitchCall) -> tuple[str | UUID | bool | None, ...]:
        caller = parse_caller(asked.caller, home=self._home)
        read = parse_dialled if asked.trunk_in_id is None else parse_called
        number = read(asked.dialled, home=self._home)
        return (
            kept(asked.app),
            subscriber_of(asked.app),
            asked.trunk_in_id,
            asked.anonymous,
            kept(asked.uniqueid),
            kept(asked.sip_call_id),
            kept(asked.caller),
            caller.e164 if isinstance(caller, Number) else None,
            kept(asked.dialled),
            number.e164 if isinstance(number, Number) else None,
        )
