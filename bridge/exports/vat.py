"""Value added tax: which category and rate a supply between two companies has, in the common case. A lawyer decides.

Sources: UStG §§ 3a Abs. 2, 13b; Directive 2006/112/EC Art. 44, 196; EN 16931 categories S, AE, O and the VATEX codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from bridge.errors import Invalid
from bridge.exports.party import Party

Category = Literal["S", "AE", "O"]

_EU: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU: Final = frozenset(_EU.split())

# The syntax of VAT ids behind the country's two letters, which are EL for Greece.
_SYNTAX: Final[Mapping[str, str]] = {
    "AT": r"U[0-9]{8}", "BE": r"[01][0-9]{9}", "BG": r"[0-9]{9,10}", "CY": r"[0-9]{8}[A-Z]", "CZ": r"[0-9]{8,10}",
    "DE": r"[1-9][0-9]{8}", "DK": r"[0-9]{8}", "EE": r"[0-9]{9}", "ES": r"[A-Z0-9][0-9]{7}[A-Z0-9]", "FI": r"[0-9]{8}",
    "FR": r"[A-HJ-NP-Z0-9]{2}[0-9]{9}", "EL": r"[0-9]{9}", "HR": r"[0-9]{11}", "HU": r"[0-9]{8}",
    "IE": r"[0-9][A-Z0-9+*][0-9]{5}[A-Z]{1,2}", "IT": r"[0-9]{11}", "LT": r"[0-9]{9}([0-9]{3})?", "LU": r"[0-9]{8}",
    "LV": r"[0-9]{11}", "MT": r"[0-9]{8}", "NL": r"[A-Z0-9+*]{10}[0-9]{2}", "PL": r"[0-9]{10}", "PT": r"[0-9]{9}",
    "RO": r"[0-9]{2,10}", "SE": r"[0-9]{10}01", "SI": r"[0-9]{8}", "SK": r"[0-9]{10}",
}  # fmt: skip

REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "de": {
        "domestic_resale": "Steuerschuldnerschaft des Leistungsempfängers (§ 13b Abs. 2 Nr. 12 UStG)",
        "intra_eu": "Steuerschuldnerschaft des Leistungsempfängers (Art. 196 MwStSystRL)",
        "from_outside": "Steuerschuldnerschaft des Leistungsempfängers (§ 13b Abs. 2 Nr. 1 UStG)",
        "outside": "Nicht steuerbar: Leistungsort beim Empfänger außerhalb der EU (§ 3a Abs. 2 UStG)",
    },
    "en": {
        "domestic_resale": "Reverse charge: the recipient is liable for VAT (§ 13b (2) no. 12 UStG)",
        "intra_eu": "Reverse charge: the recipient is liable for VAT (Art. 196 Directive 2006/112/EC)",
        "from_outside": "Reverse charge: the recipient is liable for VAT (§ 13b (2) no. 1 UStG)",
        "outside": "Outside the scope of VAT: supplied where the recipient is, outside the EU (§ 3a (2) UStG)",
    },
}


@dataclass(frozen=True, slots=True)
class Rate:
    """A country's standard rate from a day on, in hundredths of a per cent."""

    country: str
    since: date
    hundredths: int


# What was in force. A change of the law is a row more.
STANDARD: Final = (
    Rate("DE", date(2007, 1, 1), 1900),
    Rate("DE", date(2020, 7, 1), 1600),
    Rate("DE", date(2021, 1, 1), 1900),
)


@dataclass(frozen=True, slots=True)
class Treatment:
    """How something is taxed. hundredths: of a per cent; reason: a key of REASONS, empty where tax is shown."""

    category: Category
    hundredths: int = 0
    reason: str = ""

    @property
    def vatex(self) -> str:
        """The code of the exemption (BT-121); none for S."""
        return {"S": "", "AE": "VATEX-EU-AE", "O": "VATEX-EU-O"}[self.category]


