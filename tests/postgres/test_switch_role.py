"""What the switch's login may see: users' phones as they register now, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from bridge import queries
from bridge.asterisk.conf_store import ensure_switch_login
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import ConfigError
from bridge.partners.store.credential import add_credential
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.seeded import Seeded, Who

PASSWORD = "correct-horse-battery"
VIEWS = {"ps_endpoints", "ps_auths", "ps_aors"}


@pytest.fixture
async def switch(
    house: Seeded, postgres: EmbeddedPostgres, database: str, dsn: str
) -> AsyncIterator[Connection]:
    """A connection as the switch has one, over TCP with its password."""
    address = f"postgresql://callbridge_switch_{database}:{PASSWORD}@127.0.0.1:{postgres.port}/{database}"
    settings = Settings.model_validate({"users": {"switch_dsn": address}})
    conn = await asyncpg.connect(dsn, server_settings={"search_path": "bridge, public"})
    for _ in range(2):  # the second time it is there
        await ensure_switch_login(conn, settings)
    await conn.close()
    switch = await asyncpg.connect(address)
    yield switch
    await switch.close()


async def test_it_sees_three_views_and_no_table(switch: Connection) -> None:
    rows = await switch.fetch(
        """SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_|^information_schema$'
              AND has_schema_privilege(n.oid, 'USAGE')
              AND has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')"""
    )
    assert {row["name"] for row in rows} == VIEWS
    for name in VIEWS:
        assert await switch.fetch(f"SELECT * FROM {name}") == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM bridge.subscriber",
        "SELECT * FROM bridge.sip_credential_now",
        "SELECT digest FROM bridge.sip_credential",
        "SELECT * FROM asterisk.ps_contacts",
        "SELECT bridge.switch_login_v1('callbridge_switch_x', 'x')",
        "SET ROLE callbridge_partner",
        "SET ROLE postgres",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY ps_auths TO PROGRAM 'cat'",
        "CREATE TABLE asterisk.mine (x int)",
    ],
)
async def test_the_rest_is_refused(switch: Connection, sql: str) -> None:
    await switch.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await switch.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ps_aors (id) VALUES ('x')",
        "UPDATE ps_auths SET md5_cred = ''",
        "DELETE FROM ps_endpoints",
    ],
)
async def test_it_changes_nothing(switch: Connection, sql: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await switch.execute(sql)


async def test_a_row_that_lets_anybody_in_cannot_be(house: Seeded, switch: Connection) -> None:
    """Endpoints are there only with their credentials, and of no one but the active."""
    who = await house.subscriber()
    subscriber_id = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number
    )
    assert await switch.fetch("SELECT id FROM ps_endpoints") == []
    async with house.pool.acquire() as conn, conn.transaction():
        made = await add_credential(conn, subscriber_id, 60)
    [row] = await switch.fetch("SELECT * FROM ps_endpoints WHERE id = $1", made.username)
    assert row["auth"] == f"c{made.credential_id.hex}"
    assert row["callerid"] == f"<{who.a_number}>"
    assert (row["context"], row["trust_id_inbound"], row["webrtc"]) == ("from-user", "no", "yes")
    [auth] = await switch.fetch("SELECT * FROM ps_auths")
    assert (auth["id"], auth["username"]) == (row["auth"], row["aors"])
    await house.rows("UPDATE sip_credential SET expires_at = now()")
    assert await switch.fetch("SELECT id FROM ps_endpoints") == []
    assert await switch.fetch("SELECT id FROM ps_auths") == []


async def test_a_login_that_may_more_is_not_taken(house: Seeded) -> None:
    await house.rows("CREATE ROLE callbridge_switch_super SUPERUSER")
    settings = Settings.model_validate(
        {"users": {"switch_dsn": "postgresql://callbridge_switch_super:x@127.0.0.1/x"}}
    )
    try:
        async with house.pool.acquire() as conn:
            with pytest.raises(ConfigError, match=r"users\.switch_dsn"):
                await ensure_switch_login(conn, settings)
    finally:
        await house.rows("DROP ROLE callbridge_switch_super")


async def test_credentials_at_once_are_never_more_than_allowed(house: Seeded) -> None:
    who: Who = await house.subscriber()
    subscriber_id: UUID = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number
    )

    async def one() -> None:
        async with house.pool.acquire() as conn, conn.transaction():
            await add_credential(conn, subscriber_id, 60, contacts_max=2)

    await asyncio.gather(*(one() for _ in range(8)))
    assert await house.value("SELECT count(*) FROM sip_credential_now") == 2
    async with house.pool.acquire() as conn:
        await queries.credentials.forget_users.run(conn)
    assert await house.value("SELECT count(*) FROM sip_credential") == 8
