"""Files of call records: numbered without gaps, each record in one of them, the same whenever they are written."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from bridge.database import Connection, connect
from bridge.errors import AlreadySettled, Conflict, Invalid, InvariantBroken
from bridge.exports import cdr_files
from bridge.exports.cdr_files import again, extract, files_agree, plan, run, write
from bridge.exports.columns import COLUMNS, HEADER
from bridge.exports.manifest import Totals
from bridge.exports.spans import Every
from bridge.exports.store import cdr_files as store
from tests.exporting import APART, BEGIN, Laid, lay, manifest, read, recipient, settings
from tests.postgres.conftest import Filled


@pytest.fixture(scope="module")
def house_of_files(filled: Filled) -> tuple[str, Laid]:
    """One database for all tests here: each has recipients of its own, and records never change."""
    return filled(lambda _, conn: lay(conn))


@pytest.fixture
async def conn(house_of_files: tuple[str, Laid]) -> AsyncIterator[Connection]:
    async with connect(house_of_files[0]) as conn:
        yield conn
        assert not any((await files_agree(conn)).values())


@pytest.fixture
def laid(house_of_files: tuple[str, Laid]) -> Laid:
    return house_of_files[1]


async def test_a_partner_gets_its_records_once_and_in_order(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "ACME", laid.ours, types=("cdr", "quality"))
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    assert outcome.problem is None
    assert outcome.planned == len(outcome.delivered) == len(outcome.written)
    rows = [row for name in outcome.written for row in read(tmp_path / "ACME" / name)]
    kept = await conn.fetch(
        "SELECT record_no, file_type FROM cdr WHERE partner_id = $1 ORDER BY file_type, record_no", laid.ours
    )
    assert [int(row["record_id"]) for row in rows] == [row["record_no"] for row in kept]
    assert {row["partner"] for row in rows} == {"Acme Voice"}
    assert (await run(conn, settings(tmp_path), who, laid.until)).planned == 0


async def test_a_day_is_as_long_as_the_clock_says(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    who = await recipient(conn, "BERLIN")
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    told = [manifest(tmp_path / "BERLIN" / name) for name in outcome.written]
    assert [(one["period"]["from"][:16], one["period"]["to"][:16]) for one in told] == [
        ("2026-10-23T22:00", "2026-10-24T22:00"),
        ("2026-10-24T22:00", "2026-10-25T23:00"),
    ]
    # Ten minutes apart, two records a call, nobody answers every tenth
    assert told[0]["rows"] == 2 * (24 * 6 - 15)
    assert told[0]["previous"] is None
    assert told[1]["previous"] == {"file": told[0]["file"], "sha256": told[0]["sha256"]}
    assert outcome.written[1].startswith("CDR_US_BERLIN_00000002_20261024T220000Z_20261025T230000Z.csv.gz")


async def test_a_period_without_records_is_a_file_with_a_header(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "EMPTY", laid.ours, types=("correction",))
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    path = tmp_path / "EMPTY" / outcome.written[0]
    assert gzip.decompress(path.read_bytes()) == HEADER
    assert manifest(path)["rows"] == 0 and manifest(path)["amount"] == {}


async def test_sums_and_manifest_tell_what_is_in_the_file(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "SUMS", laid.ours)
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    path = tmp_path / "SUMS" / outcome.written[0]
    rows, told = read(path), manifest(path)
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name(path.name + ".sha256").read_text() == f"{told['sha256']}  {path.name}\n"
    assert told["rows"] == len(rows) > 0
    assert told["duration_ms"] == sum(int(row["duration_ms"]) for row in rows)
    assert told["billed_s"] == sum(int(row["billed_s"]) for row in rows)
    assert Decimal(told["amount"]["EUR"]) == sum(Decimal(row["amount"]) for row in rows)
    assert told["first_answer_at"] == min(row["answer_at"] for row in rows)
    assert told["last_answer_at"] == max(row["answer_at"] for row in rows)
    assert told["bytes"] == path.stat().st_size
    assert told["records"]["last"] == int(read(path)[-1]["record_id"])


async def test_every_format_has_the_same_rows(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    made = {}
    for form in ("csv", "jsonl", "parquet"):
        made[form], told = await extract(
            conn, settings(tmp_path), tmp_path / form, partner_id=None, whose="house", kind="cdr",
            since=BEGIN, until=laid.until, form=form,
        )  # fmt: skip
        assert told.totals.rows == 360
    by_csv = read(made["csv"])
    by_json = [json.loads(line) for line in gzip.decompress(made["jsonl"].read_bytes()).splitlines()]
    table = parquet.read_table(made["parquet"])
    assert str(table.schema.field("amount").type) == "decimal128(18, 6)"
    assert str(table.schema.field("at").type) == "timestamp[ms, tz=UTC]"
    by_parquet = table.to_pylist()
    assert len(by_csv) == len(by_json) == len(by_parquet) == 360
    for one, two, three in zip(by_csv, by_json, by_parquet, strict=True):
        assert one == {name: "" if value is None else str(value) for name, value in two.items()}
        assert one == {name: cell(value) for name, value in three.items()}


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def cell(value: Any) -> str:
    """As the CSV has it."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Decimal():
            whole, _, fraction = f"{value:f}".partition(".")
            return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
        case _:
            return str(value)


