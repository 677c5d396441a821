"""Closing a month: killed at every step it goes on, and what cannot be is refused with what to do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from bridge.closing import ready
from bridge.closing.close import begun, check, close, due_months, foretold
from bridge.closing.ready import NotReady, missing
from bridge.config import Company, Database, Exports, Settings
from bridge.database import Connection, connect, open_pool
from bridge.errors import Conflict, Invalid
from bridge.jobs.runner import Runner, planned
from bridge.jobs.store import ensure, jobs
from bridge.jobs.work import WORK
from bridge.partners.month import month as month_of
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.simulate import Simulation, simulate
from tests.databases import copy_database

CALLS = 300
MONTH = f"{datetime.now(UTC).replace(day=1) - timedelta(days=2):%Y-%m}"
# What is told when a step begins, or goes on
STEPS = ("writing files", "statements", "invoices", "totals")
COMPANY = {
    "code": "house", "legal_name": "Hausfunk GmbH", "street": "Hafenstraße 1", "postcode": "40221",
    "city": "Düsseldorf",
    "vat_id": "DE123456788", "contact": "Rechnungswesen", "phone": "+49 30 23125001", "email": "billing@example.net",
    "iban": "DE02120300000000202051", "bic": "BYLADEM1001",
}  # fmt: skip


@pytest.fixture(scope="module")
def simulated(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The name of a database with a month in it, to be copied."""
    copy_database(postgres, template, "month_to_close")
    asyncio.run(_simulate(postgres.dsn("month_to_close")))
    yield "month_to_close"
    postgres.drop_database("month_to_close")


async def _simulate(dsn: str) -> None:
    async with connect(dsn) as conn:
        await simulate(conn, Simulation(MONTH, CALLS))


@pytest.fixture
def month(postgres: EmbeddedPostgres, simulated: str) -> Iterator[str]:
    """The DSN of a copy."""
    copy_database(postgres, simulated, "month_closing")
    yield postgres.dsn("month_closing")
    postgres.drop_database("month_closing")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "exports").mkdir()
    return Settings(company=Company(**COMPANY), exports=Exports(folder=tmp_path / "exports"))


async def made(conn: Connection) -> dict[str, list[str]]:
    """What a closing makes, each once."""
    asked = {
        "statements": "SELECT deal_id::text || ' ' || month FROM statement ORDER BY 1",
        "invoices": "SELECT number FROM invoice ORDER BY number NULLS FIRST",
        "files": "SELECT name FROM cdr_file ORDER BY 1",
        "settlements": "SELECT idempotency_key FROM transfer WHERE kind = 'settlement' ORDER BY 1",
        "periods": "SELECT closed_until::text FROM period",
    }
    return {name: [row[0] for row in await conn.fetch(sql)] for name, sql in asked.items()}


def test_killed_at_every_step_it_goes_on_and_does_nothing_twice(month: str, tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    lines = "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in COMPANY.items())
    config = tmp_path / "callbridge.toml"
    config.write_text(f'[company]\n{lines}\n[exports]\nfolder = "{tmp_path}/exports"\n')
    words = [sys.executable, "-m", "bridge", "close", MONTH, "--author", "me", "--json", "-c", str(config)]
    environment = {**os.environ, "CALLBRIDGE__DATABASE__DSN": month}
    for step in STEPS:
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                if line.strip() == step:
                    running.send_signal(signal.SIGKILL)
                    break
        assert running.returncode == -signal.SIGKILL, step
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["problems"]) == (0, [])
    found = asyncio.run(_made(month))
    assert len(found["statements"]) == len(set(found["statements"])) == 2
    assert [number[-6:] for number in found["invoices"]] == [
        f"{no:06}" for no in range(1, len(found["invoices"]) + 1)
    ]
    assert len(found["settlements"]) == 2
    assert len(found["periods"]) == 1
    lying = {path.name for path in (tmp_path / "exports").rglob("*.gz")}
    assert lying == set(found["files"])
    assert not list(tmp_path.rglob("*.part"))


async def _made(dsn: str) -> dict[str, list[str]]:
    async with connect(dsn) as conn:
        return await made(conn)


