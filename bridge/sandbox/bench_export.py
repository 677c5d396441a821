"""Figure `cdr_export`: rows a second into a file of call records, with its sums and its manifest, next to COPY … TO
STDOUT of the same query by psql, which keeps nothing. One after the other, in turns; each file by a process of its own,
whose memory is told, too. The first run finds nothing in memory.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bridge import queries
from bridge.config import Company, Exports, Settings
from bridge.database import Connection, connect
from bridge.errors import BridgeError
from bridge.exports import as_csv
from bridge.exports.cdr_files import HOUSE, extract
from bridge.exports.file_name import EXTENSIONS
from bridge.exports.sequence import seal
from bridge.migrate import migrate
from bridge.sandbox.bench_stack import say
from bridge.sandbox.postgres import EmbeddedPostgres

GOAL: Final = 0.6
ROWS: Final = 1_000_000
SMOKE_ROWS: Final = 4_000
TURNS: Final = 5
PLAIN: Final = "csv, not compressed"
FORMS: Final = ("csv", PLAIN, "jsonl", "parquet")
_FILL_STEP: Final = 100_000


def cdr_export(*, smoke: bool, rows: int = ROWS) -> list[dict[str, object]]:
    """value: rows a second as csv.gz; ratio: to COPY. The other formats are measured along with it."""
    rows, turns = (SMOKE_ROWS, 1) if smoke else (rows, TURNS)
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        say(f"cdr_export: laying {rows} records")
        postgres.create_database("bench")
        dsn = postgres.dsn("bench")
        copy = asyncio.run(_prepare(dsn, rows))
        postgres.sql("VACUUM ANALYZE", "bench")
        baseline: list[float] = []
        ours: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for turn in range(turns):
            baseline.append(rows / _copied(postgres, copy))
            for form in FORMS if turn == 1 or smoke else FORMS[:1]:
                ours[form].append(_written(dsn, Path(folder), form, rows))
                say(
                    f"cdr_export: {form} {ours[form][-1]['rows_s']:.0f} rows/s, COPY {baseline[-1]:.0f} rows/s"
                )
    value = statistics.median(one["rows_s"] for one in ours["csv"])
    plain = statistics.median(baseline)
    # Of neighbours in time: the machine may be another a minute later.
    pairs = [one["rows_s"] / beside for one, beside in zip(ours["csv"], baseline, strict=True)]
    return [
        {
            "name": "cdr_export",
            "value": round(value),
            "unit": "rows/s",
            "baseline": "COPY … TO STDOUT of the same query, by psql",
            "baseline_value": round(plain),
            "ratio": round(statistics.median(pairs), 3),
            "goal": GOAL,
            "n": len(ours["csv"]),
            "rows": rows,
            "first": round(ours["csv"][0]["rows_s"]),
            "rss_mb": max(round(one["rss_mb"]) for form in FORMS for one in ours[form]),
            "variants": {
                form: {
                    "rows_s": round(statistics.median(one["rows_s"] for one in found)),
                    "mb": round(found[0]["bytes"] / 1e6, 1),
                    "rss_mb": max(round(one["rss_mb"]) for one in found),
                }
                for form, found in ours.items()
            },
        }
    ]


async def _prepare(dsn: str, rows: int) -> str:
    """Returns the query of the files as psql takes it."""
    async with connect(dsn) as conn:
        await migrate(conn)
        await queries.bench.add_people.run(conn)
        trunk_id = await queries.bench.add_trunk.value(conn)
        for first in range(0, rows // 2, _FILL_STEP):
            last = min(first + _FILL_STEP, rows // 2) - 1
            await queries.bench.add_ended.run(conn, first=first, last=last, trunk_id=trunk_id)
        await conn.execute("ANALYZE")
        await seal(conn, datetime.now(UTC) + timedelta(hours=1), time_zone="Europe/Berlin")
        names_id = await queries.cdr_files.names.value(conn)
    query = queries.cdr_files.rows
    text = query.sql.rstrip().rstrip(";")
    given = {
        "partner_id": "NULL",
        "first_no": "0",
        "last_no": str(rows),
        "type": "'cdr'",
        "names_id": str(names_id),
    }
    for place in range(len(query.names), 0, -1):
        text = text.replace(f"${place}", given[query.names[place - 1]])
    return f"COPY ({text}) TO STDOUT (FORMAT csv, HEADER)"


def _copied(postgres: EmbeddedPostgres, copy: str) -> float:
    """Seconds."""
    said = (
        "SET max_parallel_workers_per_gather = 0; SET jit = off; SET timezone = 'UTC';"
        " SET search_path = bridge, public"
    )
    argv = [str(postgres.bin("psql")), "-Xq", "-d", postgres.dsn("bench"), "-c", said, "-c", copy]
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _written(dsn: str, folder: Path, form: str, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        argv = [sys.executable, "-m", "bridge.sandbox.bench_export", dsn, out, form]
        said = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout
    told: dict[str, float] = json.loads(said)
    if told["rows"] != rows:
        raise BridgeError(f"the file has {told['rows']} rows")
    return told | {"rows_s": rows / told["took_s"]}


async def _write(conn: Connection, folder: Path, form: str) -> dict[str, Any]:
    settings = Settings(company=Company(code="bench"), exports=Exports(folder=folder))
    begun = time.perf_counter()
    path, manifest = await extract(
        conn,
        settings,
        folder,
        partner_id=None,
        whose=HOUSE,
        kind="cdr",
        since=datetime.now(UTC) - timedelta(days=2),
        until=datetime.now(UTC) + timedelta(days=1),
        form="csv" if form == PLAIN else form,
    )
    took_s = time.perf_counter() - begun
    assert path.name.endswith(EXTENSIONS[manifest.format])
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"took_s": took_s, "rows": manifest.totals.rows, "bytes": manifest.bytes, "rss_mb": rss_mb}


def main() -> None:
    dsn, folder, form = sys.argv[1:]
    if form == PLAIN:
        as_csv.LEVEL = zlib.Z_NO_COMPRESSION  # type: ignore[misc]

    async def work() -> dict[str, Any]:
        async with connect(dsn) as conn:
            return await _write(conn, Path(folder), form)

    print(json.dumps(asyncio.run(work())))


if __name__ == "__main__":
    main()
