"""Schemathesis over the whole API, all checks, stateful: nothing undocumented, nothing that breaks.

`make fuzz` does it for minutes and at random. Here it is a short run that asks the same every time. Left out is what
has tests of its own: the stream, which never ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bridge.api.auth import issue_key
from bridge.api.fields import show_id
from bridge.database import transaction
from bridge.partners.store import add_partner
from bridge.sandbox.seed import SeedBundle
from tests.api.fuzzing import OWN_KEY
from tests.api.served import served
from tests.seeded import Seeded, ended, seeded

LONG_S = int(os.environ.get("FUZZ_S", "0"))
FUZZ_S = LONG_S or 7
# The same cases in the same order, so that what was green stays so; building random ones for each operation takes long.
SHORT = ("--generation-deterministic", "--seed", "1", "--phases", "examples,coverage,stateful")
LONG = ("--generation-database", "none")
SETTINGS = Path(__file__).with_name("schemathesis.toml")
LEFT_OUT = ("/v1/events/stream",)


async def world(dsn: str, who: str) -> tuple[str, str, str]:
    """Everything there is at least once, as theirs who ask. Returns their key, its id and a partner's."""
    async with seeded(dsn) as house:
        await lived(house)
        async with transaction(house.pool) as conn:
            partner_id = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
            theirs = partner_id if who == "partner" else None
            key_id, key = await issue_key(conn, "fuzz", partner_id=theirs)
            for table in (
                ("account", "deck", "plan", "bundle", "subscriber", "trunk", "call") if theirs else ()
            ):
                await conn.execute(f"UPDATE {table} SET partner_id = $1 WHERE partner_id IS NULL", theirs)
    return key, show_id("key", key_id), show_id("prt", partner_id)


async def lived(house: Seeded) -> None:
    """A caller with a bundle, usage, and calls that wait, ring, are spoken in and have ended."""
    caller = await house.subscriber(balance_micro=10**8)
    await house.buy(caller, SeedBundle("flat", 1_000_000, 10, {"voice": 60, "sms": 1}))
    await house.usage(caller, "sms", 1, "first")
    for talk_ms in (0, 61_000):
        await house.end(ended((await house.admitted(caller)).frozen.call_id, talk_ms))
    await house.answer((await house.admitted(caller)).frozen.call_id)


def furnish(url: str, key: str, partner_id: str) -> None:
    """What only the API makes."""
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "furnish"}
    hook = {"partner_id": partner_id, "url": "http://127.0.0.1:9999/"}
    made = httpx.post(f"{url}/v1/webhooks", json=hook, headers=headers).raise_for_status().json()
    httpx.post(f"{url}/v1/webhooks/{made['webhook_id']}/test", headers=headers).raise_for_status()


@pytest.mark.timeout(FUZZ_S + 120)
@pytest.mark.breaks_books
@pytest.mark.parametrize("who", ["operator", "partner"])
def test_nothing_breaks_and_nothing_is_undocumented(dsn: str, tmp_path: Path, who: str) -> None:
    key, key_id, partner_id = asyncio.run(world(dsn, who))
    given = {
        "api__quota": "100000000",
        "api__stranger_quota": "100000000",
        "events__allow_networks": "127.0.0.0/8",
    }
    with served(dsn, tmp_path, **given) as url:
        furnish(url, key, partner_id)
        argv: list[str | Path] = [
            Path(sys.executable).with_name("schemathesis"), "--config-file", SETTINGS, "run", f"{url}/v1/openapi.json",
            "--checks", "all", "--header", f"Authorization: Bearer {key}", "--warnings", "off",
            "--continue-on-failure", "--request-timeout", "35", "--no-color",
            "--report", "ndjson", "--report-dir", os.environ.get("FUZZ_REPORT", tmp_path),
            "--max-time", str(FUZZ_S), *(LONG if LONG_S else SHORT),
        ]  # fmt: skip
        for path in LEFT_OUT:
            argv += ["--exclude-path", path]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.fuzzing", OWN_KEY: key_id}
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    log = (tmp_path / "bridge.log").read_text()
    assert "request failed" not in log
