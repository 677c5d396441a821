"""Counterparties' files as they come: read by their mapping, and everything wrong told by row and column."""

from __future__ import annotations

import gzip
import io
import re
from datetime import datetime
from typing import Any

import pytest
from openpyxl import Workbook

from bridge.errors import ConfigError, DeckError
from bridge.partners.recon_file import Frame, TheirRows
from bridge.partners.recon_mapping import FileMapping, column_of
from bridge.rating.deck_file import open_sheet
from bridge.rating.deck_import import Finding

FRAME = Frame("run", "EUR", "termination", datetime(2026, 10, 1), datetime(2026, 11, 1))  # noqa: DTZ001
HEAD = "id,a_number,b_number,answer_at,duration,amount\n"
GOOD = "1,+4915112345678,+493023125010,2026-10-05T10:00:00Z,60,0.02\n"


def read(content: bytes | str, **mapping: Any) -> tuple[list[list[str]], list[Finding], TheirRows]:
    """Rows as COPY gets them, what is wrong, and the reader."""
    raw = content.encode() if isinstance(content, str) else content
    given = FileMapping.from_json(mapping)
    found: list[Finding] = []
    sheet = open_sheet(
        io.BytesIO(raw), given.encoding, known=column_of, delimiter=given.delimiter, lenient=True
    )
    rows = TheirRows(sheet, given, FRAME, found.append)
    text = b"".join(rows.chunks()).decode()
    return [line.split("\t") for line in text.splitlines()], found, rows


def wrong(content: bytes | str, **mapping: Any) -> list[str]:
    return [str(one) for one in read(content, **mapping)[1]]


def test_a_plain_row() -> None:
    rows, found, _ = read(HEAD + GOOD)
    assert not found
    assert rows == [
        [
            "run",
            "2",
            "2026-10-05 10:00:00",
            "60000",
            "20000",
            "493023125010",
            "4915112345678",
            r"\N",
            r"\N",
            r"\N",
            "1",
        ]
    ]


def test_our_own_files_are_known_by_their_columns() -> None:
    content = (
        "record_id,call_id,leg,partner,cli_received,cli_presented,cld_dialled,cld_routed,setup_at,answer_at,end_at,"
        "duration_ms,billed_s,amount,currency,attempt_no\n"
        "17,019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8,termination,E-Plus,'+4915112345678,+4915112345678,030,+493023125010,"
        "2026-10-05T09:59:50.000Z,2026-10-05T10:00:00.000Z,2026-10-05T10:01:00.500Z,60500,61,0.02,EUR,1\n"
        "18,019a0c0e5d7a7cc0b5a1c9f3d2e4b6a9,origination,E-Plus,+4915112345678,,030,+493023125010,,"
        "2026-10-05T10:00:00.000Z,,60500,61,0.02,EUR,0\n"
    )
    rows, found, reader = read(content)
    assert not found
    assert reader.other_leg == 1
    assert rows[0][3:9] == [
        "60500",
        "20000",
        "493023125010",
        "4915112345678",
        "019a0c0e-5d7a-7cc0-b5a1-c9f3d2e4b6a8",
        "17",
    ]


def test_a_german_file_with_two_columns_for_a_time() -> None:
    content = (
        "Vorgang;Anrufer;Ziel;Datum;Uhrzeit;Dauer;Betrag\n"
        "r1;015112345678;0049 30 / 2312-5010;05.10.2026;12:00:00;0:01:00;1.234,5\n"
    ).encode("latin-1")
    rows, found, _ = read(
        content, zone="Europe/Berlin", time_format="%d.%m.%Y %H:%M:%S", decimal=",", country="49",
        encoding="latin-1", delimiter=";",
        columns={"id": "Vorgang", "a_number": "Anrufer", "b_number": "Ziel", "answer_at": ["Datum", "Uhrzeit"],
                 "duration": "Dauer", "amount": "Betrag"},
    )  # fmt: skip
    assert not found
    assert rows[0][2:7] == ["2026-10-05 10:00:00", "60000", "1234500000", "493023125010", "4915112345678"]


