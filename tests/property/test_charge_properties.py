from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.rating.charge import affordable_ms, charge
from bridge.rating.rate import Rate
from bridge.rating.tariff import PLAIN, Tariff, Tax, tax_micro
from tests.property.tariffs import (
    COVERED_S,
    INSTANTS,
    PLAIN_TARIFFS,
    TALK_MS,
    TARIFFS,
    ZONES,
    charge_by_counting,
    rate_by_looking,
)

BUDGETS = st.one_of(st.integers(0, 2_000), st.integers(0, 500_000_000))
CAPS_MS = st.integers(0, 14_400_000)
ANY_DAY = datetime(2026, 7, 1, tzinfo=UTC)
ALL_TARIFFS = st.one_of(PLAIN_TARIFFS, TARIFFS)


@given(PLAIN_TARIFFS, TALK_MS)
def test_a_plain_charge_is_what_counting_gives(tariff: Tariff, talk_ms: int) -> None:
    assert charge(tariff, talk_ms).amount_micro == charge_by_counting(tariff, talk_ms, ANY_DAY)


@given(TARIFFS, TALK_MS, INSTANTS, COVERED_S, ZONES)
def test_any_charge_is_what_counting_gives(
    tariff: Tariff, talk_ms: int, answered_at: datetime, covered_s: int, zone: str
) -> None:
    counted = charge_by_counting(tariff, talk_ms, answered_at, covered_s)
    # However the instant is written
    local = answered_at.astimezone(ZoneInfo(zone))
    assert charge(tariff, talk_ms, answered_at=local, covered_s=covered_s).amount_micro == counted


@given(ALL_TARIFFS, TALK_MS, TALK_MS, INSTANTS, COVERED_S)
def test_longer_talk_never_costs_less(
    tariff: Tariff, one_ms: int, other_ms: int, answered_at: datetime, covered_s: int
) -> None:
    shorter, longer = (
        charge(tariff, talk_ms, answered_at=answered_at, covered_s=covered_s)
        for talk_ms in sorted((one_ms, other_ms))
    )
    assert shorter.amount_micro <= longer.amount_micro
    assert shorter.billed_s <= longer.billed_s


@given(ALL_TARIFFS, TALK_MS, INSTANTS, COVERED_S, st.integers(0, 1_000), st.integers(0, 1_000))
def test_a_higher_rate_never_costs_less(
    tariff: Tariff, talk_ms: int, answered_at: datetime, covered_s: int, more_micro: int, more_fee_micro: int
) -> None:
    def raised(rate: Rate) -> Rate:
        return replace(
            rate,
            rate_micro=rate.rate_micro + more_micro,
            connect_fee_micro=rate.connect_fee_micro + more_fee_micro,
            tiers=tuple(replace(tier, rate_micro=tier.rate_micro + more_micro) for tier in rate.tiers),
        )

    dearer = replace(
        tariff,
        rate=raised(tariff.rate),
        bands=tuple(replace(one, rate=raised(one.rate)) for one in tariff.bands),
    )
    low, high = (
        charge(which, talk_ms, answered_at=answered_at, covered_s=covered_s) for which in (tariff, dearer)
    )
    assert low.amount_micro <= high.amount_micro
    assert low.billed_s == high.billed_s


@given(PLAIN_TARIFFS, st.integers(1, 7_200_000))
def test_billed_time_covers_the_talk_and_less_than_an_increment_more(tariff: Tariff, talk_ms: int) -> None:
    rate, billed_s = tariff.rate, charge(tariff, talk_ms).billed_s
    if talk_ms <= rate.grace_s * 1000:
        assert billed_s == 0
        return
    assert billed_s * 1000 >= talk_ms
    owed_ms = max(talk_ms, rate.minimum_s * 1000)
    if owed_ms <= rate.initial_s * 1000:
        assert billed_s == rate.initial_s
    else:
        assert billed_s * 1000 < owed_ms + rate.next_s * 1000
        assert (billed_s - rate.initial_s) % rate.next_s == 0


@given(TARIFFS, st.integers(1, 7_200_000), INSTANTS, COVERED_S)
def test_billed_time_of_any_tariff_is_bounded_by_its_longest_block(
    tariff: Tariff, talk_ms: int, answered_at: datetime, covered_s: int
) -> None:
    billed_s = charge(tariff, talk_ms, answered_at=answered_at, covered_s=covered_s).billed_s
    answer = rate_by_looking(tariff, answered_at)
    if talk_ms <= max(answer.grace_s, covered_s) * 1000:
        assert billed_s == 0
        return
    owed_ms = max(talk_ms, answer.minimum_s * 1000)
    known = [tariff.rate, *(one.rate for one in tariff.bands)]
    longest_s = max(
        length
        for rate in known
        for length in (rate.initial_s, rate.next_s, *(tier.next_s for tier in rate.tiers))
    )
    assert owed_ms <= (covered_s + billed_s) * 1000 < owed_ms + longest_s * 1000


