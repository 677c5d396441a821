"""How long the data behind a record is kept: by what it is needed for. A lawyer decides; these are the rules in use.

TDDDG §10: traffic data may be used for as long as billing needs it, at most six months after the bill, and no longer
than that where nothing is billed. The SQL function cdr_delete_after_v1 is the same rule for many records at a time.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from bridge.config import Retention


class Rule(StrEnum):
    """billing: somebody pays for it. settlement: nobody does, but carriers settle. quality: nobody answered."""

    BILLING = "billing"
    SETTLEMENT = "settlement"
    QUALITY = "quality"


def rule_of(*, answered: bool, zero_rated: bool) -> Rule:
    """zero_rated: to a destination or a user for which the caller pays nothing."""
    if not answered:
        return Rule.QUALITY
    return Rule.SETTLEMENT if zero_rated else Rule.BILLING


def delete_after(rule: Rule, at: datetime, keeping: Retention, time_zone: str) -> date:
    """The last day on which the data may be there.

    at          aware; when the record counts
    time_zone   where days and months end
    """
    day = at.astimezone(ZoneInfo(time_zone)).date()
    if rule is Rule.QUALITY:
        return day + timedelta(days=keeping.quality_days)
    if rule is Rule.SETTLEMENT:
        return _month_end(day, 0) + timedelta(days=keeping.settlement_days)
    return _month_end(day, keeping.billing_months)


def _month_end(day: date, months: int) -> date:
    """The last day of the month so many months later."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])
