"""What is set aside for a call: units of allowances first, then money, and how long both last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bridge.rating.allowance import Allowance, Burn, covered_s, take, used_units
from bridge.rating.charge import affordable_ms, charge
from bridge.rating.tariff import Tariff

# Ringing on every route ends before; until the answer it is not known which hour's price a call will have.
RING_S_MAX: Final = 900


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may use from its answer on.

    burns       units to set aside now, beside those it holds already
    hold_micro  money in all
    limit_ms    talk in all that units and money last for
    """

    burns: tuple[Burn, ...]
    hold_micro: int
    limit_ms: int


def reserve(
    tariff: Tariff,
    allowances: Iterable[Allowance],
    digits: str,
    budget_micro: int,
    *,
    cap_ms: int,
    at: datetime,
    answered_at: datetime | None = None,
    held: Sequence[Burn] = (),
) -> Reservation:
    """Units for as much of the talk as there are, money for the rest, as far as the budget goes.

    allowances    in burn order
    digits        the B-number without +
    budget_micro  money that may be held in all, this call's earlier holds included
    cap_ms        no more talk than that is asked for
    at            now; the price before the answer is the dearest that may come
    held          units set aside earlier
    """
    burns: tuple[Burn, ...] = ()
    if not tariff.zero_rated:
        paying = [allowance for allowance in allowances if allowance.pays_for(digits)]
        burns, _ = take(paying, -(-cap_ms // 1000) - covered_s(held))
    bundled_s = covered_s(held) + covered_s(burns)
    if bundled_s * 1000 >= cap_ms:
        return Reservation(burns, 0, cap_ms)
    if answered_at is None and tariff.bands:
        until = at + timedelta(seconds=RING_S_MAX, milliseconds=cap_ms)
        tariff = tariff.dearest(at, until, covered_s=bundled_s)
    limit_ms = affordable_ms(
        tariff, budget_micro, cap_ms=cap_ms, answered_at=answered_at, covered_s=bundled_s
    )
    sold = charge(tariff, limit_ms, answered_at=answered_at, covered_s=bundled_s)
    return Reservation(burns, sold.amount_micro, limit_ms)


def cover(tariff: Tariff, burns: Sequence[Burn], talk_ms: int) -> tuple[int, tuple[int, ...]]:
    """Seconds of a talk that held units pay for, and how many of each are used. Talk within the grace uses none."""
    if not burns:
        return 0, ()
    if talk_ms <= tariff.rate.grace_s * 1000:
        return 0, (0,) * len(burns)
    used = used_units(burns, talk_ms)
    return sum(units * burn.per for units, burn in zip(used, burns, strict=True)), used
