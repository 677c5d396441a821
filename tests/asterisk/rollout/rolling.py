"""Apps in a rollout on the real switch: who waits, who may call, and what the rollout came to."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge.database import Connection
from bridge.partners.store import add_credential, add_partner
from bridge.rollout import store
from bridge.rollout.invite import Invited, NotInvited
from bridge.sandbox.process import Deadline
from bridge.sandbox.seed import SeedSubscriber, seed_app, seed_subscriber
from tests.asterisk.scene import Scene, World

ACTOR: Final = "tests"
# One gateway and one rollout for each story: what is launched or killed stays so.
HOSTS: Final = {
    "flood": "127.0.0.11",
    "killed": "127.0.0.12",
    "launched": "127.0.0.13",
    "timed": "127.0.0.14",
}
WAKE_S: Final = 1
HAPPENS_S: Final = 10.0
COMMAND_S: Final = 60


class RolloutWorld(World):
    """Beside the rest, apps of users with phones whom nobody may call yet."""

    async def seed(self, conn: Connection) -> None:
        await super().seed(conn)
        for name, host in HOSTS.items():
            self.apps[name] = await seed_app(conn, name, host, None)
        await conn.execute("UPDATE app SET phones = true WHERE name = ANY ($1)", list(HOSTS))

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """Nothing is too much, and no phone is awaited for long."""
        given = super().overrides
        return {
            **given,
            "calls": {**given["calls"], "wake_s": WAKE_S},
            "pressure": {"cps_max": 1000, "deciding_max": 1000, "database_ms_max": 20_000},
        }


class Rolling:
    """The rollout of one app, with a partner who hears what happens to its members."""

    def __init__(self, scene: Scene, app: str) -> None:
        self.scene, self.app, self.host = scene, app, HOSTS[app]
        settings: dict[str, Any] = {
            "name": app,
            "invite_limit": None,
            "depth_max": None,
            "call_activates": True,
            "invite_s": 86_400,
        }

        async def work(conn: Connection) -> tuple[UUID, UUID]:
            async with conn.transaction():
                partner = (await add_partner(conn, f"Partner of {app}", "EUR"))["partner_id"]
                await conn.execute("UPDATE partner SET keeps_events = true WHERE partner_id = $1", partner)
                made = await store.add_rollout(conn, app, settings, None, ACTOR, datetime.now(UTC))
                return partner, made["rollout_id"]

        self.partner_id, self.rollout_id = scene.ask(work)
        self._serial = 0

    def callers(self, count: int) -> list[str]:
        """So many more who may call."""
        return [number for number, _ in self._people(count, allowed=True)]

    def waiting(self, count: int) -> list[str]:
        """So many more who wait."""
        return [number for number, _ in self._people(count, allowed=False)]

    def window(self, **given: Any) -> UUID:
        """A window, planned; with a quota it opens at once."""
        settings = dict.fromkeys(
            ("opens_at", "closes_at", "quota", "thresholds", "trial_s", "next_window_id")
        )

        async def work(conn: Connection) -> UUID:
            async with conn.transaction():
                rollout = await store.rollout(conn, self.rollout_id)
                now = datetime.now(UTC)
                made = await store.add_window(conn, rollout, settings | {"name": "w"} | given, ACTOR, now)
                if "quota" in given:
                    assert await store.set_window(conn, made["window_id"], "open", "operator", ACTOR, now)
                window_id: UUID = made["window_id"]
                return window_id

        return self.scene.ask(work)

    def window_state(self, window_id: UUID) -> tuple[str, str, int]:
        """State, cause, and how many were activated in it."""

        async def work(conn: Connection) -> tuple[str, str, int]:
            row = await conn.fetchrow(
                "SELECT state, cause, activated FROM rollout_window WHERE window_id = $1", window_id
            )
            assert row is not None
            return row["state"], row["cause"], row["activated"]

        return self.scene.ask(work)

    def wait_window(self, window_id: UUID, state: str) -> None:
        """Return when the window has come into a state."""
        deadline = Deadline(HAPPENS_S)
        while (now := self.window_state(window_id)[0]) != state:
            assert deadline.pause(), f"the window is {now} after {HAPPENS_S:g} s, not {state}"

    def member_state(self, number: str) -> str:
        sql = "SELECT m.state FROM rollout_member m JOIN subscriber USING (subscriber_id) WHERE a_number = $1"
        return str(self.scene.value(sql, number))

    def invite(self, inviter: str, number: str) -> Invited | NotInvited:
        at = datetime.now(UTC)
        return self.scene.ask(lambda conn: self._invite(conn, inviter, number, at))

    async def _invite(
        self, conn: Connection, inviter: str, number: str, at: datetime
    ) -> Invited | NotInvited:
        async with conn.transaction():
            return await store.invite(conn, await self._id_of(conn, inviter), number, at)

    def accept(self, number: str, code: str) -> str:
        async def work(conn: Connection) -> str:
            async with conn.transaction():
                return await store.accept(conn, await self._id_of(conn, number), code, datetime.now(UTC))

        return self.scene.ask(work)

    def command(self, *words: str) -> Any:
        """`callbridge rollout …` about this rollout, as an operator runs it: what it says as JSON."""
        deed, *rest = words
        ran = subprocess.run(
            [sys.executable, "-m", "bridge", "rollout", deed, self.app, *rest, "--json"],
            env={"CALLBRIDGE_CONFIG": str(self.scene.stack.toml), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    async def _id_of(self, conn: Connection, number: str) -> UUID:
        found: UUID = await conn.fetchval("SELECT subscriber_id FROM subscriber WHERE a_number = $1", number)
        return found

    def _people(self, count: int, *, allowed: bool) -> list[tuple[str, UUID]]:
        place = list(HOSTS).index(self.app)
        numbers = [f"+491511{4 + place}{self._serial + more:06d}" for more in range(count)]
        self._serial += count
        app_id, plan_id = self.scene.world.apps[self.app], self.scene.world.plans["standard"]

        async def work(conn: Connection) -> list[tuple[str, UUID]]:
            made: list[tuple[str, UUID]] = []
            async with conn.transaction():
                for number in numbers:
                    who = SeedSubscriber(number, balance_micro=10**6, allowed=allowed)
                    await seed_subscriber(conn, app_id, plan_id, who)
                    subscriber_id = await self._id_of(conn, number)
                    await conn.execute(
                        "UPDATE subscriber SET partner_id = $2 WHERE subscriber_id = $1",
                        subscriber_id,
                        self.partner_id,
                    )
                    if allowed:
                        await add_credential(conn, subscriber_id, 600, media="rtp")
                    else:
                        assert await store.enrol(conn, subscriber_id, datetime.now(UTC)) == "waiting"
                    made.append((number, subscriber_id))
            return made

        return self.scene.ask(work)
