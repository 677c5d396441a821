"""One month of 100 000 calls closes with one command, and every total is the same from every side.

What the closing says is not believed: files are read with csv and json, documents with lxml, the ledger with SQL of its
own, and reports from what lies in the folder.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from bridge.sandbox.postgres import EmbeddedPostgres
from tests.databases import copy_database

CALLS = int(os.environ.get("CALLBRIDGE_TEST_MONTH_CALLS", "100000"))
MONTH = f"{datetime.now(UTC).replace(day=1) - timedelta(days=2):%Y-%m}"
COMPANY = """
[exports]
folder = "{folder}"
[company]
code = "house"
legal_name = "Hausfunk GmbH"
street = "Hafenstraße 1"
postcode = "40221"
city = "Düsseldorf"
country = "DE"
vat_id = "DE123456788"
contact = "Rechnungswesen"
phone = "+49 30 23125001"
email = "billing@example.net"
iban = "DE02120300000000202051"
bic = "BYLADEM1001"
"""
MICRO = Decimal(1_000_000)

pytestmark = pytest.mark.timeout(900)  # whatever else the machine does


@dataclass
class House:
    """A database and a folder, and the command line on them."""

    postgres: EmbeddedPostgres
    database: str
    folder: Path

    def run(self, *words: str, code: int = 0) -> Any:
        """What a command told."""
        environment = {**os.environ, "CALLBRIDGE__DATABASE__DSN": self.postgres.dsn(self.database)}
        config = self.folder / "callbridge.toml"
        ran = subprocess.run(
            [sys.executable, "-m", "bridge", *words, "--json", "-c", str(config)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == code, ran.stderr[-2000:] + ran.stdout[-2000:]
        return json.loads(ran.stdout)

    def rows(self, sql: str) -> list[list[str]]:
        """Of a query, as text."""
        told = self.postgres.sql(f"COPY ({sql}) TO STDOUT WITH (FORMAT csv)", self.database)
        return list(csv.reader(told.splitlines()))

    def close(self, *words: str, code: int = 0) -> Any:
        out = str(self.folder / "closed")
        return self.run("close", MONTH, "--author", "finance", "--out", out, *words, code=code)

    def check(self, code: int = 0) -> Any:
        return self.close("--check", code=code)


def closed(postgres: EmbeddedPostgres, template: str, folder: Path, name: str, calls: int) -> House:
    """A month, simulated and closed."""
    made = House(postgres, name, folder)
    (made.folder / "exports").mkdir()
    (made.folder / "callbridge.toml").write_text(COMPANY.format(folder=made.folder / "exports"))
    copy_database(postgres, template, made.database)
    theirs = str(made.folder / "theirs")
    told = made.run("simulate", "--month", MONTH, "--calls", str(calls), "--their-files", theirs)
    assert told["calls"] == calls
    done = made.close()
    assert done["problems"] == []
    assert done["agrees"]
    return made


@pytest.fixture(scope="module")
def house(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Of full size, which tests only read."""
    made = closed(postgres, template, tmp_path_factory.mktemp("month"), "a_month", CALLS)
    yield made
    postgres.drop_database(made.database)


