"""Telephone numbers: what was dialled, who dials, what is barred, and how a number may be shown in a log.

The tables are ours, for the German plan (BNetzA numbering plan, TKG §§ 120, 164). libphonenumber is a second
opinion on length and country, not the first: it calls 112345 an emergency number and 032 a fixed line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import phonenumbers

from bridge.telephony.cause import Refuse, RefuseReason, refuse

# Compared with the whole dialled string and nothing else: 1123 is a local number, +49112 is not an emergency.
EMERGENCY: Final = frozenset({"110", "112"})

_E164: Final = re.compile(r"\+[1-9][0-9]{4,14}", re.ASCII)
_DIALLED: Final = re.compile(r"\+?[0-9]{1,20}", re.ASCII)
_DIALLED_CHARS_MAX: Final = 40
# RFC 3966 visual separators, the space, and the German slash: people and address books write them.
_SEPARATORS: Final = str.maketrans("", "", "-.() /")

# Dialled without 0, and they travel as +49…: the harmonised services of Decision 2007/116/EC, and 124 124.
_HOME_SERVICE: Final = re.compile(r"116[0-9]{3}|124124", re.ASCII)
# Dialled without area code, or before another number; no carrier takes an E.164 form of them.
_HOME_BARRED: Final[Mapping[str, str]] = MappingProxyType({"118": "118xy", "010": "010xy"})

_BARRED: Final[Mapping[str, str]] = MappingProxyType(
    {"49900": "0900", "49137": "0137", "49118": "118xy", "4910": "010xy", "49180": "0180", "49700": "0700"}
    | {f"4918{n}": "0181-0189" for n in range(1, 10)}
    | {"4919": "019x", "4912": "012"}
    | {"979": "+979", "881": "+881", "882": "+882", "883": "+883", "878": "+878"}
)
_BARRED_LENGTHS: Final = sorted({len(prefix) for prefix in _BARRED})
_NOT_BARRED: Final = frozenset({"+49124124"})

# 124 124 blocks cards and 116 117 sends doctors: both go by who calls.
_ALWAYS_SEES: Final = frozenset({"+49124124", "+49116117"})

# TKG § 120 (3): directory, mass-traffic, premium and short numbers may not be shown as a caller.
_NEVER_A_CALLER: Final = frozenset({"118xy", "0137", "0900", "010xy", "+979"})

_SHOWN: Final = 7
_HIDDEN_MIN: Final = 4
_MASK_CHARS_MAX: Final = 20
_NOT_MASKABLE: Final = re.compile(r"[^0-9+*#x…]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in E.164 with its plus sign, five to fifteen digits. Its repr hides the last ones."""

    e164: str

    def __post_init__(self) -> None:
        if _E164.fullmatch(self.e164) is None:
            raise ValueError(f"{mask(self.e164)} is not E.164. Write + and five to fifteen digits")

    @property
    def digits(self) -> str:
        """Without the plus sign, as decks and carriers key them."""
        return self.e164[1:]

    def __repr__(self) -> str:
        return f"Number({mask(self.e164)})"


def is_emergency(dialled: str) -> bool:
    """Exactly 110 or 112, as dialled."""
    return dialled in EMERGENCY


def parse_dialled(text: str, *, home: str = "DE") -> Number | Refuse:
    """What a caller dialled, as E.164, or why not.

    text     +49…, 0049… or 0…, with or without visual separators; from an unknown person, so anything
    home     ISO 3166 region whose dialling habits apply
    returns  Refuse invalid_number, or barred_destination for codes that cannot become E.164 (118xy, 010xy);
             whether the number itself is barred is asked of `barred`, which a tariff may overrule

    >>> parse_dialled("030/23125-000").e164
    '+493023125000'
    >>> parse_dialled("11833").detail
    '118xy'
    """
    dialled = _plain(text)
    if dialled is None:
        return refuse(
            RefuseReason.invalid_number, "only digits, a leading + and the separators -.()/ are dialled"
        )
    if home == "DE":
        if (code := _HOME_BARRED.get(dialled[:3])) is not None:
            return refuse(RefuseReason.barred_destination, code)
        if _HOME_SERVICE.fullmatch(dialled):
            return Number(f"+49{dialled}")
    return _to_number(dialled, home)


def parse_called(text: str, *, home: str = "DE") -> Number | Refuse:
    """The number called, as a carrier writes it: digits alone are E.164 that lacks its plus.

    >>> parse_called("493023125000").e164
    '+493023125000'
    """
    return parse_dialled(text if text[:1] in ("+", "0") else f"+{text}", home=home)


