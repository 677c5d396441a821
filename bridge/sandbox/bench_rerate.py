"""Figure `rerate`: recorded calls re-rated a second, next to a plain SELECT of the same rows through asyncpg.

Every call is to a number of its own, over several hundred destinations, and on a durable server.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from bridge import queries
from bridge.calls import rerate
from bridge.calls.selection import Criteria, Selection
from bridge.database import Connection, connect
from bridge.errors import BridgeError
from bridge.migrate import migrate
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.sandbox.bench_stack import MONEY_MICRO, TRUNK, say
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.seed import (
    APP,
    CURRENCY,
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    seed_app,
    seed_plan,
    seed_subscriber,
    seed_trunk,
)

GOAL: Final = 0.5
DATABASE: Final = "bench"
SUBSCRIBERS: Final = 500
DESTINATIONS: Final = 300
SELL_A_SECOND_MICRO: Final = 1_500
BUY_A_SECOND_MICRO: Final = 400


class Turn(NamedTuple):
    """Calls a second."""

    select: float
    unchanged: float
    preview: float
    booking: float

    @property
    def rerated(self) -> float:
        """Preview and booking, one after the other."""
        return 1 / (1 / self.preview + 1 / self.booking)


def bench_rerate(*, smoke: bool) -> list[dict[str, object]]:
    """Three figures: re-rated without a change, previewed with one, previewed and booked. value: calls/s"""
    calls, turns_max = (2_000, 1) if smoke else (100_000, 3)
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        postgres.create_database(DATABASE)
        dsn = postgres.dsn(DATABASE)
        say(f"rerate: recording {calls} calls")
        asyncio.run(_with(dsn, lambda conn: _record(conn, calls)))
        postgres.sql("VACUUM ANALYZE", DATABASE)
        turns = []
        for _ in range(turns_max):
            turn = asyncio.run(_with(dsn, lambda conn: _turn(conn, calls)))
            said = ", ".join(f"{name} {value:.0f}" for name, value in turn._asdict().items())
            say(f"rerate: calls/s: {said}")
            turns.append(turn)
    return [
        _figure("rerate", turns, lambda turn: turn.unchanged, calls, GOAL),
        _figure("rerate_changed", turns, lambda turn: turn.preview, calls, GOAL),
        _figure("rerate_booked", turns, lambda turn: turn.rerated, calls, None),
    ]


def _figure(
    name: str, turns: list[Turn], part: Callable[[Turn], float], calls: int, goal: float | None
) -> dict[str, object]:
    return {
        "name": name,
        "value": round(statistics.median(map(part, turns))),
        "unit": "calls/s",
        "baseline": "SELECT of the same rows through asyncpg",
        "baseline_value": round(statistics.median(turn.select for turn in turns)),
        "ratio": round(statistics.median(part(turn) / turn.select for turn in turns), 3),
        "goal": goal,
        "n": calls * len(turns),
    }


async def _with(dsn: str, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    async with connect(dsn) as conn:
        return await work(conn)


async def _turn(conn: Connection, calls: int) -> Turn:
    """One measurement of each; afterwards every call costs another micro-unit a second."""
    since = datetime.now(UTC) - timedelta(days=1)
    criteria = Criteria(since=since)

    async def preview(changed: int) -> float:
        begun = time.perf_counter()
        run = await rerate.preview(conn, criteria, author="bench", reason="measurement")
        took = time.perf_counter() - begun
        found = run["preview"]
        if (found["calls"], found["changed"]) != (calls, changed):
            raise BridgeError(
                f"the preview of {calls} calls found {found['calls']}, {found['changed']} changed"
            )
        run_ids.append(UUID(run["run_id"]))
        return calls / took

    run_ids: list[UUID] = []
    begun = time.perf_counter()
    rows = await queries.rerating.recorded.all(conn, **Selection(since=since).asked())
    select = len(rows) / (time.perf_counter() - begun)
    del rows
    unchanged = await preview(0)
    await queries.bench.make_dearer.run(conn)
    changed = await preview(calls)
    begun = time.perf_counter()
    run = await rerate.run(conn, run_ids[-1])
    booking = calls / (time.perf_counter() - begun)
    if run["progress"]["booked"] != calls:
        raise BridgeError(f"{run['progress']['booked']} of {calls} calls were booked")
    await conn.execute("VACUUM ANALYZE")
    return Turn(select, unchanged, changed, booking)


async def _record(conn: Connection, calls: int) -> None:
    """Calls that have ended and are booked, as if they had been made."""
    await migrate(conn)
    prefixes = [f"49{index:03d}" for index in range(100, 100 + DESTINATIONS)]

    def rates(a_second_micro: int) -> list[SeedRate]:
        return [SeedRate(prefix, f"Germany {prefix}", a_second_micro * 60, 1, 1) for prefix in prefixes]

    async with conn.transaction():
        trunk_id = await seed_trunk(conn, SeedTrunk(TRUNK, 5060, rates(BUY_A_SECOND_MICRO)))
        plan_id = await seed_plan(conn, "standard", rates(SELL_A_SECOND_MICRO))
        app_id = await seed_app(conn, APP, "127.0.0.1", None)
        for index in range(SUBSCRIBERS):
            funding = "postpaid" if index % 2 else "prepaid"
            who = SeedSubscriber(f"+4915550{index:06d}", MONEY_MICRO, funding)
            await seed_subscriber(conn, app_id, plan_id, who)
        tariffs = [
            (side, place, row["prefix"], _frozen(row))
            for side in ("sell", "buy")
            for place, row in enumerate(await queries.bench.rates.all(conn, side=side))
        ]
        await queries.bench.make_tariffs.run(conn)
        await conn.copy_records_to_table("bench_tariff", records=tariffs)
        await queries.bench.make_calls.run(conn)
        await queries.bench.fill.run(
            conn, calls=calls, sell_micro=SELL_A_SECOND_MICRO, buy_micro=BUY_A_SECOND_MICRO
        )
        await queries.bench.record_calls.run(conn)
        await queries.bench.record_charges.run(conn, currency=CURRENCY)
        await queries.bench.record_attempts.run(conn, trunk_id=trunk_id, currency=CURRENCY)
        await queries.bench.record_transfers.run(conn)
        await queries.bench.record_entries.run(conn, trunk_id=trunk_id, currency=CURRENCY)
        await queries.bench.pay.run(conn)


def _frozen(row: Mapping[str, Any]) -> str:
    rate = Rate(
        str(row["rate_id"]), str(row["deck_id"]), row["prefix"], row["destination"], CURRENCY,
        row["rate_micro"], initial_s=1, next_s=1,
    )  # fmt: skip
    return json.dumps(Tariff(rate, 1).to_json())
