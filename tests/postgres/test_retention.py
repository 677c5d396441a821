"""The purge: nobody's number is left anywhere, what was booked and counted stays, and each step is proved."""

from __future__ import annotations

import asyncio
import hmac
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from bridge.config import Retention, Settings
from bridge.database import connect
from bridge.errors import BridgeError, Conflict, Invalid
from bridge.exports.cdr_files import again, files_agree, run
from bridge.exports.sequence import seal
from bridge.retention import purge as module
from bridge.retention.purge import log, purge
from bridge.retention.rules import Rule, delete_after
from tests.command import Callbridge
from tests.exporting import manifest, read, recipient, settings
from tests.network import CALLER, Network
from tests.postgres.numbering import incomplete, partner, sealed, soon, stuck, talked
from tests.seeded import GERMANY, Seeded, Who, ended

SETTINGS = Settings(retention=Retention(hold_days_max=184))
LATER = timedelta(days=400)
HELD = timedelta(days=216)  # the time of each call has come, and may be held back
WITHHELD = "+493023125098"
ALL_ROWS = """SELECT table_schema || '.' || table_name FROM information_schema.tables
               WHERE table_schema IN ('bridge', 'asterisk', 'public') AND table_type = 'BASE TABLE'"""
# What is no traffic data: who the subscribers are, what they are called, and what the seed calls their first money.
CONTRACTS = {"bridge.account", "bridge.subscriber", "bridge.number", "bridge.transfer"}


async def found_in(house: Seeded, number: str) -> set[str]:
    """The tables with a number in any of their columns, as text or as bytes."""
    digits = number.lstrip("+")
    tables = [row[0] for row in await house.rows(ALL_ROWS)]
    asked = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name} t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0)"
        for name in tables
    )
    return {row[0] for row in await house.rows(asked, digits, digits.encode().hex())}


async def purged(dsn: str, after: timedelta = LATER, **options: Any) -> dict[str, Any]:
    async with connect(dsn) as conn:
        return (await purge(conn, datetime.now(UTC) + after, SETTINGS, **options)).to_json()


async def lived(house: Seeded) -> tuple[Who, Who, list[UUID]]:
    """A caller and somebody of the same app, and calls of every kind, all numbered, with traces in all corners."""
    await house.have_phones()
    anna, ben = await house.subscriber(10_000_000), await house.subscriber(10_000_000)
    alliance = await partner(house, "E-Plus", who=anna)
    await house.rows("UPDATE partner SET keeps_events = true")
    network = Network(house, "alpha")
    ids = [await talked(house, anna), await talked(house, anna)]
    silent = (await house.admitted(anna)).frozen.call_id
    on_net = (await house.admitted(anna, ben.a_number)).frozen.call_id
    shown, hidden = await network.admitted(anna), await network.admitted(ben, WITHHELD, private=True)
    await house.end(ended(silent), *(ended(one, 5_000, attempt_no=None) for one in (on_net, shown, hidden)))
    await house.rows(
        "INSERT INTO discrepancy (call_id, kind, detail) VALUES ($1, 'number', jsonb_build_object('b', $2::text))",
        ids[0],
        GERMANY,
    )
    await house.rows("INSERT INTO whatsapp_call (call_id, wacid) VALUES ($1, 'wacid.' || $2)", shown, CALLER)
    await house.rows("SELECT voice_message_leave_v1($1, 2000)", shown)
    await house.rows(
        "INSERT INTO origination (partner_id, switch_id, subscriber_id, a_number, b_number, state, ended_at)"
        " SELECT $1, $2, subscriber_id, a_number, $4, 'ended', now() FROM subscriber WHERE a_number = $3",
        alliance, house.store.switch_id, anna.a_number, GERMANY,
    )  # fmt: skip
    await house.rows(
        "INSERT INTO audit_log (audit_id, partner_id, actor, action, subject, detail, correlator, remote, done_at)"
        " VALUES (uuidv7(interval '-40 days'), $1, 'a key', 'origination.create', 'org', $2, '', '',"
        " now() - interval '40 d')",
        alliance, f'{{"b_number": "{GERMANY}", "a_number": "{CALLER}"}}',
    )  # fmt: skip
    await house.rows(
        "INSERT INTO idempotency (owner_id, key, fingerprint, body) VALUES ($1, 'k', '', convert_to($2, 'UTF8'))",
        alliance,
        GERMANY,
    )
    return anna, ben, [*ids, silent, on_net, shown, hidden]