@pytest.fixture(scope="module")
def small(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """For what is done to it: closed again, altered."""
    made = closed(postgres, template, tmp_path_factory.mktemp("small"), "a_small_month", 2_000)
    yield made
    postgres.drop_database(made.database)


@pytest.fixture(scope="module")
def files(house: House) -> dict[str, list[dict[str, Any]]]:
    """The rows of every file of call records, by recipient."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((house.folder / "exports").rglob("*_*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = map(json.loads, file) if ".jsonl" in path.name else csv.DictReader(file)
            found.setdefault(path.name.split("_")[2], []).extend(dict(row) for row in rows)
    return found


def added(rows: list[dict[str, Any]]) -> Counter[str]:
    """Amounts by side and currency."""
    sums: Counter[str] = Counter()
    for row in rows:
        side = "owed" if row["leg"] == "termination" else "paid"
        if amount := Decimal(row["amount"] or 0):
            sums[f"{side} {row['currency']}"] += amount  # type: ignore[assignment]
    return sums


def test_every_call_is_in_the_files_of_whom_it_concerns(house: House, files: dict[str, Any]) -> None:
    assert set(files) == {"finance", "rheinfunk", "nordlicht"}
    calls = {row["call_id"] for row in files["finance"] if row["leg"] == "origination"}
    (known,) = house.rows("SELECT count(*), count(*) FILTER (WHERE state = 'answered') FROM bridge.call")
    late = int(house.rows(f"SELECT count(*) FROM bridge.call WHERE ended_at >= {_end()}")[0][0])
    assert len(calls) == int(known[0]) - late == CALLS - late
    for recipient, rows in files.items():
        numbers = sorted(int(row["record_id"]) for row in rows)
        assert numbers == list(range(1, len(numbers) + 1)), recipient


def test_the_files_are_what_the_ledger_says(house: House, files: dict[str, Any]) -> None:
    """Of all that ended in the month: what accounts paid, what carriers are owed."""
    booked = house.rows(
        f"""
        WITH moved AS (
            SELECT call_id AS transfer_id FROM bridge.call WHERE ended_at < {_end()}
            UNION ALL SELECT transfer_id FROM bridge.usage_record WHERE used_at < {_end()}
            UNION ALL SELECT transfer_id FROM bridge.transfer
                       WHERE kind IN ('reversal', 'rebooking') AND booked_at < {_end()})
        SELECT CASE a.kind WHEN 'carrier' THEN 'owed ' ELSE 'paid ' END || e.currency,
               sum(CASE a.kind WHEN 'carrier' THEN e.amount_micro ELSE -e.amount_micro END)
          FROM moved JOIN bridge.entry e USING (transfer_id) JOIN bridge.account a USING (account_id)
         WHERE a.kind IN ('carrier', 'subscriber') GROUP BY 1"""
    )
    assert {name: Decimal(micro) / MICRO for name, micro in booked} == added(files["finance"])
    assert {"owed EUR", "owed USD", "paid EUR"} == set(added(files["finance"]))


def test_each_partners_files_are_its_part_of_the_house(house: House, files: dict[str, Any]) -> None:
    legs = ("call_id", "leg", "attempt_no", "kind", "revision", "billed_s", "amount", "currency")
    ours = Counter(tuple(str(row[name]) for name in legs) for row in files["finance"])
    for recipient in ("rheinfunk", "nordlicht"):
        theirs = Counter(tuple(str(row[name]) for name in legs) for row in files[recipient])
        assert theirs <= ours
        assert not [row for row in files[recipient] if row["trunk_out"] not in (None, "", recipient)]


def test_statements_follow_from_the_files(house: House, files: dict[str, Any]) -> None:
    """By the terms of each deal, computed here again from rows."""
    kept = house.rows(
        "SELECT p.name, s.total_micro, (SELECT sum(amount_micro) FROM bridge.statement_line l"
        " WHERE l.statement_id = s.statement_id), s.inputs -> 'evidence' ->> 'records', s.statement_id, s.state"
        " FROM bridge.statement s JOIN bridge.partner p USING (partner_id) ORDER BY p.name"
    )
    assert [row[5] for row in kept] == ["approved", "approved"]
    for (_, total, lines, records, statement_id, _), recipient in zip(
        kept, ("nordlicht", "rheinfunk"), strict=True
    ):
        assert total == lines
        assert int(records) == len(files[recipient])
        carried = [row for row in files[recipient] if row["leg"] == "termination"]
        billed_s = sum(int(row["billed_s"]) for row in carried)
        (said,) = house.rows(
            "SELECT sum(quantity) FROM bridge.statement_line"
            f" WHERE statement_id = '{statement_id}' AND kind = 'wholesale'"
        )
        assert int(said[0]) == billed_s


def test_invoices_are_the_statements_to_the_cent(house: House) -> None:
    """As the documents in the folder say it, line by line."""
    net: Counter[str] = Counter()
    numbers = []
    for path in sorted((house.folder / "closed").glob("*.xml")):
        root = etree.parse(path)
        amount = Decimal(root.findtext(".//{*}TaxBasisTotalAmount"))
        tax = Decimal(root.findtext(".//{*}TaxTotalAmount"))
        gross = Decimal(root.findtext(".//{*}GrandTotalAmount"))
        lines = [Decimal(one.text) for one in root.iterfind(".//{*}LineTotalAmount")]
        assert amount + tax == gross
        assert sum(lines) in (amount * 2, amount)  # the header repeats the sum of the lines
        kind = root.findtext(".//{*}ExchangedDocument/{*}TypeCode")
        names = [one.findtext("{*}Name") for one in root.iterfind(".//{*}ApplicableHeaderTradeAgreement/*")]
        (partner,) = {name for name in names if name and not name.startswith("Hausfunk")}
        net[partner] += amount if kind == "389" else -amount  # type: ignore[assignment]
        numbers.append(path.stem)
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    assert [number[-6:] for number in numbers] == [f"{no:06}" for no in range(1, len(numbers) + 1)]
    kept = house.rows(
        "SELECT b.legal_name, array_to_string(array_agg(l.amount_micro), ' ') FROM bridge.statement s"
        " JOIN bridge.partner_billing b USING (partner_id) JOIN bridge.statement_line l USING (statement_id) GROUP BY 1"
    )
    for name, amounts in kept:
        exact = sum(Decimal(micro) for micro in amounts.split()) / MICRO
        lines_max = len(amounts.split())
        assert abs(net[name] - exact) <= Decimal("0.005") * lines_max
        assert exact.quantize(Decimal("0.01"), ROUND_HALF_UP) - net[name] <= Decimal("0.01") * lines_max


def test_the_reports_are_the_files(house: House, files: dict[str, Any]) -> None:
    sums = added(files["finance"])
    for by in ("destination", "partner"):
        told = json.loads((house.folder / "closed" / f"margin_by_{by}.json").read_text())
        for column, side in (("gross", "paid"), ("cost", "owed")):
            said: Counter[str] = Counter()
            for row in told["data"]:
                said[f"{side} {row['currency']}"] += Decimal(row[column])  # type: ignore[assignment]
            assert {name: amount for name, amount in said.items() if amount} == {
                name: amount for name, amount in sums.items() if name.startswith(side)
            }
    assert len(list((house.folder / "closed").glob("report_*.pdf"))) == 3


def test_both_audits_find_nothing(house: House) -> None:
    assert {name: rows for name, rows in house.run("audit").items() if rows} == {}
    assert not any(house.run("audit", "--completeness").values())


def test_closing_again_changes_nothing(small: House) -> None:
    before = _state(small)
    told = small.close()
    assert told["agrees"]
    assert _state(small) == before


ALTERED = {
    "the ledger": """UPDATE bridge.entry e SET amount_micro = e.amount_micro * 2 WHERE e.transfer_id =
        (SELECT call_id FROM bridge.charge WHERE amount_micro > written_off_micro ORDER BY call_id LIMIT 1)""",
    "prices": """UPDATE bridge.attempt SET cost_micro = cost_micro + 1 WHERE cost_micro > 0 AND call_id =
        (SELECT call_id FROM bridge.attempt WHERE cost_micro > 0 ORDER BY call_id LIMIT 1)""",
    "records": """UPDATE bridge.cdr SET billed_s = billed_s + 1 WHERE cdr_no =
        (SELECT min(cdr_no) FROM bridge.cdr WHERE billed_s > 0 AND partner_id IS NOT NULL)""",
    "lines": "UPDATE bridge.statement_line SET amount_micro = amount_micro + 1 WHERE line_no = 1",
}


def test_rows_altered_by_hand_are_found(small: House) -> None:
    """By somebody who may do anything in the database: each alteration is told by what does not agree any more."""
    altered = House(small.postgres, "a_month_altered", small.folder)
    copy_database(small.postgres, small.database, altered.database)
    try:
        for sql in ALTERED.values():
            small.postgres.sql(f"SET session_replication_role = replica; {sql}", altered.database)
        told = altered.check(code=1)
        assert not told["agrees"]
        differ = [one for one in told["totals"] if not one["agrees"]]
        odd = {
            name
            for one in differ
            for name, value in one["of"].items()
            if list(one["of"].values()).count(value) == 1
        }
        problems = " ".join(told["problems"])
        assert {"ledger", "prices", "records", "lines"} <= odd
        assert "lines: do not follow from the inputs" in problems
        assert any(altered.run("audit", code=1).values())
        assert any(altered.run("audit", "--completeness", code=1).values())
    finally:
        small.postgres.drop_database(altered.database)


def test_a_file_altered_by_hand_is_found(small: House) -> None:
    path = next((small.folder / "exports").rglob("CDR_*finance*.csv.gz"))
    kept = path.read_bytes()
    path.write_bytes(gzip.compress(gzip.decompress(kept)[:-200]))
    (problem,) = small.check(code=1)["problems"]
    assert problem == f"files of finance: {path.name} is not as it was written: its SHA-256 is another"
    path.write_bytes(kept)
    assert small.check()["agrees"]


def _end() -> str:
    year, month = map(int, MONTH.split("-"))
    after = f"{year + month // 12}-{month % 12 + 1:02}-01"
    return f"timestamp '{after}' AT TIME ZONE 'Europe/Berlin'"


def _state(house: House) -> dict[str, Any]:
    """All that closing makes."""
    tables = ("cdr_file", "period", "statement", "statement_line", "invoice", "transfer", "entry")
    counts = {name: house.rows(f"SELECT count(*) FROM bridge.{name}") for name in tables}
    # What was learnt after the month is numbered, too, and counts later.
    counts["cdr"] = house.rows(f"SELECT count(*), sum(amount_micro) FROM bridge.cdr WHERE at < {_end()}")
    there = {
        path.name: path.stat().st_size
        for folder in ("exports", "closed")
        for path in (house.folder / folder).rglob("*")
        if path.is_file() and path.name != "close.json"
    }
    return {"tables": counts, "files": there}
