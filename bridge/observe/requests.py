"""How many requests the API answered, how and how fast; for Prometheus. Counting one takes two microseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Requests:
    """Routes are patterns, never paths: there are few of them, and a path may hold a number."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], tuple[list[int], list[float]]] = {}  # by bucket; [sum]

    def count(self, method: str, route: str, status: int, took_s: float) -> None:
        answer = (method, route, status)
        self._answers[answer] = self._answers.get(answer, 0) + 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[(method, route)] = ([0] * (len(BOUNDS_S) + 1), [0.0])
        times[0][bisect_left(BOUNDS_S, took_s)] += 1
        times[1][0] += took_s

    def collect(self) -> Iterable[Metric]:
        answers = CounterMetricFamily(
            "callbridge_api_requests", "Requests by route and status", labels=["method", "route", "status"]
        )
        for (method, route, status), many in self._answers.items():
            answers.add_metric([method, route, str(status)], many)
        yield answers
        times = HistogramMetricFamily(
            "callbridge_api_request_seconds",
            "From the first byte of a request to the last of its answer",
            labels=["method", "route"],
        )
        for (method, route), (counts, (sum_s,)) in self._times.items():
            buckets, seen = [], 0
            for bound_s, many in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
                seen += many
                buckets.append((bound_s, seen))
            times.add_metric([method, route], buckets, sum_s)
        yield times
