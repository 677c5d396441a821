"""The shape of a month's traffic: when people call, whom, how long, how carriers fail. Pure: dice in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from math import log
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from bridge.sandbox.simulate_rows import ms_of

HOUR: Final = timedelta(hours=1)
HOUR_MS: Final = 3_600_000
TALK_MS_MAX: Final = 3 * HOUR_MS

# Calls by hour of the local day, Monday to Friday, and at weekends.
_WEEKDAY: Final = (9, 5, 3, 2, 2, 5, 14, 30, 46, 52, 54, 55, 54, 50, 50, 52, 57, 65, 74, 76, 70, 55, 36, 19)
_WEEKEND: Final = (18, 11, 7, 4, 3, 3, 6, 12, 22, 34, 42, 46, 45, 43, 42, 42, 44, 49, 55, 57, 53, 43, 32, 22)
_NIGHT_OF_CHANGE: Final = 40  # calls in an hour of the night in which clocks change, in place of almost none


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers reserved for fiction. missing: digits that complete one. talk_s: the median of a talk."""

    start: str
    missing: int
    weight: int
    talk_s: int


CALLED: Final = (
    Range("+493023125", 3, 300, 95),  # Berlin
    Range("+494066969", 3, 200, 80),  # Hamburg, and in it the help lines
    Range("+49406696900", 1, 30, 240),  # help lines
    Range("+4917139200", 2, 190, 70),
    Range("+49176040690", 2, 120, 60),
    Range("+442079460", 3, 40, 150),
    Range("+447700900", 3, 25, 120),
    Range("+3319900", 4, 25, 160),
    Range("+3363998", 4, 15, 110),
    Range("+121255501", 2, 15, 220),
)
# What cannot be called, and why: too short, barred, sold by nobody.
UNCALLABLE: Final = ("+49301", "0900123456", "+819012345678", "12")
UNCALLABLE_PART: Final = 0.012
ON_NET_PART: Final = 0.07
INBOUND_PART: Final = 0.03


@dataclass(frozen=True, slots=True)
class Carrier:
    """fails: the part of attempts that its own network loses. pdd_ms: the median time to the first ringing."""

    fails: float
    pdd_ms: int


CARRIERS: Final[Mapping[str, Carrier]] = {
    "rheinfunk": Carrier(0.03, 1_100),
    "nordlicht": Carrier(0.055, 1_500),
    "transit": Carrier(0.11, 2_600),
}


@dataclass(frozen=True, slots=True)
class Fate:
    """How an attempt ends: as Dial() and the carrier say it. ring_s: about so long after the first ringing."""

    dialstatus: str
    q850_cause: int
    sip_code: int
    ring_s: float


ANSWER: Final = Fate("ANSWER", 16, 200, 9)
# Of the people who are called: weight and fate.
_CALLEES: Final = (
    (61.0, ANSWER),
    (17.0, Fate("NOANSWER", 19, 480, 38)),
    (9.5, Fate("CANCEL", 16, 487, 14)),
    (8.5, Fate("BUSY", 17, 486, 1)),
    (2.5, Fate("DONTCALL", 21, 603, 7)),
    (1.5, Fate("CHANUNAVAIL", 1, 404, 1)),
)
# Of carriers that lose an attempt.
_LOSSES: Final = (
    (60.0, Fate("CONGESTION", 34, 503, 1)),
    (25.0, Fate("CHANUNAVAIL", 38, 500, 1)),
    (15.0, Fate("NOANSWER", 102, 408, 12)),
)


def moments(since: datetime, until: datetime, zone: ZoneInfo, calls: int, dice: Random) -> list[int]:
    """When so many calls begin, in order, milliseconds since 1970: by the hours of the local week."""
    hours = [since + place * HOUR for place in range(-(-(until - since) // HOUR))]
    weights = [_weight(at.astimezone(zone)) for at in hours]
    for place in nights_of_change(hours, zone):
        weights[place] = max(weights[place], _NIGHT_OF_CHANGE)
    starts = [ms_of(at) for at in hours]
    found = dice.choices(starts, cum_weights=list(accumulate(weights)), k=calls)
    end = ms_of(until)
    return sorted(min(start + dice.randrange(HOUR_MS), end - 1) for start in found)


def nights_of_change(hours: Sequence[datetime], zone: ZoneInfo) -> list[int]:
    """The places of the hours just before and after the local clock is changed."""
    offsets = [at.astimezone(zone).utcoffset() for at in hours]
    found = [place for place, (before, after) in enumerate(pairwise(offsets)) if before != after]
    return sorted({near for place in found for near in (place, place + 1) if near < len(hours)})


def _weight(local: datetime) -> int:
    return (_WEEKEND if local.weekday() >= 5 else _WEEKDAY)[local.hour]


class Dice:
    """What is drawn for each call."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self.random, self.choice, self.randrange = dice.random, dice.choice, dice.randrange
        self._ranges = list(accumulate(one.weight for one in CALLED))
        self._callees = [fate for _, fate in _CALLEES]
        self._callee_weights = list(accumulate(weight for weight, _ in _CALLEES))
        self._losses = [fate for _, fate in _LOSSES]
        self._loss_weights = list(accumulate(weight for weight, _ in _LOSSES))

    def called(self) -> tuple[str, Range]:
        """A number to call, and of which range it is."""
        found = self._dice.choices(CALLED, cum_weights=self._ranges)[0]
        return f"{found.start}{self.randrange(10**found.missing):0{found.missing}}", found

    def callee(self) -> Fate:
        return self._dice.choices(self._callees, cum_weights=self._callee_weights)[0]

    def loss(self) -> Fate:
        return self._dice.choices(self._losses, cum_weights=self._loss_weights)[0]

    def talk_ms(self, median_s: int) -> int:
        """Lognormal, as lengths of talks are; at least one millisecond."""
        return min(max(round(self._dice.lognormvariate(log(median_s * 1000), 1.05)), 1), TALK_MS_MAX)

    def pdd_ms(self, median_ms: int) -> int:
        return min(max(round(self._dice.lognormvariate(log(median_ms), 0.45)), 80), 20_000)

    def ring_ms(self, about_s: float) -> int:
        return max(round(self._dice.gauss(about_s, about_s / 3) * 1000), 50)
