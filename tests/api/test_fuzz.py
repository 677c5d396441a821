"""Schemathesis over the whole API, all checks, stateful: nothing undocumented, nothing that breaks.

`make fuzz` does it for minutes; here it is a short run. Operations of a stream that never ends, and of uploads whose
bodies it cannot make, are left to tests of their own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.api.auth import create_key
from bridge.database import connect
from tests.api.served import served
from tests.seeded import seeded

FUZZ_S = int(os.environ.get("FUZZ_S", "20"))
SETTINGS = Path(__file__).with_name("schemathesis.toml")
LEFT_OUT = ("/v1/events/stream",)


async def operator_key(dsn: str) -> str:
    async with seeded(dsn) as house:
        await house.subscriber(balance_micro=10**8)
    async with connect(dsn) as conn:
        return await create_key(conn, "fuzz")


@pytest.mark.timeout(FUZZ_S + 120)
@pytest.mark.breaks_books
def test_nothing_breaks_and_nothing_is_undocumented(dsn: str, tmp_path: Path) -> None:
    key = asyncio.run(operator_key(dsn))
    with served(dsn, tmp_path, api__quota="100000000") as url:
        argv: list[str | Path] = [
            Path(sys.executable).with_name("schemathesis"), "--config-file", SETTINGS, "run", f"{url}/v1/openapi.json",
            "--max-time", str(FUZZ_S), "--checks", "all", "--header", f"Authorization: Bearer {key}",
            "--continue-on-failure", "--request-timeout", "35", "--no-color", "--generation-database", "none",
            "--report", "ndjson", "--report-dir", tmp_path,
        ]  # fmt: skip
        for path in LEFT_OUT:
            argv += ["--exclude-path", path]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    log = (tmp_path / "bridge.log").read_text()
    assert "request failed" not in log
