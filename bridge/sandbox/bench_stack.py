"""What the bench measures on: the whole bridge with one carrier and many callers, and beside it, in the same Asterisk,
a context that knows nothing but `Dial()`.

Each measurement gets a switch that has just started, for Asterisk's memory grows under load; and the bridge new
connections, for a prepared statement keeps the plan it was given on empty tables.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bridge.asterisk.conf import CDR_FILE
from bridge.database import Connection
from bridge.errors import BridgeError
from bridge.sandbox.bench_sipp import Sipp, Traffic
from bridge.sandbox.fetch import default_cache, find_asterisk, find_sipp
from bridge.sandbox.ports import LOOPBACK, free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.process import Deadline
from bridge.sandbox.progress import shown
from bridge.sandbox.seed import (
    APP,
    SeedBundle,
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    first_bundles,
    seed_app,
    seed_bundle,
    seed_plan,
    seed_subscriber,
    seed_trunk,
)
from bridge.sandbox.stack import READY_S, Stack

TRUNK: Final = "alpha"
B_NUMBER: Final = "+493023125000"  # from a range reserved for fiction
MONEY_MICRO: Final = 10**12
BUNDLES: Final = (
    SeedBundle("first", 10_000_000, 10**9, {"voice": 60, "sms": 1}, burn_order=1),
    SeedBundle("second", 10_000_000, 10**9, {"voice": 60}),
)
SETTLED_S: Final = 20.0
_POLL_S: Final = 0.02

_BARE_CONTEXT: Final = f"""
[bare]
exten => _[+0-9]!,1,Dial(PJSIP/${{EXTEN}}@{TRUNK},30)
"""
_BARE_ENDPOINT: Final = """
[bare](app)
context = bare

[bare]
type = identify
endpoint = bare
match = {address}:{port}
"""


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time, user and system, in milliseconds."""

    switch_ms: int
    bridge_ms: int = 0
    postgres_ms: int = 0


class BenchStack:
    """A stack whose calls can also go by the bare context. `ports` says from where: "bridged" or "bare"."""

    def __init__(
        self, stack: Stack, sipp: Sipp, numbers: list[str], ports: dict[str, int], carrier_port: int
    ) -> None:
        self.stack, self.sipp, self.numbers = stack, sipp, numbers
        self.ports, self.carrier_port = ports, carrier_port

    def configure(self) -> None:
        """The product's own configuration, then the bare context behind it."""
        self.stack.render()
        endpoint = _BARE_ENDPOINT.format(address=LOOPBACK, port=self.ports["bare"])
        for name, text in (("extensions.conf", _BARE_CONTEXT), ("pjsip.conf", endpoint)):
            with (self.stack.conf_dir / name).open("a") as file:
                file.write(text)

    def begin(self, variant: str) -> None:
        """A new switch; with it a new bridge when calls go through one, and none otherwise."""
        self.stack.stop()
        self.stack.switch.start()
        if variant == "bridged":
            self.stack.start_bridge()

    def begin_without_switch(self) -> None:
        """A new bridge alone: what it is told comes from the bench."""
        self.stack.stop()
        self.stack.settings.switch.record_dir.mkdir(parents=True, exist_ok=True)
        self.stack.start_bridge(wait=False)
        deadline = Deadline(READY_S)
        while not self._takes_calls():
            if not deadline.pause():
                raise BridgeError(f"the bridge is not ready; see {self.stack.bridge_log}")

    def offer(self, variant: str, rate: float, calls: int) -> Traffic:
        return self.sipp.offer(rate, calls, port=self.ports[variant])

    def analyze(self) -> None:
        self.stack.postgres.sql("VACUUM ANALYZE", self.stack.database)

    def cpu(self, variant: str) -> Cpu:
        """What was used so far by whoever takes part in such a call."""
        stack = self.stack
        if variant == "bare":
            return Cpu(stack.switch.cpu_ms())
        return Cpu(stack.switch.cpu_ms(), stack.bridge_cpu_ms(), stack.postgres.cpu_ms())

    def settled(self, since: datetime, deadline_s: float = SETTLED_S, *, witnessed: bool = True) -> bool:
        """Wait until every call admitted since then has ended in the database. False: time ran out.

        witnessed  and until the switch's own records have been read to their end
        """
        records = self.stack.settings.switch.record_dir / CDR_FILE if witnessed else None
        return self.stack.database_call(lambda conn: _settled(conn, since, deadline_s, records))

    def _takes_calls(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.stack.api_url}/readyz", timeout=2) as answer:  # noqa: S310  our own loopback
                return bool(json.load(answer)["ready"])
        except (OSError, ValueError):
            return False