@given(ALL_TARIFFS, TALK_MS, INSTANTS, COVERED_S)
def test_the_steps_add_up(tariff: Tariff, talk_ms: int, answered_at: datetime, covered_s: int) -> None:
    made = charge(tariff, talk_ms, answered_at=answered_at, covered_s=covered_s)
    *parts, total = [step.amount_micro for step in made.steps if step.amount_micro is not None]
    assert total == made.amount_micro
    assert not parts or sum(parts) == total
    assert made.steps[-1].amount_micro == total
    told = [step.text for step in made.steps if step.name == "increments"]
    assert all(text.endswith(f": {made.billed_s} s billed") for text in told)
    assert bool(told) == (made.billed_s > 0)


@given(ALL_TARIFFS, TALK_MS, INSTANTS)
def test_tax_is_a_part_of_the_amount(tariff: Tariff, talk_ms: int, answered_at: datetime) -> None:
    made, terms = charge(tariff, talk_ms, answered_at=answered_at), tariff.terms
    net_micro = made.amount_micro - made.tax_micro
    assert made.tax_micro == tax_micro(made.amount_micro, terms)
    assert 0 <= made.tax_micro <= made.amount_micro
    # Tax on the net part is the tax, but for the one rounding.
    assert abs(net_micro * terms.tax_ppm - made.tax_micro * 1_000_000) < 1_000_000 + terms.tax_ppm
    if terms.tax is Tax.NONE:
        assert made.tax_micro == 0


@given(ALL_TARIFFS, BUDGETS, CAPS_MS, INSTANTS, COVERED_S)
@example(Tariff(Rate("r", "d", "49", "Germany", "EUR", 30, initial_s=1, next_s=1)), 1, 14_400_000, ANY_DAY, 0)
def test_affordable_is_the_exact_inverse_of_charge(
    tariff: Tariff, budget_micro: int, cap_ms: int, answered_at: datetime, covered_s: int
) -> None:
    def costs(talk_ms: int) -> int:
        return charge(tariff, talk_ms, answered_at=answered_at, covered_s=covered_s).amount_micro

    talk_ms = affordable_ms(tariff, budget_micro, cap_ms=cap_ms, answered_at=answered_at, covered_s=covered_s)
    assert 0 <= talk_ms <= cap_ms
    assert costs(talk_ms) <= budget_micro
    if talk_ms < cap_ms:
        assert costs(talk_ms + 1) > budget_micro


@given(ALL_TARIFFS, TALK_MS, INSTANTS)
def test_the_price_of_a_talk_buys_at_least_that_talk(
    tariff: Tariff, talk_ms: int, answered_at: datetime
) -> None:
    price_micro = charge(tariff, talk_ms, answered_at=answered_at).amount_micro
    assert affordable_ms(tariff, price_micro, cap_ms=10**7, answered_at=answered_at) >= talk_ms


@given(PLAIN_TARIFFS, TALK_MS, st.integers(1, 4_000))
def test_what_allowances_pay_only_moves_the_begin(tariff: Tariff, talk_ms: int, covered_s: int) -> None:
    tariff = replace(tariff, rate=replace(tariff.rate, grace_s=0, minimum_s=0))
    rest = replace(tariff, rate=replace(tariff.rate, connect_fee_micro=0))
    covered, alone = (
        charge(tariff, talk_ms, covered_s=covered_s),
        charge(rest, max(talk_ms - covered_s * 1000, 0)),
    )
    assert (covered.amount_micro, covered.billed_s) == (alone.amount_micro, alone.billed_s)


@given(PLAIN_TARIFFS, TALK_MS, COVERED_S)
def test_terms_that_are_as_usual_change_nothing(tariff: Tariff, talk_ms: int, covered_s: int) -> None:
    """The formula and the laid blocks agree, in the amount as in the words."""
    laid = replace(tariff, terms=replace(PLAIN, tax=Tax.EXCLUSIVE))
    for one, other in (
        (charge(tariff, talk_ms), charge(laid, talk_ms)),
        (charge(tariff, talk_ms, covered_s=covered_s), charge(laid, talk_ms, covered_s=covered_s)),
    ):
        assert (one.amount_micro, one.billed_s) == (other.amount_micro, other.billed_s)
