"""The gate before new calls: never more than its limits, and never less than it could take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.pressure import Gate, Limit
from bridge.config import Pressure


def gate(**limits: int) -> Gate:
    return Gate(Pressure(**{"cps_max": 1000, "deciding_max": 1000, "live_max": 100_000, **limits}))


def let_in(one: Gate, now_s: float, *, admitted: bool = True) -> bool:
    """Asks and is decided in no time."""
    if one.enter(now_s) is not None:
        return False
    one.leave(admitted=admitted)
    return True


def counted(one: Gate, live: int, now_s: float, took_s: float = 0.001) -> None:
    one.asks(now_s)
    one.told(live, now_s + took_s)


@given(
    cps_max=st.integers(1, 20),
    gaps_s=st.lists(st.floats(0, 0.7, allow_nan=False), min_size=1, max_size=200),
)
def test_in_no_second_are_there_more_than_the_limit_and_nobody_is_refused_below_it(
    cps_max: int, gaps_s: list[float]
) -> None:
    one, now_s, entered = gate(cps_max=cps_max), 0.0, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        recent = sum(1 for at_s in entered if now_s - at_s < 1.0)
        assert let_in(one, now_s) == (recent < cps_max)
        if recent < cps_max:
            entered.append(now_s)
    assert one.turned_away[Limit.cps] == len(gaps_s) - len(entered)


def test_twice_the_limit_offered_and_half_is_taken() -> None:
    one = gate(cps_max=10)
    taken = sum(let_in(one, offered / 20) for offered in range(200))
    assert taken == 100


def test_what_we_refuse_for_another_reason_counts_for_the_second_but_not_as_a_call() -> None:
    one = gate(cps_max=2)
    assert [let_in(one, 0.0, admitted=False) for _ in range(3)] == [True, True, False]
    assert one.live == 0


def test_no_more_are_decided_at_once_than_may_be() -> None:
    one = gate(deciding_max=2)
    assert [one.enter(0.0), one.enter(0.0), one.enter(0.0)] == [None, None, Limit.deciding]
    one.leave(admitted=False)
    assert one.enter(0.0) is None
    assert one.enter(0.0) is Limit.deciding


def test_live_calls_are_those_counted_and_those_admitted_since() -> None:
    one = gate(live_max=5)
    counted(one, 3, 0.0)
    assert [let_in(one, 1.0) for _ in range(3)] == [True, True, False]
    counted(one, 4, 2.0)  # the two are among them, and one has ended
    assert one.live == 4
    assert [let_in(one, 2.0) for _ in range(2)] == [True, False]
    assert one.turned_away[Limit.live] == 2


def test_a_call_being_decided_counts_for_it_may_become_one() -> None:
    one = gate(live_max=1)
    assert one.enter(0.0) is None
    assert one.enter(0.0) is Limit.live
    one.leave(admitted=False)
    assert one.enter(0.0) is None


def test_whoever_is_admitted_while_it_is_counted_is_not_forgotten() -> None:
    one = gate(live_max=10)
    assert one.enter(0.0) is None
    one.asks(1.0)
    one.leave(admitted=True)  # perhaps too late for the count
    one.told(0, 1.1)
    assert one.live == 1
    counted(one, 1, 2.0)
    assert one.live == 1


def test_a_count_that_failed_leaves_what_was_known() -> None:
    one = gate(live_max=10)
    counted(one, 7, 0.0)
    let_in(one, 0.5)
    one.asks(1.0)
    one.told(None, 1.1)
    assert one.live == 8
    counted(one, 8, 2.0)
    assert one.live == 8


@pytest.mark.parametrize(("took_s", "refused"), [(0.100, False), (0.101, True)])
def test_a_slow_database_takes_no_new_calls_until_it_is_quick_again(took_s: float, refused: bool) -> None:
    one = gate(database_ms_max=100)
    counted(one, 0, 0.0, took_s)
    assert (one.enter(5.0) is Limit.database) is refused
    counted(one, 0, 6.0)
    assert one.enter(7.0) is None


def test_a_database_that_does_not_answer_is_slow_before_it_has() -> None:
    one = gate(database_ms_max=100)
    one.asks(0.0)
    assert one.enter(0.09) is None
    assert one.enter(0.11) is Limit.database
    one.told(None, 3.0)
    assert one.enter(3.0) is Limit.database
