"""What Prometheus is told about one worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.observe.requests import Requests


class _Worker:
    def __init__(self, agi: Mapping[str, int], books: int) -> None:
        self._agi, self._books = agi, books

    def collect(self) -> Iterable[Metric]:
        endings = {name: value for name, value in self._agi.items() if name != "accepted"}
        sessions = CounterMetricFamily(
            "callbridge_agi_sessions", "AGI sessions by how they ended", labels=["ending"]
        )
        for name, value in endings.items():
            sessions.add_metric([name], value)
        yield sessions
        still_open = self._agi["accepted"] - sum(endings.values())
        yield GaugeMetricFamily("callbridge_agi_sessions_open", "AGI sessions now", still_open)
        yield CounterMetricFamily(
            "callbridge_books_loaded", "Versions of decks, plans and trunks loaded", self._books
        )


class _Overload:
    """New calls that were turned away, by what there was too much of, and how near the worker is to its limits."""

    def __init__(self, figures: Mapping[str, float]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        figures = self._figures
        refused = CounterMetricFamily(
            "callbridge_calls_overloaded", "New calls refused as too many, by limit", labels=["limit"]
        )
        for name, value in figures.items():
            if name.startswith("refused_"):
                refused.add_metric([name.removeprefix("refused_")], value)
        yield refused
        for name, text in (
            ("deciding", "New calls being decided"),
            ("live", "Calls of the switch as this worker counts them"),
            ("database_ms", "Milliseconds this worker waited for the database when it last counted calls"),
            ("waiting", "Refusals of overload that are not recorded yet"),
        ):
            yield GaugeMetricFamily(f"callbridge_overload_{name}", text, figures[name])
        yield CounterMetricFamily(
            "callbridge_overload_lost", "Refusals of overload without a record", figures["lost"]
        )


class _Jobs:
    """Jobs of the whole house, as this worker counted them last."""

    def __init__(self, figures: Mapping[str, float]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("callbridge_jobs", "Jobs of the house by state", labels=["state"])
        for state in ("queued", "running", "done", "failed"):
            jobs.add_metric([state], self._figures.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "callbridge_jobs_late_seconds", "How long what is due has waited", self._figures["late_s"]
        )


def render(
    agi: Mapping[str, int],
    books: int,
    requests: Requests,
    overload: Mapping[str, float],
    jobs: Mapping[str, float],
) -> bytes:
    """The text exposition format.

    agi       sessions `accepted`, and by ending
    books     versions loaded
    overload  see `Overload.figures`; empty: nothing is turned away
    jobs      by state, and `late_s`; empty: they are not counted here
    """
    registry = CollectorRegistry()
    registry.register(_Worker(agi, books))
    if overload:
        registry.register(_Overload(overload))
    if jobs:
        registry.register(_Jobs(jobs))
    registry.register(requests)
    return generate_latest(registry)
