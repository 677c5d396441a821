"""Capacity trials: what counts as a breach, to the last call, and what is no threshold at all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import Invalid
from bridge.rollout.trial import (
    BUCKETS_MAX,
    NAMES,
    Breached,
    Passed,
    Running,
    Sample,
    Thresholds,
    bucket_s,
    judge,
    parse_thresholds,
)

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRIAL_S = 60
ALL: Final[dict[str, Any]] = {
    "cps_max": 10,
    "live_max": 100,
    "asr_min": 0.5,
    "pdd_p95_ms_max": 3000,
    "refusal_rate_max": 0.1,
    "database_ms_max": 50,
}
AT_THE_LIMIT = Sample(
    50.0, cps=10, cps_peak=10, live=100, attempts=20, answered=10, pdds=20, pdd_p95_ms=3000, asked=20, refused=2,
    total=1000,
)  # fmt: skip


def verdict(
    sample: Sample, after_s: float = 1, *, trial_s: int | None = TRIAL_S, **told: Any
) -> Running | Breached | Passed:
    thresholds = parse_thresholds(told or ALL)
    return judge(thresholds, sample, BEGAN, BEGAN + timedelta(seconds=after_s), trial_s)


def test_what_is_exactly_at_its_limit_is_borne() -> None:
    assert verdict(AT_THE_LIMIT) == Running()
    assert verdict(AT_THE_LIMIT, TRIAL_S) == Passed()


@pytest.mark.parametrize(
    ("worse", "which", "value"),
    [
        ({"database_ms": 50.1}, "database_ms_max", 50.1),
        ({"cps_peak": 11}, "cps_max", 11),
        ({"live": 101}, "live_max", 101),
        ({"refused": 3}, "refusal_rate_max", 0.15),
        ({"pdd_p95_ms": 3001}, "pdd_p95_ms_max", 3001),
        ({"answered": 9}, "asr_min", 0.45),
    ],
)
@pytest.mark.parametrize("after_s", [0, TRIAL_S, 10 * TRIAL_S])
def test_a_step_beyond_it_fails_however_late(
    worse: dict[str, Any], which: str, value: float, after_s: float
) -> None:
    found = verdict(replace(AT_THE_LIMIT, **worse), after_s)
    assert isinstance(found, Breached)
    assert (found.which, found.value, found.limit) == (which, value, ALL[which])


@pytest.mark.parametrize("which", NAMES)
def test_without_its_threshold_a_measure_is_not_judged(which: str) -> None:
    bad = Sample(9e9, 999, 999, 9999, 20, 0, 20, 999_999, 20, 20, 1000)
    others = {name: limit for name, limit in ALL.items() if name != which}
    found = verdict(bad, **others)
    assert isinstance(found, Breached)
    assert found.which != which
    only = verdict(bad, **{which: ALL[which]})
    assert isinstance(only, Breached)
    assert only.which == which


@pytest.mark.parametrize(
    "few",
    [
        {"attempts": 19, "answered": 0},
        {"pdds": 19, "pdd_p95_ms": 60_000},
        {"asked": 19, "refused": 19},
    ],
)
def test_a_share_of_few_calls_is_not_judged(few: dict[str, Any]) -> None:
    assert verdict(replace(AT_THE_LIMIT, **few)) == Running()
    assert isinstance(verdict(replace(AT_THE_LIMIT, **few), **ALL, attempts_min=19), Breached)


def test_without_traffic_nothing_is_proved_where_calls_are_asked_for() -> None:
    nobody = Sample(1.0)
    assert (nobody.asr, nobody.refusal_rate) == (None, None)
    assert verdict(nobody, TRIAL_S, **ALL, calls_min=1) == Running()
    assert verdict(replace(nobody, total=1), TRIAL_S, **ALL, calls_min=1) == Passed()
    assert verdict(nobody, TRIAL_S, **ALL) == Passed()


@pytest.mark.parametrize(("after_s", "found"), [(59.999, Running()), (60, Passed())])
def test_it_is_passed_when_its_time_is_over_and_not_before(after_s: float, found: Running | Passed) -> None:
    assert verdict(AT_THE_LIMIT, after_s) == found


def test_without_a_time_it_is_watched_and_never_passed() -> None:
    assert verdict(AT_THE_LIMIT, 10**9, trial_s=None) == Running()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "at least one of database_ms_max"),
        ({"attempts_min": 5, "calls_min": 5}, "at least one of"),
        ({"csp_max": 10}, "'csp_max' is no threshold; known are cps_max"),
        ({"cps_max": 10, "$ref": "x"}, "is no threshold"),
        ({"cps_max": 0}, "cps_max"),
        ({"cps_max": -1}, "cps_max"),
        ({"cps_max": True}, "cps_max"),
        ({"cps_max": "10"}, "cps_max"),
        ({"cps_max": 10.5}, "cps_max"),
        ({"cps_max": 10**400}, "cps_max"),
        ({"live_max": 10_000_001}, "live_max"),
        ({"asr_min": float("nan")}, "asr_min"),
        ({"asr_min": float("inf")}, "asr_min"),
        ({"asr_min": -0.01}, "asr_min"),
        ({"asr_min": 1.01}, "asr_min"),
        ({"asr_min": 50}, "asr_min"),
        ({"refusal_rate_max": float("-inf")}, "refusal_rate_max"),
        ({"pdd_p95_ms_max": 1e300}, "pdd_p95_ms_max"),
        ({"database_ms_max": 60_001}, "database_ms_max"),
        ({"database_ms_max": None}, "at least one of"),
        ({"cps_max": 1, "attempts_min": 0}, "attempts_min"),
        ({"cps_max": 1, "calls_min": -1}, "calls_min"),
        (None, "thresholds"),
        ([], "thresholds"),
        ("cps_max", "thresholds"),
    ],
)
def test_what_is_no_threshold_is_said_by_name(told: object, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_thresholds(told)
    assert says in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Thresholds.model_fields, "x", "\0"]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_whatever_is_sent_is_thresholds_or_said_to_be_none(told: object) -> None:
    try:
        found = parse_thresholds(told)
    except Invalid:
        return
    kept = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert parse_thresholds(kept) == found
    assert isinstance(judge(found, Sample(1.0), BEGAN, BEGAN, 1), Running)


@given(st.integers(1, 604_800))
def test_of_no_trial_are_more_samples_kept_than_fit(trial_s: int) -> None:
    assert -(-trial_s // bucket_s(trial_s)) <= BUCKETS_MAX
    assert bucket_s(60) == 1