@pytest.mark.parametrize(
    ("cell", "unit", "ms"),
    [("90", None, "90000"), ("90.5", "s", "90500"), ("1:30", "m:s", "90000"), ("0:01:30", None, "90000"),
     ("90000", "ms", "90000"), ("1,5", "min", "90000"), ("25:00:00", None, "90000000")],
)  # fmt: skip
def test_durations(cell: str, unit: str | None, ms: str) -> None:
    content = f"b_number;answer_at;duration\n+493023125010;2026-10-05T10:00:00Z;{cell}\n"
    rows, found, _ = read(content, **({"duration_unit": unit} if unit else {}))
    assert not found
    assert rows[0][3] == ms


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ("1,+49151,+493023125010,03/04/2026 10:00,60,0.02", "answer_at", "may be two days.*--time-format"),
        ("1,+49151,+493023125010,2026-10-05 10:00:00,60,0.02", "answer_at", "no time zone.*--zone"),
        ("1,+49151,+493023125010,+4930231250100,60,0.02", "answer_at", "telephone number: are columns swapped"),
        ("1,+49151,2026-10-05T10:00:00Z,2026-10-05T10:00:00Z,60,0.02", "b_number", "time: are columns swapped"),
        ("1,+49151,=HYPERLINK(1),2026-10-05T10:00:00Z,60,0.02", "b_number", "formula"),
        ("1,+49151,4.93E+11,2026-10-05T10:00:00Z,60,0.02", "b_number", "lost its digits"),
        ("1,+49151,03023125010,2026-10-05T10:00:00Z,60,0.02", "b_number", "--country"),
        ("1,+49151,anonymous,2026-10-05T10:00:00Z,60,0.02", "b_number", "no id says which call"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,12:30,0.02", "duration", "--duration m:s"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,-5,0.02", "duration", "no duration"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,60,=A1*2", "amount", "formula"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,60,-0.02", "amount", "negative"),
        ("1,+49151,+493023125010,2026-02-05T10:00:00Z,60,0.02", "answer_at", "far from the period"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,60,\"0,02\"", "amount", "--decimal"),
        ("1,+49151,+493023125010,2026-10-05T10:00:00Z,60", "row", "5 cells under 6 columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_row_and_column(row: str, column: str, said: str) -> None:
    rows, found, _ = read(HEAD + GOOD + row + "\n" + GOOD.replace("1,", "9,", 1))
    assert len(rows) == 2
    assert [(one.row, one.column) for one in found] == [(3, column)]
    assert re.search(said, found[0].problem), found[0].problem


def test_all_that_is_wrong_with_a_row_is_told_at_once() -> None:
    found = read(HEAD + "1,x,y,z,w,v\n")[1]
    assert [one.column for one in found] == ["duration", "amount", "answer_at", "b_number", "a_number"]


def test_times_that_contradict_each_other() -> None:
    head = "b_number,setup_at,answer_at,end_at,duration\n"
    at = "+493023125010,2026-10-05T10:00:05Z,2026-10-05T10:00:00Z,2026-10-05T10:01:00Z,60\n"
    assert wrong(head + at) == ["row 2, setup_at: is after the answer: are columns swapped?"]
    late = "+493023125010,2026-10-05T10:00:00Z,2026-10-05T10:00:00Z,2026-10-05T10:01:00Z,3600\n"
    assert "Is the unit of the duration right?" in wrong(head + late)[0]


def test_the_doubled_hour_is_refused_until_it_is_said_which() -> None:
    content = "b_number,answer_at,duration\n+493023125010,2026-10-25 02:30:00,60\n"
    assert "happens twice" in wrong(content, zone="Europe/Berlin")[0]
    for which, utc in (("first", "00:30:00"), ("second", "01:30:00")):
        rows, found, _ = read(content, zone="Europe/Berlin", doubled_hour=which)
        assert (found, rows[0][2]) == ([], f"2026-10-25 {utc}")


def test_a_trailer_is_held_against_the_rows() -> None:
    trailer = {"trailer": ["TOTAL", "rows", "duration", "amount"]}
    two = HEAD + GOOD + GOOD.replace("1,", "2,", 1)
    assert not wrong(two + "TOTAL,2,120,0.04,,\n", **trailer)
    assert wrong(two + "total,3,121,0.05,,\n", **trailer) == [
        "row 4, trailer rows: says '3', and there are 2 rows",
        "row 4, trailer duration: says '121' (121 s), and the rows sum to 120 s",
        "row 4, trailer amount: says '0.05', and the rows sum to 0.04",
    ]
    assert "not whole" in wrong(two, **trailer)[0]
    assert "behind the trailer" in wrong(HEAD + "TOTAL,0,0,0,,\n" + GOOD, **trailer)[0]


def test_what_was_not_answered_is_left_out() -> None:
    rows, found, reader = read(
        HEAD + GOOD + "2,,+493023125010,,0,\n3,,+493023125010,2026-10-05T10:00:00Z,0,0.00\n"
    )
    assert (len(rows), found, reader.unanswered) == (1, [], 2)


def test_broken_files_are_told_not_raised() -> None:
    broken = wrong((HEAD + GOOD).encode() + b"caf\xe9" + GOOD.encode() + GOOD.encode())
    assert broken == ["row 3, row: holds bytes that are no text. Name the file's --encoding, such as cp1252"]
    with pytest.raises(DeckError, match="not utf-8"):
        wrong(b"W\xe4hrung," + HEAD.encode())
    assert "unpacked" in wrong(gzip.compress((HEAD + GOOD * 5000).encode())[:-300])[0]
    assert "quotes" in wrong(HEAD + '"1,+4,+4,x\n')[0]


def test_gzip_and_workbooks_are_read_alike() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["id", "b_number", "answer_at", "duration", "amount"])
    noon = datetime(2026, 10, 5, 12)  # noqa: DTZ001  workbooks know no zones
    sheet.append(["1", "+493023125010", noon, 60, 0.02])
    sheet.append(["2", "+493023125010", noon, "=D2*2", 0.02])
    file = io.BytesIO()
    book.save(file)
    rows, found, _ = read(file.getvalue(), zone="Europe/Berlin")
    assert rows[0][2:6] == ["2026-10-05 10:00:00", "60000", "20000", "493023125010"]
    assert [str(one) for one in found] == ["row 3, duration: '=D2*2' is a formula. Keep only its value"]
    packed, found, _ = read(gzip.compress((HEAD + GOOD).encode()))
    assert (len(packed), found) == (1, [])


@pytest.mark.parametrize(
    ("header", "said"),
    [("x,y\n", "the called number"), ("called,cld_routed_x,to,answer_at,duration\n", "could each be b_number"),
     ("b_number,duration\n", "time of the answer")],
)  # fmt: skip
def test_headers_that_cannot_be_told(header: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(header)


@pytest.mark.parametrize(
    "given",
    [{"zone": "Mars/Base"}, {"columns": {"colour": "x"}}, {"duration_unit": "h"}, {"trailer": ["T", "people"]},
     {"time_format": "dd.mm"}, {"country": "+49"}, {"speed": "fast"}, {"columns": {"b_number": ["a", "b"]}}],
)  # fmt: skip
def test_mappings_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FileMapping.from_json(given)


def test_a_mapping_is_kept_as_it_was() -> None:
    text = 'zone = "UTC"\ntrailer = ["T", "rows"]\n[columns]\nb_number = "Called"\nanswer_at = ["Date", "Time"]\n'
    made = FileMapping.from_toml(text).mapped(["duration=Secs"])
    assert FileMapping.from_json(made.to_json()) == made
    assert made.columns["answer_at"] == ("Date", "Time")
