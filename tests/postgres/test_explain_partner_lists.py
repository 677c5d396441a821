"""Every list of the API is read by index: a partner's as well when nearly all there is belongs to another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.database import Connection
from bridge.partners.store import add_partner
from bridge.queries import Query
from bridge.sandbox.seed import APP
from tests.postgres.conftest import Filled
from tests.postgres.test_explain_lists import asking
from tests.seeded import Seeded

ROWS = 4_000
OF_SMALL = 30
PAGE = 21
PER_ROW = 8  # a row, what it hangs on, policies: in index and table
LAST = UUID(int=2**128 - 1)
pytestmark = pytest.mark.breaks_books  # the tables are filled, not lived in

# A few of the small one's are the oldest of all: whoever reads back from the newest comes past all of the big one's.
WHOSE = f"CASE WHEN n <= {OF_SMALL} THEN '{{small}}'::uuid ELSE '{{big}}'::uuid END"
FILL = f"""
    INSERT INTO webhook_endpoint (partner_id, url) VALUES ('{{small}}', 'https://small.example/');
    INSERT INTO webhook_endpoint (partner_id, url)
    SELECT '{{big}}', 'https://big.example/' || n FROM generate_series(1, {ROWS}) n;
    INSERT INTO event (partner_id, kind, subject_id, data, stream_no)
    SELECT {WHOSE}, 'call.ended', uuidv7(), '{{{{}}}}', n FROM generate_series(1, {ROWS}) n;
    INSERT INTO delivery (partner_id, target_id, event_id, kind, subject_id, stream_no, state, done_at)
    SELECT e.partner_id, t.endpoint_id, e.event_id, e.kind, e.subject_id, e.stream_no, 'done', now()
      FROM event e
      JOIN (SELECT DISTINCT ON (partner_id) partner_id, endpoint_id FROM webhook_endpoint) t USING (partner_id)
     ORDER BY e.stream_no;
    INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
    SELECT {WHOSE}, 'a', 'key.create', 'key_' || n, '{{{{}}}}', '', '' FROM generate_series(1, {ROWS}) n;
    INSERT INTO api_key (name, prefix, hash, partner_id)
    SELECT 'k', 'k' || n, '', '{{big}}' FROM generate_series(1, {ROWS}) n;
    INSERT INTO account (kind, name, currency, partner_id)
    SELECT 'subscriber', 's' || n, 'EUR', {WHOSE} FROM generate_series(1, {ROWS}) n;
    INSERT INTO subscriber (app_id, a_number, account_id, plan_id, partner_id)
    SELECT app_id, '+4915' || 100000 + substr(a.name, 2)::int, a.account_id, plan_id, a.partner_id
      FROM account a, app, plan WHERE a.name ~ '^s[0-9]' ORDER BY a.account_id;
    INSERT INTO origination (partner_id, switch_id, subscriber_id, a_number, b_number, state, ended_at)
    SELECT s.partner_id, switch_id, s.subscriber_id, s.a_number, '+493023125010', 'ended', now()
      FROM subscriber s, switch ORDER BY s.subscriber_id;
    INSERT INTO usage_record (account_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro, per,
                              amount_micro, written_off_micro, currency, throttled, used_at, partner_id)
    SELECT account_id, name, 'sms', 'home', 1, 1, 1, 1, 1, 0, 'EUR', false, now(), partner_id
      FROM account WHERE name ~ '^s[0-9]' ORDER BY account_id;
    INSERT INTO usage_record (account_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro, per,
                              amount_micro, written_off_micro, currency, throttled, used_at, partner_id)
    SELECT account_id, name || ' ' || n, 'sms', 'home', 1, 1, 1, 1, 1, 0, 'EUR', false, now(), partner_id
      FROM account, generate_series(1, {ROWS}) n WHERE name = 's77';
    INSERT INTO bundle (name, currency, price_micro, units, covers, days)
    VALUES ('b', 'EUR', 0, 9, '{{{{"voice": 60}}}}', 30);
    INSERT INTO allowance (account_id, bundle_id, idempotency_key, units, covers, zone, prefixes, burn_order, valid,
                           renews, bought_at)
    SELECT account_id, bundle_id, a.name || ' ' || n, 9, covers, 'home', '{{{{}}}}', 1,
           tstzrange(now(), now() + interval '1 h'), false, now()
      FROM account a, bundle, generate_series(1, 3) n WHERE a.name ~ '^s[0-9]';
    INSERT INTO voice_message (call_id, partner_id, subscriber_id, duration_ms, left_at)
    SELECT uuidv7(), partner_id, subscriber_id, 2000, now() FROM subscriber ORDER BY subscriber_id;
    INSERT INTO subscriber_proof (subscriber_id, method, reference, actor)
    SELECT subscriber_id, 'attested', 'r', 'a' FROM subscriber, generate_series(1, 3);
    INSERT INTO deal (partner_id, name, currency, version)
    SELECT '{{big}}', 'd' || n, 'EUR', 1 FROM generate_series(1, {ROWS}) n;
    INSERT INTO deal_version (deal_id, version, agreed, valid, terms, author)
    SELECT d.deal_id, n, tstzrange(now() + n * interval '1 d', now() + (n + 1) * interval '1 d'),
           tstzrange(now() + n * interval '1 d', now() + (n + 1) * interval '1 d'), '{{{{}}}}', 'x'
      FROM deal d, generate_series(1, 2) n;
    INSERT INTO trunk (name, account_id, deck_id, host, partner_id)
    SELECT 't' || n, account_id, deck_id, 'sbc.example', '{{big}}' FROM trunk t, generate_series(1, {ROWS}) n
     WHERE t.name = 'alpha';
    INSERT INTO deck (name, side, currency, partner_id)
    SELECT 'theirs ' || n, 'buy', 'EUR', '{{big}}' FROM generate_series(1, 60) n;
    INSERT INTO deck_import (deck_id, base_version, mode, state, file_name, file_sha256, effective_at, author,
                             staged_at, summary)
    SELECT deck_id, 1, 'add', 'same', 'f', sha256('x'), now(), 'a', now(), '{{{{}}}}' FROM deck, generate_series(1, 3);
    INSERT INTO plan (name, deck_id, partner_id)
    SELECT 'p' || n, deck_id, '{{big}}' FROM deck, generate_series(1, {ROWS}) n WHERE deck.name = 'sell standard';
    INSERT INTO number (partner_id, e164, country, kind)
    SELECT '{{big}}', '+4930' || 20000000 + n, 'DE', 'geographic' FROM generate_series(1, {ROWS}) n;
    INSERT INTO app (name, sip_host) SELECT 'app' || n, '127.0.0.1' FROM generate_series(1, 500) n;
    INSERT INTO rollout (app_id, partner_id, name)
    SELECT app_id, CASE WHEN name < 'app12' THEN '{{small}}'::uuid ELSE '{{big}}'::uuid END, name FROM app;
    INSERT INTO rollout_window (rollout_id, partner_id, name, state, closed_at)
    SELECT rollout_id, partner_id, 'w' || n, 'closed', now() FROM rollout, generate_series(1, 30) n;
    INSERT INTO rollout_wave (rollout_id, partner_id, platform)
    SELECT rollout_id, partner_id, 'p' || n FROM rollout, generate_series(1, 30) n;
    INSERT INTO rollout_member (rollout_id, subscriber_id, partner_id, place, waiting_at)
    SELECT r.rollout_id, s.subscriber_id, s.partner_id, row_number() OVER (), now()
      FROM subscriber s, rollout r WHERE r.name = '{APP}';
    INSERT INTO rollout_invite (rollout_id, window_id, partner_id, inviter_id, number, hash, made_at, expires_at)
    SELECT m.rollout_id, w.window_id, m.partner_id, m.subscriber_id, '+4930' || 20000000 + m.place,
           sha256(m.place::text::bytea), now(), now()
      FROM rollout_member m, LATERAL (SELECT window_id FROM rollout_window w LIMIT 1) w;
    INSERT INTO rollout_event (rollout_id, seq, partner_id, kind, cause, actor, subscriber_id, at)
    SELECT m.rollout_id, m.place, m.partner_id, 'member.waiting', 'sign_up', 'a', m.subscriber_id, now()
      FROM rollout_member m ORDER BY m.place;
    INSERT INTO voice_message (call_id, partner_id, subscriber_id, duration_ms, left_at)
    SELECT uuidv7(), partner_id, subscriber_id, 2000, now() FROM subscriber ORDER BY subscriber_id;
    INSERT INTO export (partner_id, type, format, since_at, until_at)
    SELECT {WHOSE}, 'cdr', 'csv', now() - interval '1 d', now() FROM generate_series(1, {ROWS}) n;
    INSERT INTO cdr_recipient (code, partner_id, time_zone, target, since_at)
    SELECT p.name, p.partner_id, 'UTC', '{{{{"kind": "api"}}}}', now() FROM partner p WHERE p.name IN ('big', 'small');
    INSERT INTO cdr_file (recipient_id, partner_id, type, file_no, first_no, last_no, from_at, to_at, period, time_zone,
                          format, sender, name, names_id)
    SELECT r.recipient_id, r.partner_id, 'cdr', n, n, n, now() + n * interval '1 d', now() + (n + 1) * interval '1 d',
           'daily', 'UTC', 'csv', 'us', 'f' || n, k.names_id
      FROM generate_series(1, {ROWS}) n JOIN cdr_recipient r ON r.partner_id = {WHOSE},
           (SELECT cdr_names_v1() AS names_id) k ORDER BY n;
    ANALYZE