async def test_nobodys_number_is_left_anywhere(house: Seeded, dsn: str) -> None:
    anna, ben, ids = await lived(house)
    await sealed(dsn)
    before = await house.rows("SELECT * FROM cdr ORDER BY cdr_no")
    assert await found_in(house, GERMANY) > {
        "bridge.discrepancy",
        "bridge.audit_log",
        "bridge.event",
        "bridge.idempotency",
    }
    assert await found_in(house, CALLER) > {"bridge.whatsapp_call", "bridge.voice_message"}
    assert "bridge.call_withheld" in await found_in(house, WITHHELD)
    would = await purged(dsn, dry_run=True)
    assert (would["calls"], would["held"]) == (len(ids), {})
    assert await house.value("SELECT count(*) FROM purge_log") == 0
    done = await purged(dsn)
    assert (done["calls"], done["held"], len(done["keys_destroyed"])) == (len(ids), {}, 1)
    for number in (GERMANY, CALLER, WITHHELD):
        assert await found_in(house, number) == set()
    for who in (anna, ben):
        assert await found_in(house, who.a_number) <= CONTRACTS
    assert await house.rows("SELECT * FROM cdr ORDER BY cdr_no") == before
    assert await incomplete(dsn) == {}
    assert await house.broken() == {}
    again = await purged(dsn)
    assert (again["calls"], again["keys_destroyed"]) == (0, [])


async def test_a_month_can_be_counted_until_its_key_is_gone(house: Seeded, dsn: str) -> None:
    anna, ben = await house.subscriber(10_000_000), await house.subscriber(10_000_000)
    silent = [(await house.admitted(who)).frozen.call_id for who in (anna, anna, ben)]
    await house.end(*(ended(one) for one in silent))
    billed = await talked(house, anna)
    await sealed(dsn)
    days = timedelta(days=SETTINGS.retention.quality_days + 2)
    assert (await purged(dsn, days))["calls"] == 3
    told = [
        row["a_number"] for row in await house.rows("SELECT a_number FROM call WHERE purged_at IS NOT NULL")
    ]
    assert sorted(map(told.count, set(told))) == [1, 2]  # so many callers, so many calls
    key = await house.row("SELECT * FROM pseudonym_key")
    secret = bytes(byte ^ 0x36 for byte in key["inner_pad"]).rstrip(b"\0")
    assert {
        "p" + hmac.new(secret, who.a_number.encode(), "sha256").hexdigest()[:32] for who in (anna, ben)
    } == set(told)
    assert await house.value("SELECT a_number FROM call WHERE call_id = $1", billed) == anna.a_number
    done = await purged(dsn)
    assert (done["calls"], done["keys_destroyed"]) == (1, [key["month"].isoformat()])
    gone = await house.row("SELECT * FROM pseudonym_key")
    assert (gone["inner_pad"], gone["outer_pad"], gone["destroyed_at"] is None) == (None, None, False)
    assert len({row["a_number"] for row in await house.rows("SELECT a_number FROM call")}) == 2


async def test_each_day_takes_what_its_time_has_come_for(house: Seeded, dsn: str) -> None:
    await house.have_phones()
    anna, ben = await house.subscriber(10_000_000), await house.subscriber(10_000_000)
    silent, free = (
        (await house.admitted(anna)).frozen.call_id,
        (await house.admitted(anna, ben.a_number)).frozen.call_id,
    )
    await house.end(ended(silent), ended(free, 5_000, attempt_no=None))
    billed = await talked(house, anna)
    await sealed(dsn)
    days = "SELECT call_id, max(delete_after) AS day FROM cdr GROUP BY call_id ORDER BY day"
    due = {row["call_id"]: row["day"] for row in await house.rows(days)}
    assert due[silent] < due[free] < due[billed]
    for call_id, day in due.items():
        last = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
        async with connect(dsn) as conn:
            for now in (last, last + timedelta(days=1)):
                assert await house.value("SELECT purged_at IS NULL FROM call WHERE call_id = $1", call_id)
                await purge(conn, now, SETTINGS)
        assert await house.value("SELECT purged_at IS NOT NULL FROM call WHERE call_id = $1", call_id)


