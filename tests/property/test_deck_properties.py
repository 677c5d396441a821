from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.rating.deck import Deck
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.routing.plan import plan
from bridge.routing.trunk import Trunk
from bridge.telephony.number import Number

# Few digits make many prefixes of one another, which is where a longest match can go wrong.
PREFIXES = st.text("01", min_size=1, max_size=8)
DIGITS = st.text("01", max_size=12)


def deck_of(prefixes: set[str], deck_id: str = "d", rate_micro: int = 1) -> Deck:
    rates = [Rate(f"r{prefix}", deck_id, prefix, "x", "EUR", rate_micro) for prefix in prefixes]
    return Deck(deck_id, deck_id, "EUR", 1, rates)


@given(st.sets(PREFIXES), DIGITS)
def test_longest_is_what_a_full_scan_finds(prefixes: set[str], digits: str) -> None:
    matching = sorted((prefix for prefix in prefixes if digits.startswith(prefix)), key=len, reverse=True)
    deck = deck_of(prefixes)
    found = deck.longest(digits)
    assert (found.prefix if found else None) == (matching[0] if matching else None)
    explained = deck.explain(digits)
    assert explained["matched"] == matching
    assert explained["chosen"] == (found.prefix if found else None)


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
