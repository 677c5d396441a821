"""When jobs are due: hours, days and months of a zone, on the days when clocks are changed, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from bridge.config import Exports, Settings
from bridge.jobs.runner import planned
from bridge.jobs.schedule import WAITS_S, Rhythm, next_after, retry_s
from bridge.jobs.work import WORK

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rhythm", "zone", "now", "due"),
    [
        ("often", "UTC", "2026-10-01T00:00:00", "2026-10-01T00:05:00"),
        ("often", "Asia/Kathmandu", "2026-10-01T00:04:59.9", "2026-10-01T00:05:00"),
        ("hourly", "Europe/Berlin", "2026-10-01T00:00:00", "2026-10-01T01:00:00"),
        ("hourly", "Europe/Berlin", "2026-10-01T00:59:59.999999", "2026-10-01T01:00:00"),
        ("hourly", "Asia/Kolkata", "2026-10-01T00:00:00", "2026-10-01T00:30:00"),
        ("hourly", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T01:00:00"),  # 02:00 again
        ("hourly", "Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T02:00:00"),
        ("hourly", "Europe/Berlin", "2026-03-29T00:30:00", "2026-03-29T01:00:00"),  # 02:00 is 03:00
        ("daily", "Europe/Berlin", "2026-10-01T21:59:59", "2026-10-01T22:00:00"),
        ("daily", "Europe/Berlin", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),  # 25 hours
        ("daily", "Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),  # 23 hours
        (
            "daily",
            "Africa/Cairo",
            "2026-04-23T12:00:00",
            "2026-04-23T22:00:00",
        ),  # no midnight: 01:00 comes first
        ("monthly", "Europe/Berlin", "2026-10-01T00:00:00", "2026-10-31T23:00:00"),
        ("monthly", "Europe/Berlin", "2026-09-30T21:59:00", "2026-09-30T22:00:00"),
        ("monthly", "UTC", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("monthly", "UTC", "2028-01-31T12:00:00", "2028-02-01T00:00:00"),
    ],
)
def test_next(rhythm: Rhythm, zone: str, now: str, due: str) -> None:
    assert next_after(rhythm, ZoneInfo(zone), at(now)) == at(due)


@pytest.mark.parametrize(
    ("rhythm", "begins", "days", "times"),
    [
        ("hourly", "2026-10-24T22:00:00", 1, 24),
        ("daily", "2026-01-01T00:00:00", 365, 365),
        ("monthly", "2026-01-01T00:00:00", 365, 12),
    ],
)
def test_each_is_due_once(rhythm: Rhythm, begins: str, days: int, times: int) -> None:
    now, until, seen = at(begins), at(begins) + timedelta(days=days), []
    while (now := next_after(rhythm, BERLIN, now, 60)) <= until:
        assert now.second == 0 and now.minute == 1
        seen.append(now)
    assert len(seen) == len(set(seen)) == times
    assert seen == sorted(seen)


def test_a_little_after_is_of_the_hour_before() -> None:
    """At 01:00:30 what is due a minute after the hour is due at 01:01, not at 02:01."""
    assert next_after("hourly", BERLIN, at("2026-10-01T01:00:30"), 60) == at("2026-10-01T01:01:00")
    assert next_after("hourly", BERLIN, at("2026-10-01T01:01:00"), 60) == at("2026-10-01T02:01:00")


def test_tries_are_further_and_further_apart_and_end() -> None:
    waits = [retry_s(tries) for tries in range(1, len(WAITS_S) + 2)]
    assert waits[:3] == [60, 300, 1800]
    assert waits[-1] is None


def test_what_is_planned() -> None:
    now = at("2026-10-01T12:00:00")
    lines = {one.key: one for one in planned(WORK, Settings(), [], now)}
    assert lines["seal"].due_at == at("2026-10-01T12:05:00")
    assert lines["tidy"].due_at == at("2026-10-01T12:10:00")
    assert not {"extract", "cdr_files"} & lines.keys(), "of these there are as many as are asked for"


def test_files_are_made_once_their_calls_are_numbered() -> None:
    rows = [
        {"recipient_id": UUID(int=1), "period": "daily", "time_zone": "Europe/Berlin"},
        {"recipient_id": UUID(int=2), "period": "hourly", "time_zone": "UTC"},
    ]
    settings = Settings(exports=Exports(lag_s=60))
    lines = [
        one for one in planned(WORK, settings, rows, at("2026-10-01T12:00:30")) if one.kind == "cdr_files"
    ]
    assert [(one.rhythm, one.due_at, one.time_zone) for one in lines] == [
        ("daily", at("2026-10-01T22:01:00"), "Europe/Berlin"),
        ("hourly", at("2026-10-01T12:01:00"), "UTC"),
    ]
    assert lines[0].payload == {"recipient_id": str(UUID(int=1))}
    assert len({one.key for one in lines}) == 2
