from __future__ import annotations

import json
from array import array
from dataclasses import replace
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from bridge.rating import prefixes
from bridge.rating.deck import Deck
from bridge.rating.origin import Origins
from bridge.rating.packed import Packed, Packing, row_of
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route, plan
from bridge.routing.router import Router
from bridge.routing.trunk import Trunk
from bridge.telephony.number import Number

# Few digits make many prefixes of one another, which is where a longest match can go wrong.
PREFIXES = st.text("01", min_size=1, max_size=8)
DIGITS = st.text("01", max_size=12)


def deck_of(prefixes: set[str], deck_id: str = "d", rate_micro: int = 1) -> Deck:
    rates = [Rate(f"r{prefix}", deck_id, prefix, "x", "EUR", rate_micro) for prefix in prefixes]
    return Deck(deck_id, deck_id, "EUR", 1, rates)


ORIGIN_SETS = ("", "EU", "DE", "US")
ROWS = st.dictionaries(st.tuples(PREFIXES, st.sampled_from(ORIGIN_SETS)), st.integers(0, 9), max_size=20)
ORIGINS = st.lists(st.sampled_from(ORIGIN_SETS[1:]), unique=True).map(tuple)


def deck_by_origin(rows: dict[tuple[str, str], int], deck_id: str = "d") -> Deck:
    rates = [
        Rate(f"r{prefix}{origin}", deck_id, prefix, "x", "EUR", micro * 10_000, origin_set=origin)
        for (prefix, origin), micro in rows.items()
    ]
    return Deck(deck_id, deck_id, "EUR", 1, rates)


@given(ROWS, DIGITS, ORIGINS)
def test_longest_is_what_a_full_scan_finds(
    rows: dict[tuple[str, str], int], digits: str, origins: tuple[str, ...]
) -> None:
    wanted = (*origins, "")
    fitting = [(prefix, origin) for prefix, origin in rows if digits.startswith(prefix)]
    eligible = [key for key in fitting if key[1] in wanted]
    best = min(eligible, key=lambda key: (-len(key[0]), wanted.index(key[1])), default=None)
    deck = deck_by_origin(rows)
    found = deck.longest(digits, origins)
    assert ((found.prefix, found.origin_set) if found else None) == best
    explained = deck.explain(digits, origins)
    told = [(row["prefix"], row["origin_set"]) for row in explained["matched"]]
    assert sorted(told) == sorted(fitting)
    assert [len(prefix) for prefix, _ in told] == sorted((len(prefix) for prefix, _ in told), reverse=True)
    assert [key for key, row in zip(told, explained["matched"], strict=True) if row["why"] == "chosen"] == (
        [best] if best else []
    )
    only = [key for key, row in zip(told, explained["matched"], strict=True) if row["why"].endswith("only")]
    assert sorted(only) == sorted(set(fitting) - set(eligible))


@given(ROWS, st.randoms(use_true_random=False), DIGITS, ORIGINS)
def test_the_order_of_the_rates_changes_nothing(rows, shuffle, digits, origins):
    shuffled = list(rows.items())
    shuffle.shuffle(shuffled)
    assert deck_by_origin(dict(shuffled)).tariff(digits, origins) == deck_by_origin(rows).tariff(
        digits, origins
    )


@given(st.dictionaries(st.sampled_from(ORIGIN_SETS[1:]), st.sets(PREFIXES, max_size=5)), DIGITS)
def test_a_caller_is_of_the_sets_that_hold_a_prefix_of_the_number(sets, digits):
    size = {
        name: max((len(prefix) for prefix in prefixes if digits.startswith(prefix)), default=0)
        for name, prefixes in sets.items()
    }
    named = sorted((name for name in sets if size[name]), key=lambda name: (-size[name], name))
    assert Origins(sets).of(digits) == tuple(named)


