"""What stands behind the browsers: database, switch and bridge, and the simulated carriers, all of it real."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from bridge.api.auth import create_key
from bridge.database import Connection
from bridge.sandbox.carriers import Carrier, Carriers
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.ports import free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.seed import SeedRate, SeedTrunk, seed_app, seed_plan, seed_trunk
from bridge.sandbox.stack import Stack

BERLIN: Final = "+493023125"  # with three digits more, see bridge.sandbox.magic
NETWORK_HOST: Final = "127.0.0.6"  # calls from the network come from here
PRICE_MICRO: Final = 90_000  # a minute of the plan "standard", by the full minute
SECOND_MICRO: Final = 10_000  # a second of the plan "by the second"


class House:
    """app_id, plans: what was seeded, for users. operator: an API key that may do everything."""

    def __init__(self, root: Path, install: AsteriskInstall, postgres: EmbeddedPostgres) -> None:
        alpha, self.gateway_port, network = free_ports(3)
        self._carrier = Carrier("alpha", alpha)
        self.plans: dict[str, str] = {}
        self.app_id = self.operator = ""
        self._open = ExitStack()
        # A slice is so short that each call is extended; the rest is as shipped.
        overrides: dict[str, dict[str, Any]] = {
            "calls": {"slice_s": 4, "slice_lead_s": 2.0, "witness_s": 1.0},
            "switch": {"emergency_trunk": "alpha"},
        }
        self.stack = Stack(root / "stack", install, postgres, database="browsers", overrides=overrides)
        self.carriers = Carriers(
            install,
            root / "carriers",
            carriers=[self._carrier],
            users=[],
            bridge=self.stack.sip_address,
            app_port=self.gateway_port,
            network=f"{NETWORK_HOST}:{network}",
        )

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self.stack)
            self.stack.prepare(self._seed)
            self.stack.start()
            opened.enter_context(self.carriers)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    async def _seed(self, conn: Connection) -> None:
        rate = SeedRate("4930", "Berlin", 6_000, 1, 1)
        trunk_id = await seed_trunk(conn, SeedTrunk(self._carrier.name, self._carrier.port, [rate]))
        await conn.execute(
            "UPDATE trunk SET allowed_ips = $2 WHERE trunk_id = $1",
            UUID(trunk_id),
            [ip_network(NETWORK_HOST)],
        )
        self.plans = {
            "standard": await seed_plan(conn, "standard", [SeedRate("4930", "Berlin", PRICE_MICRO)]),
            "by the second": await seed_plan(
                conn, "by the second", [SeedRate("4930", "Berlin", SECOND_MICRO * 60, 1, 1)]
            ),
        }
        self.app_id = await self.add_app(conn, "messenger")
        self.operator = await create_key(conn, "browsers")

    async def add_app(self, conn: Connection, name: str) -> str:
        """An app whose users have phones. Its gateway does not exist: nobody calls from there."""
        app_id = await seed_app(conn, name, f"127.0.0.2:{self.gateway_port}", None)
        await conn.execute("UPDATE app SET phones = true WHERE app_id = $1", UUID(app_id))
        return app_id
