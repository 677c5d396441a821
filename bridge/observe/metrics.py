"""What Prometheus is told about one worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class _Worker:
    def __init__(self, agi_stats: Any, books: int) -> None:
        self._stats, self._books = agi_stats, books

    def collect(self) -> Iterable[Metric]:
        sessions = CounterMetricFamily("callbridge_agi_sessions", "AGI sessions by how they ended", labels=["ending"])
        ended = 0
        for field in fields(self._stats):
            value = getattr(self._stats, field.name)
            if field.name != "accepted":
                sessions.add_metric([field.name], value)
                ended += value
        yield sessions
        yield GaugeMetricFamily("callbridge_agi_sessions_open", "AGI sessions now", self._stats.accepted - ended)
        yield CounterMetricFamily("callbridge_books_loaded", "Versions of decks, plans and trunks loaded", self._books)


def render(agi_stats: Any, books: int) -> bytes:
    """The text exposition format. agi_stats: the dataclass of counters of the AGI server."""
    registry = CollectorRegistry()
    registry.register(_Worker(agi_stats, books))
    return generate_latest(registry)
