"""Least-cost routing: which trunks carry a call, in which order, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.rating.charge import MINUTE_S, SECOND_MS, charge
from bridge.rating.tariff import Tariff
from bridge.routing.trunk import PSTN, Trunk
from bridge.telephony.money import format_micro
from bridge.telephony.number import Number

# Carriers are compared by what a call of this length costs, so connect fees, minimums and increments count.
REFERENCE_S: Final = 180


@dataclass(frozen=True, slots=True)
class Route:
    """One attempt to make, with the buy rate frozen for it.

    cost_micro    what the carrier charges for the reference call
    margin_micro  what is left of the selling price of that call
    """

    trunk_id: str
    name: str
    carrier: str
    ring_s: int
    buy: Tariff
    cost_micro: int
    margin_micro: int

    @property
    def why(self) -> str:
        cost, margin = format_micro(self.cost_micro), format_micro(self.margin_micro)
        return (
            f"prefix {self.buy.rate.prefix}: {cost} {self.buy.currency} for {REFERENCE_S} s, margin {margin}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "trunk_id": self.trunk_id,
            "name": self.name,
            "carrier": self.carrier,
            "ring_s": self.ring_s,
            "cost_micro": self.cost_micro,
            "margin_micro": self.margin_micro,
            "buy": self.buy.to_json(),
        }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A trunk that is not tried, and the reason in words."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Attempts in order, and what was left out. Frozen with the call."""

    routes: tuple[Route, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """Compact: written once per call."""
        return {
            "routes": [route.to_json() for route in self.routes],
            "left_out": {left.name: left.why for left in self.left_out},
        }


def plan(
    b_number: Number,
    sell: Tariff,
    trunks: Sequence[Trunk],
    live: Mapping[str, int],
    *,
    margin_floor_micro: int = 0,
    limit: int = 3,
    policy_class: str = PSTN,
) -> RoutePlan:
    """Order the trunks for one call: longest prefix within each carrier's own deck, then the cheapest first.

    live                calls now on each trunk, by trunk_id; a missing one has none
    margin_floor_micro  least margin per minute; negative allows a loss
    limit               at most so many attempts
    returns             ties are broken by priority, then name, so the same input always gives the same plan
    """
    digits = b_number.digits
    reference_ms = REFERENCE_S * SECOND_MS
    price_micro = charge(sell, reference_ms).amount_micro
    floor_micro = margin_floor_micro * REFERENCE_S
    found: list[tuple[Trunk, Route]] = []
    left_out: list[LeftOut] = []
    for trunk in trunks:
        buy = _usable_rate(trunk, digits, sell.currency, live.get(trunk.trunk_id, 0), policy_class)
        if isinstance(buy, str):
            left_out.append(LeftOut(trunk.name, buy))
            continue
        cost_micro = charge(buy, reference_ms).amount_micro
        margin_micro = price_micro - cost_micro
        if margin_micro * MINUTE_S < floor_micro:
            left_out.append(LeftOut(trunk.name, _too_dear(margin_micro, margin_floor_micro)))
            continue
        route = Route(trunk.trunk_id, trunk.name, trunk.carrier, trunk.ring_s, buy, cost_micro, margin_micro)
        found.append((trunk, route))
    found.sort(key=_cheapest_first)
    left_out.extend(LeftOut(trunk.name, f"not among the first {limit}") for trunk, _ in found[limit:])
    return RoutePlan(tuple(route for _, route in found[:limit]), tuple(left_out))


def _cheapest_first(candidate: tuple[Trunk, Route]) -> tuple[int, int, str, str]:
    trunk, route = candidate
    return route.cost_micro, trunk.priority, trunk.name, trunk.trunk_id


def _usable_rate(trunk: Trunk, digits: str, currency: str, live: int, policy_class: str) -> Tariff | str:
    """The trunk's own rate for the number, or why the trunk cannot be used."""
    if not trunk.enabled:
        return "disabled"
    if trunk.policy_class != policy_class:
        return f"carries {trunk.policy_class} calls only"
    if trunk.capacity is not None and live >= trunk.capacity:
        return f"full, {live} of {trunk.capacity} calls"
    if trunk.deck.currency != currency:
        return f"buys in {trunk.deck.currency}, sold in {currency}"
    buy = trunk.deck.tariff(digits)
    if buy is None:
        return "no prefix in its deck"
    return f"prefix {buy.rate.prefix} is blocked in its deck" if buy.rate.blocked else buy


def _too_dear(margin_micro: int, floor_micro: int) -> str:
    margin, floor = format_micro(margin_micro), format_micro(floor_micro)
    return f"margin {margin} for {REFERENCE_S} s is under the floor of {floor} a minute"
