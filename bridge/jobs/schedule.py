"""When a job with a rhythm is due: rules only. Who missed some is due once: each does all there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, assert_never
from zoneinfo import ZoneInfo

Rhythm = Literal["often", "hourly", "daily", "monthly"]

OFTEN_S: Final = 300
# Before each try after the first; the last is most of a day after the first. A rhythm goes on after that, too.
WAITS_S: Final = (60, 300, 1800, 7200, 21_600, 43_200)


def next_after(rhythm: Rhythm, zone: ZoneInfo, at: datetime, after_s: float = 0) -> datetime:
    """The first time after `at` that a job is due: so long after an hour, a day or a month has begun in the zone.

    Days begin at midnight, or when the clock goes on from before it to beyond it; each day once, however long it is.
    """
    at -= timedelta(seconds=after_s)
    match rhythm:
        case "often":
            begins = datetime.fromtimestamp((int(at.timestamp()) // OFTEN_S + 1) * OFTEN_S, UTC)
        case "hourly":
            begins = _next_hour(at, zone)
        case "daily":
            begins = _midnight(at.astimezone(zone) + timedelta(days=1), zone)
        case "monthly":
            first = at.astimezone(zone).replace(day=1)
            begins = _midnight((first + timedelta(days=32)).replace(day=1), zone)
        case _:
            assert_never(rhythm)
    return begins + timedelta(seconds=after_s)


def retry_s(tries: int) -> int | None:
    """How long to wait after try number `tries` failed; None: it is given up."""
    return WAITS_S[tries - 1] if tries <= len(WAITS_S) else None


def _midnight(local: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of the date. Where clocks go from 23:59 to 01:00 it is that instant, and the first of two."""
    return datetime(local.year, local.month, local.day, tzinfo=zone).astimezone(UTC)


def _next_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Counted in real time, so that an hour that comes twice ends twice."""
    local = at.astimezone(zone)
    past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return at.astimezone(UTC) - past + timedelta(hours=1)
