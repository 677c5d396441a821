"""Messages and data: what a reported usage burns, and what the rest of it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.rating.allowance import Allowance, Burn, take


@dataclass(frozen=True, slots=True)
class ServicePrice:
    """price_micro for each begun `per` (messages, bytes) of a service."""

    price_micro: int
    per: int


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """What a usage burns and costs.

    charged_quantity  what the allowances did not pay for
    throttled         the fair use of an allowance without limit is exceeded: slower from now on, at no charge
    """

    burns: tuple[Burn, ...]
    charged_quantity: int
    amount_micro: int
    throttled: bool


@dataclass(frozen=True, slots=True)
class FairUse:
    """An allowance and the units until it is throttled; None: it never is."""

    allowance: Allowance
    left: int | None


def rate_usage(quantity: int, allowances: Sequence[FairUse], price: ServicePrice | None) -> RatedUsage:
    """Allowances first, in burn order, money for the rest.

    quantity   messages or bytes, > 0
    price      None: it cannot be had outside of allowances
    raises     ValueError: something is left to pay for, and there is no price

    >>> rate_usage(3, [], ServicePrice(90_000, 1)).amount_micro
    270000
    """
    burns, rest = take((one.allowance for one in allowances), quantity)
    if rest and price is None:
        raise ValueError("no allowance is left for this service, and the plan has no price for it")
    left = {one.allowance.allowance_id: one.left for one in allowances}
    fair = (left[burn.allowance_id] for burn in burns)
    throttled = any(until is not None and burn.units > until for burn, until in zip(burns, fair, strict=True))
    amount_micro = -(-rest // price.per) * price.price_micro if price is not None else 0
    return RatedUsage(burns, rest, amount_micro, throttled)
