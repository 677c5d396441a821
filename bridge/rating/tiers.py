"""Monthly tiers as Meta charges business-initiated WhatsApp calls: the more minutes a month, the lower the price."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

PULSE_S = 6
SECOND_MS = 1_000


class Tier(NamedTuple):
    """From so many billed seconds of the month on, a pulse of six seconds costs so much."""

    from_s: int
    pulse_micro: int


def pulses(talk_ms: int) -> int:
    """Started pulses of six seconds; a call that was not answered has none.

    >>> [pulses(ms) for ms in (0, 1, 6_000, 6_001)]
    [0, 1, 1, 2]
    """
    return -(-talk_ms // (PULSE_S * SECOND_MS))


def tier_of(tiers: Sequence[Tier], used_s: int, talk_ms: int) -> Tier:
    """The tier by which the whole of a call is charged: one that crosses into the next is wholly at the lower price.

    tiers    by from_s, the first at 0; each pulse no dearer than the one before
    used_s   billed this month for this country before the call, seconds
    raises   ValueError: the tiers are not so
    """
    if not tiers or tiers[0].from_s != 0:
        raise ValueError("the first tier begins at 0")
    for low, high in pairwise(tiers):
        if high.from_s <= low.from_s or high.pulse_micro > low.pulse_micro:
            raise ValueError("each tier begins later than the one before, and is no dearer")
    end_s = used_s + pulses(talk_ms) * PULSE_S
    # Where the call ends counts: a call that just fills a tier has not crossed into the next.
    return next(tier for tier in reversed(tiers) if tier.from_s == 0 or tier.from_s < end_s)


def price_micro(tiers: Sequence[Tier], used_s: int, talk_ms: int) -> int:
    """What a call costs, micro-units."""
    return pulses(talk_ms) * tier_of(tiers, used_s, talk_ms).pulse_micro
