from __future__ import annotations

from fractions import Fraction
from math import floor

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.rating.charge import affordable_ms, charge
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff

MICRO_PRICES = st.one_of(st.integers(0, 200), st.integers(0, 5_000_000))
RATES = st.builds(
    Rate,
    rate_id=st.just("r"),
    deck_id=st.just("d"),
    prefix=st.just("49"),
    destination=st.just("Germany"),
    currency=st.just("EUR"),
    rate_micro=MICRO_PRICES,
    connect_fee_micro=st.one_of(st.just(0), MICRO_PRICES),
    initial_s=st.integers(1, 120),
    next_s=st.integers(1, 120),
    minimum_s=st.one_of(st.just(0), st.integers(0, 300)),
)
TARIFFS = st.builds(Tariff, RATES)
TALK_MS = st.integers(0, 7_200_000)
BUDGETS = st.one_of(st.integers(0, 2_000), st.integers(0, 500_000_000))


def charge_by_counting(tariff: Tariff, talk_ms: int) -> int:
    """The tariff read aloud: blocks are laid end to end until they cover the talk. Slow, no formula."""
    rate = tariff.rate
    if talk_ms == 0:
        return 0
    covered_s = rate.initial_s
    while covered_s * 1000 < talk_ms or covered_s < rate.minimum_s:
        covered_s += rate.next_s
    exact = rate.connect_fee_micro + Fraction(rate.rate_micro * covered_s, 60)
    return floor(exact + Fraction(1, 2))


@given(TARIFFS, TALK_MS)
def test_charge_is_what_counting_gives(rate: Tariff, talk_ms: int) -> None:
    assert charge(rate, talk_ms).amount_micro == charge_by_counting(rate, talk_ms)


@given(TARIFFS, TALK_MS, TALK_MS)
def test_longer_talk_never_costs_less(rate: Tariff, one_ms: int, other_ms: int) -> None:
    shorter, longer = sorted((one_ms, other_ms))
    assert charge(rate, shorter).amount_micro <= charge(rate, longer).amount_micro


@given(TARIFFS, TALK_MS)
def test_the_steps_add_up(rate: Tariff, talk_ms: int) -> None:
    made = charge(rate, talk_ms)
    *parts, total = [step.amount_micro for step in made.steps if step.amount_micro is not None]
    assert total == made.amount_micro
    assert not parts or sum(parts) == total


@given(TARIFFS, BUDGETS, st.integers(0, 14_400_000))
@example(Tariff(Rate("r", "d", "49", "Germany", "EUR", 30, initial_s=1, next_s=1)), 1, 14_400_000)
def test_affordable_is_the_exact_inverse_of_charge(rate: Tariff, budget_micro: int, cap_ms: int) -> None:
    talk_ms = affordable_ms(rate, budget_micro, cap_ms=cap_ms)
    assert 0 <= talk_ms <= cap_ms
    assert charge(rate, talk_ms).amount_micro <= budget_micro
    if talk_ms < cap_ms:
        assert charge(rate, talk_ms + 1).amount_micro > budget_micro


@given(TARIFFS, TALK_MS)
def test_the_price_of_a_talk_buys_at_least_that_talk(rate: Tariff, talk_ms: int) -> None:
    assert affordable_ms(rate, charge(rate, talk_ms).amount_micro, cap_ms=10**12) >= talk_ms
