"""Periods on the clocks of recipients, names of files, cells in lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import Invalid, InvariantBroken
from bridge.exports.columns import HEADER
from bridge.exports.file_name import checked_name, code_of, extract_name, file_name, place, subfolder
from bridge.exports.lines import Lines
from bridge.exports.manifest import Totals
from bridge.exports.spans import Every, begun, following, spans, zone_named

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "every", "zone", "end"),
    [
        ("2026-10-24T22:00", Every.DAILY, "Europe/Berlin", "2026-10-25T23:00"),  # 25 hours
        ("2026-03-28T23:00", Every.DAILY, "Europe/Berlin", "2026-03-29T22:00"),  # 23 hours
        ("2026-10-25T00:00", Every.HOURLY, "Europe/Berlin", "2026-10-25T01:00"),  # 2 o'clock, the first
        ("2026-10-25T01:00", Every.HOURLY, "Europe/Berlin", "2026-10-25T02:00"),  # and the second
        ("2026-09-30T22:00", Every.MONTHLY, "Europe/Berlin", "2026-10-31T23:00"),
        ("2026-12-31T23:00", Every.MONTHLY, "Europe/Berlin", "2027-01-31T23:00"),
        ("2026-11-23T10:20:30", Every.HOURLY, "Asia/Kolkata", "2026-11-23T10:30"),
        ("2026-03-28T22:00", Every.DAILY, "Asia/Beirut", "2026-03-29T21:00"),  # midnight is leapt over
    ],
)
def test_periods_end_when_the_clock_says(after: str, every: Every, zone: str, end: str) -> None:
    assert following(at(after), every, ZoneInfo(zone)) == at(end)


@given(
    st.integers(0, 10 * 366 * 86_400).map(lambda second: at("2020-01-01") + timedelta(seconds=second)),
    st.sampled_from([Every.HOURLY, Every.DAILY, Every.MONTHLY]),
    st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Asia/Beirut", "Australia/Lord_Howe", "America/Havana", "UTC"]
    ),
)
def test_periods_touch_and_never_overlap(start: datetime, every: Every, zone: str) -> None:
    clock = ZoneInfo(zone)
    first = begun(start, every, clock)
    assert first <= start < following(start, every, clock)
    found = list(spans(first, first + timedelta(days=70 if every is Every.MONTHLY else 3), every, clock))
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert all(begin < end for begin, end in found)


def test_by_hand_all_until_now_is_one_period() -> None:
    until = at("2026-11-23T10:20:30.999")
    assert list(spans(at("2026-11-01"), until, Every.MANUAL, BERLIN)) == [
        (at("2026-11-01"), at("2026-11-23T10:20:30"))
    ]
    assert list(spans(until, until, Every.MANUAL, BERLIN)) == []


def test_a_wrong_year_is_no_backlog() -> None:
    with pytest.raises(Invalid, match="beginning later"):
        list(spans(at("1970-01-01"), at("2026-11-23"), Every.HOURLY, BERLIN))
    with pytest.raises(Invalid, match="no time zone"):
        zone_named("../../etc/passwd")


def test_a_name_says_whose_and_which_and_when() -> None:
    name = file_name("US", "ACME", "cdr", 7, at("2026-10-24T22:00"), at("2026-10-25T23:00"), "csv")
    assert name == "CDR_US_ACME_00000007_20261024T220000Z_20261025T230000Z.csv.gz"
    assert checked_name(name) == name
    other = extract_name(
        "US",
        code_of("Müller & Söhne GmbH, Köln am Rhein"),
        "quality",
        at("2026-10-24"),
        at("2026-10-25"),
        "parquet",
    )
    assert other == "EXTRACT_US_M-ller-S-hne-GmbH-K_QUALITY_20261024T000000Z_20261025T000000Z.parquet"
    assert code_of("***") == "partner"
    assert subfolder(place("ACME", "parquet", other, "2026-10")) == "month=2026-10"
    assert subfolder(place("ACME", "csv", name, "2026-10")) == ""


@pytest.mark.parametrize(
    "wrong", [("U_S", "A", 1), ("US", "../A", 1), ("US", "A", 0), ("US", "A", 10**8), ("US", "", 1)]
)
def test_a_name_that_would_lead_elsewhere_is_none(wrong: tuple[str, str, int]) -> None:
    with pytest.raises(Invalid):
        file_name(wrong[0], wrong[1], "cdr", wrong[2], at("2026-10-24"), at("2026-10-25"), "csv")


@given(st.lists(st.integers(1, 7), max_size=30))
def test_lines_are_the_same_however_they_come(cuts: list[int]) -> None:
    whole = HEADER + b"".join(b"%d,x\n" % n for n in range(20))
    lines, found, begin = Lines(), b"", 0
    for cut in (*(cut * 9 for cut in cuts), len(whole)):
        found += lines.of(whole[begin : begin + cut])
        begin += cut
    lines.end()
    assert found == whole[len(HEADER) :]


def test_a_stream_that_breaks_off_is_no_file() -> None:
    lines = Lines()
    lines.of(HEADER + b"1,2")
    with pytest.raises(InvariantBroken):
        lines.end()
    with pytest.raises(InvariantBroken, match="columns"):
        Lines().of(b"other,columns\n")


def test_totals_are_kept_as_they_are() -> None:
    totals = Totals(
        3, -1500, 60, {"USD": -1, "EUR": 1_500_000}, at("2026-10-24T10:00"), at("2026-10-24T11:00")
    )
    assert Totals.from_json(totals.to_json()) == totals
    assert list(totals.to_json()["amount"].items()) == [("EUR", "1.50"), ("USD", "-0.000001")]
    assert Totals.from_json(Totals(0).to_json()) == Totals(0)
