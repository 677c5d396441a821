"""Figure `growth`: how long the slowest in a hundred admissions take where ten million calls are recorded, next to
where ten thousand are. Both databases are on one server, and take turns of the same admissions, each of which ends.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from bridge import queries
from bridge.calls.admit import Admissions, Admitted
from bridge.calls.book import Book, load_book
from bridge.calls.caller import SwitchCall
from bridge.calls.end import Endings
from bridge.calls.ended import EndRecord
from bridge.calls.store import CallStore
from bridge.config import Calls, Database, Log
from bridge.database import connection, open_pool, transaction
from bridge.errors import BridgeError
from bridge.observe import log
from bridge.sandbox.bench_api import prepare
from bridge.sandbox.bench_stack import MONEY_MICRO, say
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.seed import (
    APP,
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    seed_app,
    seed_plan,
    seed_subscriber,
    seed_trunk,
)

GOAL: Final = 1.2
MANY: Final = 10_000_000
FEW: Final = 10_000
CALLERS: Final = 100
STEP: Final = 50  # admissions before it is the other's turn
DIALLED: Final = "+493023125000"
RATES: Final = (SeedRate("49", "Germany", 60_000, 60, 1),)


@dataclass(slots=True)
class House:
    """Who takes calls on one of the databases."""

    store: CallStore
    book: Book
    numbers: list[str]
    rules: Calls = field(default_factory=Calls)
    serial: count[int] = field(default_factory=lambda: count(1))

    async def turn(self, calls: int) -> list[float]:
        """Milliseconds of each admission, one at a time; then all of them end."""
        admissions, took, ids = Admissions(self.store, self.rules), [], []
        for _ in range(calls):
            place = next(self.serial)
            a_number, name = self.numbers[place % len(self.numbers)], f"growth-{place}"
            asked = SwitchCall(APP, a_number, DIALLED, f"PJSIP/{APP}-{name}", name, name)
            begun = time.perf_counter()
            verdict = await admissions.admit(asked, self.book, datetime.now(UTC))
            took.append((time.perf_counter() - begun) * 1000)
            if not isinstance(verdict, Admitted):
                raise BridgeError(f"a call of the bench was refused: {verdict.reason}")
            ids.append(verdict.frozen.call_id)
        now_us = time.time_ns() // 1000
        ends = [EndRecord(one, 1, 0, now_us, "journal", "NOANSWER", 19, "caller") for one in ids]
        async with self.store.batch() as conn:
            await Endings(self.store).end(conn, ends, self.book)
        return took


def growth(*, smoke: bool, many: int = MANY) -> list[dict[str, object]]:
    """value: milliseconds of the 99th percentile beside many; ratio: to that beside few. Lower is better."""
    log.configure(Log(level="warning"))  # each end of a call is told, and takes its time
    few, many, calls, turns = (1_500, 5_000, 100, 1) if smoke else (FEW, many, 2_000, 7)
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False) as postgres,
    ):
        dsns = {}
        for rows in (few, many):
            say(f"growth: writing {rows} call records")
            name = f"calls_{rows}"
            postgres.create_database(name)
            dsns[rows] = postgres.dsn(name)
            asyncio.run(prepare(dsns[rows], rows))
            postgres.sql("VACUUM ANALYZE", name)
        measured = asyncio.run(_measure(dsns[few], dsns[many], calls, turns))
    return [
        {
            "name": "growth",
            "value": round(statistics.median(slow for _, slow in measured), 3),
            "unit": "ms",
            "baseline": f"the same beside {few} calls",
            "baseline_value": round(statistics.median(quick for quick, _ in measured), 3),
            "ratio": round(statistics.median(slow / quick for quick, slow in measured), 3),
            "goal": GOAL,
            "n": calls * len(measured),
            "records": many,
        }
    ]


async def _measure(few: str, many: str, calls: int, turns: int) -> list[tuple[float, float]]:
    """The 99th percentiles beside few and beside many, turn by turn; the first turn warms up."""
    measured: list[tuple[float, float]] = []
    async with AsyncExitStack() as open_ones:
        houses = [await open_ones.enter_async_context(_house(dsn)) for dsn in (few, many)]
        for _ in range(turns + 1):
            took: dict[int, list[float]] = {0: [], 1: []}
            for step in range(max(calls // STEP, 1)):  # so that both meet the same quiet and busy times
                for which in (0, 1) if step % 2 else (1, 0):
                    took[which] += await houses[which].turn(STEP)
            measured.append((_p99(took[0]), _p99(took[1])))
            say(f"growth: {measured[-1][1]:.2f} ms beside many, {measured[-1][0]:.2f} ms beside few")
    return measured[1:]


def _p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


@asynccontextmanager
async def _house(dsn: str) -> AsyncIterator[House]:
    pool = await open_pool(Database(pool_max=4, statement_timeout_s=30), dsn)
    try:
        async with transaction(pool) as conn:
            for port, name in enumerate(("alpha", "beta"), 5060):
                await seed_trunk(conn, SeedTrunk(name, port, RATES))
            plan_id = await seed_plan(conn, "standard", (SeedRate("49", "Germany", 90_000, 60, 1),))
            app_id = await seed_app(conn, APP, "127.0.0.1", None)
            numbers = [f"+4989999{98000 + place}" for place in range(CALLERS)]
            for number in numbers:
                await seed_subscriber(conn, app_id, plan_id, SeedSubscriber(number, MONEY_MICRO))
        async with connection(pool) as conn:
            book = await load_book(conn, datetime.now(UTC))
            switch_id = await queries.switch.register.value(conn, name="bench")
        yield House(CallStore(pool, switch_id), book, numbers)
    finally:
        await pool.close()