async def test_the_summary_has_every_total_beside_its_counterparts(month: str, settings: Settings) -> None:
    async with connect(month) as conn:
        told = await close(conn, settings, MONTH, author="me", now=datetime.now(UTC))
        before = await made(conn)
        assert told.sound
        again = await close(conn, settings, MONTH, author="you", now=datetime.now(UTC))
        assert await made(conn) == before
        assert (await check(conn, settings, MONTH, author="me", now=datetime.now(UTC))).sound
    assert again.sound
    kept = await asyncio.to_thread(_summary, settings)
    assert kept["totals"] == [one.to_json() for one in told.agreements]
    whats = {one["what"] for one in kept["totals"]}
    assert {"records", "talk", "billed", "paid", "owed to carriers", "paid, from the ledger"} <= whats
    assert all(len(one["of"]) >= 2 for one in kept["totals"])
    assert len({who for one in kept["totals"] for who in one["of"]}) >= 12


def _summary(settings: Settings) -> Any:
    return json.loads((settings.exports.folder / "closings" / MONTH / "close.json").read_text())


async def test_a_call_that_is_told_of_late_counts_when_it_is_learnt(month: str, settings: Settings) -> None:
    """The month is closed and stays as it is; the next one has the call."""
    async with connect(month) as conn:
        await close(conn, settings, MONTH, author="me", now=datetime.now(UTC))
        before = await made(conn)
        (row,) = await conn.fetch(
            "SELECT * FROM call WHERE state = 'unanswered' ORDER BY call_id DESC LIMIT 1"
        )
        late = dict(row) | {"call_id": await conn.fetchval("SELECT uuid_floor_v1($1)", row["admitted_at"])}
        await conn.copy_records_to_table(
            "call", records=[tuple(late.values())], columns=list(late), schema_name="bridge"
        )
        told = await close(conn, settings, MONTH, author="me", now=datetime.now(UTC))
        assert told.sound
        assert told.done["numbers"] == "1 records numbered"
        assert await made(conn) == before
        at = await conn.fetchval("SELECT at FROM cdr WHERE call_id = $1", late["call_id"])
        assert at >= told.to_at > row["ended_at"]


async def test_a_dry_run_writes_nothing(month: str, settings: Settings) -> None:
    of = begun(settings, MONTH, author="me", now=datetime.now(UTC))
    async with connect(month) as conn:
        would = await foretold(conn, of)
        assert not any((await made(conn)).values())
    assert list(would) == ["numbers", "files", "books", "statements", "invoices", "reports"]
    assert "finance, nordlicht, rheinfunk" in would["files"]
    assert not any(settings.exports.folder.glob("*"))


async def test_two_do_not_close_at_the_same_time(month: str, settings: Settings) -> None:
    async with connect(month) as conn:
        other = await asyncpg.connect(month)
        await other.execute("SELECT pg_advisory_lock(hashtextextended('callbridge close', 0))")
        try:
            with pytest.raises(Conflict, match="being closed by another process"):
                await close(conn, settings, MONTH, author="me", now=datetime.now(UTC))
        finally:
            await other.close()


async def test_a_month_that_may_still_have_calls_is_refused(month: str, settings: Settings) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Invalid, match="needs an author"):
        begun(settings, MONTH, author=" ", now=now)
    async with connect(month) as conn:
        soon = now + timedelta(days=2)  # where the month ends before ours, it may be over today
        with pytest.raises(NotReady, match="can be closed from") as early:
            await close(conn, settings, f"{soon:%Y-%m}", author="me", now=now)
        assert len(early.value.missing) == 1
        _, until = month_of(MONTH, "Europe/Berlin")
        in_time = begun(settings, MONTH, author="me", now=until + timedelta(seconds=60))
        assert await missing(conn, in_time) == []
        in_time.now -= timedelta(seconds=1)
        (said,) = await missing(conn, in_time)
        assert (until + timedelta(seconds=60)).isoformat() in said


