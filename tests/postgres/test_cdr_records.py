"""Every ended call has its records, each with a number of its own, and no number is missing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from bridge.calls.ended import EndRecord
from bridge.database import connect, transaction
from bridge.errors import BridgeError, Invalid
from bridge.exports import sequence
from bridge.exports.sequence import HOUSE, horizon, seal
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.cause import Refuse
from tests.command import Callbridge
from tests.network import Network
from tests.postgres.numbering import (
    KEY,
    SECOND,
    as_partner,
    failed_over,
    incomplete,
    partner,
    records,
    rerated,
    sealed,
    soon,
    stuck,
    talked,
)
from tests.seeded import KINGDOM, Seeded, at_once, ended


async def test_each_leg_of_an_ended_call_is_one_record(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    live = await house.admitted(who)
    answered, unanswered = await talked(house, who), (await house.admitted(who)).frozen.call_id
    await house.end(ended(unanswered))
    until = soon()
    assert await sealed(dsn, until) == 4
    assert await sealed(dsn, until) == 0
    async with connect(dsn) as conn:
        assert await horizon(conn) == until
    made = await records(house)
    assert [row["cdr_no"] for row in made] == [1, 2, 3, 4]
    told = {(row["call_id"], row["leg"]): row for row in made}
    sold, bought = told[answered, "origination"], told[answered, "termination"]
    assert (sold["amount_micro"], sold["billed_s"], sold["purpose"]) == (60_000, 60, "retail")
    assert (bought["amount_micro"], bought["billed_s"], bought["purpose"]) == (30_000, 60, "wholesale")
    assert {row["file_type"] for row in (sold, bought)} == {"cdr"}
    assert {row["file_type"] for key, row in told.items() if key[0] == unanswered} == {"quality"}
    assert live.frozen.call_id not in {row["call_id"] for row in made}
    assert await incomplete(dsn) == {}


async def test_each_partner_has_numbers_of_its_own(house: Seeded, dsn: str) -> None:
    anna, ben = await house.subscriber(10_000_000), await house.subscriber(10_000_000)
    alliance, carrier = await partner(house, "E-Plus", who=anna), await partner(house, "Beta", trunk="beta")
    both = await failed_over(house, anna)
    ours = await talked(house, ben)
    await sealed(dsn)
    by_leg = {(row["leg"], row["attempt_no"]): row for row in await records(house, both)}
    assert [(row["partner_id"], row["record_no"], row["file_type"]) for row in by_leg.values()] == [
        (alliance, 1, "cdr"),
        (None, None, "quality"),
        (carrier, 1, "cdr"),
    ]
    assert {row["partner_id"] for row in await records(house, ours)} == {None}
    later = await talked(house, anna)
    await sealed(dsn)
    assert [row["record_no"] for row in await records(house, later)] == [2, None]
    assert await incomplete(dsn) == {}
    async with as_partner(dsn, carrier) as conn:
        (row,) = await conn.fetch("SELECT record_no, leg, amount_micro, subscriber_id FROM cdr")
        assert tuple(row) == (1, "termination", by_leg["termination", 2]["amount_micro"], None)
        for hidden in ("cdr_no", "trunk_id", "delete_after"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.fetch(f"SELECT {hidden} FROM cdr")


async def test_what_was_refused_is_a_record_without_a_number_in_it(dsn: str, house: Seeded) -> None:
    await house.call(await house.subscriber(0))
    network = Network(house, "alpha")
    who = await house.subscriber()
    assert isinstance(
        await network.call(who, "+49900123456"), Refuse
    )  # a caller who may not be one: nobody's account
    called = await network.admitted(who)
    await house.end(ended(called, 60_000))
    await sealed(dsn)
    refused, unknown, inbound = await records(house)
    assert (refused["purpose"], refused["currency"], refused["account_id"] is None) == (
        "quality",
        "EUR",
        False,
    )
    assert (unknown["purpose"], unknown["currency"], unknown["account_id"]) == ("quality", "X" * 3, None)
    assert (inbound["leg"], inbound["direction"], inbound["purpose"]) == ("origination", "in", "on-net")
    assert (inbound["prefix"], inbound["billed_s"] > 0, inbound["trunk_id"] is None) == ("", True, False)
    assert await incomplete(dsn) == {}


async def test_units_that_pay_and_messages_are_told_apart(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(50_000_000)
    await house.buy(who, SeedBundle("minutes", 1_000_000, 100, {"voice": 60}))
    call_id = await talked(house, who)
    await sealed(dsn)
    (sold, _) = await records(house, call_id)
    assert (sold["purpose"], sold["amount_micro"], sold["covered_s"]) == ("bundle", 0, 60)


async def test_a_later_price_is_taken_back_and_booked_again(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    call_id = await talked(house, who)
    await sealed(dsn)
    before = (await records(house))[-1]
    await rerated(house, "sell standard", 1_500)
    await sealed(dsn)
    corrections = [row for row in await records(house) if row["file_type"] == "correction"]
    assert [(row["leg"], row["kind"], row["revision"], row["amount_micro"]) for row in corrections] == [
        ("origination", "reversal", 1, -60_000),
        ("origination", "rebooking", 1, 90_000),
    ]
    assert all(row["at"] > before["at"] for row in corrections)
    await rerated(house, "buy alpha", 400)  # that leg only
    await rerated(house, "sell standard", 2_000)
    await sealed(dsn)
    legs = [(row["leg"], row["kind"], row["revision"], row["amount_micro"]) for row in await records(house)]
    assert legs[4:] == [
        ("termination", "reversal", 2, -30_000),
        ("termination", "rebooking", 2, 24_000),
        ("origination", "reversal", 3, -90_000),
        ("origination", "rebooking", 3, 120_000),
    ]
    standing = await house.row("SELECT sum(amount_micro), sum(talk_ms) FROM cdr WHERE leg = 'origination'")
    assert tuple(standing) == (120_000, 60_000)
    assert {row["call_id"] for row in await records(house)} == {call_id}
    assert await incomplete(dsn) == {}


async def test_a_correction_goes_to_whom_the_record_went(house: Seeded, dsn: str) -> None:
    carrier = await partner(house, "Alpha", trunk="alpha")
    who = await house.subscriber(10_000_000)
    await talked(house, who)
    await sealed(dsn)
    heir = await partner(house, "Heir", trunk="alpha")
    await rerated(house, "buy alpha", 400)
    await talked(house, who)
    await sealed(dsn)
    owners = [(r["kind"], r["partner_id"]) for r in await records(house) if r["leg"] == "termination"]
    assert owners == [("first", carrier), ("reversal", carrier), ("rebooking", carrier), ("first", heir)]
    assert await incomplete(dsn) == {}


async def test_what_is_learnt_late_counts_when_it_was_learnt(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    late = (await house.admitted(who, KINGDOM)).frozen.call_id
    record: EndRecord = ended(late, 90_000)
    await talked(house, who)
    until = soon() + timedelta(minutes=10)
    await sealed(dsn, until)
    await house.end(record)  # its end lies before what is numbered
    assert set(await incomplete(dsn)) == {"what_ended_has_its_records"}
    await sealed(dsn, until + SECOND)
    assert [row["at"] for row in await records(house, late)] == [until, until]
    assert await incomplete(dsn) == {}


async def test_a_straggler_is_found_among_all_calls(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    old = (await house.admitted(who)).frozen.call_id
    record = ended(old, 60_000)
    until = soon() + timedelta(days=2)  # the clock goes on
    await sealed(dsn, until)
    await house.end(record)
    assert await sealed(dsn, until + SECOND) == 0
    assert await sealed(dsn, until + 2 * SECOND, thorough=True) == 2
    assert await incomplete(dsn) == {}


async def test_records_are_in_the_order_of_the_ends(
    house: Seeded, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "CHUNK", 3)
    who = await house.subscriber(10_000_000)
    ids = [(await house.admitted(who)).frozen.call_id for _ in range(5)]
    for call_id in reversed(ids):
        await house.end(ended(call_id, 1_000))
    await sealed(dsn)
    made = await records(house)
    assert [row["call_id"] for row in made[::2]] == ids[::-1]
    assert [row["at"] for row in made] == sorted(row["at"] for row in made)
    assert [row["leg"] for row in made[:2]] == ["origination", "termination"]


async def test_days_without_a_record_have_a_link(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    alliance, idle = await partner(house, "E-Plus", who=who), await partner(house, "Idle")
    await talked(house, who)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    await sealed(dsn, today + timedelta(days=3))
    days = await house.rows("SELECT * FROM cdr_day ORDER BY partner_id, day")
    assert {row["partner_id"]: 0 for row in days}.keys() == {HOUSE, alliance, idle}
    counted = {
        one: [row["records"] for row in days if row["partner_id"] == one] for one in (HOUSE, alliance, idle)
    }
    assert counted == {HOUSE: [2, 0, 0], alliance: [1, 0, 0], idle: [0, 0, 0]}
    mine = [row for row in days if row["partner_id"] == alliance]
    assert [row["previous"] for row in mine] == [bytes(32), mine[0]["hash"], mine[1]["hash"]]
    assert await incomplete(dsn) == {}


class Killed(Exception):
    """Between two transactions."""


@pytest.mark.parametrize("table", ["cdr", "cdr_pass", "cdr_day"])
async def test_killed_anywhere_it_leaves_no_gap(
    house: Seeded, dsn: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "CHUNK", 2)
    who = await house.subscriber(10_000_000)
    for _ in range(4):
        await talked(house, who, 1)
    until = soon() + timedelta(days=1)

    def killed(_step: str, _made: int, _total: int) -> None:
        raise Killed

    for kept in (2, 4, 6):
        if table == "cdr":
            with pytest.raises(Killed):
                await sealed(dsn, until, progress=killed)
        async with connect(dsn) as blocker, blocker.transaction():
            await blocker.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            work = asyncio.create_task(sealed(dsn, until))
            await blocker.fetchval("SELECT pg_terminate_backend($1)", await stuck(house))
            with pytest.raises(BridgeError):
                await work
        made = [row["cdr_no"] for row in await records(house)]
        assert made == list(range(1, 1 + (kept if table == "cdr" else 8)))
    await sealed(dsn, until + SECOND)
    assert len(await records(house)) == 8
    assert await incomplete(dsn) == {}


async def test_two_at_once_number_once(house: Seeded, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "CHUNK", 1)
    who = await house.subscriber(10_000_000)
    for _ in range(4):
        await talked(house, who, 1)
    untils = [soon() + place * SECOND for place in range(4)]
    made = await at_once([partial(sealed, dsn, until) for until in untils])
    assert sorted(made) == [0, 0, 0, 8]
    assert await incomplete(dsn) == {}


async def test_calls_begin_and_end_while_it_is_at_work(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    await talked(house, who)
    running = (await house.admitted(who)).frozen.call_id
    async with transaction(house.pool) as blocker:
        await blocker.execute("LOCK TABLE cdr_pass IN EXCLUSIVE MODE")  # it has read, and numbered
        work = asyncio.create_task(sealed(dsn))
        await stuck(house)
        await house.end(ended(running, 2_000))
        await talked(house, who)
    await work
    # And a call whose end has not committed keeps nobody.
    last = (await house.admitted(who)).frozen.call_id
    async with house.store.batch() as conn:
        await house.endings.end(conn, [ended(last, 1_000)], house.book)
        await sealed(dsn, soon() + SECOND)
    await sealed(dsn, soon() + 2 * SECOND)
    assert len(await records(house)) == 8
    assert await incomplete(dsn) == {}


async def test_it_is_no_part_of_another_transaction(dsn: str) -> None:
    async with connect(dsn) as conn:
        with pytest.raises(Invalid):
            await seal(conn, datetime(2026, 1, 1))  # noqa: DTZ001
        async with conn.transaction():
            with pytest.raises(Invalid):
                await seal(conn, soon())


NO_TRIGGERS = "SET session_replication_role = replica; "
GAPS, ORDER = "records_are_numbered_without_gaps", "records_are_in_order"
MISSING, BOOKED = "what_ended_has_its_records", "records_say_what_was_booked"
HASHES, CHAIN, DAYS = "records_are_as_they_were_numbered", "days_are_chained", "no_day_is_left_out"
MOVED = {GAPS, BOOKED, CHAIN}
HARMS: dict[str, set[str]] = {
    "DELETE FROM cdr WHERE cdr_no = 2": {GAPS, MISSING, CHAIN},
    "DELETE FROM cdr WHERE cdr_no >= 5": {GAPS, MISSING, CHAIN},
    "UPDATE cdr SET cdr_no = cdr_no + 9 WHERE cdr_no = 6": {GAPS, ORDER, CHAIN},
    "UPDATE cdr SET amount_micro = amount_micro + 1 WHERE cdr_no = 1": {BOOKED, HASHES, CHAIN},
    "UPDATE cdr SET talk_ms = 1 WHERE cdr_no = 3": {BOOKED, HASHES, CHAIN},
    "UPDATE cdr SET destination = 'Mars' WHERE cdr_no = 1": {BOOKED},
    "UPDATE cdr SET purpose = 'bundle' WHERE cdr_no = 1": {BOOKED},
    "UPDATE cdr SET hash = sha256('') WHERE record_no = 1": {HASHES, CHAIN},
    "UPDATE cdr SET at = at - interval '1 day' WHERE cdr_no = 4": {ORDER, BOOKED},
    "UPDATE cdr SET partner_id = p.partner_id FROM partner p WHERE name = 'Idle' AND cdr_no = 1": MOVED,
    "UPDATE charge SET amount_micro = amount_micro + 1": {BOOKED},
    "UPDATE attempt SET cost_micro = cost_micro + 1": {BOOKED, MISSING},
    "DELETE FROM attempt": {BOOKED},
    "UPDATE cdr_day SET hash = sha256('') WHERE day = (SELECT min(day) FROM cdr_day)": {CHAIN},
    "DELETE FROM cdr_day WHERE day = (SELECT min(day) + 1 FROM cdr_day)": {CHAIN},
    "DELETE FROM cdr_day WHERE day = (SELECT max(day) FROM cdr_day)": {DAYS},
    "UPDATE call SET state = 'live', ended_at = NULL": {BOOKED},
}  # fmt: skip


@pytest.mark.breaks_books
async def test_whatever_is_changed_is_found(house: Seeded, dsn: str) -> None:
    who = await house.subscriber(10_000_000)
    await partner(house, "E-Plus", who=who)
    await partner(house, "Idle")
    await talked(house, who)
    await talked(house, who)
    await rerated(house, "sell standard", 1_500)
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=3)
    assert await sealed(dsn, until) == 8
    assert await incomplete(dsn) == {}
    wrong = {}
    for harm, named in HARMS.items():
        async with connect(dsn) as conn:
            kept = ("call", "charge", "attempt", "cdr", "cdr_day")
            async with conn.transaction():
                await conn.execute(NO_TRIGGERS)
                for table in kept:
                    await conn.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {table}")
                assert await conn.execute(harm) not in ("UPDATE 0", "DELETE 0"), harm
            found = await incomplete(dsn)
            if found.keys() != named:
                wrong[harm] = found
            for table in kept:
                await conn.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")
    assert wrong == {}, [(harm, sorted(rows)) for harm, rows in wrong.items()]
    assert await incomplete(dsn) == {}


def test_the_audit_of_the_command_line(callbridge: Callbridge) -> None:
    found = callbridge("audit", "--completeness")
    files = {"files_have_no_gap", "files_have_their_records", "files_have_their_totals"}
    assert found.keys() == {GAPS, ORDER, MISSING, BOOKED, HASHES, CHAIN, DAYS} | files
    assert not any(found.values())


async def test_records_are_only_ever_added(house: Seeded, dsn: str) -> None:
    await talked(house, await house.subscriber(10_000_000))
    await sealed(dsn, soon() + timedelta(days=2))
    async with connect(dsn) as conn:
        for table in ("cdr", "cdr_pass", "cdr_day"):
            for harm in (f"DELETE FROM {table}", f"UPDATE {table} SET last_no = 1", f"TRUNCATE {table}"):
                asked = harm.replace("last_no", "cdr_no") if table == "cdr" else harm
                with pytest.raises(asyncpg.PostgresError, match="insert-only"):
                    await conn.execute(asked)
        twice = f"INSERT INTO cdr SELECT 99, NULL, NULL, {', '.join(KEY)} FROM cdr LIMIT 1"
        with pytest.raises(asyncpg.PostgresError):
            await conn.execute(twice)
