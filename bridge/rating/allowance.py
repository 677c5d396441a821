"""Allowances: bundled units that pay for talk, messages and data before money does.

Pure. What an account has is read in burn order; what a call holds of it is a list of burns, in the order in which they
pay. A call that has run out of units goes on for money and stays outside, so that its price has one seam at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

VOICE: Final = "voice"


@dataclass(frozen=True, slots=True)
class Allowance:
    """Something an account has bought and may burn now.

    per       seconds, messages or bytes that one unit pays for
    left      units neither used nor held; None is without limit
    prefixes  destinations it pays for; none named is every destination
    """

    allowance_id: str
    name: str
    per: int
    left: int | None
    prefixes: tuple[str, ...] = ()

    def pays_for(self, digits: str) -> bool:
        return not self.prefixes or digits.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class Burn:
    """Units of one allowance, held or burnt."""

    allowance_id: str
    name: str
    per: int
    units: int

    def to_json(self) -> dict[str, Any]:
        return {"allowance": self.allowance_id, "bundle": self.name, "per": self.per, "units": self.units}


def take(allowances: Iterable[Allowance], quantity: int) -> tuple[tuple[Burn, ...], int]:
    """Units for a quantity (seconds, messages, bytes), in burn order. A begun unit is a whole one.

    returns  the units, and how much of the quantity nothing is left for

    >>> take([Allowance("a", "small", 60, 2), Allowance("b", "big", 60, None)], 200)[0][1].units
    2
    """
    taken: list[Burn] = []
    for allowance in allowances:
        if quantity <= 0:
            break
        wanted = -(-quantity // allowance.per)
        units = wanted if allowance.left is None else min(wanted, allowance.left)
        if units > 0:
            taken.append(Burn(allowance.allowance_id, allowance.name, allowance.per, units))
            quantity -= units * allowance.per
    return tuple(taken), max(quantity, 0)


def covered_s(burns: Iterable[Burn]) -> int:
    """So many seconds of talk these units pay for."""
    return sum(burn.units * burn.per for burn in burns)


def used_units(burns: Sequence[Burn], talk_ms: int) -> tuple[int, ...]:
    """How many units of each of the held burns a talk has used up, in the same order.

    >>> used_units([Burn("a", "small", 60, 2), Burn("b", "big", 60, 2)], 121_000)
    (2, 1)
    """
    left_s = -(-talk_ms // 1000)
    used = []
    for burn in burns:
        units = min(-(-left_s // burn.per), burn.units)
        used.append(units)
        left_s = max(left_s - units * burn.per, 0)
    return tuple(used)
