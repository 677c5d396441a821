"""The sandbox's cast: who calls, whom, over which carriers, at what price. `demo` and `up` play with it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from bridge.database import Connection
from bridge.rating.store.plans import plan_id_of
from bridge.sandbox.carriers import AppUser, Carrier, Carriers
from bridge.sandbox.circle import ensure_circle
from bridge.sandbox.fetch import default_cache, find_asterisk
from bridge.sandbox.ports import free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.progress import Progress
from bridge.sandbox.seed import (
    APP,
    SeedPartner,
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    ensure_partner,
    ensure_plans,
    first_bundles,
    seed_app,
    seed_subscriber,
    seed_trunk,
)
from bridge.sandbox.shipped import shipped_plans
from bridge.sandbox.stack import Stack

# Both from the ranges reserved for fiction.
CALLER: Final = "+498999998100"
CALLED: Final = "+493023125010"  # the first carrier fails with 503, the second answers
BALANCE_MICRO: Final = 20_000_000  # half of it buys the bundle
PLAN: Final = "eplus"
BUNDLE: Final = "600 units"
PARTNER: Final = SeedPartner("E-Plus", plans=(PLAN,), trunks=("alpha",), a_numbers=(CALLER,))

BUY: Final = {
    "alpha": (
        SeedRate("49", "Germany", 14_000),
        SeedRate("4930", "Berlin", 9_000, 1, 1),
        SeedRate("44", "UK", 12_000, 1, 1),
    ),
    "beta": (SeedRate("49", "Germany", 11_000, 6, 6), SeedRate("1", "North America", 8_000, 6, 6)),
    "gamma": (SeedRate("43", "Austria", 10_000),),
}


@dataclass(frozen=True, slots=True)
class World:
    """Everything running."""

    stack: Stack
    carriers: Carriers
    user: AppUser


@contextmanager
def world(root: Path, progress: Progress) -> Iterator[World]:
    """Start Postgres, switch, carriers and bridge below `root`; end them all afterwards."""
    install = find_asterisk(None, default_cache(), progress)
    progress("starting Postgres", 0, 0)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    cast = _cast(root / "world.json")
    app_port, user = cast["app_port"], AppUser(CALLER, APP, cast["password"])
    carriers = [Carrier(name, port) for name, port in zip(BUY, cast["trunk_ports"], strict=True)]
    plans = {plan.name: plan for plan in shipped_plans()}

    async def seed(conn: Connection) -> None:
        for carrier in carriers:
            await seed_trunk(conn, SeedTrunk(carrier.name, carrier.port, BUY[carrier.name]))
        plan_ids = await ensure_plans(conn, plans.values())
        app_id = await seed_app(conn, APP, f"127.0.0.1:{app_port}", user.password)
        who = SeedSubscriber(CALLER, BALANCE_MICRO, call_cap=2)
        account_id = await seed_subscriber(conn, app_id, plan_ids[PLAN], who)
        included = [bundle.name for bundle in plans[PLAN].bundles if bundle.included]
        await first_bundles(conn, account_id, [*included, BUNDLE], datetime.now(UTC))

    with EmbeddedPostgres(root / "postgres") as postgres:
        overrides = {"switch": {"emergency_trunk": carriers[0].name}}
        with Stack(root, install, postgres, overrides=overrides) as stack:
            if not stack.prepare(seed):  # a database of an earlier version lacks what came later
                stack.database_call(partial(ensure_plans, plans=plans.values()))
            stack.database_call(partial(ensure_partner, partner=PARTNER))
            stack.database_call(_circle)
            progress("starting the switch and the bridge", 0, 0)
            stack.start()
            progress("starting the carriers", 0, 0)
            with Carriers(
                install,
                root / "carriers",
                carriers=carriers,
                users=[user],
                bridge=stack.sip_address,
                app_port=app_port,
            ) as simulated:
                yield World(stack, simulated, user)


async def _circle(conn: Connection) -> None:
    await ensure_circle(conn, str(await plan_id_of(conn, PLAN)))


def _cast(path: Path) -> dict[str, Any]:
    """Ports and password, the same at every start: the database remembers them, too."""
    if not path.exists():
        app_port, *trunk_ports = free_ports(1 + len(BUY))
        chosen = {"app_port": app_port, "trunk_ports": trunk_ports, "password": secrets.token_hex(16)}
        path.touch(mode=0o600)
        path.write_text(json.dumps(chosen))
    cast: dict[str, Any] = json.loads(path.read_text())
    return cast
