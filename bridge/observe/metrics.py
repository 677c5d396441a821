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


def render(agi: Mapping[str, int], books: int, requests: Requests) -> bytes:
    """The text exposition format. agi: sessions `accepted`, and by ending; books: versions loaded."""
    registry = CollectorRegistry()
    registry.register(_Worker(agi, books))
    registry.register(requests)
    return generate_latest(registry)
