"""One rate that charges no less than any of several: money is held by it while it is open which of them will count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.rating.rate import Rate, Tier


def dearest_rate(rates: Sequence[Rate], covered_s: int) -> Rate:
    """No call costs more by any of the rates, nor by changing between them, where `covered_s` are paid otherwise.

    Rates of the same increments lay the same blocks, so the dearest price of each second of talk is the bound, and a
    close one. Else blocks may begin anywhere, and reach past those of another rate by up to one increment: the first
    block is as long as the longest and costs twice, then each second is billed.

    raises   DeckError: twice the price is more than a rate may have
    """
    first = rates[0]
    if all(rate == first for rate in rates):
        return first
    lengths = {(rate.initial_s, length) for rate in rates for length in _lengths(rate)}
    if len(lengths) == 1:
        rate_micro, tiers = _pointwise(rates)
        initial_s, next_s = first.initial_s, first.next_s
    else:
        dearest_micro = max(price for rate in rates for price in _prices(rate))
        rate_micro, initial_s, next_s = 2 * dearest_micro, max(map(max, lengths)), 1
        tiers = (Tier(covered_s + 1, dearest_micro, 1),)
    return replace(
        first,
        rate_micro=rate_micro,
        connect_fee_micro=max(rate.connect_fee_micro for rate in rates),
        initial_s=initial_s,
        next_s=next_s,
        minimum_s=max(rate.minimum_s for rate in rates),
        grace_s=min(rate.grace_s for rate in rates),
        tiers=tiers,
    )


def _pointwise(rates: Sequence[Rate]) -> tuple[int, tuple[Tier, ...]]:
    """The dearest price from the answer on, and from where it changes."""
    starts = sorted({tier.from_s for rate in rates for tier in rate.tiers})
    at_first, *later = (max(rate.price_at(start, start)[0] for rate in rates) for start in (0, *starts))
    next_s = rates[0].next_s
    return at_first, tuple(Tier(start, price, next_s) for start, price in zip(starts, later, strict=True))


def _lengths(rate: Rate) -> set[int]:
    return {rate.next_s, *(tier.next_s for tier in rate.tiers)}


def _prices(rate: Rate) -> set[int]:
    return {rate.rate_micro, *(tier.rate_micro for tier in rate.tiers)}
