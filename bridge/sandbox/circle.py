"""A second app of the sandbox, for two browsers: one user may call and invite, the other waits to be let in.

It is an app of its own so that whoever plays with the first one, and with its subscribers, meets no rollout.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.rollout import store as rollouts
from bridge.sandbox.seed import SeedSubscriber, seed_app, seed_subscriber

APP: Final = "circle"
HOST: Final = "127.0.0.2"  # its users have phones; no gateway calls from there
ENABLED: Final = "+498999998110"
WAITING: Final = "+498999998111"
MONEY_MICRO: Final = 500_000  # five minutes, so that one can see it end
_ACTOR: Final = "callbridge"


async def ensure_circle(conn: Connection, plan_id: str) -> None:
    """Make the app with its users and an open window, unless it is there."""
    async with conn.transaction():
        if await queries.subscribers.app_of.value(conn, app=APP) is not None:
            return
        at = datetime.now(UTC)
        app_id = await seed_app(conn, APP, HOST, None)
        await queries.seed.have_phones.run(conn, name=APP)
        settings = {
            "name": APP,
            "invite_limit": 5,
            "depth_max": None,
            "call_activates": True,
            "invite_s": 86_400,
        }
        rollout = await rollouts.add_rollout(conn, APP, settings, None, _ACTOR, at)
        window = dict.fromkeys(("opens_at", "closes_at", "thresholds", "trial_s", "next_window_id"))
        opened = await rollouts.add_window(conn, rollout, window | {"name": "first", "quota": 50}, _ACTOR, at)
        for number in (ENABLED, WAITING):
            who = SeedSubscriber(number, MONEY_MICRO if number == ENABLED else 0, allowed=False)
            await seed_subscriber(conn, app_id, plan_id, who)
            subscriber_id: UUID = await queries.seed.subscriber_of.value(conn, a_number=number)
            await rollouts.enrol(conn, subscriber_id, at)
            if number == ENABLED:
                await rollouts.seed(conn, rollout["rollout_id"], subscriber_id, _ACTOR, at)
        await rollouts.set_window(conn, opened["window_id"], "open", "operator", _ACTOR, at)