def standard_rates(country: str, percent: str) -> tuple[Rate, ...]:
    """Rates by validity; the setting is the one in force since the last change that is known."""
    whole, _, fraction = percent.partition(".")
    now = int(whole) * 100 + int(fraction.ljust(2, "0"))
    known = [rate for rate in STANDARD if rate.country == country]
    last = known.pop() if known else Rate(country, date.min, now)
    return (*known, Rate(country, last.since, now))


def rate_on(rates: Sequence[Rate], country: str, day: date) -> int:
    """raises   Invalid: no rate of that country is known"""
    found = [rate for rate in rates if rate.country == country and rate.since <= day]
    if not found:
        raise Invalid(
            f"No VAT rate of {country} is known for {day}. Set company.country and invoices.vat_percent."
        )
    return max(found, key=lambda rate: rate.since).hundredths


def treatment(seller: Party, buyer: Party, rates: Sequence[Rate], day: date, *, telecom: bool) -> Treatment:
    """How a service is taxed.

    day       on which it was supplied: the last of its period
    telecom   a service of telecommunication; else something beside it, such as a share of revenue
    raises    Invalid, naming what to do: an id is missing or wrong, or no rate is known
    """
    home, there = seller.country, buyer.country
    if home == there:
        if home == "DE" and telecom and buyer.reseller:
            _must(seller, "tax_number", not (seller.vat_id or seller.tax_number))
            _must_be_vat_id(buyer)
            return Treatment("AE", 0, "domestic_resale")
        _must(seller, "vat_id", not (seller.vat_id or seller.tax_number))
        return Treatment("S", rate_on(rates, home, day))
    if there in EU:
        _must_be_vat_id(buyer)
        if home in EU:
            _must_be_vat_id(seller)
            return Treatment("AE", 0, "intra_eu")
        _must(seller, "tax_number", not (seller.vat_id or seller.tax_number))
        return Treatment("AE", 0, "from_outside")
    return Treatment("O", 0, "outside")


def _must(party: Party, field: str, missing: bool) -> None:
    if missing:
        raise Invalid(
            f"{party.called} needs a {field.replace('_', ' ')} for its invoices. {party.fix(field)}"
        )


def _must_be_vat_id(party: Party) -> None:
    _must(party, "vat_id", not party.vat_id)
    problem = vat_id_problem(party.vat_id, party.country)
    if problem:
        raise Invalid(f"The VAT id of {party.called} {problem}. {party.fix('vat_id')}")


def vat_id_problem(vat_id: str, country: str) -> str | None:
    """What is wrong with a VAT id, in words; None: it may be one. Whether it is given to anybody, VIES says."""
    prefix = "EL" if country == "GR" else country
    syntax = _SYNTAX.get(prefix)
    if syntax is None:
        return None
    if not vat_id.startswith(prefix):
        return f"should begin with {prefix}, as it is in {country}"
    rest = vat_id[2:]
    if not re.fullmatch(syntax, rest, re.ASCII):
        return f"is none of {country}: write it without blanks, such as DE136695976"
    check = _CHECKS.get(prefix)
    return None if check is None or check(rest) else "has a wrong check digit"


def _mod_11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def _luhn(digits: str) -> bool:
    doubled = (
        sum(divmod(int(one) * 2, 10)) if place % 2 else int(one) for place, one in enumerate(reversed(digits))
    )
    return sum(doubled) % 10 == 0


def _poland(digits: str) -> bool:
    weighed = sum(int(one) * weight for one, weight in zip(digits, (6, 5, 7, 2, 3, 4, 5, 6, 7), strict=False))
    return weighed % 11 == int(digits[-1])


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "BE": lambda digits: (97 - int(digits[:8]) % 97) == int(digits[8:]),
    "DE": _mod_11_10,
    "HR": _mod_11_10,
    "IT": _luhn,
    "LU": lambda digits: int(digits[:6]) % 89 == int(digits[6:]),
    "PL": _poland,
}
