"""Numbers that can be given to somebody: where they are, of which kind, and which never can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from bridge.telephony.number import EMERGENCY, Number, barred, mask

BLOCK_MAX: Final = 1000


class DidKind(StrEnum):
    """Geographic ones belong to a place, mobile ones to a phone, national ones to neither."""

    GEOGRAPHIC = "geographic"
    MOBILE = "mobile"
    NATIONAL = "national"


@dataclass(frozen=True, slots=True)
class Did:
    """country: ISO 3166."""

    number: Number
    country: str
    kind: DidKind


_KINDS: Final = {
    PhoneNumberType.FIXED_LINE: DidKind.GEOGRAPHIC,
    PhoneNumberType.FIXED_LINE_OR_MOBILE: DidKind.GEOGRAPHIC,
    PhoneNumberType.MOBILE: DidKind.MOBILE,
    PhoneNumberType.VOIP: DidKind.NATIONAL,
    PhoneNumberType.UAN: DidKind.NATIONAL,
}
_GERMAN_NATIONAL: Final = "+4932"  # libphonenumber takes 032 for a fixed line


def did(number: Number) -> Did:
    """Where a number is, and of which kind.

    raises   ValueError: nobody can be given it and called by it: premium, mass-traffic, service, short, emergency, or
             of no country
    """
    shown = mask(number.e164)
    if (code := barred(number)) is not None:
        raise ValueError(f"{shown} is of the range {code}, which is nobody's to be called by")
    try:
        parsed = phonenumbers.parse(number.e164)
    except phonenumbers.NumberParseException:
        raise ValueError(f"{shown} is a number of no known country") from None
    if phonenumbers.format_number(parsed, PhoneNumberFormat.E164) != number.e164:
        raise ValueError(f"{shown} is a number with a 0 that belongs to dialling at home")
    country = phonenumbers.region_code_for_number(parsed)
    kind = _KINDS.get(phonenumbers.number_type(parsed))
    if kind is None or country is None or len(country) != 2 or not country.isalpha():
        raise ValueError(f"{shown} is no number that a subscriber can have")
    area = phonenumbers.length_of_geographical_area_code(parsed)
    if number.digits.removeprefix(str(parsed.country_code))[area:] in EMERGENCY:
        raise ValueError(f"{shown} is an emergency number there")
    if number.e164.startswith(_GERMAN_NATIONAL):
        kind = DidKind.NATIONAL
    return Did(number, country, kind)


def block(first: Number, last: Number) -> Sequence[Did]:
    """All numbers from the first to the last; takes 30 ms for a thousand.

    raises   ValueError: other lengths or countries, the wrong way round, over BLOCK_MAX, or what `did` says
    """
    low, high = int(first.digits), int(last.digits)
    if len(first.digits) != len(last.digits) or high < low:
        raise ValueError("the last number should be as long as the first, and not before it")
    if high - low >= BLOCK_MAX:
        raise ValueError(f"a block has at most {BLOCK_MAX} numbers")
    found = [did(Number(f"+{digits}")) for digits in range(low, high + 1)]
    if len({one.country for one in found}) != 1:
        raise ValueError("a block is of one country")
    return found
