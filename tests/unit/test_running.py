"""A call in progress: its cost so far is what its end would charge, and warnings come before what they warn of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.ended import EndRecord, Ledgers, price
from bridge.calls.frozen import Frozen
from bridge.calls.running import Funds, Running, Warn, running
from bridge.rating.allowance import Allowance, Burn
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff

ANSWER = datetime(2026, 11, 2, 12, tzinfo=UTC)
DIGITS = "493023125010"
BY_SECOND = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=60_000, initial_s=1, next_s=1))
BY_MINUTE = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
NO_MONEY = Funds((), (), 0, 0, 0)


def after(seconds: float, sell: Tariff, funds: Funds, talk_s_max: int = 3600) -> Running:
    at = ANSWER + timedelta(seconds=seconds)
    return running(sell, DIGITS, funds, answered_at=ANSWER, at=at, talk_s_max=talk_s_max)


@given(
    talk_ms=st.integers(1, 7_200_000),
    units=st.integers(0, 60),
    rate_micro=st.integers(0, 10**6),
    steps=st.sampled_from([(1, 1), (60, 60), (60, 6), (30, 1)]),
    fee_micro=st.integers(0, 10**6),
    grace_s=st.integers(0, 9),
)
def test_the_cost_so_far_is_what_the_end_would_charge(
    talk_ms: int, units: int, rate_micro: int, steps: tuple[int, int], fee_micro: int, grace_s: int
) -> None:
    initial_s, next_s = steps
    sell = Tariff(
        Rate("r", "d", "49", "Germany", "EUR", rate_micro, fee_micro, initial_s, next_s, grace_s=grace_s)
    )
    burns = (Burn("a", "bundle", 60, units),) if units else ()
    frozen = Frozen(UUID(int=1), sell, (), f"+{DIGITS}", bundled=bool(units))
    answered_us = int(ANSWER.timestamp()) * 10**6
    record = EndRecord(UUID(int=1), None, answered_us, answered_us + talk_ms * 1000, "journal")
    end = price(record, frozen, Ledgers("r", "c", "k"), burns)
    now = after(talk_ms / 1000, sell, Funds(burns, (), 10**12, 0, 10**12), talk_s_max=7200)
    assert (now.talk_ms, now.cost_micro, now.covered_s) == (end.talk_ms, end.amount_micro, end.covered_s)


def test_the_money_beyond_the_hold_counts_too() -> None:
    """A cent a second: ten seconds are held, a minute and a half is there beside them."""
    now = after(5, BY_SECOND, Funds((), (), 10_000, 90_000, 10_000))
    assert (now.cost_micro, now.left_s, now.warnings) == (5_000, 95, ())


@pytest.mark.parametrize(
    ("left_s", "warnings"),
    [(61, ()), (60, (Warn.low_balance,)), (20, (Warn.low_balance, Warn.cut_soon))],
)
def test_warnings_come_in_time(left_s: int, warnings: tuple[Warn, ...]) -> None:
    assert after(10, BY_SECOND, Funds((), (), (10 + left_s) * 1000, 0, 10_000)).warnings == warnings


def test_the_longest_call_ends_without_a_word_of_money() -> None:
    now = after(590, BY_SECOND, Funds((), (), 0, 10**9, 60_000), talk_s_max=600)
    assert (now.left_s, now.warnings) == (10, (Warn.cut_soon,))


def test_a_bundle_that_is_used_up_is_told_and_then_money_pays() -> None:
    burns = (Burn("a", "bundle", 60, 1),)
    within = after(59, BY_MINUTE, Funds(burns, (), 0, 10**6, 60_000))
    assert (within.cost_micro, within.warnings) == (0, ())
    beyond = after(61, BY_MINUTE, Funds(burns, (), 90_000, 10**7, 120_000))
    assert (beyond.cost_micro, beyond.covered_s, beyond.warnings) == (90_000, 60, (Warn.bundle_used_up,))


def test_units_that_may_still_be_taken_lengthen_a_call_only_inside_its_bundle() -> None:
    burns, more = (Burn("a", "bundle", 60, 1),), (Allowance("a", "bundle", 60, 9),)
    assert after(30, BY_MINUTE, Funds(burns, more, 0, 0, 60_000)).left_s == 570
    # It pays with money by now: what was bought meanwhile is for the next call.
    outside = Funds(burns, more, 90_000, 0, 120_000)
    assert after(90, BY_MINUTE, outside).left_s == 30


def test_what_is_held_is_the_calls_whoever_spends_the_rest() -> None:
    """Another call, or a cap that was lowered, has left less than nothing."""
    now = after(10, BY_SECOND, Funds((), (), 100_000, -50_000, 100_000))
    assert now.left_s == 90


def test_a_free_call_warns_of_nothing() -> None:
    now = after(100, BY_SECOND.free("on-net"), Funds((), (), 0, 0, 3_600_000))
    assert (now.cost_micro, now.left_s, now.warnings) == (0, 3500, ())


def test_clocks_that_disagree_do_no_harm() -> None:
    """Answered in the future, says the switch."""
    now = after(-3, BY_SECOND, Funds((), (), 10_000, 0, 10_000))
    assert (now.talk_ms, now.cost_micro) == (1, 1_000)
