"""Least-cost routing: which trunks carry a call, in which order, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from bridge.rating.charge import MINUTE_S, SECOND_MS, charge
from bridge.rating.tariff import Tariff
from bridge.routing.trunk import APP, PSTN, Trunk, leg_may
from bridge.telephony.money import Rounding, divide, format_micro
from bridge.telephony.number import Number

# Carriers are compared by what a call of this length costs, so connect fees, minimums and increments count.
REFERENCE_S: Final = 180
NANO: Final = 1_000_000_000

Exchange = Mapping[tuple[str, str], int]
"""What one unit of the first currency is worth in the second, in nano-units (10⁻⁹), on the day of the call."""
NO_EXCHANGE: Final[Exchange] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """One attempt to make, with the buy rate frozen for it.

    cost_micro     what the carrier charges for the reference call, net of tax, in the carrier's currency
    margin_micro   what is left of the selling price of that call, net of tax, in the selling currency
    exchange_nano  by which the cost was converted; None: it is in the selling currency
    """

    trunk_id: str
    name: str
    carrier: str
    ring_s: int
    buy: Tariff
    cost_micro: int
    margin_micro: int
    exchange_nano: int | None = None

    @property
    def why(self) -> str:
        cost, margin = format_micro(self.cost_micro), format_micro(self.margin_micro)
        rate = "" if self.exchange_nano is None else f", converted at {self.exchange_nano / NANO:.9g}"
        prefix = self.buy.rate.prefix
        return f"prefix {prefix}: {cost} {self.buy.currency} for {REFERENCE_S} s{rate}, margin {margin}"

    def to_json(self) -> dict[str, Any]:
        kept: dict[str, Any] = {
            "trunk_id": self.trunk_id,
            "name": self.name,
            "carrier": self.carrier,
            "ring_s": self.ring_s,
            "cost_micro": self.cost_micro,
            "margin_micro": self.margin_micro,
            "buy": self.buy.to_json(),
        }
        if self.exchange_nano is not None:
            kept["exchange_nano"] = self.exchange_nano
        return kept

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**frozen, "buy": Tariff.from_json(frozen["buy"])})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A trunk that is not tried, and the reason in words."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Attempts in order, and what was left out. Frozen with the call.

    unusable    trunks that could not carry the call, and why
    spare       trunks that could, by cost, but were not among the first
    zero_rated  the caller pays nothing and somebody else does: the margin floor was not applied
    """

    routes: tuple[Route, ...]
    unusable: tuple[LeftOut, ...]
    spare: tuple[str, ...] = ()
    zero_rated: bool = False

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Every trunk that is not tried."""
        late = f"not among the first {len(self.routes)}"
        return (*self.unusable, *(LeftOut(name, late) for name in self.spare))

    def frozen(self, at: datetime) -> RoutePlan:
        """As kept with a call that is admitted at this instant: see `Tariff.frozen`."""
        if not any(route.buy.terms.holidays for route in self.routes):
            return self
        kept = (replace(route, buy=route.buy.frozen(at)) for route in self.routes)
        return replace(self, routes=tuple(kept))

    def to_json(self) -> dict[str, Any]:
        """Compact: written once per call. Of the spare trunks only how many there are."""
        kept: dict[str, Any] = {
            "routes": [route.to_json() for route in self.routes],
            "left_out": {left.name: left.why for left in self.unusable},
        }
        if self.spare:
            kept["spare"] = len(self.spare)
        if self.zero_rated:
            kept["zero_rated"] = True
        return kept


def plan(
    b_number: Number,
    sell: Tariff,
    trunks: Sequence[Trunk],
    live: Mapping[str, int],
    *,
    margin_floor_micro: int = 0,
    limit: int = 3,
    policy_class: str = PSTN,
    leg_class: str = APP,
    origins: Sequence[str] = (),
    at: datetime | None = None,
    fx: Exchange = NO_EXCHANGE,
    zero_rated: bool = False,
    paced: Collection[str] = (),
) -> RoutePlan:
    """Order the trunks for one call: longest prefix within each carrier's own deck, then the cheapest first.

    live                calls now on each trunk, by trunk_id; a missing one has none
    margin_floor_micro  least margin per minute; negative allows a loss
    limit               at most so many attempts
    policy_class        of the trunks that are wanted
    leg_class           of the leg that is to be joined to one: what it may never meet is never offered
    origins             sets the caller belongs to, most specific first
    at                  when the call begins, aware; needed where a tariff has bands
    fx                  for carriers that charge in another currency; converted half up
    zero_rated          somebody else than the caller pays: the margin floor is not applied
    paced               trunks, by trunk_id, that have had as many calls this second as they take
    returns             ties are broken by priority, then name, so the same input always gives the same plan
    raises              ValueError: a tariff has bands, and no time is given
    """
    call = Call(b_number.digits, sell.currency, tuple(origins), at, fx)
    closed = closed_to(trunks, live, policy_class, paced, leg_class)
    offers: dict[int, Offer] = {}
    unusable: dict[int, str] = {}
    for place, trunk in enumerate(trunks):
        if place not in closed:
            made = offer(trunk, call)
            if isinstance(made, str):
                unusable[place] = made
            else:
                offers[place] = made
    order = sorted(offers, key=lambda place: (offers[place].converted_micro, *tie(trunks[place])))
    ranking = Ranking(order, [offers[place].converted_micro for place in order], unusable)
    wanted = Wanted(reference(sell, at), None if zero_rated else margin_floor_micro, limit)
    return choose(trunks, ranking, closed, wanted, offers.__getitem__)


class Call(NamedTuple):
    """What a carrier's price of a call depends on. Equal calls get equal offers."""

    digits: str
    currency: str
    origins: tuple[str, ...]
    at: datetime | None
    fx: Exchange


