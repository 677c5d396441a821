"""A rollout of the seeded app, made by hand: for tests of what the database decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bridge.database import connection, transaction
from bridge.rollout import store
from bridge.rollout.invite import Invited
from bridge.sandbox.seed import APP
from tests.seeded import Seeded, Who

AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
ACTOR = "tests"


def later(**more: float) -> datetime:
    return AT + timedelta(**more)


@dataclass
class Rolling:
    """A rollout, by its key, and the house it is in."""

    house: Seeded
    rollout_id: UUID

    async def window(self, quota: int | None = None, state: str = "open", **more: Any) -> UUID:
        settings = dict.fromkeys(("opens_at", "closes_at", "thresholds", "trial_s", "next_window_id"))
        async with transaction(self.house.pool) as conn:
            found = await store.rollout(conn, self.rollout_id)
            settings |= {"name": "w", "quota": quota, **more}
            made: UUID = (await store.add_window(conn, found, settings, ACTOR, AT))["window_id"]
        if state != "planned":
            assert await self.set(made, state)
        return made

    async def changed(self, window_id: UUID, **changes: Any) -> None:
        async with transaction(self.house.pool) as conn:
            found = await store.window(conn, self.rollout_id, window_id)
            assert await store.change_window(conn, found, found["edition"], changes, ACTOR, AT)

    async def set(self, window_id: UUID, state: Any, cause: Any = "operator", at: datetime = AT) -> bool:
        async with connection(self.house.pool) as conn:
            return await store.set_window(conn, window_id, state, cause, ACTOR, at)

    async def wave(self, **settings: Any) -> UUID:
        whole = (
            dict.fromkeys(("country", "platform", "of_partner_id", "quota")) | {"server_key": True} | settings
        )
        async with transaction(self.house.pool) as conn:
            found = await store.rollout(conn, self.rollout_id)
            made: UUID = (await store.add_wave(conn, found, whole, ACTOR, AT))["wave_id"]
            return made

    async def key(self, wave_id: UUID, given: bool, at: datetime = AT) -> bool:
        done: bool = await self.house.value(
            "SELECT rollout_key_set_v1($1, $2, $3, $4)", wave_id, given, ACTOR, at
        )
        return done

    async def settings(self, **columns: Any) -> None:
        for name, value in columns.items():
            await self.house.rows(
                f"UPDATE rollout SET {name} = $2 WHERE rollout_id = $1", self.rollout_id, value
            )

    async def person(self, *, platform: str | None = None) -> UUID:
        """Somebody new, who waits."""
        who = await self.house.subscriber()
        subscriber_id = await self.id_of(who)
        await self.house.rows("DELETE FROM rollout_allow WHERE subscriber_id = $1", subscriber_id)
        async with connection(self.house.pool) as conn:
            assert await store.enrol(conn, subscriber_id, AT, platform=platform) == "waiting"
        return subscriber_id

    async def enabled(self) -> UUID:
        """Somebody new, who could call before the rollout began."""
        return await self.id_of(await self.house.subscriber())

    async def id_of(self, who: Who) -> UUID:
        found: UUID = await self.house.value(
            "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number
        )
        return found

    async def number_of(self, subscriber_id: UUID) -> str:
        return str(
            await self.house.value("SELECT a_number FROM subscriber WHERE subscriber_id = $1", subscriber_id)
        )

    async def calls(self, caller: UUID, callee: UUID, at: datetime = AT) -> str:
        async with connection(self.house.pool) as conn:
            return await store.called(conn, caller, callee, None, at)

    async def invites(self, inviter: UUID, number: str, at: datetime = AT) -> Any:
        async with connection(self.house.pool) as conn:
            return await store.invite(conn, inviter, number, at)

    async def invited(self, inviter: UUID, guest: UUID, at: datetime = AT) -> Invited:
        made = await self.invites(inviter, await self.number_of(guest), at)
        assert isinstance(made, Invited), made
        return made

    async def accepts(self, guest: UUID, code: str, at: datetime = AT) -> str:
        async with connection(self.house.pool) as conn:
            return await store.accept(conn, guest, code, at)

    async def stands(self, subscriber_id: UUID, at: datetime = AT) -> Any:
        async with connection(self.house.pool) as conn:
            return await store.standing(conn, subscriber_id, at)

    async def state_of(self, subscriber_id: UUID) -> str:
        return str(
            await self.house.value(
                "SELECT state FROM rollout_member WHERE rollout_id = $1 AND subscriber_id = $2",
                self.rollout_id, subscriber_id,
            )
        )  # fmt: skip

    async def window_state(self, window_id: UUID) -> tuple[str, str, int]:
        row = await self.house.row(
            "SELECT state, cause, activated FROM rollout_window WHERE window_id = $1", window_id
        )
        return row["state"], row["cause"], row["activated"]

    async def tick(self, at: datetime) -> list[tuple[UUID, str]]:
        async with connection(self.house.pool) as conn:
            return list(await store.tick(conn, at))


async def rolled_out(house: Seeded) -> Rolling:
    settings = {
        "name": "spring",
        "invite_limit": None,
        "depth_max": None,
        "call_activates": True,
        "invite_s": 3600,
    }
    async with transaction(house.pool) as conn:
        made = await store.add_rollout(conn, APP, settings, None, ACTOR, AT)
    return Rolling(house, made["rollout_id"])