async def test_what_is_still_needed_is_held_back(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    alliance = await partner(house, "E-Plus", who=who)
    ids = [await talked(house, who) for _ in range(2)]
    await sealed(dsn)
    first = await house.value("SELECT cdr_no FROM cdr WHERE call_id = $1 AND leg = 'origination'", ids[0])
    account_id = await house.value("SELECT account_id FROM partner WHERE partner_id = $1", alliance)
    dispute_id = await house.value(
        "INSERT INTO dispute (account_id, opened_by, kind, title, claimed_micro, currency, deadline, author)"
        " VALUES ($1, 'them', 'rate', 'too dear', 1, 'EUR', now(), 'anna') RETURNING dispute_id",
        account_id,
    )
    await house.rows(
        "INSERT INTO dispute_row (dispute_id, item_no, cdr_no) VALUES ($1, 1, $2)", dispute_id, first
    )
    await house.rows(
        "INSERT INTO cdr_recipient (code, partner_id, time_zone, target, since_at)"
        " VALUES ('them', $1, 'UTC', '{\"kind\": \"api\"}', now() - interval '1 day')",
        alliance,
    )
    assert (await purged(dsn, HELD))["held"] == {"dispute": 1, "not exported": 1}
    await house.rows("UPDATE dispute SET state = 'withdrawn', decided_at = now()")
    assert (await purged(dsn, HELD))["held"] == {"not exported": 2}
    await house.rows("UPDATE cdr_recipient SET enabled = false")
    deal_id = await house.value(
        "INSERT INTO deal (partner_id, name, currency, state) VALUES ($1, 'd', 'EUR', 'signed') RETURNING deal_id",
        alliance,
    )
    await house.rows(
        "INSERT INTO deal_version (deal_id, version, agreed, valid, terms, author)"
        " SELECT $1, 1, r, r, '{}', 'anna' FROM tstzrange(now() - interval '1 day', NULL) r",
        deal_id,
    )
    held = await purged(dsn, HELD)
    assert (held["calls"], held["held"]) == (0, {"not settled": 2})
    assert {name.split("_20")[0] for name in await found_in(house, GERMANY)} == {"bridge.call"}
    await house.rows("UPDATE deal SET state = 'draft'")
    done = await purged(dsn, HELD, dry_run=True)
    assert (done["calls"], done["held"]) == (2, {})
    # A statement that nobody ever approves holds nothing for ever
    await house.rows("UPDATE deal SET state = 'signed'")
    done = await purged(dsn)
    assert (done["calls"], done["held"]) == (2, {})
    assert await found_in(house, GERMANY) == set()


async def test_our_copies_of_files_go_and_are_not_written_again(
    house: Seeded, dsn: str, tmp_path: Path
) -> None:
    who = await house.subscriber(10_000_000)
    alliance = await partner(house, "E-Plus", who=who)
    await talked(house, who)
    until = datetime.now(UTC) + timedelta(days=2)
    await sealed(dsn, until)
    given = settings(tmp_path)
    async with connect(dsn) as conn:
        whose = await recipient(conn, "THEM", alliance)
        [name] = [
            one for one in (await run(conn, given, whose, until)).delivered if read(tmp_path / "THEM" / one)
        ]
        path = tmp_path / "THEM" / name
        early = await purge(conn, datetime.now(UTC) + timedelta(days=150), given)
        assert path.exists() and "files of call records" not in early.others
        done = await purge(conn, datetime.now(UTC) + LATER, given)
        assert (done.calls, done.others["files of call records"]) == (
            1,
            len(list(path.parent.glob("*.json"))),
        )
        assert not path.exists() and manifest(path)["rows"] > 0
        with pytest.raises(Conflict, match="cannot be written again: the time of traffic data"):
            await again(conn, given, name)
        assert not path.exists()
        assert "files of call records" in {row["what"] for row in await log(conn, 50)}
        assert not any((await files_agree(conn)).values())


async def test_killed_anywhere_it_goes_on(house: Seeded, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    who = await house.subscriber(10_000_000)
    for _ in range(3):
        await talked(house, who, 1)
    await sealed(dsn)
    left = []
    for _ in range(2):
        seen: list[int] = []

        def once(_step: str, done: int, _total: int, seen: list[int] = seen) -> None:
            seen.append(done)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):  # after a transaction
            await purged(dsn, progress=once)
        async with connect(dsn) as blocker, blocker.transaction():
            await blocker.execute("LOCK TABLE purge_log IN EXCLUSIVE MODE")  # and within one
            work = asyncio.create_task(purged(dsn))
            await blocker.fetchval("SELECT pg_terminate_backend($1)", await stuck(house))
            with pytest.raises(BridgeError):
                await work
        left.append(await house.value("SELECT count(*) FROM call WHERE purged_at IS NULL"))
        proved = await house.value("SELECT coalesce(sum(rows), 0) FROM purge_log WHERE what = 'calls'")
        assert proved == 3 - left[-1]
    assert left == [2, 1]
    assert (await purged(dsn))["calls"] == 1
    assert await house.broken() == {}


async def test_two_at_once_purge_once(house: Seeded, dsn: str) -> None:
    await talked(house, await house.subscriber(10_000_000))
    await sealed(dsn)
    done = await asyncio.gather(*(purged(dsn) for _ in range(3)))
    assert sorted(one["calls"] for one in done) == [0, 0, 1]
    assert await house.value("SELECT sum(rows) FROM purge_log WHERE what = 'calls'") == 1


@pytest.mark.breaks_books
async def test_the_proof_cannot_be_changed_unseen(house: Seeded, dsn: str) -> None:
    await talked(house, await house.subscriber(10_000_000))
    await sealed(dsn)
    await purged(dsn)
    async with connect(dsn) as conn:
        assert {row["what"] for row in await log(conn, 50)} >= {"calls", "all up to a day"}
        for harm in ("UPDATE purge_log SET rows = 0", "DELETE FROM purge_log", "TRUNCATE purge_log"):
            with pytest.raises(asyncpg.PostgresError, match="insert-only"):
                await conn.execute(harm)
        await conn.execute("SET session_replication_role = replica")
        await conn.execute("UPDATE purge_log SET rows = rows + 1 WHERE purge_no = 1")
    assert set(await house.broken()) == {"the_proof_of_purges_is_whole"}


async def test_of_the_audit_log_only_numbers_go(house: Seeded) -> None:
    row = (
        "INSERT INTO audit_log (actor, action, subject, detail, correlator, remote, done_at)"
        " VALUES ('a', $1, 's', $2, '', '', now() - interval '40 d')"
    )
    await house.rows(row, "origination.create", f'{{"b_number": "{GERMANY}"}}')
    await house.rows(row, "deal.create", f'{{"note": "{GERMANY}"}}')
    for harm in (
        "UPDATE audit_log SET actor = 'nobody'",
        "UPDATE audit_log SET detail = '{}' WHERE action = 'origination.create'",
        "UPDATE audit_log SET detail = detail_without_v1(detail) WHERE action = 'deal.create'",
        "UPDATE audit_log SET detail = detail_without_v1(detail), actor = 'b' WHERE action = 'origination.create'",
        "DELETE FROM audit_log",
    ):
        with pytest.raises(BridgeError, match="insert-only"):
            await house.rows(harm)


async def test_the_rules_are_those_of_the_database(dsn: str) -> None:
    keeping = Retention(billing_months=4, settlement_days=45, quality_days=7)
    begin = datetime(2026, 1, 30, 22, 30, tzinfo=UTC)
    async with connect(dsn) as conn:
        for place in range(60):
            at = begin + timedelta(days=place * 13, minutes=place * 37)
            for zone in ("UTC", "Europe/Berlin", "America/Los_Angeles"):
                for rule in Rule:
                    told: date = await conn.fetchval(
                        "SELECT cdr_delete_after_v1($1, $2, 4, 45, 7, $3)", rule.value, at, zone
                    )
                    assert told == delete_after(rule, at, keeping, zone)
                    assert told > at.astimezone(ZoneInfo(zone)).date()


async def test_it_is_no_part_of_another_transaction(dsn: str) -> None:
    async with connect(dsn) as conn:
        with pytest.raises(Invalid):
            await purge(conn, datetime(2026, 1, 1), SETTINGS)  # noqa: DTZ001
        async with conn.transaction():
            with pytest.raises(Invalid):
                await purge(conn, soon(), SETTINGS)
        await seal(conn, soon())
        assert (await purge(conn, soon(), SETTINGS)).calls == 0


def test_the_commands(callbridge: Callbridge) -> None:
    assert callbridge("retention", "show")["due"] == 0
    assert callbridge("retention", "purge", "--dry-run")["dry_run"] is True
    assert callbridge("retention", "purge")["calls"] == 0
    assert callbridge("retention", "log") == []
    assert "quality" in callbridge("retention", "show", text=True)
