"""A line of a statement, and words that several kinds of lines share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bridge.ledger.exchange import FxRate
from bridge.partners.deal import MINUTE_S
from bridge.partners.statement_inputs import Inputs, Part, RecordSum
from bridge.telephony.money import MICRO, Rounding, divide, format_micro

SECOND: Final = "second"  # shown as minutes: what rates are for
PURCHASE: Final = "purchase"


class Kind(StrEnum):
    """In the order in which they are listed."""

    WHOLESALE = "wholesale"
    REVENUE_SHARE = "revenue_share"
    SHORTFALL = "shortfall"
    BUNDLE_FUNDING = "bundle_funding"
    ZERO_RATED = "zero_rated"
    CORRECTION = "correction"
    DISPUTE = "dispute"


# What the partner pays; the other kinds are what we pay.
INCOME: Final = frozenset({Kind.BUNDLE_FUNDING, Kind.ZERO_RATED})


@dataclass(frozen=True, slots=True)
class Line:
    """unit        of quantity: SECOND, PURCHASE or ""
    rate_micro  for a minute
    base_micro  what a percentage is taken of, or the cost that is passed on, in the deal's currency
    of          what a correction corrects; else the kind itself
    detail      for whoever reads: how it came about
    """

    kind: Kind
    title: str
    amount_micro: int
    quantity: int = 0
    unit: str = ""
    rate_micro: int | None = None
    base_micro: int | None = None
    purpose: str = ""
    of: Kind = Kind.WHOLESALE
    detail: Mapping[str, Any] = field(default_factory=dict)


def by_currency(sums: Iterable[RecordSum]) -> dict[str, tuple[int, int, int]]:
    """Seconds, micro-units and calls."""
    found: dict[str, tuple[int, int, int]] = {}
    for one in sums:
        billed_s, amount_micro, calls = found.get(one.currency, (0, 0, 0))
        found[one.currency] = (billed_s + one.billed_s, amount_micro + one.amount_micro, calls + one.calls)
    return found


def exchanged(inputs: Inputs, amount_micro: int, currency: str) -> dict[str, Any]:
    """What it was before, where it is of another currency."""
    if currency == inputs.currency or not amount_micro:
        return {}
    rate = inputs.rate_of(currency)
    told = FxRate(rate.base, rate.quote, rate.valid_on, rate.rate_nano)
    return {"was": f"{format_micro(amount_micro)} {currency}", "exchanged": str(told)}


def when(inputs: Inputs, part: Part) -> str:
    """Which days, where the month has several parts; the days of others are not meant."""
    if len(inputs.parts) == 1:
        return ""
    place = inputs.parts.index(part)
    first = sum(one.days for one in inputs.parts[:place]) + 1
    if not part.days:
        return f", version {part.version}"
    return f", days {first} to {first + part.days - 1}"


def minutes(seconds: int) -> str:
    return format_micro(divide(seconds * MICRO, MINUTE_S, Rounding.HALF_UP), 0)
