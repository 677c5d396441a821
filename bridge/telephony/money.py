"""Money: integer micro-units (10⁻⁶ of the currency's major unit) with an ISO 4217 code, never floats.

Decimal strings exist only at the edges (API, files). A quotient is exact and rounded once, by a named rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

MICRO: Final = 1_000_000
PLACES: Final = 6

# Active national currencies, ISO 4217 list one as of 2026: no metals, no fund units, no test codes.
_ACTIVE: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
    CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD
    KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO
    NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND
    VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
CURRENCIES: Final = frozenset(_ACTIVE.split())

# Twelve integer digits keep every parsed amount inside a Postgres bigint of micro-units.
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,6}))?", re.ASCII)
_SHOWN_MAX: Final = 40


class Rounding(StrEnum):
    """How a quotient becomes a whole number. All are symmetric: a reversal mirrors its booking."""

    HALF_UP = "half_up"  # half goes away from zero; what invoices use
    HALF_EVEN = "half_even"
    UP = "up"  # away from zero
    DOWN = "down"  # towards zero


def divide(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Exact integer quotient, rounded once.

    >>> [divide(n, 2, Rounding.HALF_UP) for n in (-3, -1, 1, 3)]
    [-2, -1, 1, 2]
    >>> [divide(n, 2, Rounding.HALF_EVEN) for n in (-3, -1, 1, 3)]
    [-2, 0, 0, 2]

    raises   ValueError: the denominator is not positive
    """
    if denominator <= 0:
        raise ValueError(f"cannot divide by {denominator}: the denominator must be positive")
    whole, rest = divmod(abs(numerator), denominator)
    match rounding:
        case Rounding.HALF_UP:
            more = 2 * rest >= denominator
        case Rounding.HALF_EVEN:
            more = 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)
        case Rounding.UP:
            more = rest > 0
        case Rounding.DOWN:
            more = False
        case _:
            assert_never(rounding)
    rounded = whole + 1 if more else whole
    return -rounded if numerator < 0 else rounded


def parse_micro(text: str) -> int:
    """Decimal string to micro-units, exactly.

    >>> parse_micro("0.09"), parse_micro("-1.5"), parse_micro("0.000001")
    (90000, -1500000, 1)

    raises   ValueError with the fix: no number, over six decimals, over twelve integer digits, an exponent,
             a plus sign, a comma, blanks
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text[:_SHOWN_MAX]!r} is not an amount. "
            "Write digits with an optional point and at most six decimals, such as 0.0725 or -3"
        )
    sign, whole, fraction = found.groups(default="")
    amount = int(whole) * MICRO + int(fraction.ljust(PLACES, "0"))
    return -amount if sign else amount


def format_micro(amount_micro: int, places_min: int = 2) -> str:
    """Micro-units to the shortest exact decimal string with at least `places_min` (0 to 6) decimals.

    >>> format_micro(70_000), format_micro(7_000), format_micro(-1_500_000), format_micro(3_000_000, 0)
    ('0.07', '0.007', '-1.50', '3')
    """
    if not 0 <= places_min <= PLACES:
        raise ValueError(f"places_min {places_min} is outside 0 to {PLACES}")
    whole, fraction = divmod(abs(amount_micro), MICRO)
    decimals = f"{fraction:06d}".rstrip("0").ljust(places_min, "0")
    sign = "-" if amount_micro < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def check_currency(code: str) -> str:
    """The code itself when it is an active ISO 4217 currency, in capitals; else ValueError with the fix."""
    if code not in CURRENCIES:
        raise ValueError(f"{code[:_SHOWN_MAX]!r} is not a currency. Use an active ISO 4217 code such as EUR")
    return code


@dataclass(frozen=True, slots=True)
class Money:
    """An amount that knows its currency. Amounts of two currencies never meet: ValueError.

    >>> Money(1_500_000, "EUR") + Money(-500_000, "EUR")
    Money(amount_micro=1000000, currency='EUR')
    """

    amount_micro: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_micro) is not int:
            raise TypeError(f"amount_micro must be an int, not {type(self.amount_micro).__name__}")
        check_currency(self.currency)

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.amount_micro + other.amount_micro, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.amount_micro - other.amount_micro, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_micro, self.currency)

    def __str__(self) -> str:
        return f"{format_micro(self.amount_micro)} {self.currency}"

    def _same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not mix. Convert one of them first")
