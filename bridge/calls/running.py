"""A call in progress as its caller sees it: its cost so far, how long it can go on, what to warn of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from bridge.rating.allowance import Allowance, Burn, covered_s
from bridge.rating.charge import charge
from bridge.rating.reserve import cover, reserve
from bridge.rating.tariff import Tariff

LOW_S: Final = 60  # money that ends within so long is low
CUT_SOON_S: Final = 20


class Warn(StrEnum):
    """The values are public: phones translate them."""

    low_balance = "low_balance"  # units and money end within LOW_S
    bundle_used_up = "bundle_used_up"  # it began inside a bundle, and money pays now
    cut_soon = "cut_soon"  # whatever the reason, it ends within CUT_SOON_S


@dataclass(frozen=True, slots=True)
class Funds:
    """What a call may use.

    burns         units it holds, in the order in which they pay
    allowances    units it may still take, in burn order
    held_micro    money that is held for it
    budget_micro  money beyond that: what is available, or what a cap leaves; less than nothing counts as nothing
    limit_ms      talk that units and money it holds last for
    """

    burns: Sequence[Burn]
    allowances: Sequence[Allowance]
    held_micro: int
    budget_micro: int
    limit_ms: int


@dataclass(frozen=True, slots=True)
class Running:
    """talk_ms   since the answer
    cost_micro  what it would cost, did it end now
    covered_s   seconds of it that units pay for
    left_s      until it must end, by the money or by the length that no call exceeds
    """

    talk_ms: int
    cost_micro: int
    covered_s: int
    left_s: int
    warnings: tuple[Warn, ...]


def running(
    sell: Tariff, digits: str, funds: Funds, *, answered_at: datetime, at: datetime, talk_s_max: int
) -> Running:
    """The state of an answered call at `at`.

    The cost is the same arithmetic as the end's (`ended.price`), on the same frozen tariff and the units held by then.

    >>> from bridge.rating.rate import Rate
    >>> nine_cents = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
    >>> then = datetime.fromisoformat("2026-01-01T12:00:00Z")
    >>> now = running(nine_cents, "4930", Funds((), (), 90_000, 0, 60_000), answered_at=then,
    ...     at=then + timedelta(seconds=10), talk_s_max=3600)
    >>> now.cost_micro, now.left_s, [str(one) for one in now.warnings]
    (90000, 50, ['low_balance'])
    """
    # An answered call is billed as one millisecond at least, as at its end.
    talk_ms = max((at - answered_at) // timedelta(milliseconds=1), 1)
    bundled_s, _ = cover(sell, funds.burns, talk_ms)
    sold = charge(sell, talk_ms, answered_at=answered_at, covered_s=bundled_s)
    cap_ms = talk_s_max * 1000
    # A call that pays with money stays outside of its allowances, as `extend` has it.
    outside = covered_s(funds.burns) * 1000 < funds.limit_ms
    whole = reserve(
        sell,
        () if outside else funds.allowances,
        digits,
        funds.held_micro + max(funds.budget_micro, 0),
        cap_ms=cap_ms,
        at=at,
        answered_at=answered_at,
        held=funds.burns,
    )
    # What is held already is the call's, whoever takes the rest.
    ends_ms = min(max(whole.limit_ms, funds.limit_ms), cap_ms)
    left_s = max(ends_ms - talk_ms, 0) // 1000
    warnings = []
    if ends_ms < cap_ms and left_s <= LOW_S:
        warnings.append(Warn.low_balance)
    if bundled_s and bundled_s * 1000 < talk_ms:
        warnings.append(Warn.bundle_used_up)
    if left_s <= CUT_SOON_S:
        warnings.append(Warn.cut_soon)
    return Running(talk_ms, sold.amount_micro, bundled_s, left_s, tuple(warnings))
