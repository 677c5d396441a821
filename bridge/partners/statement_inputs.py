"""What a statement follows from, frozen: sums of records, purchases, rates of exchange and the terms in force.

Nothing else is looked at when its lines are made, so that the same lines are made from it years later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any, Final, Self

from bridge.errors import Invalid
from bridge.ledger.exchange import NANO
from bridge.partners.deal import ON_NET, Terms
from bridge.telephony.money import Rounding, divide

LATE: Final = -1  # the part of what belongs to an earlier month and was learnt in this one
CARRIAGE: Final = "carriage"  # the traffic that the partner carries for us
DESTINATION: Final = "destination"
ON_NET_PURPOSE: Final = "on-net"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the month, with one version of the deal in force.

    version   0: none, the deal begins later or has ended
    days      local days whose noon lies in it
    carries   the partner's traffic of this time is settled by this deal, not by another one with it
    """

    version: int
    from_at: datetime
    until_at: datetime
    days: int
    carries: bool
    terms: Terms


@dataclass(frozen=True, slots=True, order=True)
class RecordSum:
    """Records of one sort. Reversals count negative, in `calls` too.

    leg         termination: what the partner has carried · origination, usage: what its subscribers used ·
                zero_cost: what carrying its zero-rated calls has cost us, whoever carried them
    part        which one the calls ended in; LATE: in an earlier month
    account_id  terminations: the carrier's account, on which the cost was booked call by call
    """

    leg: str
    part: int
    purpose: str
    currency: str
    tax_ppm: int
    account_id: str
    calls: int
    billed_s: int
    amount_micro: int


@dataclass(frozen=True, slots=True, order=True)
class PurchaseSum:
    """Bundles that were bought; negative: given back. LATE: given back, bought in an earlier month.

    tax_ppm   in the amount, as it was when they were bought
    """

    part: int
    bundle_id: str
    currency: str
    purchases: int
    amount_micro: int
    tax_ppm: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """One unit of base was rate_nano / 10^9 units of quote."""

    base: str
    quote: str
    valid_on: date
    rate_nano: int


@dataclass(frozen=True, slots=True, order=True)
class Outcome:
    """What a dispute ended with, booked already. Positive: we owe it to the partner.

    account_id   where it was booked; "": on the partner's own account in the deal's currency
    leg          of the reconciliation it came from: termination is about what the partner has carried; "": of none
    """

    dispute_id: str
    title: str
    currency: str
    account_id: str
    amount_micro: int
    leg: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which records these are: [first_no, last_no] of the partner's, both 0 where there are none.

    hash   of the partner's chain after the last whole UTC day of the month; "" where no day of it is closed
    """

    first_no: int = 0
    last_no: int = 0
    records: int = 0
    house_last_no: int = 0
    hash_day: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """late   of what late records count in this deal's statement: CARRIAGE, bases of shares, bundles, purposes"""

    month: str
    time_zone: str
    from_at: datetime
    to_at: datetime
    last_day: date
    currency: str
    parts: tuple[Part, ...]
    late: frozenset[str] = frozenset()
    records: tuple[RecordSum, ...] = ()
    purchases: tuple[PurchaseSum, ...] = ()
    fx: tuple[Rate, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def days(self) -> int:
        return sum(part.days for part in self.parts)

    def of(self, legs: Iterable[str], part: int, purpose: str | None = None) -> list[RecordSum]:
        wanted = frozenset(legs)
        return [
            one
            for one in self.records
            if one.leg in wanted and one.part == part and purpose in (None, one.purpose)
        ]

    def converted(self, amount_micro: int, currency: str) -> int:
        """In the deal's currency, rounded half up, once.

        raises   Invalid: there is no rate, and how to note it
        """
        if currency == self.currency or not amount_micro:
            return amount_micro
        rate = self.rate_of(currency)
        if rate.base == currency:
            return divide(amount_micro * rate.rate_nano, NANO, Rounding.HALF_UP)
        return divide(amount_micro * NANO, rate.rate_nano, Rounding.HALF_UP)

    def rate_of(self, currency: str) -> Rate:
        """raises   Invalid: there is none"""
        for pair in ((currency, self.currency), (self.currency, currency)):
            for rate in self.fx:
                if (rate.base, rate.quote) == pair:
                    return rate
        raise Invalid(
            f"No rate of exchange from {currency} to {self.currency} is known for {self.last_day}. "
            f"Note it: `callbridge fx set {currency} {self.currency} RATE --on {self.last_day}`"
        )

    def to_json(self) -> dict[str, Any]:
        """As kept: integers and text only, in one order."""
        return {
            "format": _FORMAT,
            "month": self.month,
            "time_zone": self.time_zone,
            "from_at": self.from_at.isoformat(),
            "to_at": self.to_at.isoformat(),
            "last_day": self.last_day.isoformat(),
            "currency": self.currency,
            "parts": [
                {
                    "version": part.version,
                    "from_at": part.from_at.isoformat(),
                    "until_at": part.until_at.isoformat(),
                    "days": part.days,
                    "carries": part.carries,
                    "terms": part.terms.to_json(),
                }
                for part in self.parts
            ],
            "late": sorted(self.late),
            "records": [asdict(one) for one in sorted(self.records)],
            "purchases": [asdict(one) for one in sorted(self.purchases)],
            "fx": [asdict(one) | {"valid_on": one.valid_on.isoformat()} for one in sorted(self.fx)],
            "outcomes": [asdict(one) for one in sorted(self.outcomes)],
            "evidence": asdict(self.evidence),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        if kept["format"] != _FORMAT:
            raise ValueError(f"inputs of the format {kept['format']} are not known")
        return cls(
            month=kept["month"],
            time_zone=kept["time_zone"],
            from_at=datetime.fromisoformat(kept["from_at"]),
            to_at=datetime.fromisoformat(kept["to_at"]),
            last_day=date.fromisoformat(kept["last_day"]),
            currency=kept["currency"],
            parts=tuple(_part(one) for one in kept["parts"]),
            late=frozenset(kept["late"]),
            records=tuple(RecordSum(**one) for one in kept["records"]),
            purchases=tuple(PurchaseSum(**one) for one in kept["purchases"]),
            fx=tuple(Rate(**one | {"valid_on": date.fromisoformat(one["valid_on"])}) for one in kept["fx"]),
            outcomes=tuple(Outcome(**one) for one in kept["outcomes"]),
            evidence=Evidence(**kept["evidence"]),
        )


def _part(kept: Mapping[str, Any]) -> Part:
    return Part(
        version=kept["version"],
        from_at=datetime.fromisoformat(kept["from_at"]),
        until_at=datetime.fromisoformat(kept["until_at"]),
        days=kept["days"],
        carries=kept["carries"],
        terms=Terms.from_json(kept["terms"]),
    )


def kinds_of(terms: Terms) -> frozenset[str]:
    """What terms say anything about; two deals of a partner may not say two things about one of these."""
    found = {f"share of {share.of.value}" for share in terms.revenue_share}
    found |= {f"funding of {one.bundle_id.hex}" for one in terms.bundle_funding}
    if terms.wholesale:
        found.add(CARRIAGE)
    if terms.commitment:
        found.add("commitment")
    if terms.zero_rated.destinations:
        found.add(DESTINATION)
    if ON_NET in terms.zero_rated.services:
        found.add(ON_NET_PURPOSE)
    return frozenset(found)


def last_of(parts: Sequence[Part], kind: str) -> Part | None:
    """The last part whose terms say anything about it."""
    return next((part for part in reversed(parts) if kind in kinds_of(part.terms)), None)