class Wanted(NamedTuple):
    """price_micro: of the reference call. floor_micro: least margin per minute; None: zero-rated, so any will do."""

    price_micro: int
    floor_micro: int | None
    limit: int


class Offer(NamedTuple):
    """What a trunk asks for the reference call: in the carrier's currency, and in that of the sale."""

    buy: Tariff
    cost_micro: int
    converted_micro: int
    exchange_nano: int | None


class Ranking(NamedTuple):
    """Trunks by their place in a sequence of them.

    order            those with an offer, cheapest first
    converted_micro  their cost of the reference call, in the selling currency
    unusable         why each other one has no offer
    """

    order: Sequence[int]
    converted_micro: Sequence[int]
    unusable: Mapping[int, str]


def reference(tariff: Tariff, at: datetime | None) -> int:
    """Price of the reference call in micro-units, without the tax in it: that is never ours to keep."""
    priced = charge(tariff, REFERENCE_S * SECOND_MS, answered_at=at)
    return priced.amount_micro - priced.tax_micro


def closed_to(
    trunks: Sequence[Trunk],
    live: Mapping[str, int],
    policy_class: str,
    paced: Collection[str] = (),
    leg_class: str = APP,
) -> dict[int, str]:
    """Why some trunks take no call now, whatever it is, by their places."""
    found: dict[int, str] = {}
    for place, trunk in enumerate(trunks):
        if not trunk.enabled:
            found[place] = "disabled"
        elif trunk.draining:
            found[place] = "draining"
        elif trunk.policy_class != policy_class:
            found[place] = f"carries {trunk.policy_class} calls only"
        elif not leg_may(leg_class, trunk.policy_class):
            found[place] = f"never meets a {leg_class} leg"
        elif trunk.capacity is not None and (calls := live.get(trunk.trunk_id, 0)) >= trunk.capacity:
            found[place] = full(calls, trunk.capacity)
        elif trunk.trunk_id in paced:
            found[place] = f"{trunk.cps} calls a second, and so many this second"
    return found


def offer(trunk: Trunk, call: Call) -> Offer | str:
    """What the trunk's own deck asks, or why the trunk cannot be used."""
    deck = trunk.deck
    exchange_nano = None
    if deck.currency != call.currency:
        exchange_nano = call.fx.get((deck.currency, call.currency))
        if exchange_nano is None:
            return f"buys in {deck.currency}, sold in {call.currency}, and no exchange rate is known"
    buy = deck.tariff(call.digits, call.origins)
    if buy is None:
        return "no prefix in its deck"
    rate = buy.at(call.at).rate if buy.bands and call.at is not None else buy.rate
    if rate.blocked:
        return f"prefix {rate.prefix} is blocked in its deck"
    cost_micro = reference(buy, call.at)
    if exchange_nano is None:
        return Offer(buy, cost_micro, cost_micro, None)
    return Offer(buy, cost_micro, divide(cost_micro * exchange_nano, NANO, Rounding.HALF_UP), exchange_nano)


def tie(trunk: Trunk) -> tuple[int, str, str]:
    """Which of equally cheap trunks goes first."""
    return trunk.priority, trunk.name, trunk.trunk_id


def choose(
    trunks: Sequence[Trunk],
    ranking: Ranking,
    closed: Mapping[int, str],
    wanted: Wanted,
    offer_of: Callable[[int], Offer],
) -> RoutePlan:
    """The first ones that are open and leave enough margin; those that are down only when no other is left.

    offer_of   asked for these only
    """
    price_micro, floor_micro, limit = wanted
    why_not = {**ranking.unusable, **closed} if closed else dict(ranking.unusable)
    usable: list[int] = []
    for place, cost_micro in zip(ranking.order, ranking.converted_micro, strict=True):
        if place in closed:
            continue
        if floor_micro is not None and (price_micro - cost_micro) * MINUTE_S < floor_micro * REFERENCE_S:
            why_not[place] = _too_dear(price_micro - cost_micro, floor_micro)
        else:
            usable.append(place)
    # A trunk that does not answer may answer again; to try is better than to refuse.
    chosen = [place for place in usable if not trunks[place].down] or usable
    why_not.update({place: "down" for place in usable if place not in chosen})
    routes = [_route(trunks[place], offer_of(place), price_micro) for place in chosen[:limit]]
    spare = [trunks[place].name for place in chosen[limit:]]
    unusable = tuple(LeftOut(trunks[place].name, why_not[place]) for place in sorted(why_not))
    return RoutePlan(tuple(routes), unusable, tuple(spare), floor_micro is None)


def full(calls: int, capacity: int) -> str:
    return f"full, {calls} of {capacity} calls"


def _route(trunk: Trunk, made: Offer, price_micro: int) -> Route:
    return Route(
        trunk.trunk_id,
        trunk.name,
        trunk.carrier,
        trunk.ring_s,
        made.buy,
        made.cost_micro,
        price_micro - made.converted_micro,
        made.exchange_nano,
    )


def _too_dear(margin_micro: int, floor_micro: int) -> str:
    margin, floor = format_micro(margin_micro), format_micro(floor_micro)
    return f"margin {margin} for {REFERENCE_S} s is under the floor of {floor} a minute"
