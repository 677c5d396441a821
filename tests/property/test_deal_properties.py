"""Steps of a deal: exact, never falling, and the same however a month is counted."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from bridge.partners.deal import Mode, Step, Wholesale, format_percent, parse_percent, part_micro

RATES = st.integers(0, 10**9)


@st.composite
def wholesale(draw: st.DrawFn, mode: Mode = Mode.MARGINAL) -> Wholesale:
    starts = sorted({0, *draw(st.lists(st.integers(1, 500), max_size=6))})
    return Wholesale(tuple(Step(start, draw(RATES)) for start in starts), mode)


def exact(deal: Wholesale, billed_s: int) -> Fraction:
    """Second by second, as a person would."""
    return sum((Fraction(deal.step_at(second).rate_micro, 60) for second in range(billed_s)), Fraction())


@given(wholesale(), st.integers(0, 2_000))
def test_each_second_counts_by_its_own_step(deal: Wholesale, billed_s: int) -> None:
    assert abs(deal.due_micro(billed_s) - exact(deal, billed_s)) <= Fraction(1, 2)


@given(wholesale(), st.integers(0, 10**9), st.integers(0, 10**6))
def test_more_traffic_is_never_cheaper(deal: Wholesale, billed_s: int, more_s: int) -> None:
    """And what is more costs no more than at the dearest step: nothing jumps where a step begins."""
    less, all_of_it = deal.due_micro(billed_s), deal.due_micro(billed_s + more_s)
    dearest = max(step.rate_micro for step in deal.steps)
    assert 0 <= all_of_it - less <= Fraction(dearest * more_s, 60) + 1


@given(wholesale(Mode.WHOLE), st.integers(0, 10**9))
def test_all_minutes_cost_the_step_reached(deal: Wholesale, billed_s: int) -> None:
    rate = max(
        (step for step in deal.steps if step.from_minutes * 60 <= billed_s), key=lambda one: one.from_minutes
    )
    assert abs(deal.due_micro(billed_s) - Fraction(rate.rate_micro * billed_s, 60)) <= Fraction(1, 2)


@given(RATES, st.integers(0, 10**12))
def test_one_step_is_the_same_in_both_ways(rate_micro: int, billed_s: int) -> None:
    steps = (Step(0, rate_micro),)
    assert Wholesale(steps).due_micro(billed_s) == Wholesale(steps, Mode.WHOLE).due_micro(billed_s)


@given(st.integers(-(10**18), 10**18), st.integers(0, 10_000))
def test_both_parts_are_the_whole(amount_micro: int, permyriad: int) -> None:
    """To one micro-unit: each is rounded once."""
    ours, theirs = part_micro(amount_micro, 10_000 - permyriad), part_micro(amount_micro, permyriad)
    assert abs(ours + theirs - amount_micro) <= 1
    assert part_micro(-amount_micro, permyriad) == -theirs


@given(st.integers(0, 10_000))
def test_a_percentage_is_read_as_it_was_written(permyriad: int) -> None:
    assert parse_percent(format_percent(permyriad)) == permyriad
