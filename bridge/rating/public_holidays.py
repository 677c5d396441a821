"""Public holidays by country, from the library of that name. Asked once: what it says is kept as dates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import Final

import holidays

YEARS: Final = range(2000, 2100)


def public_holidays(region: str, years: Iterable[int]) -> frozenset[date]:
    """The holidays of a country or a part of it.

    region   ISO 3166-1, or with the part as ISO 3166-2 has it: DE, DE-NW
    raises   ValueError naming the fix: no such region, or not known for a year
    """
    country, _, part = region.partition("-")
    parts = _countries().get(country)
    if parts is None:
        raise ValueError(f"{region[:20]!r} is no country with known holidays. Write it such as DE or DE-NW")
    if part and part not in parts:
        known = ", ".join(f"{country}-{one}" for one in parts) or "none"
        raise ValueError(f"{region[:20]!r} is no part of {country}. Known: {known}")
    found: set[date] = set()
    for year in years:
        if year not in YEARS:
            raise ValueError(f"{year} is not in our time. Write a year from {YEARS[0]} to {YEARS[-1]}")
        of_year = set(holidays.country_holidays(country, subdiv=part or None, years=year))
        if not of_year:
            raise ValueError(f"nothing is known of {region} in {year}. Write its dates as holidays")
        found |= of_year
    return frozenset(found)


@cache
def _countries() -> dict[str, list[str]]:
    return holidays.list_supported_countries(include_aliases=False)