async def test_parquet_lies_by_months(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    who = await recipient(
        conn, "LAKE", form="parquet", every=Every.MONTHLY, target={"kind": "directory", "path": str(target)}
    )
    outcome = await run(conn, settings(tmp_path / "made"), who, datetime(2026, 12, 1, tzinfo=UTC))
    assert outcome.written == []  # no month is over in the records' time
    await run(
        conn,
        settings(tmp_path / "made"),
        await recipient(conn, "LAKE2", form="parquet", target={"kind": "directory", "path": str(target)}),
        laid.until,
    )
    found = sorted(target.glob("month=2026-10/CDR_US_LAKE2_*.parquet"))
    assert [path.parent.name for path in found] == ["month=2026-10"] * 2
    assert parquet.read_table(found).num_rows == 360


async def test_a_file_comes_out_the_same_whatever_trunks_are_called_by_then(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "FINANCE", types=("cdr", "quality"))
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    paths = [tmp_path / "FINANCE" / name for name in outcome.written]
    assert {row["trunk_out"] for path in paths for row in read(path)} == {"", "theirs", "quiet"}
    before = [path.read_bytes() for path in paths]
    await conn.execute("UPDATE trunk SET name = 'renamed' WHERE name = 'quiet'")
    for path in paths:
        path.unlink()
        assert await again(conn, settings(tmp_path), path.name) == (path, manifest(path)["sha256"])
    assert [path.read_bytes() for path in paths] == before
    await conn.execute("UPDATE trunk SET name = 'quiet' WHERE name = 'renamed'")


async def test_what_does_not_come_out_the_same_is_an_alarm(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "ALARM", laid.ours)
    outcome = await run(conn, settings(tmp_path), who, laid.until)
    path = tmp_path / "ALARM" / outcome.written[0]
    before = path.read_bytes()
    await conn.execute("UPDATE call SET a_number = a_number || '0'")
    with pytest.raises(InvariantBroken, match="comes out as"):
        await again(conn, settings(tmp_path), path.name)
    await conn.execute("UPDATE call SET a_number = substr(a_number, 1, length(a_number) - 1)")
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.glob("AGAIN_*")) == []