TRUNKS = st.lists(
    st.builds(
        lambda i, price, priority, capacity, enabled: Trunk(
            f"t{i}", f"n{i}", "c", deck_of({"49"}, f"d{i}", price), capacity, priority, enabled=enabled
        ),
        st.integers(0, 99),
        st.integers(0, 120_000),
        st.integers(0, 2),
        st.one_of(st.none(), st.integers(0, 2)),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda trunk: trunk.trunk_id,
)
SELL = Tariff(Rate("s", "s", "49", "Germany", "EUR", 90_000))


@given(TRUNKS, st.randoms(use_true_random=False), st.integers(0, 4))
def test_a_plan_names_every_trunk_once_in_an_order_of_its_own(trunks, shuffle, limit):
    live = {trunk.trunk_id: 1 for trunk in trunks}
    made = plan(Number("+493023125000"), SELL, trunks, live, limit=limit)
    told = [route.name for route in made.routes] + [left.name for left in made.left_out]
    assert sorted(told) == sorted(trunk.name for trunk in trunks)
    assert len(made.routes) <= limit
    costs = [route.cost_micro for route in made.routes]
    assert costs == sorted(costs)
    assert all(route.margin_micro >= 0 for route in made.routes)
    shuffled = list(trunks)
    shuffle.shuffle(shuffled)
    assert plan(Number("+493023125000"), SELL, shuffled, live, limit=limit).routes == made.routes


BUYS = st.lists(
    st.builds(
        lambda i, rows, blocked, currency, priority, capacity, state: Trunk(
            f"t{i}",
            f"n{i}",
            "c",
            Deck(
                f"d{i}",
                f"d{i}",
                currency,
                1,
                [
                    Rate("r", f"d{i}", p, "x", currency, n * 10_000, blocked=p == blocked, origin_set=o)
                    for (p, o), n in rows.items()
                ],
            ),
            capacity,
            priority,
            enabled=state != "disabled",
            draining=state == "draining",
            down=state == "down",
        ),
        st.integers(0, 99),
        ROWS,
        PREFIXES,
        st.sampled_from(["EUR", "EUR", "USD"]),
        st.integers(0, 1),
        st.one_of(st.none(), st.integers(0, 2)),
        st.sampled_from(["up"] * 7 + ["disabled", "draining", "down", "down"]),
    ),
    max_size=5,
    unique_by=lambda trunk: trunk.trunk_id,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "digits": st.text("01", min_size=4, max_size=11),
            "price": st.integers(0, 12),
            "live": st.dictionaries(st.integers(0, 99).map(lambda i: f"t{i}"), st.integers(0, 3), max_size=9),
            "margin_floor_micro": st.sampled_from([-20_000, 0, 10_000]),
            "limit": st.integers(0, 3),
            "origins": ORIGINS,
            "zero_rated": st.booleans(),
            "paced": st.sets(st.integers(0, 9).map(lambda i: f"t{i}"), max_size=2),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(BUYS, CALLS, st.sampled_from([{}, {("USD", "EUR"): 933_333_333}]))
def test_a_router_answers_as_a_plan_made_anew(trunks, calls, fx):
    router = Router(trunks, fx)
    for call in calls:
        b_number, price, live = Number("+1" + call.pop("digits")), call.pop("price"), call.pop("live")
        sell = Tariff(Rate("s", "s", "49", "Germany", "EUR", price * 10_000))
        made = plan(b_number, sell, trunks, live, fx=fx, **call)
        assert router.plan(b_number, sell, live, **call) == made
        written = json.loads(json.dumps(made.to_json()))
        assert tuple(map(Route.from_json, written["routes"])) == made.routes
        assert len(made.routes) + len(made.left_out) == len(trunks)


@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 5), st.booleans())
def test_rates_packed_some_at_a_time_are_those_packed_at_once(rows, shuffle, size, by_uuid):
    given_rates = [row_of(rate) for rate in map(deck_by_origin(rows)._rate, range(len(rows)))]
    if by_uuid:
        given_rates = [(row[0], bytes([n]) * 16, *row[2:]) for n, row in enumerate(given_rates)]
    shuffle.shuffle(given_rates)
    packing = Packing()
    for begin in range(0, len(given_rates), size):
        packing.add(given_rates[begin : begin + size])
    packed = Packed(packing)
    once = Packed(Packing().add(sorted(given_rates, key=lambda row: row[0])))
    assert list(packed.prefixes.keys) == list(once.prefixes.keys)

    def rates(of: Packed) -> set[Rate]:
        return {of.rate(position, "d", "EUR") for position in range(len(of))}

    assert rates(packed) == rates(once)
    assert len(rates(packed)) == len(rows)


@given(st.lists(st.lists(st.integers(0, 50)), max_size=5))
def test_a_union_is_what_a_set_says(columns):
    with mock.patch.object(prefixes, "_SLICE", 2):
        joined = prefixes.union([array("Q", sorted(column)) for column in columns])
    assert list(joined) == sorted(set().union(*columns))


@given(BUYS, st.lists(st.text("01", min_size=4, max_size=11), max_size=5))
def test_a_renewed_router_answers_as_one_made_anew(trunks, numbers):
    router = Router(trunks)
    assert router.renewed(list(trunks), {}) is router
    changed = [replace(trunk, enabled=not trunk.enabled) for trunk in trunks[:1]] + list(trunks[1:])
    renewed = router.renewed(changed, {})
    assert renewed.keys is router.keys
    sell = Tariff(Rate("r", "s", "0", "x", "EUR", 10_000_000))
    for digits in numbers:
        number = Number(f"+1{digits}")
        made = plan(number, sell, changed, {})
        assert renewed.plan(number, sell, {}) == made
        assert Router(changed, keep=False).plan(number, sell, {}) == made
    steps = sum(1 for _ in renewed.forget())
    assert steps <= 1
    assert not any(renewed._kept)
