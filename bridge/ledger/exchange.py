"""Money of one currency into another, at a dated rate. Exact until it is rounded once, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from bridge.errors import NotFound
from bridge.telephony.money import Rounding, check_currency, divide

NANO: Final = 10**9
RATE_DAYS_MAX: Final = 7  # an older rate converts nothing
# Down, so that going there and back never gains.
ROUNDING: Final = Rounding.DOWN
_RATE: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FxRate:
    """One unit of base is rate_nano / 10^9 units of quote, from valid_on until a later rate of the two."""

    base: str
    quote: str
    valid_on: date
    rate_nano: int

    def __str__(self) -> str:
        return f"1 {self.base} = {format_rate(self.rate_nano)} {self.quote} of {self.valid_on}"


Known = Mapping[tuple[str, str], FxRate]


def parse_rate(text: str) -> int:
    """Decimal string to 10^-9.

    >>> parse_rate("1.0873")
    1087300000

    raises   ValueError with the fix: no number, over nine decimals or nine integer digits, zero, signed
    """
    found = _RATE.fullmatch(text)
    rate_nano = int(found[1]) * NANO + int((found[2] or "").ljust(9, "0")) if found else 0
    if not rate_nano:
        raise ValueError(
            f"{text[:40]!r} is not a rate of exchange. "
            "Write digits with an optional point and at most nine decimals, such as 1.0873"
        )
    return rate_nano


def format_rate(rate_nano: int) -> str:
    """
    >>> format_rate(1_087_300_000), format_rate(2 * NANO)
    ('1.0873', '2')
    """
    whole, fraction = divmod(rate_nano, NANO)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def known(rates: Iterable[FxRate]) -> Known:
    """What two currencies are worth: their newest rate, whichever its direction; both directions if of one day."""
    newest: dict[frozenset[str], list[FxRate]] = {}
    for rate in sorted(rates, key=lambda one: one.valid_on):
        kept = newest.setdefault(frozenset((rate.base, rate.quote)), [])
        kept[:] = [one for one in kept if one.valid_on == rate.valid_on] + [rate]
    return {(rate.base, rate.quote): rate for kept in newest.values() for rate in kept}


def with_inverses(rates: Known) -> dict[tuple[str, str], int]:
    """rate_nano in both directions. One that is not known is the inverse of the other, rounded down to 10^-9."""
    found = {
        (quote, base): divide(NANO * NANO, rate.rate_nano, ROUNDING) for (base, quote), rate in rates.items()
    }
    return found | {pair: rate.rate_nano for pair, rate in rates.items()}


def convert(amount_micro: int, base: str, quote: str, rates: Known) -> tuple[int, FxRate]:
    """An amount in another currency, rounded down, and the rate it was converted at.

    By the rate from base to quote, or exactly divided by that from quote to base. Rates are not chained.

    raises   NotFound: no rate between the two · ValueError: no currency, or twice the same
    """
    if check_currency(base) == check_currency(quote):
        raise ValueError(f"{base} to {quote} is no exchange. Name two currencies")
    if (rate := rates.get((base, quote))) is not None:
        return divide(amount_micro * rate.rate_nano, NANO, ROUNDING), rate
    if (rate := rates.get((quote, base))) is not None:
        return divide(amount_micro * NANO, rate.rate_nano, ROUNDING), rate
    raise NotFound(
        f"no rate between {base} and {quote} of the last {RATE_DAYS_MAX} days. Set one: `callbridge fx set`"
    )
