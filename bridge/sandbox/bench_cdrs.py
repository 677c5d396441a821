"""Figure `cdr_page`: how long a page of 100 call records takes, by partner and time, out of ten million and out of ten
thousand. One asks at a time; each page is of another time, so that none is the one just read.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bridge.errors import BridgeError
from bridge.sandbox.bench_api import Asked, prepare, request, serving
from bridge.sandbox.bench_stack import say
from bridge.sandbox.postgres import EmbeddedPostgres

GOAL: Final = 1.5
GOLDEN: Final = 0.6180339887  # its multiples fall evenly, and none near the one before
DAYS: Final = 60  # as `add_cdrs` lays them
MANY: Final = 10_000_000
FEW: Final = 10_000


def cdr_page(*, smoke: bool, many: int = MANY) -> list[dict[str, object]]:
    """value: milliseconds of a page out of many; ratio: to that out of few. Lower is better."""
    few, many, pages, turns = (1_500, 5_000, 20, 1) if smoke else (FEW, many, 200, 5)
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False) as postgres,
    ):
        dsns, keys = {}, {}
        for rows in (few, many):
            say(f"cdr_page: writing {rows} call records")
            name = f"cdrs_{rows}"
            postgres.create_database(name)
            dsns[rows] = postgres.dsn(name)
            _, keys[rows], _ = asyncio.run(prepare(dsns[rows], rows))
            postgres.sql("VACUUM ANALYZE", name)
        with serving(dsns[few]) as few_port, serving(dsns[many]) as many_port:
            measured = []
            for turn in range(turns + 1):
                taken = (_page_ms(few_port, keys[few], pages), _page_ms(many_port, keys[many], pages))
                if turn or smoke:  # the first one warms up
                    measured.append(taken)
                say(f"cdr_page: {taken[1]:.2f} ms of {many}, {taken[0]:.2f} ms of {few}")
    return [
        {
            "name": "cdr_page",
            "value": round(statistics.median(slow for _, slow in measured), 2),
            "unit": "ms",
            "baseline": f"the same out of {few} records",
            "baseline_value": round(statistics.median(quick for quick, _ in measured), 2),
            "ratio": round(statistics.median(slow / quick for quick, slow in measured), 3),
            "goal": GOAL,
            "n": pages * len(measured),
            "records": many,
        }
    ]


def _page_ms(port: int, key: str, pages: int) -> float:
    """The median of so many pages, at times all over the last quarter of the days, so that each is full."""
    asked, took = Asked(port), []
    first_at = datetime.now(UTC)
    for place in range(pages):
        until = first_at + timedelta(days=DAYS * (0.75 + 0.25 * (place * GOLDEN % 1)))
        path = f"/v1/cdrs?limit=100&until={until:%Y-%m-%dT%H:%M:%SZ}&since={first_at:%Y-%m-%dT%H:%M:%SZ}"
        begun = time.perf_counter()
        asked.sock.sendall(request("GET", path, key))
        while not asked.hear(b"200"):
            pass
        took.append((time.perf_counter() - begun) * 1000)
    asked.sock.close()
    if not took:
        raise BridgeError("no page was asked for")
    return statistics.median(took)
