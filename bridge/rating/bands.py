"""Bands: parts of the week, by the wall clock of a time zone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from bridge.errors import DeckError
from bridge.rating.columns import check_known, check_whole, shown

HOLIDAY: Final = 7  # beside 0 for Monday to 6 for Sunday
DAY_MINUTES: Final = 1440
_NAME_MAX: Final = 40
_DAYS: Final = "0 for Monday to 6 for Sunday, and 7 for holidays"
_COLUMNS: Final = ("name", "days", "from_minute", "to_minute")
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Band:
    """A part of each of some days.

    days         0 for Monday to 6 for Sunday, 7 for a holiday; a holiday counts as 7 only
    from_minute  of the local day, 0 to 1439; 18:00 is 1080
    to_minute    1 to 1440, not included. Before `from_minute` it is of the next day: 22:00 to 06:00 on a Friday
                 ends on Saturday at 06:00, whatever day that is
    raises       DeckError naming the column and the fix
    """

    name: str
    days: frozenset[int]
    from_minute: int
    to_minute: int

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= _NAME_MAX or not self.name.isprintable():
            problem = f"{shown(self.name)} is not a name. Write 1 to {_NAME_MAX} characters"
            raise DeckError(problem, column="name")
        if not self.days:
            raise DeckError(f"no days. Write some of {_DAYS}", column="days")
        for day in self.days:
            if type(day) is not int or not 0 <= day <= HOLIDAY:
                raise DeckError(f"{shown(day)} is not a day. Write some of {_DAYS}", column="days")
        check_whole(self.from_minute, 0, DAY_MINUTES - 1, "from_minute")
        check_whole(self.to_minute, 1, DAY_MINUTES, "to_minute")
        if self.from_minute == self.to_minute:
            raise DeckError("the band is empty. Write 0 to 1440 for the whole day", column="to_minute")

    def holds(self, day: int, day_before: int, minute: int) -> bool:
        """Whether the band is in force at this minute of a day of this kind, after a day of that kind."""
        if self.from_minute < self.to_minute:
            return day in self.days and self.from_minute <= minute < self.to_minute
        return (day in self.days and minute >= self.from_minute) or (
            day_before in self.days and minute < self.to_minute
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "days": sorted(self.days),
            "from_minute": self.from_minute,
            "to_minute": self.to_minute,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Band:
        """The inverse of `to_json`; DeckError naming the column when one is missing, unknown or wrong."""
        check_known(kept, _COLUMNS)
        days = kept.get("days")
        if not isinstance(days, list | tuple) or not isinstance(kept.get("name"), str):
            raise DeckError("a band has a name and a list of days, such as [5, 6]", column="days")
        try:
            return cls(**{**kept, "days": frozenset(days)})
        except TypeError as wrong:
            raise DeckError(f"not a band: {wrong}") from None


def in_force(
    bands: Sequence[Band], at: datetime, zone: ZoneInfo, holidays: Collection[date]
) -> tuple[int | None, datetime]:
    """The first band that holds at this instant, and when to look again: no change comes earlier.

    The wall clock decides. A time that a summer's begin skips is never in force; one that a summer's end repeats
    is in force twice.

    returns  the band's place or None, and an instant in UTC, later than `at`
    raises   ValueError: `at` has no time zone
    """
    if at.utcoffset() is None:
        raise ValueError(f"{at} is no instant: it has no time zone")
    local = at.astimezone(zone)
    today = local.date()
    minute = local.hour * 60 + local.minute
    day, day_before = _kind(today, holidays), _kind(today - _DAY, holidays)
    place = next((i for i, band in enumerate(bands) if band.holds(day, day_before, minute)), None)
    edge = min(
        edge for band in bands for edge in (band.from_minute, band.to_minute, DAY_MINUTES) if edge > minute
    )
    now = at.astimezone(UTC)
    # What is left by the wall clock passes as fast as real time, unless the clock is changed before.
    left = (edge - minute) * _MINUTE - timedelta(seconds=local.second, microseconds=local.microsecond)
    then = now + left
    if then.astimezone(zone).utcoffset() != local.utcoffset():
        then = _clock_change(now, then, zone)
    return place, then


def _clock_change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """When the zone's offset changes, between two instants that differ in it. Clocks change on a whole second."""
    old = before.astimezone(zone).utcoffset()
    before = before.replace(microsecond=0)
    seconds_min, seconds_max = 0, -((before - after) // timedelta(seconds=1))
    while seconds_max - seconds_min > 1:
        middle = (seconds_min + seconds_max) // 2
        if (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == old:
            seconds_min = middle
        else:
            seconds_max = middle
    return before + timedelta(seconds=seconds_max)


def _kind(day: date, holidays: Collection[date]) -> int:
    return HOLIDAY if day in holidays else day.weekday()
