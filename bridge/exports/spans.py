"""The periods that files are of: hours, days and months as a recipient's clock shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.errors import Invalid

FILES_MAX: Final = 10_000  # that one run plans for a recipient and type: more is a wrong year, not a backlog


class Every(StrEnum):
    """How long the period of one file is. manual: up to whenever files are asked for."""

    HOURLY = "hourly"
    DAILY = "daily"
    MONTHLY = "monthly"
    MANUAL = "manual"


def zone_named(name: str) -> ZoneInfo:
    """raises   Invalid: there is no such time zone"""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"{name[:40]!r} is no time zone. Write one as Europe/Berlin") from None


def whole_second(at: datetime) -> datetime:
    """In UTC, without the fraction: the names of files show seconds."""
    return at.astimezone(UTC).replace(microsecond=0)


def begun(at: datetime, every: Every, zone: ZoneInfo) -> datetime:
    """When the period began that an instant is in. Where files are asked for by hand, the day."""
    local = at.astimezone(zone)
    if every is Every.HOURLY:
        return whole_second(at) - timedelta(minutes=local.minute, seconds=local.second)
    day = local.date().replace(day=1) if every is Every.MONTHLY else local.date()
    return datetime.combine(day, time(), zone).astimezone(UTC)


def following(at: datetime, every: Every, zone: ZoneInfo) -> datetime:
    """The first beginning of a period after an instant.

    A day of 23 or 25 hours is one day, and each of the two hours that a clock shows twice is an hour of its own. A
    midnight that the clock leaps over is the instant of the leap (PEP 495).
    """
    if every is Every.HOURLY:
        return begun(at, every, zone) + timedelta(hours=1)
    day = at.astimezone(zone).date()
    first = day.replace(day=1) + timedelta(days=32) if every is Every.MONTHLY else day + timedelta(days=1)
    day = first.replace(day=1) if every is Every.MONTHLY else first
    return datetime.combine(day, time(), zone).astimezone(UTC)


def spans(
    after: datetime, until: datetime, every: Every, zone: ZoneInfo
) -> Iterator[tuple[datetime, datetime]]:
    """The periods that are over by `until`, each from where the one before ended, the first from `after` on.

    raises   Invalid: there are more than FILES_MAX
    """
    if every is Every.MANUAL:
        if after < whole_second(until):
            yield after, whole_second(until)
        return
    for _ in range(FILES_MAX):
        end = following(after, every, zone)
        if end > until:
            return
        yield after, end
        after = end
    raise Invalid(
        f"More than {FILES_MAX} periods since {after:%Y-%m-%d} are due. Set the recipient's beginning later"
    )
