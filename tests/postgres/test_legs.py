"""A leg from WhatsApp never meets the phone network, nor the other way round: not even where it is written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bridge.database import Connection, connection
from bridge.errors import InvariantBroken
from bridge.routing.trunk import LEG_TRUNKS, POLICY_CLASSES, leg_may
from tests.seeded import Seeded
from tests.whatsapp import add_business

pytestmark = pytest.mark.breaks_books

FORBIDDEN = [("voip_only", "pstn"), ("voip_only", "emergency"), ("pstn", "voip_only")]
ALLOWED = [
    ("app", "pstn"), ("app", "voip_only"), ("app", "emergency"), ("voip_only", "voip_only"), ("pstn", "pstn"),
    ("pstn", "emergency"),
]  # fmt: skip


class Legs:
    """Rows written by hand, as the database's owner: one trunk of each class."""

    def __init__(self, house: Seeded, conn: Connection) -> None:
        self.house, self.conn = house, conn
        self.trunks: dict[str, UUID] = {}

    async def prepare(self) -> None:
        rows = await self.conn.fetch("SELECT trunk_id, name FROM trunk ORDER BY name")
        self.trunks["pstn"], self.trunks["emergency"] = rows[0]["trunk_id"], rows[1]["trunk_id"]
        await self.conn.execute(
            "UPDATE trunk SET policy_class = 'emergency' WHERE trunk_id = $1", self.trunks["emergency"]
        )
        self.trunks["voip_only"] = await add_business(self.conn)
        self.account_id = await self.conn.fetchval("SELECT account_id FROM account LIMIT 1")
        self.switch_id = self.house.store.switch_id

    async def call(self, leg_class: str, **more: Any) -> UUID:
        given = {"leg_class": leg_class, "trunk_in_id": None, "after_call_id": None, **more}
        call_id: UUID = await self.conn.fetchval(
            """INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, a_number, dialled, state, leg_class,
                                 trunk_in_id, after_call_id)
               VALUES (coalesce($5, uuidv7()), $1, 'u', 's', '+49', 'x', 'live', $2, $3, $4) RETURNING call_id""",
            self.switch_id,
            given["leg_class"],
            given["trunk_in_id"],
            given["after_call_id"],
            more.get("call_id"),
        )
        return call_id

    async def lease(self, call_id: UUID, trunk_class: str | None) -> None:
        await self.conn.execute(
            """INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
               VALUES ($1, $2, $3, $4, 'c', 1, now() + interval '1 minute')""",
            call_id,
            self.switch_id,
            self.account_id,
            self.trunks[trunk_class] if trunk_class else None,
        )

    async def attempt(self, call_id: UUID, trunk_class: str, table: str = "attempt") -> None:
        await self.conn.execute(
            f"""INSERT INTO {table} (call_id, attempt_no, trunk_id, outcome, fault, ended_at, currency, buy)
                VALUES ($1, 1, $2, 'answered', 'us', now(), 'EUR', '{{}}')""",
            call_id,
            self.trunks[trunk_class],
        )


@pytest.fixture
async def legs(house: Seeded) -> AsyncIterator[Legs]:
    async with connection(house.pool) as conn:
        made = Legs(house, conn)
        await made.prepare()
        yield made


def never() -> Any:
    return pytest.raises((InvariantBroken, asyncpg.PostgresError), match=r"never|none of|another class")


@pytest.mark.parametrize(("leg_class", "trunk_class"), FORBIDDEN)
async def test_neither_lease_nor_attempt_can_be_written(legs: Legs, leg_class: str, trunk_class: str) -> None:
    call_id = await legs.call(leg_class)
    with never():
        await legs.lease(call_id, trunk_class)
    with never():
        await legs.attempt(call_id, trunk_class)
    partition = await legs.conn.fetchval(
        "SELECT tableoid::regclass::text FROM call WHERE call_id = $1", call_id
    )
    with never():  # nor behind the parent's back
        await legs.attempt(call_id, trunk_class, partition.replace("call_", "attempt_"))
    for table in ("lease", "attempt"):
        assert await legs.conn.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(("leg_class", "trunk_class"), ALLOWED)
async def test_what_may_be_can_be_written(legs: Legs, leg_class: str, trunk_class: str) -> None:
    call_id = await legs.call(leg_class)
    await legs.lease(call_id, trunk_class)
    await legs.attempt(call_id, trunk_class)


