"""Figure `deck_import`: rows a second of a deck's CSV file, from opening it to the new version: every row checked,
compared with the active version, applied. Next to it, `COPY` of the same file into a plain table with its columns.

The deck looks like those of carriers: many prefixes share a destination and its price. Each turn replaces the deck by
one where 2 % of the prefixes have another price than before; the first import into an empty deck is measured, too.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bridge.database import Connection, connect
from bridge.errors import BridgeError
from bridge.migrate import migrate
from bridge.rating.store.imports import DeckFile, apply, create_deck, stage
from bridge.sandbox.bench_stack import say
from bridge.sandbox.postgres import EmbeddedPostgres

ROWS: Final = 500_000
PREFIXES_A_DESTINATION: Final = 250
CHANGED: Final = 0.01  # have a price of their own, and another 1 % had one before
GOAL: Final = 0.3
DECK: Final = "bench"
_COLUMNS: Final = (
    ("prefix", "text"), ("destination", "text"), ("rate", "numeric"), ("currency", "text"),
    ("effective_from", "timestamptz"), ("effective_to", "timestamptz"), ("interval_1", "integer"),
    ("interval_n", "integer"), ("connection_fee", "numeric"), ("minimum_s", "integer"), ("grace_s", "integer"),
    ("origin_set", "text"), ("change", "text"), ("comment", "text"),
)  # fmt: skip


def write_deck(path: Path, rows: int, changed: float, seed: int) -> None:
    """A carrier's price list in the order of its prefixes. changed: the part of the rows with a price of their own."""
    prefixes = sorted(random.Random(1).sample(range(1_000_000, 9_999_999), rows))  # noqa: S311
    chance = random.Random(seed)  # noqa: S311
    with path.open("w", encoding="utf-8") as out:
        out.write(",".join(name for name, _ in _COLUMNS) + "\n")
        for number, prefix in enumerate(prefixes):
            place = number // PREFIXES_A_DESTINATION
            rate_micro = place * 7919 % 90_000 + 1_000 + (chance.random() < changed) * seed
            out.write(f"{prefix},Destination {place} mobile,0.{rate_micro:06d},EUR,,,60,6,0.01,0,0,,,\n")


def deck_import(*, smoke: bool) -> list[dict[str, object]]:
    """value: rows/s of the whole import"""
    rows, turns = (2_000, 1) if smoke else (ROWS, 3)
    with tempfile.TemporaryDirectory(prefix="callbridge-bench-") as name:
        folder = Path(name)
        files = [folder / f"deck_{turn}.csv" for turn in range(turns + 1)]
        for turn, path in enumerate(files):
            write_deck(path, rows, CHANGED, turn + 1)
        with EmbeddedPostgres(folder / "postgres") as postgres:
            return asyncio.run(_measure(postgres.dsn(), files, rows))


async def _measure(dsn: str, files: list[Path], rows: int) -> list[dict[str, object]]:
    async with connect(dsn) as conn:
        await migrate(conn)
        await conn.execute("CREATE TABLE plain (" + ", ".join(map(" ".join, _COLUMNS)) + ")")
        await create_deck(conn, DECK, "buy", "EUR")
        first = await _turn(conn, files[0], rows)
        await conn.execute("ANALYZE rate")  # as autovacuum does within a minute
        later = [await _turn(conn, path, rows) for path in files[1:]]
    return [_figure("deck_import", later, rows, GOAL), _figure("deck_import_first", [first], rows, None)]


async def _turn(conn: Connection, path: Path, rows: int) -> tuple[float, float]:
    """Seconds of the import and of the COPY."""
    begun = time.monotonic()
    with path.open("rb") as file:
        staged = await stage(conn, DECK, DeckFile(file, path.name, "bench"), "replace", at=datetime.now(UTC))
    compared = time.monotonic()
    await apply(conn, staged.import_id)
    ours_s = time.monotonic() - begun
    if staged.state != "staged" or staged.summary["rows"] != rows:
        raise BridgeError(f"the bench's deck was not imported: {staged.state}, {staged.summary}")
    await conn.execute("TRUNCATE plain")
    began = time.monotonic()
    await conn.copy_to_table("plain", source=path, format="csv", header=True)
    theirs_s = time.monotonic() - began
    changed = rows - staged.summary["same"]
    say(
        f"deck_import: {rows} rows, {changed} changed: {ours_s:.2f} s, {compared - begun:.2f} of them until staged; "
        f"COPY {theirs_s:.2f} s"
    )
    return ours_s, theirs_s


def _figure(name: str, turns: list[tuple[float, float]], rows: int, goal: float | None) -> dict[str, object]:
    return {
        "name": name,
        "value": round(rows / statistics.median(ours for ours, _ in turns)),
        "unit": "rows/s",
        "baseline": "COPY of the same file into a plain table, rows/s",
        "baseline_value": round(rows / statistics.median(theirs for _, theirs in turns)),
        "ratio": round(statistics.median(theirs / ours for ours, theirs in turns), 3),
        "goal": goal,
        "n": rows * len(turns),
    }
