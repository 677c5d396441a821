from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.rating.charge import charge
from bridge.rating.rate import Rate, Tier
from bridge.rating.tariff import PLAIN, Band, BandRate, Tariff, Terms
from tests.property.tariffs import (
    COVERED_S,
    INSTANTS,
    PLAIN_TARIFFS,
    TALK_MS,
    TARIFFS,
    TERMS,
    rate_by_looking,
)


@given(TARIFFS)
def test_a_frozen_tariff_comes_back_whole(tariff: Tariff) -> None:
    kept = json.loads(json.dumps(tariff.to_json()))
    assert Tariff.from_json(kept) == tariff
    assert ("terms" in kept) == (tariff.terms != PLAIN)
    assert ("bands" in kept) == bool(tariff.bands)


@given(TERMS)
def test_terms_come_back_whole(terms: Terms) -> None:
    assert Terms.from_json(json.loads(json.dumps(terms.to_json()))) == terms


@given(TARIFFS, INSTANTS)
def test_the_rate_in_force_stays_until_it_is_looked_at_again(tariff: Tariff, instant: datetime) -> None:
    force = tariff.at(instant)
    assert force.rate == rate_by_looking(tariff, instant)
    if force.until is None:
        assert not tariff.bands
        return
    assert instant < force.until <= instant + timedelta(days=1, hours=1)
    wait = force.until - instant
    for part in range(1, 20):
        assert rate_by_looking(tariff, instant + wait * part // 20) == force.rate
    assert rate_by_looking(tariff, force.until - timedelta(microseconds=1)) == force.rate


@given(
    TARIFFS,
    INSTANTS,
    st.timedeltas(timedelta(0), timedelta(minutes=10)),
    st.integers(0, 86_400_000),
    COVERED_S,
)
def test_freezing_changes_no_price(
    tariff: Tariff, admitted_at: datetime, ringing: timedelta, talk_ms: int, covered_s: int
) -> None:
    answered_at = admitted_at + ringing
    frozen = tariff.frozen(admitted_at)
    assert len(frozen.terms.holidays) <= 4
    whole, kept = (
        charge(which, talk_ms, answered_at=answered_at, covered_s=covered_s) for which in (tariff, frozen)
    )
    assert (whole.amount_micro, whole.billed_s) == (kept.amount_micro, kept.billed_s)


@given(
    st.one_of(TARIFFS, PLAIN_TARIFFS),
    INSTANTS,
    st.timedeltas(timedelta(0), timedelta(minutes=10)),
    TALK_MS,
    st.timedeltas(timedelta(0), timedelta(minutes=10)),
    COVERED_S,
)
def test_the_dearest_tariff_charges_no_less(
    tariff: Tariff, at: datetime, ringing: timedelta, talk_ms: int, spare: timedelta, covered_s: int
) -> None:
    answered_at = at + ringing
    until = answered_at + timedelta(milliseconds=talk_ms) + spare
    bound = tariff.dearest(at, until, covered_s=covered_s)
    assert not bound.bands
    held = charge(bound, talk_ms, covered_s=covered_s).amount_micro
    assert charge(tariff, talk_ms, answered_at=answered_at, covered_s=covered_s).amount_micro <= held


LENGTHS_S = st.integers(1, 30)
ONE_CENT = st.builds(
    replace,
    st.just(Rate("r", "d", "49", "Germany", "EUR", 10_000)),
    initial_s=LENGTHS_S,
    next_s=LENGTHS_S,
    minimum_s=st.one_of(st.just(0), st.integers(0, 60)),
    tiers=st.one_of(st.just(()), st.builds(lambda next_s: (Tier(40, 10_000, next_s),), LENGTHS_S)),
)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@given(ONE_CENT, ONE_CENT, st.integers(-60, 10), st.integers(1, 120), st.sampled_from([0, 0, 1, 20, 50]))
@example(
    Rate("r", "d", "49", "Germany", "EUR", 10_000, initial_s=1, next_s=7),
    Rate("r", "d", "49", "Germany", "EUR", 10_000, initial_s=1, next_s=10),
    -8,
    9,
    0,
)
def test_the_dearest_tariff_covers_blocks_that_fit_together_badly(
    before: Rate, after: Rate, answer_s: int, talk_s: int, covered_s: int
) -> None:
    """Where all prices are the same, only the lengths of the blocks can make a call dearer."""
    tariff = Tariff(before, 1, PLAIN, (BandRate(Band("day", frozenset(range(8)), 0, 600), after),))
    answered_at = MIDNIGHT + timedelta(seconds=answer_s)
    bound = tariff.dearest(answered_at, answered_at + timedelta(seconds=talk_s), covered_s=covered_s)
    held = charge(bound, talk_s * 1000, covered_s=covered_s)
    asked = charge(tariff, talk_s * 1000, answered_at=answered_at, covered_s=covered_s)
    assert asked.amount_micro <= held.amount_micro
    longest_s = max(
        length
        for rate in (before, after)
        for length in (rate.initial_s, rate.next_s, *(tier.next_s for tier in rate.tiers))
    )
    begun_s = max(talk_s - covered_s, before.minimum_s - covered_s, after.minimum_s - covered_s, 0)
    assert held.amount_micro * 60 <= 10_000 * (begun_s + 2 * longest_s) + 60, (
        "and not by more than two blocks"
    )
