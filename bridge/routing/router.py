"""The routes of many calls: `routing.plan`, with what is the same for many calls worked out once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from bridge.rating.bands import in_force
from bridge.rating.deck import Deck
from bridge.rating.prefixes import Prefixes, decode, encode, union
from bridge.rating.tariff import Tariff
from bridge.routing.kept import Asked, Kept
from bridge.routing.plan import (
    NO_EXCHANGE,
    REFERENCE_S,
    Call,
    Exchange,
    Offer,
    Ranking,
    RoutePlan,
    Wanted,
    choose,
    closed_to,
    offer,
    plan,
    reference,
    tie,
)
from bridge.routing.trunk import APP, PSTN, Trunk
from bridge.telephony.number import Number

PLANS_MAX: Final = 16_384
RANKINGS_MAX: Final = 65_536
_COSTS_MAX: Final = 131_072
_FORGOTTEN: Final = 50  # of each kind at a time: about a millisecond


class Router:
    """Gives the same plans as `plan`, for trunks that stay as they are.

    Numbers whose longest prefix known to any deck is the same get the same rate from every deck. So one of them
    stands for all: the order of the trunks is kept for each such prefix that was called, and whole plans for as
    long as price, floor and the set of full trunks stay the same. While a band begins or ends somewhere, nothing
    is kept.

    fx      see `plan`
    before  a router of other trunks: what depends on their decks alone is taken over where these are the same
    keep    False: for a walk over all prefixes, where nobody asks twice; no plan or order is kept

    Memory: 12 bytes a prefix; with 50 trunks 3 kB a plan, 1 kB a ranking, and all that is kept at most 160 MB.
    """

    def __init__(
        self,
        trunks: Sequence[Trunk],
        fx: Exchange = NO_EXCHANGE,
        before: Router | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._trunks, self._fx = tuple(trunks), fx
        decks = {id(trunk.deck): trunk.deck for trunk in self._trunks}.values()
        self._banded = [deck for deck in decks if deck.bands]
        every = [*decks, *(other for deck in self._banded for _, other in deck.bands)]
        self._decks = frozenset(every)
        self._prefixes: Prefixes = (
            before._prefixes
            if before is not None and before._decks == self._decks
            else Prefixes(union([deck.keys for deck in self._decks]))
        )
        self._origin_sets = frozenset[str]().union(*(deck.origin_sets for deck in every))
        self._reach = timedelta(seconds=max([REFERENCE_S, *(deck.minimum_s_max for deck in every)]))
        self._steady: tuple[datetime, datetime] | None = None
        self._capped = [
            (trunk.trunk_id, trunk.capacity, place)
            for place, trunk in enumerate(self._trunks)
            if trunk.capacity is not None and trunk.enabled
        ]
        # Not a method of self: the cycle would keep replaced decks in memory until the collector comes by.
        rankings = _Rankings(self._trunks, fx)
        ranking_of = Asked(RANKINGS_MAX if keep else 0, rankings.of)
        self._plan_of = Asked(PLANS_MAX if keep else 0, partial(_plan, self._trunks, fx, ranking_of))
        self._kept: tuple[Kept[Any], ...] = (self._plan_of, ranking_of, rankings.costs)

    @property
    def keys(self) -> array[int]:
        """Every prefix of the trunks' decks and of their bands' decks, encoded, in order."""
        return self._prefixes.keys

    def renewed(self, trunks: Sequence[Trunk], fx: Exchange) -> Router:
        """The router of these trunks: this one, with all it has worked out, if nothing has changed."""
        if tuple(trunks) == self._trunks and fx == self._fx:
            return self
        return Router(trunks, fx, self)

    def forget(self) -> Iterator[None]:
        """Lets go of what was worked out, some at each step: all at once would keep callers waiting."""
        while any(self._kept):
            for kept in self._kept:
                kept.forget(_FORGOTTEN)
            yield

    def plan(
        self,
        b_number: Number,
        sell: Tariff,
        live: Mapping[str, int],
        *,
        margin_floor_micro: int = 0,
        limit: int = 3,
        policy_class: str = PSTN,
        leg_class: str = APP,
        origins: Sequence[str] = (),
        at: datetime | None = None,
        zero_rated: bool = False,
        paced: Collection[str] = (),
    ) -> RoutePlan:
        """As `routing.plan.plan`."""
        moment = self._moment(at) if self._banded else None
        if self._banded and moment is None:
            return plan(
                b_number,
                sell,
                self._trunks,
                live,
                margin_floor_micro=margin_floor_micro,
                limit=limit,
                policy_class=policy_class,
                leg_class=leg_class,
                origins=origins,
                at=at,
                fx=self._fx,
                zero_rated=zero_rated,
                paced=paced,
            )
        # The longest prefix stands for every number that has no longer one.
        position = self._prefixes.longest(encode(b_number.digits))
        key = self._prefixes.keys[position] if position >= 0 else 0
        known = tuple(name for name in origins if name in self._origin_sets) if origins else ()
        wanted = Wanted(reference(sell, at), None if zero_rated else margin_floor_micro, limit)
        calls_of = live.get
        full = tuple(
            [
                (place, calls)
                for trunk_id, capacity, place in self._capped
                if (calls := calls_of(trunk_id, 0)) >= capacity
            ]
        )
        busy = frozenset(paced) if paced else None
        classes = (policy_class, leg_class)
        return self._plan_of(key, sell.currency, known, moment, wanted, classes, full, busy)

    def _moment(self, at: datetime | None) -> datetime | None:
        """The earliest instant known to have the bands of the whole reference call at `at`; None: they change in it."""
        if at is None:
            return None
        end = at + self._reach
        if self._steady is not None and self._steady[0] <= at and end <= self._steady[1]:
            return self._steady[0]
        until = min(map(partial(_until, at=at), self._banded))
        if end > until:
            return None
        self._steady = (at, until)
        return at


class _Rankings:
    """Works out who asks how much."""

    __slots__ = ("_by_tie", "_fx", "_trunks", "costs")

    def __init__(self, trunks: Sequence[Trunk], fx: Exchange) -> None:
        self._trunks, self._fx = trunks, fx
        self._by_tie = sorted(range(len(trunks)), key=lambda place: tie(trunks[place]))
        self.costs = Kept[int](_COSTS_MAX)

    def of(self, key: int, currency: str, origins: tuple[str, ...], at: datetime | None) -> Ranking:
        """Of all trunks, whether open or not.

        key   a prefix, encoded; 0: none that any deck knows
        """
        call = Call(decode(key), currency, origins, at, self._fx)
        costs: dict[int, int] = {}
        unusable: dict[int, str] = {}
        for place in self._by_tie:
            asked = self._asked(place, key, call)
            if isinstance(asked, str):
                unusable[place] = asked
            else:
                costs[place] = asked
        order = array("H", sorted(costs, key=costs.__getitem__))  # equals stay in the order of their ties
        return Ranking(order, array("q", [costs[place] for place in order]), unusable)

    def _asked(self, place: int, key: int, call: Call) -> int | str:
        """What the reference call costs over a trunk, in the selling currency, or why the trunk cannot be used."""
        trunk = self._trunks[place]
        price = None if trunk.deck.bands else trunk.deck.price(key, call.origins)
        if price is None:
            made = offer(trunk, call)
            return made if isinstance(made, str) else made.converted_micro
        known = (place, call.currency, price)
        cost = self.costs.get(known)
        if cost is None:
            made = offer(trunk, call)
            if isinstance(made, str):
                return made
            cost = made.converted_micro
            self.costs.put(known, cost)
        return cost


def _plan(
    trunks: Sequence[Trunk],
    fx: Exchange,
    ranking_of: Callable[[int, str, tuple[str, ...], datetime | None], Ranking],
    key: int,
    currency: str,
    origins: tuple[str, ...],
    at: datetime | None,
    wanted: Wanted,
    classes: tuple[str, str],
    full: Sequence[tuple[int, int]],
    paced: frozenset[str] | None,
) -> RoutePlan:
    live = {trunks[place].trunk_id: calls for place, calls in full}
    call = Call(decode(key), currency, origins, at, fx)

    def offered(place: int) -> Offer:
        made = offer(trunks[place], call)
        assert isinstance(made, Offer)  # it was ranked by one
        return made

    ranking = ranking_of(key, currency, origins, at)
    policy_class, leg_class = classes
    closed = closed_to(trunks, live, policy_class, paced or (), leg_class)
    return choose(trunks, ranking, closed, wanted, offered)


def _until(deck: Deck, at: datetime) -> datetime:
    bands = [band for band, _ in deck.bands]
    return in_force(bands, at, deck.terms.zone, deck.terms.holidays)[1]