"""
READ = """SELECT sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))::bigint
            FROM pg_class c WHERE c.relkind IN ('r', 'i') AND c.relnamespace = 'bridge'::regnamespace"""
EVERY: Mapping[str, Any] = {"before": LAST, "rows": PAGE} | dict.fromkeys(
    ("kind", "since", "until", "action", "subject", "state", "health", "a_number", "plan_id", "in_force_at",
     "subscriber_id", "e164", "side", "name", "type")
)  # fmt: skip


async def share(house: Seeded, conn: Connection) -> tuple[UUID, UUID]:
    """A big one, and one that is a hundredth of it."""
    big, small = [(await add_partner(conn, name, "EUR"))["partner_id"] for name in ("big", "small")]
    await conn.execute(FILL.format(big=big, small=small))
    return big, small


@pytest.fixture(scope="module")
def shared(filled: Filled) -> tuple[str, tuple[UUID, UUID]]:
    return filled(share)


@pytest.fixture
def dsn(shared: tuple[str, tuple[UUID, UUID]]) -> str:
    return shared[0]


@pytest.fixture
def partners(shared: tuple[str, tuple[UUID, UUID]]) -> tuple[UUID, UUID]:
    return shared[1]


async def rows_read(conn: Connection, partner_id: UUID | None, query: Query, given: Mapping[str, Any]) -> int:
    """Rows and index entries that the server looks at."""
    async with conn.transaction():
        before = await conn.fetchval(READ)
        async with asking(conn, partner_id):
            await query.all(conn, **{name: given[name] for name in query.names})
        return int(await conn.fetchval(READ) - before)


async def things(conn: Connection, partner_id: UUID) -> dict[str, Any]:
    """Of a partner: an account, a subscriber, an endpoint …"""
    found = {}
    for name, table in (
        ("account_id", "account WHERE kind = 'subscriber' AND name <> 's77' AND"),
        ("subscriber_id", "subscriber WHERE"),
        ("endpoint_id", "webhook_endpoint WHERE"),
        ("deal_id", "deal WHERE"),
        ("deck_id", "deck WHERE"),
        ("recipient_id", "cdr_recipient WHERE"),
    ):
        found[name] = await conn.fetchval(
            f"SELECT {name} FROM {table} partner_id = $1 ORDER BY 1 LIMIT 1", partner_id
        )
    return found


def big_tables() -> dict[str, Query]:
    """Those that grow with calls and requests."""
    return {
        "events": queries.events.events_partner,
        "deliveries": queries.webhooks.deliveries,
        "originations": queries.originations.originations_partner,
        "usages": queries.usage.usages_partner,
        "usages of an account": queries.usage.usages_account,
        "audits": queries.access.audits_partner,
        "accounts": queries.accounts.accounts_partner,
        "subscribers": queries.subscribers.subscribers_partner,
        "messages": queries.messages.messages_partner,
        "messages of a subscriber": queries.messages.messages_of,
        "exports": queries.exports.exports_partner,
        "files": queries.exports.files_partner,
        "files of a recipient": queries.exports.files_of,
        "allowances": queries.accounts.allowances,
        "proofs": queries.subscribers.proofs,
        "members": queries.members.members_partner,
        "invites": queries.members.invites_partner,
        "rollout events": queries.rollouts.events_partner,
    }


def small_tables() -> dict[str, Query]:
    return {
        "keys": queries.access.keys,
        "endpoints": queries.webhooks.endpoints,
        "recipients": queries.exports.recipients_partner,
        "deals": queries.deals.deals,
        "versions": queries.deals.versions,
        "trunks": queries.trunks.trunks,
        "decks": queries.deck_pages.decks,
        "imports": queries.deck_pages.imports,
        "plans": queries.plans.plans_page,
        "numbers": queries.numbers.numbers,
        "rollouts": queries.rollouts.rollouts_partner,
        "windows": queries.rollouts.windows,
        "waves": queries.rollouts.waves,
    }


def operators_tables() -> dict[str, Query]:
    return {
        "partners": queries.partners.partners,
        "events": queries.events.events,
        "originations": queries.originations.originations,
        "messages": queries.messages.messages,
        "audits": queries.access.audits,
        "usages": queries.usage.usages,
        "accounts": queries.accounts.accounts,
        "subscribers": queries.subscribers.subscribers,
        "members": queries.members.members,
        "invites": queries.members.invites,
        "exports": queries.exports.exports,
        "files": queries.exports.files,
        "recipients": queries.exports.recipients,
        "rollouts": queries.rollouts.rollouts,
        "rollout events": queries.rollouts.events,
    }


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_list_reads_more_than_its_page(
    conn: Connection, partners: tuple[UUID, UUID], mode: str
) -> None:
    big, small = partners
    await conn.execute(f"SET plan_cache_mode = {mode}")
    found = {}
    for whose, partner_id, lists in (
        ("big", big, big_tables() | small_tables()),
        ("small", small, big_tables()),
        ("ours", None, operators_tables()),
    ):
        about = await things(conn, partner_id) if partner_id else {}
        about["rollout_id"] = await conn.fetchval("SELECT rollout_id FROM rollout WHERE name = $1", APP)
        for name, query in lists.items():
            given = {**EVERY, "partner_id": partner_id, "account_id": None, **about}
            if name == "numbers":
                given["subscriber_id"] = None
            asker = None if name == "allowances" else partner_id  # their account was looked up before
            found[(whose, name)] = await rows_read(conn, asker, query, given)
    assert {name: count for name, count in found.items() if count > PAGE * PER_ROW} == {}
    assert min(found.values()) > 0


async def test_one_that_reads_past_others_is_seen(conn: Connection, partners: tuple[UUID, UUID]) -> None:
    _, small = partners
    past = Query("SELECT * FROM event e WHERE e.kind = 'x' ORDER BY e.event_id DESC LIMIT 21", ())
    assert await rows_read(conn, None, past, {}) >= ROWS
    mine = Query("SELECT count(*) FROM event", ())
    assert await rows_read(conn, small, mine, {}) > 0