async def test_a_lease_is_not_moved_there_either(legs: Legs) -> None:
    call_id = await legs.call("voip_only")
    await legs.lease(call_id, None)  # it rings a phone
    for column, value in (("trunk_id", legs.trunks["pstn"]), ("call_id", None)):
        with never():
            if column == "trunk_id":
                await legs.conn.execute("UPDATE lease SET trunk_id = $1", value)
            else:
                other = await legs.call("app")
                await legs.lease(other, "pstn")
                await legs.conn.execute("DELETE FROM lease WHERE call_id = $1", call_id)
                await legs.conn.execute("UPDATE lease SET call_id = $1 WHERE call_id = $2", call_id, other)
    failed = await legs.call("app")
    await legs.attempt(failed, "pstn")
    with never():
        await legs.conn.execute("UPDATE attempt SET call_id = $1 WHERE call_id = $2", call_id, failed)
    await legs.attempt(call_id, "voip_only")
    with never():
        await legs.conn.execute(
            "UPDATE attempt SET trunk_id = $1 WHERE call_id = $2", legs.trunks["pstn"], call_id
        )


async def test_the_order_in_which_it_is_written_does_not_help(legs: Legs) -> None:
    for write in (legs.lease, legs.attempt):
        call_id = await legs.conn.fetchval("SELECT uuidv7()")
        await write(call_id, "pstn")
        with never():
            await legs.call("voip_only", call_id=call_id)


async def test_what_a_call_or_a_trunk_is_never_changes(legs: Legs) -> None:
    call_id = await legs.call("voip_only")
    for leg_class in ("app", "pstn"):
        with never():
            await legs.conn.execute("UPDATE call SET leg_class = $1", leg_class)
    with never():
        await legs.conn.execute("UPDATE call SET call_id = uuidv7()")
    await legs.conn.execute("UPDATE call SET a_number = '+4917', leg_class = 'voip_only'")
    await legs.attempt(call_id, "voip_only")
    for trunk_class, wanted in (("pstn", "voip_only"), ("voip_only", "pstn"), ("voip_only", "emergency")):
        with pytest.raises(asyncpg.PostgresError):
            await legs.conn.execute(
                "UPDATE trunk SET policy_class = $1 WHERE trunk_id = $2", wanted, legs.trunks[trunk_class]
            )
    with pytest.raises(asyncpg.PostgresError):
        await legs.conn.execute(
            """UPDATE trunk SET kind = 'carrier', policy_class = 'pstn', business_number = NULL, transport = 'udp',
                      codecs = '{alaw}' WHERE trunk_id = $1""", legs.trunks["voip_only"],
        )  # fmt: skip
    await legs.conn.execute(
        "UPDATE trunk SET policy_class = 'pstn' WHERE trunk_id = $1", legs.trunks["emergency"]
    )


async def test_a_leg_is_of_the_class_of_the_trunk_it_came_in_by(legs: Legs) -> None:
    for trunk_class, leg_class in (
        ("voip_only", "app"),
        ("voip_only", "pstn"),
        ("pstn", "app"),
        ("pstn", "voip_only"),
    ):
        with never():
            await legs.call(leg_class, trunk_in_id=legs.trunks[trunk_class])
    await legs.call("voip_only", trunk_in_id=legs.trunks["voip_only"])
    await legs.call("pstn", trunk_in_id=legs.trunks["pstn"])


async def test_a_call_goes_on_as_it_began(legs: Legs) -> None:
    first = await legs.call("voip_only")
    for leg_class in ("app", "pstn"):
        with never():
            await legs.call(leg_class, after_call_id=first)
    second = await legs.call("voip_only", after_call_id=first)
    with never():
        await legs.lease(second, "pstn")


@pytest.mark.parametrize(
    "change",
    [
        "policy_class = 'pstn'", "transport = 'udp'", "codecs = '{alaw}'", "auth_username = 'other'",
        "auth_secret = NULL", "business_number = NULL", "allowed_ips = '{}'", "tech_prefix = '0'", "b_format = 'e164'",
    ],
)  # fmt: skip
async def test_a_business_number_is_whole(legs: Legs, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await legs.conn.execute(f"UPDATE trunk SET {change} WHERE trunk_id = $1", legs.trunks["voip_only"])


async def test_a_carrier_is_no_half_business_number(legs: Legs) -> None:
    for change in ("transport = 'tls'", "codecs = '{opus,alaw}'", "business_number = '+493011111111'"):
        with pytest.raises(asyncpg.CheckViolationError):
            await legs.conn.execute(f"UPDATE trunk SET {change} WHERE trunk_id = $1", legs.trunks["pstn"])


async def test_rule_and_tables_say_the_same(legs: Legs) -> None:
    for leg_class in (*LEG_TRUNKS, "else"):
        for trunk_class in (*POLICY_CLASSES, "else"):
            said = await legs.conn.fetchval("SELECT leg_may_v1($1, $2)", leg_class, trunk_class)
            assert said == leg_may(leg_class, trunk_class) or (leg_class, trunk_class) == ("app", "else")
    assert not await legs.conn.fetchval("SELECT leg_may_v1('voip_only', NULL) OR leg_may_v1('pstn', NULL)")
