"""A tariff: all that one call is priced by. Frozen with the call, so that it prices to the same amount years later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from bridge.errors import DeckError
from bridge.rating.bands import Band, in_force
from bridge.rating.columns import shown
from bridge.rating.dearest import dearest_rate
from bridge.rating.rate import Rate, Tier
from bridge.rating.terms import PLAIN, PPM, Boundary, Tax, Terms, tax_micro

__all__ = [
    "PLAIN",
    "PPM",
    "Band",
    "BandRate",
    "Boundary",
    "InForce",
    "Tariff",
    "Tax",
    "Terms",
    "Tier",
    "tax_micro",
]

# Holidays this near a call can touch it: a band of the day before, a call of a day, a long ringing.
_DAYS_BEFORE: Final = timedelta(days=1)
_DAYS_AFTER: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class BandRate:
    """What the call costs while a band is in force."""

    band: Band
    rate: Rate


class InForce(NamedTuple):
    """The rate at one instant, the band it is of ("" for none), and when to look again (None: never)."""

    rate: Rate
    band: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rate that was found, the version of its deck, the deck's terms, and what is different in its bands.

    bands       the first one in force wins; while none is, `rate` prices the call; all are in one currency
    zero_rated  why the call is free: "on-net" or "destination"; "" when it is not
    """

    rate: Rate
    version: int = 0
    terms: Terms = PLAIN
    bands: tuple[BandRate, ...] = ()
    zero_rated: str = ""

    def free(self, why: str) -> Tariff:
        """The same destination for nothing, at any hour."""
        return Tariff(
            replace(self.rate, rate_micro=0, connect_fee_micro=0, tiers=()), self.version, zero_rated=why
        )

    @property
    def currency(self) -> str:
        return self.rate.currency

    def at(self, instant: datetime) -> InForce:
        """What prices a block that begins at this instant (aware)."""
        if not self.bands:
            return InForce(self.rate, "", None)
        bands = [one.band for one in self.bands]
        place, until = in_force(bands, instant, self.terms.zone, self.terms.holidays)
        if place is None:
            return InForce(self.rate, "", until)
        return InForce(self.bands[place].rate, bands[place].name, until)

    def frozen(self, at: datetime) -> Tariff:
        """As kept with a call that is admitted at this instant: without the holidays that are far from it."""
        if not self.terms.holidays:
            return self
        today = at.astimezone(self.terms.zone).date()
        near = frozenset(
            day
            for day in self.terms.holidays
            if self.bands and today - _DAYS_BEFORE <= day <= today + _DAYS_AFTER
        )
        return replace(self, terms=replace(self.terms, holidays=near))

    def dearest(self, at: datetime, until: datetime, *, covered_s: int = 0) -> Tariff:
        """A tariff without bands that charges no less: for a hold, while the instant of the answer is unknown.

        It is an upper bound for every call that is answered at `at` or later, is over at `until`, and has `covered_s`
        paid by allowances. How close it is says `dearest_rate`.
        """
        if not self.bands:
            return self
        # A minimum lays blocks beyond the end of the talk.
        until += timedelta(seconds=max(self.rate.minimum_s, *(one.rate.minimum_s for one in self.bands)))
        force = self.at(at)
        rates = [force.rate]
        while force.until is not None and force.until < until:
            force = self.at(force.until)
            rates.append(force.rate)
        return Tariff(dearest_rate(rates, covered_s), self.version, self.terms)

    def to_json(self) -> dict[str, Any]:
        """Flat: the rate's columns and, beside them, what is not as usual."""
        kept = self.rate.to_json() | {"version": self.version}
        if self.terms is not PLAIN and (terms := self.terms.to_json()):
            kept["terms"] = terms
        if self.bands:
            kept["bands"] = [one.band.to_json() | {"rate": one.rate.to_json()} for one in self.bands]
        if self.zero_rated:
            kept["zero_rated"] = self.zero_rated
        return kept

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> Tariff:
        """The inverse of `to_json`; DeckError when a column is missing, unknown or wrong."""
        if not isinstance(frozen, Mapping):
            raise DeckError("a frozen tariff is an object of columns", column="rate")
        kept = dict(frozen)
        version, zero_rated = kept.pop("version", 0), kept.pop("zero_rated", "")
        if type(version) is not int or version < 0:
            raise DeckError(f"{shown(version)} is not a version. Write 0 or more", column="version")
        if zero_rated not in ("", "on-net", "destination"):
            raise DeckError(f"{shown(zero_rated)} is no reason why a call is free", column="zero_rated")
        if "terms" not in kept and "bands" not in kept:
            return cls(Rate.from_json(kept), version, zero_rated=zero_rated)
        terms, bands = kept.pop("terms", {}), kept.pop("bands", [])
        if not isinstance(terms, Mapping):
            raise DeckError(f"{shown(terms)} is not an object of columns", column="terms")
        if not isinstance(bands, list | tuple):
            raise DeckError(f"{shown(bands)} is not a list of bands", column="bands")
        rate = Rate.from_json(kept)
        laid = tuple(_band_rate(one, rate) for one in bands)
        return cls(rate, version, Terms.from_json(terms), laid, zero_rated)


def _band_rate(kept: object, base: Rate) -> BandRate:
    if not isinstance(kept, Mapping) or not isinstance(kept.get("rate"), Mapping):
        raise DeckError(f"{shown(kept)} is not a band with its rate", column="bands")
    rate = Rate.from_json(kept["rate"])
    if rate.currency != base.currency:
        problem = f"a band is in {rate.currency}, the tariff in {base.currency}. Use one currency"
        raise DeckError(problem, column="currency")
    return BandRate(Band.from_json({name: value for name, value in kept.items() if name != "rate"}), rate)