def parse_caller(text: str, *, home: str = "DE") -> Number | Refuse:
    """The number a caller presents, as E.164; Refuse unknown_caller when it is none or may not be one.

    A number no carrier could call back, a short code, and the ranges of TKG § 120 (3) are refused.
    """
    dialled = _plain(text)
    number = _to_number(dialled, home) if dialled is not None else None
    if not isinstance(number, Number):
        return refuse(RefuseReason.unknown_caller, "the caller shows no telephone number")
    if (code := barred(number)) in _NEVER_A_CALLER:
        return refuse(RefuseReason.unknown_caller, f"{code} may not be shown as a caller")
    return number


# A SIP name-addr or a bare URI of RFC 3261, as in P-Preferred-Identity of RFC 3325. Only its number counts.
_SHOWN_AS: Final = re.compile(
    r'(?:"(?:[^"\\]|\\.)*+" *|[^<>"@:,;]*)<?(?:sips?|tel):(\+[0-9]{5,15})(?:[@;>][^<>,"]*>?)?', re.ASCII
)
_SHOWN_AS_CHARS_MAX: Final = 300


def parse_shown(text: str, *, home: str = "DE") -> Number | Refuse:
    """The number somebody wants to be seen as: what P-Preferred-Identity holds. Refuse caller_id for anything else.

    >>> parse_shown('"Anna" <sip:+493023125000@phone.invalid;user=phone>').e164
    '+493023125000'
    """
    found = _SHOWN_AS.fullmatch(text.strip()) if len(text) <= _SHOWN_AS_CHARS_MAX else None
    number = parse_caller(found[1], home=home) if found is not None else None
    if not isinstance(number, Number):
        return refuse(RefuseReason.caller_id, "P-Preferred-Identity holds no number that may be shown")
    return number


def may_be_anonymous(number: Number) -> bool:
    """False for whoever must see who calls: counsel and blocking services, beside emergency (TKG § 120)."""
    return number.e164 not in _ALWAYS_SEES


def barred(number: Number) -> str | None:
    """The range that is barred unless a tariff prices it, by its everyday name; None when there is none.

    >>> barred(Number("+49900123456")), barred(Number("+493023125000"))
    ('0900', None)
    """
    if number.e164 in _NOT_BARRED:
        return None
    digits = number.digits
    for length in _BARRED_LENGTHS:
        if (name := _BARRED.get(digits[:length])) is not None:
            return name
    return None


def mask(text: str) -> str:
    """A number as a log may show it: seven characters at most, never the last four. Total and idempotent.

    >>> mask("+493023125000"), mask("112"), mask("evil\\r\\n")
    ('+493023xxxxxx', 'xxx', 'xxxxxx')
    """
    if len(text) > _MASK_CHARS_MAX:
        return mask(text[:_MASK_CHARS_MAX]) + "…"
    shown = min(_SHOWN, max(0, len(text) - _HIDDEN_MIN)) if len(text) > _SHOWN else 0
    return _NOT_MASKABLE.sub("?", text[:shown]) + "x" * (len(text) - shown)


def _plain(text: str) -> str | None:
    if _DIALLED.fullmatch(text):
        return text
    if len(text) > _DIALLED_CHARS_MAX:
        return None
    stripped = text.translate(_SEPARATORS)
    return stripped if _DIALLED.fullmatch(stripped) else None


def _to_number(dialled: str, home: str) -> Number | Refuse:
    if dialled[0] not in "+0" and phonenumbers.ndd_prefix_for_region(home, True) == "0":
        # Bare digits: a local number, or an international one without its plus? Never guess who is called.
        return refuse(RefuseReason.invalid_number, "dial + and the country code, or 0 and the area code")
    try:
        parsed = phonenumbers.parse(dialled, home)
    except phonenumbers.NumberParseException:
        return refuse(RefuseReason.invalid_number, f"{mask(dialled)} has no known country code")
    e164 = f"+{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"
    # A second trunk 0 survives the parser (+49 00 900 …); a carrier may strip it and reach a barred range.
    if (
        phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE
        or _E164.fullmatch(e164) is None
        or e164.startswith("+490")
    ):
        return refuse(RefuseReason.invalid_number, f"{mask(dialled)} has a length its country does not use")
    return Number(e164)
