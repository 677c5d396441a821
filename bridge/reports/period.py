"""Of when a report tells: whole days of the company's time zone, half-open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from bridge.errors import Invalid
from bridge.partners.month import month, month_of, zone_of

DAYS_MAX: Final = 400
_ONE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """[since, until) in UTC. label: as a person calls it, such as 2026-10 or 2026-10-01 to 2026-10-07."""

    since: datetime
    until: datetime
    zone: str
    label: str
    month: str = ""  # "2026-10" where it is just one month, else ""

    def days(self) -> list[date]:
        """The days of the period in its time zone, in order."""
        there = zone_of(self.zone)
        first = self.since.astimezone(there).date()
        last = (self.until - timedelta(microseconds=1)).astimezone(there).date()
        return [first + _ONE * n for n in range((last - first).days + 1)]

    def hours_of_week(self) -> dict[str, int]:
        """How often each hour of the week ("1 09": Monday, nine o'clock) begins in the period; clock changes count."""
        there, found = zone_of(self.zone), dict[str, int]()
        at = self.since
        while at < self.until:
            local = at.astimezone(there)
            key = f"{local.isoweekday()} {local:%H}"
            found[key] = found.get(key, 0) + 1
            at += timedelta(hours=1)
        return found


def of_month(text: str, zone: str) -> Period:
    """raises   Invalid: no month"""
    since, until = month(text, zone)
    return Period(since, until, zone, text, text)


def of_days(first: date, last: date, zone: str) -> Period:
    """From the beginning of one day to the end of another.

    raises   Invalid: the last is before the first, or they are more than DAYS_MAX days, or of a year nobody reports
    """
    if not 2000 <= first.year <= last.year <= 2199:
        raise Invalid(f"{first} to {last} is no period of a report. Write --from and --to as 2026-10-01")
    if last < first:
        raise Invalid(f"{last} is before {first}: write the first day as --from and the last as --to")
    if (last - first).days >= DAYS_MAX:
        raise Invalid(f"{first} to {last} is too long. Name at most {DAYS_MAX} days")
    there = zone_of(zone)
    since = datetime.combine(first, time(), there).astimezone(UTC)
    until = datetime.combine(last + _ONE, time(), there).astimezone(UTC)
    if first.day == 1 and (last + _ONE).day == 1 and (last.year, last.month) == (first.year, first.month):
        return of_month(f"{first:%Y-%m}", zone)
    return Period(since, until, zone, f"{first}" if first == last else f"{first} to {last}")


def before(period: Period) -> Period:
    """What a period is compared with: the month before a month, else as many days before the first day."""
    if period.month:
        return of_month(month_of(period.since - timedelta(hours=1), period.zone), period.zone)
    days = period.days()
    return of_days(days[0] - _ONE * len(days), days[0] - _ONE, period.zone)
