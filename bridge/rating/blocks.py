"""Blocks: how the talk of one leg is laid out in increments, and what each of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from bridge.rating.rate import Rate
from bridge.rating.tariff import Boundary, InForce, Tariff

MINUTE_S: Final = 60
SECOND_MS: Final = 1000
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks of one length at one price, end to end. Seconds are counted from the answer."""

    from_s: int
    block_s: int
    blocks: int
    rate_micro: int
    band: str

    @property
    def talk_s(self) -> int:
        return self.blocks * self.block_s

    @property
    def to_s(self) -> int:
        return self.from_s + self.talk_s


class Laid(NamedTuple):
    """The rate at the answer, and the runs that the money pays for; none where all is free or paid otherwise."""

    rate: Rate
    runs: list[Run]


def lay(tariff: Tariff, talk_s: int, answered_at: datetime | None, covered_s: int) -> Laid:
    """The blocks from `covered_s` on, until they cover the talk and the minimum. A longer talk only adds some.

    The rate at the answer says what is grace, minimum and connect fee. The first block is `initial_s` long; each
    further one has the length and the price of the rate, band and tier in force where it begins.

    talk_s       begun seconds of talk
    answered_at  aware; may be None without bands
    raises       ValueError: the tariff has bands, and the answer is unknown or has no time zone
    """
    begin = instant(answered_at, 0) if tariff.bands else None
    answer = force = InForce(tariff.rate, "", None) if begin is None else tariff.at(begin)
    runs: list[Run] = []
    if talk_s <= max(covered_s, answer.rate.grace_s):
        return Laid(answer.rate, runs)
    end_s = max(talk_s, answer.rate.minimum_s)
    split = tariff.terms.boundary is Boundary.SPLIT
    from_s = covered_s
    while from_s < end_s:
        until_s = end_s
        if split and begin is not None:
            if from_s:
                force = tariff.at(instant(begin, from_s))
            if force.until is not None:
                until_s = min(end_s, -((begin - force.until) // _SECOND))
        rate_micro, block_s, until_s = force.rate.price_at(from_s, until_s)
        if runs:
            blocks = -((from_s - until_s) // block_s)
        else:
            block_s, blocks = force.rate.initial_s, 1
        runs.append(Run(from_s, block_s, blocks, rate_micro, force.band))
        from_s = runs[-1].to_s
    return Laid(answer.rate, runs)


def instant(answered_at: datetime | None, talk_s: int) -> datetime:
    """In UTC, where a sum is real time even in the nights in which clocks are changed. ValueError as `lay`."""
    if answered_at is None or answered_at.utcoffset() is None:
        raise ValueError("a tariff with bands needs to know when the call was answered, with a time zone")
    return answered_at.astimezone(UTC) + talk_s * _SECOND
