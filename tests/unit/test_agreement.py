"""Totals beside each other, and files read back: what agrees, what does not, and how that is said."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from bridge.closing.agreement import COUNT, SECONDS, Agreement, Sums, differing, laid, money, summed
from bridge.closing.reading import Read, read
from bridge.errors import InvariantBroken
from bridge.telling.close import tell_closing

HEADER = "record_id,leg,duration_ms,billed_s,amount,currency\n"


def sums(records: int = 1, **paid: int) -> Sums:
    return Sums(records, 0, 0, paid, {})


def test_one_micro_unit_is_a_difference() -> None:
    found = laid("house", {"files": sums(2, EUR=1_000_000), "records": sums(2, EUR=1_000_001)})
    (odd,) = differing(found)
    assert odd.differs() == "house: paid (EUR): files 1.00, records 1.000001"
    assert not differing(laid("house", {"files": sums(), "records": sums()}))


def test_a_currency_that_only_one_side_has_is_a_difference() -> None:
    (odd,) = money("house", "paid", {"files": {"EUR": 1}, "records": {}})
    assert not odd.agrees
    assert money("house", "paid", {"files": {"XXX": 0}, "records": {}}) == []


def test_what_carriers_are_owed_is_never_added_to_what_accounts_paid() -> None:
    row = {"records": 1, "talk_ms": 1, "billed_s": 1, "amount_micro": 5, "currency": "EUR"}
    found = summed([row | {"leg": "origination"}, row | {"leg": "usage"}, row | {"leg": "termination"}])
    assert (found.records, found.paid, found.owed) == (3, {"EUR": 10}, {"EUR": 5})


def test_a_summary_says_what_differs() -> None:
    one = Agreement("house", "records", COUNT, {"files": 1, "records": 2})
    two = Agreement("house", "billed", SECONDS, {"files": 7, "records": 7})
    told = {
        "month": "2026-10", "from": "a", "to": "b", "steps": {"totals": "2 totals"}, "notes": ["n"], "agrees": False,
        "totals": [one.to_json(), two.to_json()], "problems": [one.differs()],
    }  # fmt: skip
    text = tell_closing(told)
    assert "! records" in text
    assert "= billed               7 s  files, records" in text
    assert "DIFFERS  house: records: files 1, records 2" in text


def written(path: Path, *rows: str) -> bytes:
    path.write_bytes(gzip.compress((HEADER + "".join(f"{row}\n" for row in rows)).encode()))
    return hashlib.sha256(path.read_bytes()).digest()


def test_a_file_is_added_up_as_it_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "CDR_1.csv.gz"
    digest = written(
        path, "5,origination,1500,2,0.09,EUR", "6,termination,1500,2,-0.000001,USD", "7,origination,0,0,,"
    )
    into = Read(5, 7)
    read(path, "csv", digest, into)
    found = summed(into.sums())
    assert (found.records, found.talk_ms, found.billed_s) == (3, 3_000, 4)
    assert (found.paid["EUR"], found.owed["USD"]) == (90_000, -1)
    assert into.gap() is None


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((5, 7), "record 6 is missing"),
        ((5, 6, 6), "record 6 is there twice, or not of the month"),
        ((5, 6, 7, 8), "record 8 is there twice, or not of the month"),
        ((4, 5, 6, 7), "record 4 is there twice, or not of the month"),
    ],
)
def test_numbers_are_there_once_and_none_is_missing(
    tmp_path: Path, numbers: tuple[int, ...], said: str
) -> None:
    path = tmp_path / "CDR_1.csv.gz"
    digest = written(path, *(f"{no},origination,0,0,0,EUR" for no in numbers))
    into = Read(5, 7)
    read(path, "csv", digest, into)
    assert into.gap() == said


def test_a_file_that_is_not_as_it_was_written_is_not_added_up(tmp_path: Path) -> None:
    path = tmp_path / "CDR_1.csv.gz"
    digest = written(path, "1,origination,0,0,0,EUR")
    written(path, "1,origination,0,0,1,EUR")
    with pytest.raises(InvariantBroken, match="is not as it was written"):
        read(path, "csv", digest, Read(1, 1))
    path.unlink()
    with pytest.raises(InvariantBroken, match="cannot be read back"):
        read(path, "csv", digest, Read(1, 1))
    path.write_bytes(b"not gzip")
    with pytest.raises(InvariantBroken, match="cannot be read back"):
        read(path, "csv", hashlib.sha256(b"not gzip").digest(), Read(1, 1))
