"""Figure `route_plan`: plans a second over many carriers' decks, next to one plain dict look-up a deck.

The decks are alike, as those of carriers are: most prefixes are in all of them, some are each one's own; prices are
by destination. The dicts are asked for the prefix itself, which a bridge would first have to find.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from random import Random
from time import perf_counter
from typing import Final, NamedTuple

from bridge.rating.deck import Deck
from bridge.rating.packed import Row
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.routing.router import Router
from bridge.routing.trunk import Trunk
from bridge.sandbox.bench_stack import say
from bridge.telephony.number import Number

GOAL: Final = 0.5
BYTES_MAX: Final = 100.0
OWN_SHARE: Final = 20  # one prefix in so many is in one deck only
CAPACITY: Final = 100
NUMBER_DIGITS: Final = 12
INCREMENTS: Final = ((1, 1), (60, 1), (60, 60), (30, 6))
SELL: Final = Tariff(Rate("sell", "sell", "1", "anywhere", "EUR", 500_000))


class World(NamedTuple):
    """called: prefixes that calls go to. dicts: one per deck, by prefix."""

    trunks: Sequence[Trunk]
    dicts: Sequence[dict[str, int]]
    called: Sequence[str]


def route_plan(*, smoke: bool) -> list[dict[str, object]]:
    """Random numbers called again, again while two trunks are full, and for the first time; memory; loading."""
    decks, size, calls = (5, 2_000, 500) if smoke else (50, 100_000, 10_000)
    chance = Random(1)  # noqa: S311  the same decks in every run
    shared = _prefixes(chance, size)
    rows = _rows(chance, _of_one_deck(chance, shared))
    memory, loading = _memory(rows), _loading(rows)
    world = _world(chance, shared, decks, calls)
    say(f"route_plan: {decks} decks of {size} rates stand")
    router = Router(world.trunks)
    live = {trunk.trunk_id: chance.randrange(CAPACITY) for trunk in world.trunks}
    busy = live | {trunk.trunk_id: CAPACITY for trunk in world.trunks[:2]}
    numbers = _numbers(chance, world.called)
    cold, kept, reranked = (_plans(world, numbers, router, calls_now) for calls_now in (live, live, busy))
    return [
        _figure("route_plan", *kept, GOAL, calls),
        _figure("route_plan_two_full", *reranked, None, calls),
        _figure("route_plan_first_call", *cold, None, calls),
        memory,
        loading,
    ]


def _plans(
    world: World, numbers: Sequence[Number], router: Router, live: dict[str, int]
) -> tuple[float, float]:
    """Plans a second, and rounds of look-ups a second."""

    def look_up() -> None:
        for prefix in world.called:
            for prices in world.dicts:
                prices.get(prefix)

    def plan() -> None:
        for number in numbers:
            router.plan(number, SELL, live)

    before_s = _seconds(look_up)
    ours_s = _seconds(plan)
    return len(numbers) / ours_s, 2 * len(numbers) / (before_s + _seconds(look_up))


def _figure(name: str, value: float, baseline: float, goal: float | None, n: int) -> dict[str, object]:
    return {
        "name": name,
        "value": round(value),
        "unit": "plans/s",
        "baseline": "one dict look-up per deck",
        "baseline_value": round(baseline),
        "ratio": round(value / baseline, 3),
        "goal": goal,
        "n": n,
    }


def _memory(rows: Sequence[Row]) -> dict[str, object]:
    def objects() -> dict[str, Rate]:
        return {row[0]: Rate(str(row[1]), "d", row[0], row[2], "EUR", *row[3:]) for row in rows}

    ours, theirs = _bytes(lambda: _deck("d", rows)), _bytes(objects)
    return {
        "name": "route_plan_memory",
        "value": round(ours / len(rows), 1),
        "unit": "bytes a rate",
        "baseline": "a dict of rates",
        "baseline_value": round(theirs / len(rows), 1),
        "ratio": round(ours / theirs, 3),
        "goal": BYTES_MAX,
        "n": len(rows),
    }


def _loading(rows: Sequence[Row]) -> dict[str, object]:
    ours_s = _seconds(lambda: _deck("d", rows))
    theirs_s = _seconds(lambda: {row[0]: row for row in rows})
    return {
        "name": "route_plan_load",
        "value": round(len(rows) / ours_s),
        "unit": "rates/s into a deck",
        "baseline": "a dict of the same rows",
        "baseline_value": round(len(rows) / theirs_s),
        "ratio": round(theirs_s / ours_s, 3),
        "goal": None,
        "n": len(rows),
    }


def _world(chance: Random, shared: Sequence[str], decks: int, calls: int) -> World:
    trunks, dicts = [], []
    for place in range(decks):
        rows = _rows(chance, _of_one_deck(chance, shared))
        deck = _deck(f"deck-{place}", rows)
        trunks.append(Trunk(f"trunk-{place}", f"carrier {place}", f"carrier {place}", deck, CAPACITY))
        dicts.append({row[0]: row[3] for row in rows})
    return World(trunks, dicts, [shared[chance.randrange(len(shared))] for _ in range(calls)])


def _deck(deck_id: str, rows: Sequence[Row]) -> Deck:
    return Deck.of_rows(deck_id, deck_id, "EUR", 1, iter(rows))


def _prefixes(chance: Random, size: int) -> list[str]:
    """Long and short ones, every country called 1 to 9 among them, so that each number is priced by each deck."""
    found = {str(digit) for digit in range(1, 10)}
    while len(found) < size:
        found.add(str(chance.randrange(10, 10 ** chance.randrange(3, 9))))
    return sorted(found)


def _of_one_deck(chance: Random, shared: Sequence[str]) -> list[str]:
    own = {str(chance.randrange(10**8, 10**9)) for _ in range(len(shared) // OWN_SHARE)}
    return sorted({*shared[:9], *chance.sample(shared, len(shared) - len(own)), *own})


def _rows(chance: Random, prefixes: Sequence[str]) -> list[Row]:
    """A price and increments for each three digits: about as many destinations as carriers tell apart."""
    terms: dict[str, tuple[int, tuple[int, int]]] = {}
    rows: list[Row] = []
    for prefix in prefixes:
        place = prefix[:3]
        if place not in terms:
            terms[place] = chance.randrange(100, 4_000) * 100, chance.choice(INCREMENTS)
        rate_micro, (initial_s, next_s) = terms[place]
        rate_id = chance.randbytes(16)
        rows.append(
            (prefix, rate_id, f"Destination {place}", rate_micro, 0, initial_s, next_s, 0, False, 0, "", ())
        )
    return rows


def _numbers(chance: Random, prefixes: Sequence[str]) -> list[Number]:
    return [
        Number("+" + prefix + "".join(chance.choices("0123456789", k=NUMBER_DIGITS - len(prefix))))
        for prefix in prefixes
    ]


def _seconds(work: Callable[[], object]) -> float:
    begin_s = perf_counter()
    work()
    return perf_counter() - begin_s


def _bytes(make: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        made = make()
        size, _ = tracemalloc.get_traced_memory()
        del made
        return size
    finally:
        tracemalloc.stop()
