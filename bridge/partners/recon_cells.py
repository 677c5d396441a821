"""What one cell of a counterparty's file says: text in, value out. ValueError says what is wrong and how to mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from bridge.partners.recon_mapping import EPOCHS
from bridge.rating.deck_cells import shown

TALK_MS_MAX: Final = 7 * 86_400_000
AMOUNT_MICRO_MAX: Final = 10**15
ID_LENGTH_MAX: Final = 255
_YEARS: Final = range(2000, 2200)
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
_TWO_WAYS: Final = re.compile(r"[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2,4}.*", re.ASCII)
_CLOCK: Final = re.compile(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])(?:[.,]([0-9]{1,6}))?", re.ASCII)
_SHORT_CLOCK: Final = re.compile(r"([0-9]{1,4}):([0-5][0-9])", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,12}([.,][0-9]{1,12})?", re.ASCII)
_E164: Final = re.compile(r"[1-9][0-9]{2,14}", re.ASCII)
_LOST: Final = re.compile(r"[0-9][.,][0-9]+[eE][+-]?[0-9]+", re.ASCII)
_NUMBER_MARKS: Final = str.maketrans("", "", " -()/.\u00a0")
_HIDDEN: Final = frozenset({"", "anonymous", "unknown", "withheld", "private", "restricted", "-"})
_PARTS: Final = {
    "d": "(?P<d>[0-9]{1,2})", "m": "(?P<m>[0-9]{1,2})", "Y": "(?P<Y>[0-9]{4})", "y": "(?P<y>[0-9]{2})",
    "H": "(?P<H>[0-9]{1,2})", "I": "(?P<I>[0-9]{1,2})", "M": "(?P<M>[0-9]{2})", "S": "(?P<S>[0-9]{2})",
    "f": "(?P<f>[0-9]{1,6})", "p": "(?P<p>[AaPp][Mm])", "z": "(?P<z>Z|[+-][0-9]{2}:?[0-9]{2})", "%": "%",
}  # fmt: skip


def _formula(text: str) -> None:
    if text.startswith(("=", "@")):
        raise ValueError(f"{shown(text)} is a formula. Keep only its value")


@dataclass(slots=True)
class Times:
    """Reads the times of one file as UTC, without a zone. raises ValueError: here already when the format is none"""

    zone: ZoneInfo | None
    time_format: str | None = None
    doubled_hour: str | None = None
    _pattern: re.Pattern[str] | None = field(init=False, default=None)
    _offsets: dict[tuple[int, int, bool], timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time_format is None or self.time_format in EPOCHS:
            return
        made, letters = "", iter(self.time_format)
        for letter in letters:
            if letter != "%":
                made += re.escape(letter)
            elif (part := next(letters, "")) in _PARTS and f"(?P<{part}>" not in made:
                made += _PARTS[part]
            else:
                raise ValueError(f"%{part} cannot be in a format. Write it like %d.%m.%Y %H:%M:%S")
        self._pattern = re.compile(made, re.ASCII)
        if (
            not {"d", "m", "M"} <= self._pattern.groupindex.keys()
            or not {"H", "I"} & self._pattern.groupindex.keys()
        ):
            raise ValueError("the format has no day, month, hour and minute. Write it like %d.%m.%Y %H:%M:%S")

    def read(self, text: str) -> datetime:
        try:
            found = self._read(text)
        except OverflowError:  # the end of years, or an offset across it
            found = datetime.min  # noqa: DTZ901
        if found.year not in _YEARS:
            raise ValueError(
                f"{shown(text)} is not in our time. Write a year from {_YEARS[0]} to {_YEARS[-1]}"
            )
        return found

    def _read(self, text: str) -> datetime:
        _formula(text)
        text = text.removeprefix("'")
        if self.time_format in EPOCHS:
            found = self._epoch(text)
        elif _ISO.fullmatch(
            text
        ):  # beside a format, too: nothing else is written so, and workbooks' dates come so
            found = self._iso(text)
        elif self._pattern is not None:
            found = self._formatted(text)
        elif _TWO_WAYS.fullmatch(text):
            raise ValueError(
                f"{shown(text)} may be two days. Say how dates are written: --time-format '%d.%m.%Y %H:%M:%S'"
            )
        else:
            raise ValueError(f"{shown(text)} is no time{_seems(text)}. Write 2026-01-31T14:00:00+01:00")
        return found

    def _epoch(self, text: str) -> datetime:
        if not text.isascii() or not text.isdigit() or len(text) > 14:
            raise ValueError(f"{shown(text)} is no {self.time_format}{_seems(text)}. Write digits alone")
        return datetime(1970, 1, 1) + timedelta(microseconds=int(text) * EPOCHS[self.time_format or ""])  # noqa: DTZ001

    def _iso(self, text: str) -> datetime:
        try:
            return self._utc(datetime.fromisoformat(text.replace(",", ".")), text)
        except ValueError as wrong:
            raise (
                wrong if shown(text) in str(wrong) else ValueError(f"{shown(text)} is no time: {wrong}")
            ) from None

    def _formatted(self, text: str) -> datetime:
        assert self._pattern is not None
        met = self._pattern.fullmatch(text)
        if met is None:
            raise ValueError(f"{shown(text)} is not written like {self.time_format}{_seems(text)}")
        part = met.groupdict(default="")
        hour = int(part.get("H") or part.get("I") or 0)
        if "p" in part:
            if not 1 <= hour <= 12:
                raise ValueError(f"{shown(text)} is no time: its hour is not 1 to 12")
            hour = hour % 12 + (12 if part["p"].lower() == "pm" else 0)
        year = int(part.get("Y") or 2000 + int(part.get("y") or 0))
        fraction = int((part.get("f") or "0").ljust(6, "0"))
        try:
            found = datetime(  # noqa: DTZ001  the zone comes below
                year, int(part["m"]), int(part["d"]), hour, int(part["M"]), int(part.get("S") or 0), fraction
            )
        except ValueError as wrong:
            raise ValueError(f"{shown(text)} is no time by {self.time_format}: {wrong}") from None
        if zone := part.get("z"):
            found = datetime.fromisoformat(f"{found.isoformat()}{zone}")
        return self._utc(found, text)

    def _utc(self, found: datetime, text: str) -> datetime:
        if found.tzinfo is not None:
            return found.astimezone(UTC).replace(tzinfo=None)
        if self.zone is None:
            raise ValueError(
                f"{shown(text)} is of no time zone. Name it: --zone Europe/Berlin, or --zone UTC"
            )
        key = (
            found.toordinal(),
            found.hour,
            found.minute >= 30,
        )  # zones change at half hours, if not at whole ones
        if (offset := self._offsets.get(key)) is None:
            offset = self._offsets[key] = self._offset(found, text)
        return found - offset

    def _offset(self, found: datetime, text: str) -> timedelta:
        assert self.zone is not None
        first, second = (
            found.replace(tzinfo=self.zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)
        )
        if first == second:
            return first
        if first < second:
            raise ValueError(f"{shown(text)} never happens in {self.zone.key}. Is the zone right?")
        if self.doubled_hour is None:
            raise ValueError(
                f"{shown(text)} happens twice in {self.zone.key}. Write offsets, or say --doubled-hour first or second"
            )
        return first if self.doubled_hour == "first" else second


def duration_ms(text: str, unit_ms: int, short_clock: bool = False) -> int:
    """
    >>> duration_ms("90", 1_000), duration_ms("1:01:01", 1_000), duration_ms("1.5", 60_000)
    (90000, 3661000, 90000)
    """
    _formula(text)
    if text.isdigit() and text.isascii() and len(text) < 13:
        found = int(text) * unit_ms
    elif clock := _CLOCK.fullmatch(text):
        found = ((int(clock[1]) * 60 + int(clock[2])) * 60 + int(clock[3])) * 1_000
        found += int((clock[4] or "").ljust(6, "0")) // 1_000
    elif clock := _SHORT_CLOCK.fullmatch(text):
        if not short_clock:
            raise ValueError(f"{shown(text)} may be hours or minutes. Write h:mm:ss, or say --duration m:s")
        found = (int(clock[1]) * 60 + int(clock[2])) * 1_000
    elif _DECIMAL.fullmatch(text):
        found = int((Decimal(text.replace(",", ".")) * unit_ms).to_integral_value(ROUND_HALF_UP))
    else:
        raise ValueError(f"{shown(text)} is no duration{_seems(text)}. Write seconds, or h:mm:ss")
    if found > TALK_MS_MAX:
        raise ValueError(f"{shown(text)} is longer than a week. Is the unit right? --duration s, ms or min")
    return found


def number(text: str, country: str = "", strip: str = "") -> int | None:
    """The digits of a number in E.164; None: it is hidden, or not there.

    >>> number("+49 30 / 2312-5010"), number("004930231250"), number("0302312", "49"), number("anonymous")
    (493023125010, 4930231250, 49302312, None)
    """
    plain = text.removeprefix("'").translate(_NUMBER_MARKS)
    digits = plain.removeprefix(strip) if strip else plain
    if _E164.fullmatch(digits):
        return int(digits)
    if digits.startswith("+"):
        digits = digits[1:]
    elif digits.startswith("00"):
        digits = digits[2:]
    elif digits.startswith("0") and digits.isdigit():
        if not country:
            raise ValueError(f"{shown(text)} is a national number. Say of which country: --country 49")
        digits = country + digits[1:]
    if _E164.fullmatch(digits):
        return int(digits)
    if plain.casefold() in _HIDDEN:
        return None
    _formula(text)
    if _LOST.fullmatch(text):
        raise ValueError(f"{shown(text)} has lost its digits in a spreadsheet. Format the column as text")
    raise ValueError(f"{shown(text)} is no number{_seems(text)}. Write +4930…, 004930… or 4930…")


def amount_micro(text: str, mark: str | None) -> int:
    """Micro-units; more than six decimals are rounded half up. mark: of decimals; None: a point, and no thousands

    >>> amount_micro("1.234,5", ","), amount_micro("0.0000005", None)
    (1234500000, 1)
    """
    _formula(text)
    plain = text.replace("\u00a0", "").replace(" ", "").removeprefix("'")
    if mark == ",":
        whole, _, fraction = plain.partition(",")
        plain = (
            f"{_whole(whole, '.', text)}.{fraction}" if fraction or "," in plain else _whole(plain, ".", text)
        )
    elif mark == ".":
        whole, point, fraction = plain.partition(".")
        plain = f"{_whole(whole, ',', text)}{point}{fraction}"
    elif "," in plain:
        raise ValueError(f"{shown(text)} has a comma. Say what it is: --decimal , or --decimal .")
    if plain.startswith("-") and _DECIMAL.fullmatch(plain[1:]):
        raise ValueError(f"{shown(text)} is negative. Take credits out: they belong to disputes")
    if not _DECIMAL.fullmatch(plain):
        raise ValueError(f"{shown(text)} is no amount{_seems(text)}. Write digits, such as 0.0725")
    try:
        found = int((Decimal(plain) * 1_000_000).to_integral_value(ROUND_HALF_UP))
    except InvalidOperation:
        raise ValueError(f"{shown(text)} is no amount") from None
    if found > AMOUNT_MICRO_MAX:
        raise ValueError(f"{shown(text)} is too much for one call")
    return found


def _whole(text: str, thousands: str, shown_as: str) -> str:
    groups = text.split(thousands)
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(one) != 3 for one in groups[1:])):
        raise ValueError(
            f"{shown(shown_as)} has {thousands!r} where no thousands end. Which mark is for decimals?"
        )
    return "".join(groups)


def call_id(text: str) -> UUID:
    """Ours: as the API and as CDR files write it.

    >>> call_id("call_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8") == call_id("019a0c0e-5d7a-7cc0-b5a1-c9f3d2e4b6a8")
    True
    """
    try:
        return UUID(text.removeprefix("call_").removeprefix("cdr_"))
    except ValueError:
        raise ValueError(
            f"{shown(text)} is no call id of ours. If it is theirs, say --map id=<that column>"
        ) from None


def record_no(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) == 0:
        raise ValueError(f"{shown(text)} is no record of ours. If it is theirs, say --map id=<that column>")
    return int(text)


def identity(text: str) -> str:
    """An id as somebody else writes it."""
    if len(text) > ID_LENGTH_MAX or not text.isprintable():
        raise ValueError(
            f"{shown(text)} is no id: over {ID_LENGTH_MAX} characters, or some that cannot be printed"
        )
    return text


def _seems(text: str) -> str:
    """What a cell looks like that is something else: columns may be swapped."""
    digits = text.removeprefix("'").translate(_NUMBER_MARKS).removeprefix("+")
    if _ISO.fullmatch(text) or (_TWO_WAYS.fullmatch(text) and ":" in text):
        return ", it looks like a time: are columns swapped?"
    if digits.isascii() and digits.isdigit() and 10 <= len(digits) <= 15:
        return ", it looks like a telephone number: are columns swapped?"
    return ""
