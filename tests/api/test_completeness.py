"""The chain as partners read it, and the script they check their files with."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bridge.database import connect
from bridge.exports.sequence import seal
from tests.api.scene import Api, Partner, problem
from tests.seeded import ended

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_completeness.py"
COLUMNS = (
    "record_id", "call_id", "leg", "answer_at", "duration_ms", "billed_s", "amount", "currency", "attempt_no",
    "kind", "revision",
)  # fmt: skip
# A partner's rows as files have them, written here once more from what the documents say.
ROWS = """SELECT record_no, replace(call_id::text, '-', ''), leg,
                 coalesce(to_char(answered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), ''),
                 talk_ms, billed_s,
                 CASE WHEN amount_micro % 10000 = 0 THEN to_char(amount_micro / 1e6, 'FM999999990.00')
                      ELSE rtrim(to_char(amount_micro / 1e6, 'FM999999990.000000'), '0') END,
                 currency, attempt_no, kind, revision
            FROM cdr WHERE partner_id = $1 ORDER BY record_no"""


class Delivered(NamedTuple):
    """A partner's files and the chain of its days."""

    folder: Path
    chain: Path
    rows: list[list[str]]

    def write(self, rows: list[list[str]]) -> None:
        """In two files, as one a day would be."""
        half = len(rows) // 2
        for name, part in (("CDR_us_them_1.csv.gz", rows[:half]), ("CDR_us_them_2.csv.gz", rows[half:])):
            with gzip.open(self.folder / name, "wt", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *part])

    def verify(self, *more: str) -> tuple[int, str]:
        argv = (sys.executable, str(SCRIPT), str(self.folder), str(self.chain), *more)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


async def _called(api: Api, partner: Partner, calls: int) -> None:
    """So many answered calls of a partner's subscriber, and one that nobody took."""
    who = await api.house.subscriber(10_000_000)
    await api.own("subscriber", partner, account_id=who.account_id)
    await api.own("account", partner, account_id=who.account_id)
    ids = [(await api.house.admitted(who)).frozen.call_id for _ in range(calls + 1)]
    await api.house.end(*(ended(call_id, 1_250 * place) for place, call_id in enumerate(ids)))


async def _sealed(api: Api, dsn: str) -> datetime:
    """All that was done is numbered, and its day is over: the clock says two days later."""
    async with connect(dsn) as conn:
        until = datetime.now(UTC) + timedelta(days=2)
        await seal(conn, until)
        return until


@pytest.fixture
async def delivered(api: Api, dsn: str, tmp_path: Path) -> Delivered:
    await _called(api, api.alpha, 6)
    await _called(api, api.beta, 2)
    until = await _sealed(api, dsn)
    told = await api.alpha.get("/v1/completeness", until=until.date())
    assert told.status_code == 200, told.text
    folder = tmp_path / "files"
    folder.mkdir()
    chain = tmp_path / "chain.json"
    chain.write_text(told.text)
    rows = [[str(cell) for cell in row] for row in await api.house.rows(ROWS, api.alpha.partner_id)]
    made = Delivered(folder, chain, rows)
    made.write(rows)
    return made


async def test_each_reads_its_own_chain(api: Api, delivered: Delivered, dsn: str) -> None:
    until = (datetime.now(UTC) + timedelta(days=3)).date()
    days = json.loads(delivered.chain.read_text())["days"]
    assert sum(one["records"] for one in days) == len(delivered.rows) == 7
    other = (await api.beta.get("/v1/completeness", until=until)).json()["days"]
    assert sum(one["records"] for one in other) == 3
    house = (await api.operator.get("/v1/completeness", until=until)).json()["days"]
    assert sum(one["records"] for one in house) == 7 + 3 + 10  # and the carriers' legs
    named = await api.operator.get("/v1/completeness", until=until, partner_id=api.alpha.id)
    assert named.json()["days"] == days
    problem(await api.alpha.get("/v1/completeness", partner_id=api.beta.id), 404, "not_found")
    problem(
        await api.alpha.get("/v1/completeness/hashes", first_no=1, partner_id=api.beta.id), 404, "not_found"
    )
    hashes = (await api.alpha.get("/v1/completeness/hashes", first_no=2, count=3)).json()
    assert (hashes["first_no"], len(hashes["hashes"])) == (2, 3)
    assert len((await api.operator.get("/v1/completeness/hashes", first_no=1)).json()["hashes"]) == 20
    narrow = await api.key("usage:read", partner_id=api.alpha.partner_id)
    problem(await narrow.get("/v1/completeness"), 403, "scope_missing")


async def test_a_period_is_bounded(api: Api) -> None:
    for since in ("2026-01-01", "2020-01-01"):
        asked = await api.alpha.get("/v1/completeness", since=since, until="2026-01-01")
        problem(asked, 400, "bad_request")


async def test_true_files_are_complete(delivered: Delivered) -> None:
    code, said = delivered.verify()
    assert (code, said.split(" of ")[0]) == (0, "complete: 7 records")


def _amount(rows: list[list[str]]) -> None:
    rows[3][6] = "9.99"


Harm = Callable[[list[list[str]]], Any]
HARMS: dict[str, Harm] = {
    "record 5 of": lambda rows: rows.pop(4),
    "record 7 of": lambda rows: rows.pop(),
    "record 1 is there twice": lambda rows: rows.append(rows[0]),
    "a record from 1 to 7 of": _amount,
    "is no record number": lambda rows: rows[2].__setitem__(0, "2O"),
    "has not the columns of the header": lambda rows: rows[2].append("more"),
}


async def test_what_is_wrong_is_named(delivered: Delivered) -> None:
    for named, harm in HARMS.items():
        rows = [list(row) for row in delivered.rows]
        harm(rows)
        delivered.write(rows)
        code, said = delivered.verify()
        assert (code, named in said) == (1, True), said


async def test_with_the_hashes_the_changed_record_is_named(
    api: Api, delivered: Delivered, tmp_path: Path
) -> None:
    _amount(delivered.rows)
    delivered.write(delivered.rows)
    hashes = tmp_path / "hashes.json"
    hashes.write_text((await api.alpha.get("/v1/completeness/hashes", first_no=1)).text)
    code, said = delivered.verify("--hashes", str(hashes))
    assert (code, "record 4 of" in said) == (1, True), said


async def test_a_day_left_out_of_the_chain_is_seen(delivered: Delivered) -> None:
    told = json.loads(delivered.chain.read_text())
    assert len(told["days"]) == 2
    told["days"][1]["previous"] = "00" * 32
    delivered.chain.write_text(json.dumps(told))
    code, said = delivered.verify()
    assert (code, "does not follow" in said) == (1, True), said


async def test_what_cannot_be_read_is_no_proof(delivered: Delivered) -> None:
    delivered.chain.write_text("{")
    assert delivered.verify()[0] == 2
    for file in delivered.folder.iterdir():
        file.write_bytes(b"no gzip")
    assert delivered.verify()[0] == 2
