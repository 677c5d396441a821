"""Months begin and end where the company is, clock changes included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from bridge.errors import ConfigError, Invalid
from bridge.partners.month import MONTHS_MAX, month, month_of, months_between

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "zone", "since", "until", "hours"),
    [
        ("2026-10", BERLIN, "2026-09-30T22:00:00+00:00", "2026-10-31T23:00:00+00:00", 31 * 24 + 1),
        ("2026-03", BERLIN, "2026-02-28T23:00:00+00:00", "2026-03-31T22:00:00+00:00", 31 * 24 - 1),
        ("2026-12", BERLIN, "2026-11-30T23:00:00+00:00", "2026-12-31T23:00:00+00:00", 31 * 24),
        ("2028-02", "UTC", "2028-02-01T00:00:00+00:00", "2028-03-01T00:00:00+00:00", 29 * 24),
    ],
)
def test_a_month_is_as_long_as_it_is_there(text: str, zone: str, since: str, until: str, hours: int) -> None:
    found = month(text, zone)
    assert (found[0].isoformat(), found[1].isoformat()) == (since, until)
    assert found[1] - found[0] == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13", "2026-00", "2026-1", "2026-10-01", " 2026-10", "1999-12", "२०२६-१०", "2026-10\n"],
)
def test_what_is_no_month_says_how_one_is_written(text: str) -> None:
    with pytest.raises(Invalid, match=r"such as 2026-10"):
        month(text, BERLIN)


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../../etc/passwd", "", "a\0b"])
def test_what_is_no_zone_names_the_setting(zone: str) -> None:
    with pytest.raises(ConfigError, match=r"company\.time_zone"):
        month("2026-10", zone)


def test_months_follow_each_other_without_gap() -> None:
    since, until = month("2025-11", BERLIN)[0], month("2027-02", BERLIN)[1]
    names = months_between(since, until, BERLIN)
    assert names[0] == "2025-11" and names[-1] == "2027-02" and len(names) == 16
    edges = [month(name, BERLIN) for name in names]
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert (edges[0][0], edges[-1][1]) == (since, until)


def test_an_instant_is_in_one_month() -> None:
    since, until = month("2026-10", BERLIN)
    last = until - timedelta(microseconds=1)
    assert [month_of(at, BERLIN) for at in (since, last, until)] == ["2026-10", "2026-10", "2026-11"]
    assert months_between(since, until, BERLIN) == months_between(last, until, BERLIN) == ["2026-10"]
    assert months_between(until, until, BERLIN) == []


def test_too_many_months_are_refused() -> None:
    with pytest.raises(Invalid, match=str(MONTHS_MAX)):
        months_between(datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), BERLIN)
