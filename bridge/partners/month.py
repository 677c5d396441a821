"""Calendar months, as statements, invoices and reports count them: of the company's time zone, half-open."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.errors import ConfigError, Invalid

Month = tuple[datetime, datetime]  # [from, to), aware, UTC

_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
_YEAR_MIN: Final = 2000
_YEAR_MAX: Final = 2199
MONTHS_MAX: Final = 1200


def zone_of(name: str) -> ZoneInfo:
    """raises   ConfigError: there is no such time zone"""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            "company.time_zone",
            f"{name[:40]!r} is no time zone",
            "Name one of IANA's, such as Europe/Berlin.",
        ) from None


def month(text: str, zone: str) -> Month:
    """The instants at which a month begins and ends in a time zone.

    >>> [at.isoformat() for at in month("2026-10", "Europe/Berlin")]
    ['2026-09-30T22:00:00+00:00', '2026-10-31T23:00:00+00:00']

    raises   Invalid: no month, or not of the years 2000 to 2199 · ConfigError: there is no such time zone
    """
    found = _MONTH.fullmatch(text)
    if found is None or not _YEAR_MIN <= int(found[1]) <= _YEAR_MAX:
        raise Invalid(f"{text[:20]!r} is no month. Write the year and the month, such as 2026-10")
    year, number = int(found[1]), int(found[2])
    first = datetime(year, number, 1, tzinfo=zone_of(zone))
    after = first.replace(year=year + number // 12, month=number % 12 + 1)
    return first.astimezone(UTC), after.astimezone(UTC)


def months_between(since: datetime, until: datetime, zone: str) -> list[str]:
    """The months that [since, until) touches, in order; none where it is empty.

    raises   Invalid: over MONTHS_MAX months · ConfigError: there is no such time zone
    """
    if until <= since:
        return []
    there = zone_of(zone)
    first, last = since.astimezone(there), (until - timedelta(microseconds=1)).astimezone(there)
    start, end = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    if end - start >= MONTHS_MAX:
        raise Invalid(f"name a period of at most {MONTHS_MAX} months")
    return [f"{one // 12:04}-{one % 12 + 1:02}" for one in range(start, end + 1)]


def month_of(at: datetime, zone: str) -> str:
    """The month that an instant is in: the inverse of `month` for each instant of it."""
    return f"{at.astimezone(zone_of(zone)):%Y-%m}"
