"""What the database itself lets a partner's requests see: without a name nothing, with one its own."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from bridge import queries
from bridge.api.desk import PARTNER_ROLE
from bridge.api.fields import read_id
from bridge.database import connection
from tests.api.estate import estate
from tests.api.scene import Api, Partner
from tests.api.telling import telling

TABLES = """
    SELECT c.oid::regclass::text AS name, c.relkind::text AS kind, c.relrowsecurity AS guarded,
           coalesce('security_invoker=true' = ANY(c.reloptions), false) AS invoked,
           has_table_privilege($1, c.oid, 'SELECT') OR has_any_column_privilege($1, c.oid, 'SELECT') AS readable,
           has_table_privilege($1, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
           OR has_any_column_privilege($1, c.oid, 'INSERT, UPDATE, REFERENCES') AS writable,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'partner_id'
                                                AND has_column_privilege($1, c.oid, a.attnum, 'SELECT')) AS owned
      FROM pg_class c
     WHERE c.relnamespace IN ('bridge'::regnamespace, 'asterisk'::regnamespace, 'public'::regnamespace)
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
     ORDER BY 1
"""

RECORD = """
    INSERT INTO cdr (
        cdr_no, partner_id, record_no, call_id, leg, attempt_no, kind, revision, file_type, at, ended_at,
        answered_at, answered, direction, talk_ms, billed_s, covered_s, amount_micro, currency, destination,
        prefix, purpose, delete_after, hash)
    SELECT coalesce(max(cdr_no), 0) + 1, $2, 1, $1, 'origination', 0, 'first', 0, 'cdr', now(), now(), now(), true,
           'out', 1000, 1, 0, 1000, 'EUR', 'Germany', '49', 'retail', '2099-12-31', sha256('x') FROM cdr
"""
# Told on purpose: a partner holds its records against them.
PROOFS = {("cdr", "hash"), ("cdr_day", "hash"), ("statement", "chain_hash")}


async def tables(api: Api) -> list[asyncpg.Record]:
    found = await api.house.rows(TABLES, PARTNER_ROLE)
    assert len(found) > 30
    return found


async def counted(api: Api, partner_id: str, names: list[str], where: str = "true") -> dict[str, int]:
    """Rows of each table that a partner's request sees, where there are any."""
    found = {}
    async with connection(api.services.asking) as conn, conn.transaction():
        assert await conn.fetchval("SELECT current_user") == PARTNER_ROLE
        await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", partner_id)
        for name in names:
            found[name] = await conn.fetchval(f"SELECT count(*) FROM {name} WHERE {where}")
    return {name: rows for name, rows in found.items() if rows}


async def lived_in(api: Api) -> None:
    """Both partners have something of whatever the house can give away here."""
    for partner in (api.alpha, api.beta):
        key = {"name": "billing", "scopes": ["cdrs:read"]}
        assert (await partner.post("/v1/keys", key)).status_code == 201
        who = await api.house.subscriber(10_000_000)
        await api.own("subscriber", partner, account_id=who.account_id)
        await api.own("account", partner, account_id=who.account_id)
        await api.house.admitted(who)


async def said_to(api: Api, partner: Partner, call_id: UUID, subscriber_id: UUID) -> None:
    """What only the network brings."""
    await api.house.rows(
        "INSERT INTO voice_message (call_id, partner_id, subscriber_id, duration_ms, left_at)"
        " VALUES ($1, $2, $3, 1, now())",
        call_id, partner.partner_id, subscriber_id,
    )  # fmt: skip
    await api.house.rows("INSERT INTO whatsapp_call (call_id, wacid) VALUES ($1, 'wacid.1')", call_id)


async def test_whoever_has_no_name_sees_nothing(api: Api) -> None:
    await lived_in(api)
    readable = [one["name"] for one in await tables(api) if one["readable"]]
    assert {"api_key", "audit_log", "partner", "account"} <= {name.rpartition(".")[2] for name in readable}
    assert await counted(api, "", readable) == {}


