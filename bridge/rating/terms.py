"""Terms: what all rates of a deck have in common beside their numbers. Time, rounding, tax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from bridge.errors import DeckError
from bridge.rating.columns import check_known, check_whole, shown
from bridge.telephony.money import Rounding, divide

PPM: Final = 1_000_000
Word = TypeVar("Word", bound=StrEnum)
# A thousand units of a currency: nobody rounds to more, and an amount keeps its room in a bigint.
QUANTUM_MICRO_MAX: Final = 1_000_000_000


class Boundary(StrEnum):
    """What happens to a call that is in progress when a band begins or ends."""

    SPLIT = "split"  # each block is priced by the band in force where the block begins
    ANSWER = "answer"  # the band at the answer prices the whole call


class Tax(StrEnum):
    """How the prices of a deck stand to tax. What is charged is gross in each case."""

    NONE = "none"
    INCLUSIVE = "inclusive"  # prices contain it
    EXCLUSIVE = "exclusive"  # it is added, before the one rounding


@dataclass(frozen=True, slots=True)
class Terms:
    """How a deck reads the clock, rounds and taxes.

    time_zone      IANA name; bands and holidays are by its wall clock
    rounding       rounds each amount once, to a multiple of `quantum_micro`; the tax part by the same name
    quantum_micro  1 keeps micro-units; 10_000 are cents
    tax_ppm        parts per million of the net price: 190_000 are 19 %
    holidays       local dates
    raises         DeckError naming the column and the fix
    """

    time_zone: str = "UTC"
    boundary: Boundary = Boundary.SPLIT
    rounding: Rounding = Rounding.HALF_UP
    quantum_micro: int = 1
    tax: Tax = Tax.NONE
    tax_ppm: int = 0
    holidays: frozenset[date] = frozenset()
    # The amount is half up to the micro-unit, with nothing added: the arithmetic of most decks.
    simple: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_zone(self.time_zone)
        check_whole(self.quantum_micro, 1, QUANTUM_MICRO_MAX, "quantum_micro")
        check_whole(self.tax_ppm, 0, PPM, "tax_ppm")
        if self.tax is Tax.NONE and self.tax_ppm:
            raise DeckError(
                f"{self.tax_ppm} without a tax. Write inclusive or exclusive, or 0", column="tax_ppm"
            )
        # A datetime is a date to Python, and would never equal one.
        if any(type(day) is not date for day in self.holidays):
            raise DeckError("holds something that is no date. Write dates as 2026-12-25", column="holidays")
        simple = (
            self.rounding is Rounding.HALF_UP and self.quantum_micro == 1 and self.tax is not Tax.EXCLUSIVE
        )
        object.__setattr__(self, "simple", simple)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def to_json(self) -> dict[str, Any]:
        """What is not as usual; {} for PLAIN."""
        return {name: value for name, value in self._columns().items() if value != _PLAIN_COLUMNS[name]}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Terms:
        """The inverse of `to_json`; DeckError naming the column when one is unknown or wrong."""
        if not kept:
            return PLAIN
        check_known(kept, _PLAIN_COLUMNS)
        read = dict(kept)
        for name, kind in (("boundary", Boundary), ("rounding", Rounding), ("tax", Tax)):
            if name in read:
                read[name] = _word(kind, read[name], name)
        if "holidays" in read:
            read["holidays"] = _dates(read["holidays"])
        return cls(**read)

    def _columns(self) -> dict[str, Any]:
        return {
            "time_zone": self.time_zone,
            "boundary": self.boundary.value,
            "rounding": self.rounding.value,
            "quantum_micro": self.quantum_micro,
            "tax": self.tax.value,
            "tax_ppm": self.tax_ppm,
            "holidays": sorted(day.isoformat() for day in self.holidays),
        }


def tax_micro(amount_micro: int, terms: Terms) -> int:
    """The tax that a gross amount contains, rounded by the terms' rule; 0 where there is none.

    >>> tax_micro(1_190_000, Terms(tax=Tax.INCLUSIVE, tax_ppm=190_000))
    190000
    """
    if terms.tax is Tax.NONE:
        return 0
    return divide(amount_micro * terms.tax_ppm, PPM + terms.tax_ppm, terms.rounding)


def _check_zone(name: object) -> None:
    try:
        if not isinstance(name, str):
            raise ValueError("not a text")
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise DeckError(
            f"{shown(name)} is not a time zone. Write an IANA name such as Europe/Berlin",
            column="time_zone",
        ) from None


def _word(kind: type[Word], value: Any, column: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        raise DeckError(f"{shown(value)} is not known. Write {' or '.join(kind)}", column=column) from None


def _dates(texts: object) -> frozenset[date]:
    try:
        if not isinstance(texts, list | tuple):
            raise TypeError("not a list")
        days = [date.fromisoformat(text) for text in texts]
        # Python reads other ISO forms, such as weeks, too; they would be written back differently.
        if [day.isoformat() for day in days] != list(texts):
            raise ValueError("another form")
    except (TypeError, ValueError):
        problem = f"{shown(texts)} is not a list of dates. Write them as 2026-12-25"
        raise DeckError(problem, column="holidays") from None
    return frozenset(days)


PLAIN: Final = Terms()
_PLAIN_COLUMNS: Final = PLAIN._columns()