async def _settled(conn: Connection, since: datetime, deadline_s: float, records: Path | None) -> bool:
    async def done() -> bool:
        live = "SELECT EXISTS (SELECT 1 FROM lease JOIN call USING (call_id) WHERE admitted_at >= $1)"
        if await conn.fetchval(live, since):
            return False
        if records is None:
            return True
        read = await conn.fetchval("SELECT position FROM switch_file WHERE name = $1", records.name)
        return (read or 0) == _size(records)

    deadline = Deadline(deadline_s)
    while not await done():
        if not deadline.left_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def bench_stack(*, subscribers: int, workers: int = 1, bundled: bool = False) -> Iterator[BenchStack]:
    """Everything made ready on disk, database running and durable; `begin` starts the rest.

    subscribers  half of them prepaid, half postpaid, all with plenty of money
    bundled      each has two bundles, of which the first pays for all calls
    """
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        shown() as progress,
    ):
        root, cache = Path(folder), default_cache()
        install, program = find_asterisk(None, cache, progress), find_sipp(cache, progress)
        carrier_port, bridged, bare = free_ports(3)
        numbers = [f"+4915550{index:06d}" for index in range(subscribers)]

        async def seed(conn: Connection) -> None:
            rates = [SeedRate("49", "Germany", 20_000), SeedRate("4930", "Berlin", 10_000, 1, 1)]
            await seed_trunk(conn, SeedTrunk(TRUNK, carrier_port, rates))
            plan_id = await seed_plan(conn, "standard", [SeedRate("49", "Germany", 90_000)])
            app_id = await seed_app(conn, APP, f"{LOOPBACK}:{bridged}", None)
            for bundle in BUNDLES:
                await seed_bundle(conn, bundle)
            for index, number in enumerate(numbers):
                who = SeedSubscriber(number, MONEY_MICRO, "postpaid" if index % 2 else "prepaid")
                account_id = await seed_subscriber(conn, app_id, plan_id, who)
                if bundled:
                    await first_bundles(conn, account_id, [one.name for one in BUNDLES], now())

        say(f"setting up a switch, a database and {subscribers} subscribers")
        with EmbeddedPostgres(root / "postgres") as postgres:
            # The witness is heard sooner than in production, so that a run's last record is read within the run. What
            # the machine can do is looked for, so backpressure is asked, but says no to nothing.
            overrides: dict[str, dict[str, Any]] = {
                "switch": {"emergency_trunk": TRUNK},
                "calls": {"witness_s": 0.5},
                "pressure": dict.fromkeys(("cps_max", "deciding_max", "live_max"), 10**6)
                | {"database_ms_max": 10**6},
            }
            with Stack(root, install, postgres, workers=workers, overrides=overrides) as stack:
                stack.prepare(seed)
                sipp = Sipp(program, root / "sipp", switch=stack.sip_address, carrier_port=carrier_port)
                sipp.callers(numbers, B_NUMBER)
                bench = BenchStack(stack, sipp, numbers, {"bridged": bridged, "bare": bare}, carrier_port)
                bench.configure()
                bench.analyze()
                yield bench
