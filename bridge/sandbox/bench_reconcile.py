"""Figure `reconcile`: rows of a carrier's invoice matched with our records a second, next to a plain join of them.

No row has an id of ours, so that all go the long way: by number, time and duration, one to one, into classes that are
kept. The join does none of that but find who may belong together.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection, connect
from bridge.errors import BridgeError
from bridge.migrate import migrate
from bridge.partners.recon_mapping import FileMapping
from bridge.partners.store import reconcile as store
from bridge.sandbox.bench_stack import TRUNK, say
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.seed import CURRENCY, SeedRate, SeedTrunk, seed_trunk

DATABASE: Final = "bench"
CALLS: Final = 1_000_000
NUMBERS: Final = 200_000  # so that a number is called five times a month
FROM: Final = datetime(2026, 10, 1, tzinfo=UTC)
TO: Final = datetime(2026, 11, 1, tzinfo=UTC)


def reconcile(*, smoke: bool, calls: int = CALLS) -> list[dict[str, object]]:
    """value: rows matched a second. Beside it: rows imported a second, and the memory that took."""
    calls, turns = (2_000, 1) if smoke else (calls, 3)
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        postgres.create_database(DATABASE)
        say(f"reconcile: recording {calls} calls")
        file = Path(folder) / "theirs.csv"
        asyncio.run(_record(postgres.dsn(DATABASE), calls, file))
        postgres.sql("VACUUM ANALYZE", DATABASE)
        return asyncio.run(_measured(postgres.dsn(DATABASE), calls, turns, file))


async def _record(dsn: str, calls: int, file: Path) -> None:
    async with connect(dsn) as conn:
        await migrate(conn)
        async with conn.transaction():
            rates = [SeedRate("4930", "Germany", 60_000, 1, 1)]
            trunk_id = await seed_trunk(conn, SeedTrunk(TRUNK, 5060, rates))
            await queries.bench.add_reconciled.run(
                conn,
                calls=calls,
                numbers=max(1, min(NUMBERS, calls // 5)),
                trunk_id=trunk_id,
                currency=CURRENCY,
            )
            await queries.bench.add_pass.run(conn)
        theirs = queries.bench.theirs.sql.rstrip("; \n")
        await conn.copy_from_query(theirs, output=file, format="csv", header=True)


async def _measured(dsn: str, calls: int, turns: int, file: Path) -> list[dict[str, object]]:
    imported, matched, joined = [], [], []
    async with connect(dsn) as conn:
        [account] = [row for row in await queries.ledger.accounts.all(conn) if row["kind"] == "carrier"]
        party = await store.counterparty(conn, account["name"])
        for turn in range(turns):
            begun = time.perf_counter()
            run_id = await _import(conn, party, file)
            rows = calls - calls // 100
            imported.append(rows / (time.perf_counter() - begun))
            joined.append(rows / await _join(conn, run_id))
            begun = time.perf_counter()
            run = await store.match(conn, run_id)
            matched.append(rows / (time.perf_counter() - begun))
            said = {name: one["calls"] for name, one in run["classes"].items()}
            if said["only_theirs"] or said["duration"] or said["only_ours"] != calls // 100:
                raise BridgeError(f"the {calls} calls were matched as {said}")
            say(
                f"reconcile: rows/s: imported {imported[-1]:.0f}, matched {matched[-1]:.0f}, joined {joined[-1]:.0f}"
            )
            if turn + 1 < turns:
                await store.remove(conn, run_id)
    ratio = [one / other for one, other in zip(matched, joined, strict=True)]
    return [
        {
            "name": "reconcile",
            "value": round(statistics.median(matched)),
            "unit": "rows/s",
            "baseline": "a plain SQL join of the same tables",
            "baseline_value": round(statistics.median(joined)),
            "ratio": round(statistics.median(ratio), 3),
            "goal": None,
            "n": calls * turns,
            "imported_per_s": round(statistics.median(imported)),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    ]


async def _import(conn: Connection, party: store.Row, file: Path) -> UUID:
    with file.open("rb") as opened:
        given = store.TheirFile(opened, file.name, "termination", FROM, TO, FileMapping(), "bench")
        said = await store.import_file(conn, party, given)
    if said["state"] != "imported":
        raise BridgeError(f"the file was refused: {said['errors'][:3]}")
    return UUID(said["run_id"])


async def _join(conn: Connection, run_id: UUID) -> float:
    """Seconds."""
    async with conn.transaction():
        await queries.reconcile.room.run(conn)
        begun = time.perf_counter()
        await queries.bench.plain_join.run(conn, run_id=run_id)
        return time.perf_counter() - begun