async def test_a_partner_sees_no_row_of_another(api: Api, dsn: str) -> None:
    async with connection(api.house.pool) as conn:  # a worker has been here once
        await queries.switch.register.value(conn, name=api.services.settings.switch.name)
    async with telling(api, dsn) as house:
        for digit, partner in enumerate((api.alpha, api.beta), 1):
            made = await estate(house, partner, digit, api.services.settings.messages.folder)
            await said_to(
                api, partner, read_id("call", made["call_id"]), read_id("sub", made["subscriber_id"])
            )
    owned = [one["name"] for one in await tables(api) if one["readable"] and one["owned"]]
    through_a_call = ["whatsapp_call"]
    for partner in (api.alpha, api.beta):
        assert await counted(api, str(partner.partner_id), through_a_call) == {"whatsapp_call": 1}
        seen = await counted(api, str(partner.partner_id), owned)
        assert set(owned) - seen.keys() <= {"trial_sample"}, "make one in tests/api/estate.py"
        others = f"partner_id IS DISTINCT FROM '{partner.partner_id}'"
        assert await counted(api, str(partner.partner_id), owned, others) == {}


async def test_a_report_without_a_name_is_nobodys(api: Api) -> None:
    """Its functions run as the house: who asks is theirs to find out."""
    await lived_in(api)
    for partner in (api.alpha, api.beta):
        [call] = await api.house.rows("SELECT call_id FROM call WHERE partner_id = $1", partner.partner_id)
        await api.house.rows(RECORD, call[0], partner.partner_id)
    rows = (
        "SELECT key FROM {}(now() - interval '1 day', now() + interval '1 day', 'UTC', '{{partner}}', NULL)"
    )
    async with connection(api.services.asking) as conn, conn.transaction():
        for name, seen in (("", 0), (str(api.alpha.partner_id), 1)):
            await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", name)
            assert len(await conn.fetch(rows.format("report_money_v1"))) == seen
            assert len(await conn.fetch(rows.format("report_quality_v1"))) <= seen
    everybody = await api.house.rows(rows.format("report_money_v1"))
    assert len(everybody) == 2, "as the house, it is everybody's"


async def test_every_readable_table_is_guarded_by_row(api: Api) -> None:
    open_ones = [
        one["name"]
        for one in await tables(api)
        if one["readable"] and not (one["guarded"] if one["kind"] in "rp" else one["invoked"])
    ]
    assert open_ones == [], "ENABLE ROW LEVEL SECURITY, or security_invoker on a view"


async def test_nothing_can_be_written_as_a_partner(api: Api) -> None:
    assert [one["name"] for one in await tables(api) if one["writable"]] == []


async def test_no_secret_and_nobodys_price_is_among_the_columns(api: Api) -> None:
    rows = await api.house.rows(
        """
        SELECT a.attrelid::regclass::text AS "table", a.attname AS "column"
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace IN ('bridge'::regnamespace, 'asterisk'::regnamespace)
           AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege($1, c.oid, a.attnum, 'SELECT')
           AND a.attname ~ '(^|_)(secrets?|hash|digest|tokens?|passwords?|cost|margin|buy|routes|withheld)(_|$)'
        """,
        PARTNER_ROLE,
    )
    assert {tuple(row) for row in rows} - PROOFS == set()


async def test_functions_are_run_by_whom_they_are_granted_to_only(api: Api) -> None:
    rows = await api.house.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'bridge'::regnamespace "
        "AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g WHERE g.grantee = 0)"
    )
    assert [row[0] for row in rows] == [], "executable by everybody"
    mine = await api.house.rows(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'bridge'::regnamespace "
        "AND has_function_privilege($1, p.oid, 'EXECUTE') AND p.proname ~ 'token|top_up|transfer|admit|settle|book'",
        PARTNER_ROLE,
    )
    assert [row[0] for row in mine] == [], "what moves money or signs is the house's own"


async def test_functions_of_the_house_look_in_the_house(api: Api) -> None:
    """A SECURITY DEFINER function without a search_path of its own can be made to run somebody's."""
    rows = await api.house.rows(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'bridge'::regnamespace AND p.prosecdef "
        "AND NOT coalesce(array_to_string(p.proconfig, ' ') LIKE '%search_path=bridge, pg_temp%', false)"
    )
    assert [row[0] for row in rows] == []
