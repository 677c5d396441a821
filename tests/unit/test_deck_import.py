"""A rate deck's file, however a spreadsheet has treated it: read exactly, or refused by row and column with the fix."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from openpyxl import Workbook

from bridge.errors import DeckError
from bridge.rating.deck_columns import COLUMNS, EXPORTED, column_of
from bridge.rating.deck_file import open_sheet
from bridge.rating.deck_import import PRICED, DeckRows, Finding, Frame

AT = datetime(2026, 6, 1, tzinfo=UTC)
BERLIN = Frame("EUR", ZoneInfo("Europe/Berlin"), {"eu", "de"}, AT)
HEAD = "prefix,destination,rate"


def read(file: bytes, encoding: str | None = None, frame: Frame = BERLIN):
    found: list[Finding] = []
    prices = io.BytesIO()
    rows = DeckRows(open_sheet(io.BytesIO(file), encoding), frame, prices, found.append)
    staged = [line.split("\t") for line in b"".join(rows.chunks()).decode().splitlines()]
    said = [
        dict(zip(PRICED, line.split("\t"), strict=True)) for line in prices.getvalue().decode().splitlines()
    ]
    by_number = {one.pop("price_no"): one for one in said}
    lines = [{"row_no": row, "prefix": prefix, **by_number[price_no]} for row, prefix, price_no in staged]
    return lines, found


def one(row: str, head: str = HEAD, **frame):
    """The only line of a file with one row."""
    (line,), found = read(f"{head}\n{row}\n".encode())
    assert found == []
    return line


def wrong(row: str, head: str = HEAD) -> Finding:
    """The only thing that is wrong with a file of one row."""
    lines, found = read(f"{head}\n{row}\n".encode())
    assert lines == []
    assert len(found) == 1, found
    return found[0]


def workbook(*rows: tuple[object, ...], formats: dict[str, str] | None = None, sheets: int = 1) -> bytes:
    book = Workbook()
    sheet: Any = book.active
    for row in rows:
        sheet.append(row)
    for place, number_format in (formats or {}).items():
        sheet[place].number_format = number_format
    for _ in range(sheets - 1):
        book.create_sheet()
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_every_column():
    head = ",".join(name for name in COLUMNS if name not in {"area", "increment"})
    row = (
        '49,"Germany, mobile",0.0725,eur,2026-01-01,2026-07-01T12:00:00Z,30,6,0.01,10,2,eu,180:0.05/60;600:0.02/6,no,'
        "increase,hello"
    )
    assert one(row, head) == {
        "row_no": "2",
        "prefix": "49",
        "origin_set": "eu",
        "destination": "Germany, mobile",
        "rate_micro": "72500",
        "connect_fee_micro": "10000",
        "initial_s": "30",
        "next_s": "6",
        "minimum_s": "10",
        "grace_s": "2",
        "tiers": "[[180, 50000, 60], [600, 20000, 6]]",
        "blocked": "f",
        "deleted": "f",
        "valid": "[2025-12-31T23:00:00+00:00,2026-07-01T12:00:00+00:00)",
    }


def test_what_a_file_leaves_out_is_as_usual():
    line = one("49,Germany,0.09")
    assert (line["initial_s"], line["next_s"], line["tiers"]) == ("60", "60", r"\N")
    assert line["valid"] == f"[{AT.isoformat()},)"


def test_columns_in_any_order_and_by_their_other_names():
    line = one("0.09;Germany;60/6;49", "Price per Minute;Destination Name;Billing-Increment;Dial Code")
    assert (line["prefix"], line["rate_micro"], line["initial_s"], line["next_s"]) == (
        "49",
        "90000",
        "60",
        "6",
    )


def test_names_of_columns_are_nobodys_twice():
    names = [other for column, others in COLUMNS.items() for other in (column, *others)]
    assert len(names) == len(set(names))
    assert all(column_of(name) for name in names)
    assert set(EXPORTED) <= set(COLUMNS)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("prefix,destination,rate,margin", "'margin' is no column"),
        ("prefix,destination", "column rate is missing"),
        ("prefix,code,destination,rate", "'code' is column prefix a second time"),
        ("prefix,destination,rate,increment,interval_1", "keep one or the other"),
        ("49,Germany,0.09", "'49' is no column"),
        ("prefix,,destination,rate", "'' is no column"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_by_name(head, says):
    with pytest.raises(DeckError, match="row 1, column header") as refused:
        read(f"{head}\n".encode())
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "file",
    [
        f"{HEAD}\r\n49,Österreich,0.5\r\n".encode(),
        f"{HEAD}\n49,Österreich,0.5".encode("utf-8-sig"),
        f"{HEAD}\n49,Österreich,0.5\n".encode("utf-16"),
        f"{HEAD}\n49,Österreich,0.5\n".replace(",", ";").encode(),
        f"{HEAD}\n49,Österreich,0.5\n".replace(",", "\t").encode(),
        '"prefix";"destination";"rate"\n"49";"Österreich";"0,5"\n'.encode(),
        f"{HEAD},,\n 49 ,Österreich\u00a0,0.50000000,,\n,,,,\n\n".encode(),
        workbook(("prefix", "destination", "rate"), (49, "Österreich", 0.5)),
        workbook(("prefix", "destination", "rate"), ("49", "Österreich", "0,5"), (None, None, None)),
    ],
)
def test_one_deck_in_every_dress(file):
    (line,), found = read(file)
    assert found == []
    assert (line["prefix"], line["destination"], line["rate_micro"]) == ("49", "Österreich", "500000")


def test_another_encoding_is_refused_unless_it_is_named():
    file = f"{HEAD}\n49,Österreich,0.5\n".encode("latin-1")
    with pytest.raises(DeckError, match="--encoding latin-1"):
        read(file)
    assert read(file, "latin-1")[0][0]["destination"] == "Österreich"
    with pytest.raises(DeckError, match="is no encoding"):
        read(file, "klingon")


def test_bytes_that_are_no_text_are_found_wherever_they_stand():
    found = read(f"{HEAD}\n".encode() + b"49,Germany,0.09\n" * 100_000 + b"50,\xe9,1\n")[1]
    assert "not utf-8" in found[-1].problem


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("4.915E+10", "lost its digits"),
        ("4,915E+10", "lost its digits"),
        ("030", "begins with 0"),
        ("0049", "begins with 0"),
        ("49a", "is not a prefix"),
        ("49 30", "is not a prefix"),
        ("４９", "is not a prefix"),
        ("4" * 16, "1 to 15 digits"),
        ("49.5", "is not a prefix"),
        ("", "is empty"),
        ("=49+1", "is a formula"),
        ("4939-4930", "is no range"),
        ("493-4940", "is no range"),
        (";".join(map(str, range(10_000, 20_001))), "more than 10,000"),
        ("49-", "is empty"),
        ("30;30", "twice"),
        ("493;4930-4939", "twice"),
    ],
)
def test_a_prefix_that_cannot_be_told_for_sure(prefix, says):
    finding = wrong(f'"{prefix}",Germany,0.09')
    assert (finding.row, finding.column) == (2, "prefix")
    assert says in finding.problem


@pytest.mark.parametrize(
    ("prefix", "area", "stands_for"),
    [
        ("+49", "", ["49"]),
        ("4930-4939", "", ["493"]),
        ("4930-4941", "", ["493", "4940", "4941"]),
        ("49;43", "", ["49", "43"]),
        ("49", "30;40;151-159", ["4930", "4940", *(f"4915{n}" for n in range(1, 10))]),
        ("49", "30, 40", ["4930", "4940"]),
        ("49", "", ["49"]),
        ("1", "200-299", ["12"]),
    ],
)
def test_countries_areas_and_ranges(prefix, area, stands_for):
    lines, found = read(f'country,area,destination,rate\n{prefix},"{area}",X,1\n'.encode())
    assert found == []
    assert [line["prefix"] for line in lines] == stands_for


def test_a_range_covers_exactly_its_numbers():
    lines, _ = read(f"{HEAD}\n2907-3112,X,1\n".encode())
    found = [line["prefix"] for line in lines]
    covered = [n for n in range(1000, 10_000) if str(n).startswith(tuple(found))]
    assert covered == list(range(2907, 3113))
    assert len(found) == len({prefix for n in covered for prefix in found if str(n).startswith(prefix)})


@pytest.mark.parametrize(
    ("head", "row", "column", "says"),
    [
        (HEAD, "49,Germany,", "rate", "is empty"),
        (HEAD, "49,Germany,-0.01", "rate", "is negative"),
        (HEAD, "49,Germany,0.0000001", "rate", "more than 6 decimals"),
        (HEAD, "49,Germany,1e-3", "rate", "is not an amount"),
        (HEAD, "49,Germany,0.09 EUR", "rate", "is not an amount"),
        (HEAD, "49,Germany,1000000000.1", "rate", "is too much"),
        (HEAD, '49,Germany,"0,09"', "rate", "decimal comma in a file parted by commas"),
        (HEAD, "49,,0.09", "destination", "is empty"),
        (HEAD, f"49,{'x' * 101},0.09", "destination", "101 characters"),
        (HEAD, "49,=1+1,0.09", "destination", "is a formula"),
        (HEAD, "49,Ger\u202emany,0.09", "destination", "U+202E"),
        (HEAD, "49,Ger\x07many,0.09", "destination", "U+0007"),
        (HEAD, '49,"Ger\nmany",0.09', "destination", "U+000A"),
        (f"{HEAD},currency", "49,Germany,0.09,USD", "currency", "a deck in EUR"),
        (f"{HEAD},currency", "49,Germany,0.09,EURO", "currency", "is not a currency"),
        (f"{HEAD},interval_1", "49,Germany,0.09,0", "interval_1", "1 to 86400"),
        (f"{HEAD},interval_n", "49,Germany,0.09,-6", "interval_n", "1 to 86400"),
        (f"{HEAD},interval_n", "49,Germany,0.09,1.5", "interval_n", "whole seconds"),
        (f"{HEAD},increment", "49,Germany,0.09,60", "increment", "such as 60/6"),
        (f"{HEAD},grace_s", "49,Germany,0.09,86401", "grace_s", "0 to 86400"),
        (f"{HEAD},origin_set", "49,Germany,0.09,EU", "origin_set", "Known: de, eu"),
        (f"{HEAD},effective_from", "49,Germany,0.09,31.01.2026", "effective_from", "Write 2026-01-31"),
        (f"{HEAD},effective_from", "49,Germany,0.09,2026-02-30", "effective_from", "is no time"),
        (f"{HEAD},effective_from", "49,Germany,0.09,1899-12-30", "effective_from", "not in our time"),
        (f"{HEAD},effective_from", "49,Germany,0.09,2026-03-29 02:30", "effective_from", "happens never"),
        (f"{HEAD},effective_from", "49,Germany,0.09,2026-10-25 02:30", "effective_from", "happens twice"),
        (f"{HEAD},effective_to", "49,Germany,0.09,2026-05-31", "effective_to", "is not after"),
        (f"{HEAD},tiers", "49,Germany,0.09,180:0.05", "tiers", "is no tier"),
        (f"{HEAD},tiers", "49,Germany,0.09,600:0.05/60;180:0.02/60", "tiers", "does not ascend"),
        (f"{HEAD},blocked", "49,Germany,0.09,maybe", "blocked", "neither yes nor no"),
        (f"{HEAD},change", "49,Germany,0.09,cheaper", "change", "is no change"),
        (f"{HEAD},comment", "49,Germany,0.09,=SUM(A1)", "comment", "is a formula"),
        (HEAD, "49,Germany, mobile,0.09", "row", "4 cells under 3 columns"),
        (HEAD, "49,Germany", "row", "2 cells under 3 columns"),
        (HEAD, '49,"Germany"x,0.09', "row", "quotes"),
        (HEAD, '49,"Germany,0.09', "row", "quotes"),
    ],
)
def test_each_mistake_is_told_with_its_column(head, row, column, says):
    finding = wrong(row, head)
    assert (finding.row, finding.column) == (2, column)
    assert says in finding.problem


def test_all_mistakes_of_all_rows_are_told_and_good_rows_are_read():
    file = f"{HEAD},interval_1\n4a,,x,0\n49,Germany,0.09,60\n50,Peru,-1,60\n".encode()
    lines, found = read(file)
    assert [line["prefix"] for line in lines] == ["49"]
    assert sorted((one.row, one.column) for one in found) == [
        (2, "destination"), (2, "interval_1"), (2, "prefix"), (2, "rate"), (4, "rate"),
    ]  # fmt: skip


def test_an_equal_mistake_is_told_for_each_row():
    _, found = read(f"{HEAD}\n1,X,-1\n2,X,-1\n".encode())
    assert [one.row for one in found] == [2, 3]


@pytest.mark.parametrize(
    ("cells", "micro", "refused_rows"),
    [
        (["0,05", "1,5"], ["50000", "1500000"], []),
        (["0.05", "1.5"], ["50000", "1500000"], []),
        (["0,05", "1.234"], ["50000"], [3]),  # a decimal point, or a thousand?
        (["0.05", "1,234"], ["50000"], [3]),
        (["1.234,56", "0,05"], ["50000"], [2]),
        (["7", "0,05"], ["7000000", "50000"], []),
    ],
)
def test_a_file_has_one_decimal_mark(cells, micro, refused_rows):
    rows = "".join(f"{n};X;{cell}\n" for n, cell in enumerate(cells, 1))
    lines, found = read(f"prefix;destination;rate\n{rows}".encode())
    assert [line["rate_micro"] for line in lines] == micro
    assert [one.row for one in found] == refused_rows


@pytest.mark.parametrize("row", ["49,Germany,,blocked", "49,Germany,,barred"])
def test_a_blocked_prefix_needs_no_rate(row):
    assert one(row, f"{HEAD},change")["blocked"] == "t"


def test_a_deleted_prefix_needs_neither_rate_nor_destination():
    assert one("49,,,delete", f"{HEAD},change")["deleted"] == "t"


def test_the_guard_against_formulas_is_taken_off():
    assert one("49,'+49 mobile,0.09")["destination"] == "+49 mobile"
    assert one("49,'s-Hertogenbosch,0.09")["destination"] == "'s-Hertogenbosch"


def test_numbers_of_a_workbook_are_exact():
    head = ("prefix", "destination", "rate", "effective_from", "interval_1", "blocked")
    rows = [
        (49151234567890, "A", 0.0725, datetime(2026, 7, 1), 60.0, True),  # noqa: DTZ001
        (4930.0, "B", 5e-05, "2026-07-01", 1, None),
    ]
    lines, found = read(workbook(head, *rows))
    assert found == []
    assert [(line["prefix"], line["rate_micro"], line["initial_s"], line["blocked"]) for line in lines] == [
        ("49151234567890", "72500", "60", "t"),
        ("4930", "50", "1", "f"),
    ]
    assert {line["valid"] for line in lines} == {"[2026-06-30T22:00:00+00:00,)"}


def test_what_a_workbook_has_damaged_is_refused_by_row():
    head = ("prefix", "destination", "rate")
    rows = [
        (49150000000, "shown as 4.92E+10", 1),
        (49.5, "X", 1),
        (1e15, "X", 1),
        (49, "X", 0.1234567),
        (49, "X", "=B2*2"),
        ("049", "X", 1),
    ]
    lines, found = read(workbook(head, *rows, formats={"A2": "0.00E+00"}))
    assert lines == []
    assert [(one.row, one.column) for one in found] == [
        (2, "prefix"), (3, "prefix"), (4, "prefix"), (5, "rate"), (6, "rate"), (7, "prefix"),
    ]  # fmt: skip
    assert "lost its digits" in found[0].problem


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 no zip", "cannot be read"),
        (workbook(sheets=1), "is empty"),
        (workbook(("prefix",), sheets=2), "2 visible sheets"),
    ],
)
def test_a_file_that_is_no_deck(file, says):
    with pytest.raises(DeckError, match=says):
        read(file)


def test_a_zip_that_is_no_workbook():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("hello.txt", "hello")
    with pytest.raises(DeckError, match="cannot be read"):
        read(out.getvalue())


def test_a_backslash_and_a_dollar_reach_the_database_as_they_are():
    assert one(r"49,a\tb\N$1,0.09")["destination"] == r"a\\tb\\N$1"
