"""How long data is kept, by what it is needed for; and what a pseudonym is."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, date, datetime

import pytest

from bridge.config import Retention
from bridge.retention.purge import pads
from bridge.retention.rules import Rule, delete_after, rule_of

KEEPING = Retention(billing_months=6, settlement_days=80, quality_days=30)
# 00:30 on the first of November in Berlin, and still October in UTC.
AT = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "zone", "last"),
    [
        (Rule.BILLING, "Europe/Berlin", date(2027, 5, 31)),
        (Rule.BILLING, "UTC", date(2027, 4, 30)),
        (Rule.SETTLEMENT, "Europe/Berlin", date(2027, 2, 18)),
        (Rule.QUALITY, "Europe/Berlin", date(2026, 12, 1)),
    ],
)
def test_the_last_day(rule: Rule, zone: str, last: date) -> None:
    assert delete_after(rule, AT, KEEPING, zone) == last


def test_a_month_that_is_shorter_ends_earlier() -> None:
    assert delete_after(Rule.BILLING, datetime(2027, 8, 31, 12, tzinfo=UTC), KEEPING, "UTC") == date(
        2028, 2, 29
    )


def test_what_nobody_pays_for_is_kept_for_less_long() -> None:
    assert (
        rule_of(answered=False, zero_rated=False) is rule_of(answered=False, zero_rated=True) is Rule.QUALITY
    )
    assert rule_of(answered=True, zero_rated=True) is Rule.SETTLEMENT
    assert rule_of(answered=True, zero_rated=False) is Rule.BILLING


def test_the_pads_are_those_of_hmac() -> None:
    key, number = bytes(range(32)), b"+493023125000"
    inner, outer = pads(key)
    made = hashlib.sha256(outer + hashlib.sha256(inner + number).digest()).digest()
    assert made == hmac.new(key, number, "sha256").digest()
