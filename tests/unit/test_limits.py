"""How much one may ask: never more than fits at once plus what comes back meanwhile, and each for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.api.limits import OWNERS_MAX, Limiter


def test_a_bucket_empties_and_fills_evenly() -> None:
    limiter = Limiter(quota=3, window_s=60)
    assert [limiter.take("a", 0.0).left for _ in range(3)] == [2, 1, 0]
    refused = limiter.take("a", 0.0)
    assert (refused.left, refused.retry_s) == (0, 20)
    assert limiter.take("a", 19.9).retry_s == 1
    assert limiter.take("a", 20.0).retry_s == 0
    assert limiter.take("a", 20.0).retry_s == 20
    assert limiter.take("a", 20.0 + 3600).left == 2, "it never holds more than the quota"


def test_a_refusal_costs_nothing() -> None:
    """Who asks while refused is let in no later than who waits."""
    limiter = Limiter(quota=1, window_s=10)
    limiter.take("a", 0.0)
    for at_s in range(1, 10):
        assert limiter.take("a", float(at_s)).retry_s == 10 - at_s
    assert limiter.take("a", 10.0).retry_s == 0


def test_each_owner_for_itself() -> None:
    limiter = Limiter(quota=1)
    assert limiter.take("a", 0.0).retry_s == 0
    assert limiter.take("b", 0.0).retry_s == 0
    assert limiter.take("a", 0.0).retry_s > 0


def test_the_headers() -> None:
    limiter = Limiter(quota=2, window_s=60)
    assert limiter.take("a", 0.0).headers() == {
        "RateLimit-Policy": '"burst";q=2;w=60',
        "RateLimit": '"burst";r=1;t=30',
    }
    limiter.take("a", 0.0)
    assert limiter.take("a", 0.0).headers()["Retry-After"] == "30"


def test_memory_is_bounded_and_the_idle_go_first() -> None:
    limiter = Limiter(quota=1, window_s=10**6)
    limiter.take("idle", 0.0)
    for number in range(OWNERS_MAX):
        limiter.take(number, 1.0)
    assert limiter.take("idle", 1.0).retry_s == 0
    assert limiter.take(OWNERS_MAX - 1, 1.0).retry_s > 0


@given(
    quota=st.integers(1, 50),
    window_s=st.integers(1, 600),
    gaps_s=st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=200),
)
def test_never_more_than_the_quota_and_what_came_back(quota: int, window_s: int, gaps_s: list[float]) -> None:
    """In any span of time, whatever the rhythm; and whoever waits as long as told gets in."""
    limiter, now_s = Limiter(quota, window_s), 0.0
    let_in: list[float] = []
    for gap_s in gaps_s:
        now_s += gap_s
        taken = limiter.take("a", now_s)
        assert 0 <= taken.left <= quota
        if taken.retry_s == 0:
            let_in.append(now_s)
        else:
            now_s += taken.retry_s
            assert limiter.take("a", now_s).retry_s == 0
            let_in.append(now_s)
    for first, begin_s in enumerate(let_in):
        for last in range(first, len(let_in)):
            span_s = let_in[last] - begin_s + 1e-5
            assert last - first + 1 <= quota + span_s * quota / window_s
