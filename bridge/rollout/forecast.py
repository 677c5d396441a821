"""How many will be active if the window stays open: a logistic branching process, fitted to what was seen in it.

Floats are right here: it is an estimate of people, and no money follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Final

ASSUMPTIONS: Final = (
    "each active user brings in others at the rate seen since the window opened",
    "of those called or invited, the share who still waits falls as they are activated",
    "nobody signs up meanwhile, and limits of inviters and of waves are not reached",
    "low and high: two standard deviations of the count that was seen",
)
_SURE: Final = 2.0
_HOURS_NONE: Final = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known now.

    active       who can call
    waiting      who can be activated
    quota_left   activations the window has left; None: no quota
    brought      activations by calls and invitations since the window opened
    exposure_h   how long those who can call have had to bring them in, all together, in hours
    """

    active: int
    waiting: int
    quota_left: int | None
    brought: int
    exposure_h: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """After so many hours. Active users; `at most` is what waiting list and quota allow.

    rate_h     others that an active user brings in within an hour, while all the rest waits
    full_in_h  hours until the quota or the waiting list is used up but for one half; None: never at this rate
    """

    hours: float
    active: int
    expected: int
    low: int
    high: int
    at_most: int
    rate_h: float
    full_in_h: float | None
    assumptions: tuple[str, ...] = ASSUMPTIONS


def forecast(seen: Seen, hours: float) -> Forecast:
    """raises   ValueError: hours below nothing"""
    if not 0 <= hours < inf:
        raise ValueError("hours should be 0 or more")
    room = seen.waiting if seen.quota_left is None else min(seen.waiting, max(seen.quota_left, 0))
    at_most = seen.active + room
    rate_h = seen.brought / seen.exposure_h if seen.exposure_h > 0 else _HOURS_NONE
    spread = _SURE * sqrt(seen.brought) / seen.exposure_h if seen.exposure_h > 0 else _HOURS_NONE

    def after(rate: float) -> int:
        return min(round(_logistic(seen.active, seen.waiting, rate, hours)), at_most)

    return Forecast(
        hours=hours,
        active=seen.active,
        expected=after(rate_h),
        low=after(max(rate_h - spread, 0.0)),
        high=after(rate_h + spread),
        at_most=at_most,
        rate_h=rate_h,
        full_in_h=_full_in(seen.active, seen.waiting, rate_h, at_most),
    )


def _logistic(active: int, waiting: int, rate_h: float, hours: float) -> float:
    """dA/dt = rate · A · (who still waits / who waits now): exponential growth at first, which ends with the list."""
    if active == 0 or waiting == 0 or rate_h == 0:
        return float(active)
    all_of_them = active + waiting
    speed = rate_h * all_of_them / waiting
    # exp(-x) of a great x is 0.0, never an error.
    return all_of_them / (1 + waiting / active * exp(-speed * hours))


def _full_in(active: int, waiting: int, rate_h: float, at_most: int) -> float | None:
    if at_most == active:
        return 0.0
    if active == 0 or rate_h == 0:
        return None
    all_of_them = active + waiting
    goal = min(float(at_most), all_of_them - 0.5)
    speed = rate_h * all_of_them / waiting
    return log(goal / (all_of_them - goal) * waiting / active) / speed