async def test_rows_that_are_not_the_records_are_no_file(
    conn: Connection, laid: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await recipient(conn, "COUNT", laid.ours)
    (first, *_) = await plan(conn, who, laid.until, "US")

    async def one_more(conn: Connection, part: store.Part) -> Totals:
        return Totals((await store.totals_of(conn, part)).rows + 1)

    monkeypatch.setattr(cdr_files, "totals_of", one_more)
    with pytest.raises(InvariantBroken, match="rows were written"):
        await write(conn, first, tmp_path)
    assert files_in(tmp_path) == []


async def test_files_are_written_in_their_order(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    who = await recipient(conn, "ORDER", laid.ours)
    first, second, *_ = await plan(conn, who, laid.until, "US")
    with pytest.raises(Conflict, match="comes before"):
        await write(conn, second, tmp_path)
    assert (await write(conn, first, tmp_path)).exists()
    assert (await write(conn, second, tmp_path)).exists()


async def test_the_database_holds_the_sequence(
    conn: Connection, laid: Laid, house_of_files: tuple[str, Laid], tmp_path: Path
) -> None:
    who = await recipient(conn, "HOLD", laid.ours)
    await run(conn, settings(tmp_path), who, laid.until)
    for change in (
        "UPDATE cdr_file SET last_no = last_no + 1 WHERE name LIKE '%_HOLD_%'",
        "UPDATE cdr_file SET state = 'planned' WHERE name LIKE '%_HOLD_%'",
        "UPDATE cdr_file SET sha256 = sha256(sha256) WHERE name LIKE '%_HOLD_%'",
        "DELETE FROM cdr_file WHERE name LIKE '%_HOLD_%'",
    ):
        with pytest.raises(AlreadySettled):
            async with connect(house_of_files[0]) as other:
                await other.execute(change)
    overlap = """INSERT INTO cdr_file (recipient_id, type, file_no, first_no, last_no, from_at, to_at, period,
                                       time_zone, format, sender, name, names_id)
                 SELECT recipient_id, type, 99, first_no, last_no, from_at, to_at, period, time_zone, format, sender,
                        'other', names_id FROM cdr_file WHERE name LIKE '%_HOLD_%' AND file_no = 1"""
    with pytest.raises(Exception, match=r"cdr_file_(records|time)_once"):
        await conn.execute(overlap)


async def test_two_at_once_do_no_harm(
    conn: Connection, laid: Laid, house_of_files: tuple[str, Laid], tmp_path: Path
) -> None:
    who = await recipient(conn, "TWO", laid.ours)

    async def one() -> cdr_files.Outcome:
        async with connect(house_of_files[0]) as mine:
            return await run(mine, settings(tmp_path), who, laid.until)

    first, second = await asyncio.gather(one(), one())
    assert min(first.planned, second.planned) == 0
    assert len(first.delivered) + len(second.delivered) == max(first.planned, second.planned) > 1


async def test_who_comes_while_another_is_at_it_is_told(
    conn: Connection,
    laid: Laid,
    house_of_files: tuple[str, Laid],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "PATIENCE_MS", 50)
    who = await recipient(conn, "BUSY", laid.ours)
    async with connect(house_of_files[0]) as other, store.alone(other, who):
        with pytest.raises(Conflict, match="another process"):
            await run(conn, settings(tmp_path), who, laid.until)
    assert (await run(conn, settings(tmp_path), who, laid.until)).planned > 0


async def test_a_disabled_recipient_gets_what_it_missed_later(
    conn: Connection, laid: Laid, tmp_path: Path
) -> None:
    who = await recipient(conn, "PAUSE", laid.ours)
    first = await run(conn, settings(tmp_path), who, BEGIN + timedelta(days=1))
    await store.set_recipient(conn, replace(who, enabled=False))
    with pytest.raises(Conflict, match="gets no files"):
        await run(conn, settings(tmp_path), who, laid.until)
    await store.set_recipient(conn, who)
    rest = await run(conn, settings(tmp_path), who, laid.until)
    names = [*first.written, *rest.written]
    assert [int(name.split("_")[3]) for name in names] == list(range(1, len(names) + 1))


async def test_an_extract_is_in_no_sequence(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    path, told = await extract(
        conn, settings(tmp_path), tmp_path, partner_id=laid.carrier, whose="Beta-Carrier", kind="cdr",
        since=BEGIN, until=BEGIN + 6 * APART, form="csv",
    )  # fmt: skip
    assert path.name == "EXTRACT_US_Beta-Carrier_CDR_20261023T220000Z_20261023T230000Z.csv.gz"
    assert told.totals.rows == len(read(path)) > 0
    assert manifest(path)["sequence"] is None
    with pytest.raises(Invalid, match="shorter"):
        await extract(
            conn, settings(tmp_path), tmp_path, partner_id=None, whose="house", kind="cdr", since=BEGIN,
            until=laid.until, form="csv", rows_max=10,
        )  # fmt: skip


async def test_the_columns_are_those_that_are_promised(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    path, _ = await extract(
        conn, settings(tmp_path), tmp_path, partner_id=laid.ours, whose="x", kind="cdr", since=BEGIN,
        until=laid.until, form="csv",
    )  # fmt: skip
    first = read(path)[0]
    assert list(first) == list(COLUMNS)
    call = await conn.fetchrow(
        "SELECT c.* FROM call c JOIN cdr r USING (call_id) WHERE r.partner_id = $1 AND r.record_no = $2",
        laid.ours, int(first["record_id"]),
    )  # fmt: skip
    assert call is not None
    wanted = {
        "call_id": call["call_id"].hex, "leg": "origination", "partner": "Acme Voice", "trunk_in": "", "trunk_out": "",
        "direction": "out", "cli_received": call["a_number"][1:], "cli_presented": call["a_number"][1:],
        "cld_dialled": "030 23125000", "cld_routed": "493023125000", "increment": "1/1", "destination": "Germany",
        "prefix": "49", "rate": "0.06", "rate_id": "retail/49", "connection_fee": "0.00", "currency": "EUR",
        "allowance_units": "", "sip_code": "", "q850_cause": "16", "release_party": "caller", "purpose": "retail",
        "deck_version": "3", "attempt_no": "0", "kind": "first", "revision": "0",
        "duration_ms": str(call["talk_ms"]), "billed_s": str(-(-call["talk_ms"] // 1000)),
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert datetime.fromisoformat(first["setup_at"]) == call["admitted_at"]
    assert datetime.fromisoformat(first["answer_at"]) == call["answered_at"]
    assert datetime.fromisoformat(first["end_at"]) == call["ended_at"] == datetime.fromisoformat(first["at"])


async def test_the_audit_finds_what_was_done_to_files(
    conn: Connection, laid: Laid, house_of_files: tuple[str, Laid], tmp_path: Path
) -> None:
    who = await recipient(conn, "AUDIT", laid.ours)
    first, second = (await run(conn, settings(tmp_path), who, laid.until)).written
    done = {
        "UPDATE cdr_file SET totals = jsonb_set(totals, '{billed_s}', '1') WHERE name = $1": (
            "files_have_their_totals", [first], first,
        ),
        "UPDATE cdr_file SET last_no = last_no - 1 WHERE name = $1": (
            "files_have_their_records", [second], second,
        ),
        "DELETE FROM cdr_file WHERE name = $1": (
            "files_have_no_gap", [second], first,
        ),
    }  # fmt: skip
    async with connect(house_of_files[0]) as other:
        for change, (what, found, name) in done.items():
            undo = other.transaction()
            await undo.start()
            await other.execute("ALTER TABLE cdr_file DISABLE TRIGGER USER")
            await other.execute(change, name)
            assert (await files_agree(other))[what] == [{"name": one} for one in found], change
            await undo.rollback()
