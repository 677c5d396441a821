"""What one cell of a rate deck says: text in, value out. ValueError says what is wrong and how to write it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from bridge.rating.rate import PRICE_MICRO_MAX, SPAN_S_MAX, Tier
from bridge.telephony.money import PLACES, format_micro, parse_micro

EXPANDED_MAX: Final = 10_000  # prefixes one row may stand for
PREFIX_LENGTH_MAX: Final = 15
TEXT_LENGTH_MAX: Final = 100
SHOWN_MAX: Final = 40

_DIGITS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_EXPONENT: Final = re.compile(r"[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+", re.ASCII)
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.ASCII,
)
_YEARS: Final = range(1990, 2200)
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, bidi, surrogate, …
_GUARDED: Final = ("'=", "'+", "'-", "'@")
_YES: Final = frozenset({"yes", "y", "true", "1", "x", "blocked"})
_NO: Final = frozenset({"", "no", "n", "false", "0"})
# What the column `change` may say. Only blocked and delete change anything; the difference itself is worked out.
_CHANGES: Final = {
    **dict.fromkeys(("blocked", "block", "barred"), "blocked"),
    **dict.fromkeys(("delete", "deleted", "remove", "removed", "closed"), "delete"),
    **dict.fromkeys(
        ("", "new", "increase", "increased", "decrease", "decreased", "same", "unchanged", "no_change", "change",
         "changed"),
        "",
    ),
}  # fmt: skip


def shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…")


def prefixes(cell: str, area: str = "") -> list[str]:
    """The prefixes a row stands for: the cell itself, a list, ranges with a dash, or a country with its areas.

    A range becomes the fewest prefixes that cover it. One leading + is the sign of an international number and is
    taken off; 00 and 0 are not, because which number was meant depends on where it is dialled.

    >>> prefixes("+49"), prefixes("4930-4939"), prefixes("49", "30;40;151-159")
    (['49'], ['493'], ['4930', '4940', '49151', '49152', '49153', '49154', '49155', '49156', '49157', '49158', '49159'])
    """
    if not area:
        return _each(cell)
    country = _checked(cell.removeprefix("+"))
    return [_checked(country + one) for one in _each(area, "area")]


def _each(cell: str, what: str = "prefix") -> list[str]:
    found: list[str] = []
    for part in re.split(r"[;,|]", cell) if what == "area" or ";" in cell or "," in cell else (cell,):
        first, dash, last = (one.strip() for one in part.strip().partition("-"))
        first, last = first.removeprefix("+"), last.removeprefix("+")
        low = _checked(first, what)
        found += _covering(low, _checked(last, what)) if dash else [low]
        if len(found) > EXPANDED_MAX:
            raise ValueError(f"stands for more than {EXPANDED_MAX:,} prefixes. Write it in several rows")
    return found


def _checked(digits: str, what: str = "prefix") -> str:
    if _EXPONENT.fullmatch(digits):
        raise ValueError(
            f"{shown(digits)} has lost its digits in a spreadsheet. Format the column as text and enter them again"
        )
    if digits.startswith("="):
        raise ValueError(f"{shown(digits)} is a formula. Keep only its value")
    if not digits:
        raise ValueError(f"the {what} is empty. Write its digits")
    if digits.startswith("0"):
        raise ValueError(
            f"{shown(digits)} begins with 0. Write the international prefix from the country code on, such as 4930"
        )
    if _DIGITS.fullmatch(digits) is None:
        raise ValueError(f"{shown(digits)} is not a {what}. Write 1 to {PREFIX_LENGTH_MAX} digits")
    return digits


def _covering(low: str, high: str) -> list[str]:
    """The fewest prefixes that together are every number from `low…` to `high…`.

    >>> _covering("151", "159"), _covering("30", "49"), _covering("4928", "4931")
    (['151', '152', '153', '154', '155', '156', '157', '158', '159'], ['3', '4'], ['4928', '4929', '4930', '4931'])
    """
    if len(low) != len(high) or low > high:
        raise ValueError(f"{low}-{high} is no range. Both ends need as many digits, the smaller first")
    if low == high:
        return [low]
    found: list[str] = []
    at, end = int(low), int(high)
    while at <= end:
        zeros = 0
        while zeros < len(low) - 1 and at % 10 ** (zeros + 1) == 0 and at + 10 ** (zeros + 1) - 1 <= end:
            zeros += 1
        found.append(str(at // 10**zeros))
        at += 10**zeros
    return found


@dataclass(slots=True)
class Decimals:
    """Reads amounts of one file. The first decimal mark met is the file's; the other one is then refused.

    comma_allowed  False in a file whose cells are parted by commas
    """

    comma_allowed: bool
    mark: str = ""

    def micro(self, text: str) -> int:
        """Micro-units, 0 or more. Zeros beyond the sixth decimal say nothing and may stand."""
        if "," in text:
            self._take(",", text)
            plain = text.replace(",", ".")
        elif "." in text:
            self._take(".", text)
            plain = text
        else:
            plain = text
        whole, point, fraction = plain.partition(".")
        if len(fraction) > PLACES:
            kept = fraction[:PLACES]
            if fraction[PLACES:].strip("0"):
                raise ValueError(f"{shown(text)} has more than {PLACES} decimals. Round it: no more are kept")
            plain = f"{whole}{point}{kept}"
        amount = parse_micro(plain)
        if amount < 0:
            raise ValueError(f"{shown(text)} is negative. Write 0 or more")
        if amount > PRICE_MICRO_MAX:
            raise ValueError(f"{shown(text)} is too much. Write at most {format_micro(PRICE_MICRO_MAX, 0)}")
        return amount

    def _take(self, mark: str, text: str) -> None:
        if "," in text and "." in text:
            raise ValueError(
                f"{shown(text)} mixes point and comma. Write it without thousands, such as 1234.50"
            )
        if mark == "," and not self.comma_allowed:
            raise ValueError(
                f"{shown(text)} has a decimal comma in a file parted by commas. Write a point, or part by semicolons"
            )
        if self.mark and self.mark != mark:
            raise ValueError(
                f"{shown(text)} has a {mark!r} where rows above have {self.mark!r}. Use one of them"
            )
        self.mark = mark

    def tiers(self, text: str) -> tuple[Tier, ...]:
        """Later prices within a call: `from_s:rate/increment` each, parted by semicolons."""
        found = []
        for part in filter(None, (one.strip() for one in text.split(";"))):
            from_s, colon, price = part.partition(":")
            rate, slash, next_s = price.partition("/")
            if not colon or not slash:
                raise ValueError(f"{shown(part)} is no tier. Write them like 180:0.05/60;600:0.02/60")
            found.append(Tier(seconds(from_s, 1), self.micro(rate.strip()), seconds(next_s, 1)))
        starts = [tier.from_s for tier in found]
        if starts != sorted(set(starts)):
            raise ValueError(f"{shown(text)} does not ascend. Write each later tier once, in order")
        return tuple(found)


def seconds(text: str, least: int) -> int:
    """Whole seconds, at most a day."""
    plain = text.strip()
    if _SECONDS.fullmatch(plain) is None or not least <= int(plain) <= SPAN_S_MAX:
        raise ValueError(f"{shown(plain)} is not allowed. Write whole seconds, {least} to {SPAN_S_MAX}")
    return int(plain)


def increments(text: str) -> tuple[int, int]:
    """
    >>> increments("60/6")
    (60, 6)
    """
    first, slash, further = text.partition("/")
    if not slash:
        raise ValueError(f"{shown(text)} is no increment. Write first and further block, such as 60/6")
    return seconds(first, 1), seconds(further, 1)


def instant(text: str, zone: ZoneInfo) -> datetime:
    """An instant in UTC. A time that names no offset is one of `zone`; a date is the midnight it begins with."""
    if _INSTANT.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is no time. Write 2026-01-31, or 2026-01-31T14:00:00+01:00")
    try:
        found = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise ValueError(f"{shown(text)} is no time: {wrong}") from None
    if found.year not in _YEARS:
        raise ValueError(f"{shown(text)} is not in our time. Write a year from {_YEARS[0]} to {_YEARS[-1]}")
    if found.tzinfo is not None:
        return found.astimezone(UTC)
    early, late = (found.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early != late:
        which = "twice" if late - early > timedelta(0) else "never"
        raise ValueError(f"{shown(text)} happens {which} in {zone.key}. Write its offset, such as +01:00")
    return early


def plain_text(text: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    """A text for people. What cannot be seen, or turns the reading direction, is refused.

    An apostrophe before =, +, - or @ is a spreadsheet's (and our export's) guard against formulas and is taken off.
    """
    if text.startswith("="):
        raise ValueError(f"{shown(text)} is a formula. Keep only its value")
    if not text.isascii() or not text.isprintable():
        for letter in text:
            if unicodedata.category(letter) in _UNSEEN:
                raise ValueError(f"holds the invisible character U+{ord(letter):04X}. Remove it")
    if len(text) > length_max:
        raise ValueError(f"is {len(text)} characters long. At most {length_max} are kept")
    return text[1:] if text.startswith(_GUARDED) else text


def guarded(text: str) -> str:
    """The inverse: a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", *_GUARDED)) else text


def yes(text: str) -> bool:
    plain = text.casefold()
    if plain in _YES:
        return True
    if plain in _NO:
        return False
    raise ValueError(f"{shown(text)} is neither yes nor no")


def change(text: str) -> str:
    """`blocked`, `delete`, or nothing."""
    found = _CHANGES.get(text.casefold().replace(" ", "_"))
    if found is None:
        raise ValueError(
            f"{shown(text)} is no change. Write new, increase, decrease, same, blocked or delete"
        )
    return found


def duplicates(found: list[str]) -> Iterator[str]:
    """Those that stand in the list before."""
    seen: set[str] = set()
    for one in found:
        if one in seen:
            yield one
        seen.add(one)