async def test_all_that_is_missing_is_said_at_once_and_nothing_is_done(
    month: str, settings: Settings
) -> None:
    bare = Settings(company=Company(), exports=settings.exports)
    async with connect(month) as conn:
        await conn.execute(
            "SET session_replication_role = replica; DELETE FROM fx_rate;"
            "UPDATE partner_billing SET iban = 'DE00370400440532013000';"
            "UPDATE deal SET currency = 'CHF' WHERE name = 'Office lines';"
            """UPDATE cdr_recipient SET target = '{"kind": "directory", "path": "/nowhere"}' """
            "WHERE code = 'rheinfunk'; SET session_replication_role = origin"
        )
        with pytest.raises(NotReady) as refused:
            await close(conn, bare, MONTH, author="me", now=datetime.now(UTC))
        said = refused.value.missing
        assert not any((await made(conn)).values())
        assert await conn.fetchval("SELECT count(*) FROM cdr") == 0
        starts = [
            "Files of rheinfunk cannot be delivered: /nowhere: is no folder.",
            "Our company needs legal_name, street, postcode, city, email, contact, phone, iban. Set company.",
            "Our company needs a vat id for its invoices. Set company.vat_id",
            "No rate between EUR and CHF of the 7 days up to",
        ]
        assert len(said) == len(starts)
        for start in starts:
            assert [one for one in said if one.startswith(start)], (start, said)
        # With all that there is, what is there and wrong is said, too
        again = await missing(conn, begun(settings, MONTH, author="me", now=datetime.now(UTC)))
        assert [one for one in again if "is no IBAN" in one and "--iban" in one]


async def test_what_only_the_records_tell_is_said_before_the_books_are_closed(
    month: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that the look at calls does not miss, and a statement does: late usage, a later price, a dispute."""
    async with connect(month) as conn:
        await conn.execute(
            "SET session_replication_role = replica; DELETE FROM fx_rate;"
            "UPDATE deal SET currency = 'CHF' WHERE name = 'Office lines'; SET session_replication_role = origin"
        )

        async def blind(*_: object) -> list[str]:
            return []

        monkeypatch.setattr(ready, "_rates", blind)
        with pytest.raises(NotReady, match=r"Office lines: .*fx set"):
            await close(conn, settings, MONTH, author="me", now=datetime.now(UTC))
        found = await made(conn)
        assert await conn.fetchval("SELECT count(*) FROM cdr") > 0
        assert not any(found.values())


async def test_a_month_closes_by_itself(month: str, settings: Settings) -> None:
    """What is missing fails the job, which is tried again; then it closes all months that are over."""
    given = {
        "database": Database(dsn=SecretStr(month)),
        "exports": settings.exports,
        "closing": {"auto": True},
    }
    bare, whole = Settings(**given), Settings(**given, company=settings.company)
    keys = [
        one.key for one in planned(WORK, bare, [], datetime(2026, 10, 20, tzinfo=UTC)) if one.kind == "close"
    ]
    assert keys == ["close"]
    assert "close" not in [one.kind for one in planned(WORK, Settings(), [], datetime.now(UTC))]
    (line,) = [
        one for one in planned(WORK, bare, [], datetime(2026, 10, 20, tzinfo=UTC)) if one.kind == "close"
    ]
    assert line.due_at == datetime(2026, 11, 1, 23, tzinfo=UTC)  # the second of November in Berlin
    pool = await open_pool(Database(pool_max=2), month)
    try:
        async with connect(month) as conn:
            await ensure(conn, [line])
            await conn.execute("UPDATE job SET due_at = now()")
            assert (outcome := await Runner(pool, bare).do_key("close")) is not None
            assert f"{MONTH} cannot be closed yet" in (outcome.problem or "")
            (row,) = await jobs(conn)
            assert (row["state"], row["tries"], row["problem"]) == ("queued", 1, outcome.problem)
            assert row["due_at"] < datetime.now(UTC) + timedelta(hours=1)
            assert not any((await made(conn)).values())
            done = await Runner(pool, whole).do_key("close")
            assert done is not None
            assert (done.problem, done.said) == (None, {"closed": MONTH})
            found = await made(conn)
            assert len(found["statements"]) == len(found["settlements"]) == 2
            assert found["invoices"]
            assert [row["state"] for row in await jobs(conn)] == ["done"]
            _, until = month_of(MONTH, "Europe/Berlin")
            assert await due_months(conn, "Europe/Berlin", until + timedelta(days=1)) == [MONTH]
            later = await due_months(conn, "Europe/Berlin", until + timedelta(days=70))
            assert len(later) == 2  # that which is closed is not done again where others are due
            assert MONTH not in later
    finally:
        await pool.close()
