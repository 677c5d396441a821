"""`callbridge bench`: each figure against its baseline, measured in the same run on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from bridge.errors import ConfigError
from bridge.sandbox.bench_agi import agi_codec
from bridge.sandbox.bench_api import api_read, api_write
from bridge.sandbox.bench_calls import added_pdd, bridged_cps, call_cpu
from bridge.sandbox.bench_cdrs import cdr_page
from bridge.sandbox.bench_deck import deck_import
from bridge.sandbox.bench_rerate import bench_rerate
from bridge.sandbox.bench_route import route_plan
from bridge.sandbox.bench_store import admit_settle


class Figure(Protocol):
    """Measures, and returns what it found: one figure, or several that share a run."""

    def __call__(self, *, smoke: bool) -> list[dict[str, object]]: ...


FIGURES: Final[dict[str, Figure]] = {
    "bridged_cps": bridged_cps,
    "call_cpu": call_cpu,
    "added_pdd": added_pdd,
    "admit_settle": admit_settle,
    "agi_codec": agi_codec,
    "rerate": bench_rerate,
    "route_plan": route_plan,
    "deck_import": deck_import,
    "api_read": api_read,
    "api_write": api_write,
    "cdr_page": cdr_page,
}


def run(names: list[str], *, smoke: bool) -> Iterator[dict[str, Any]]:
    """Measure the named figures, or all, one after the other.

    smoke    seconds instead of minutes; the numbers mean nothing
    raises   ConfigError: no such figure · SwitchUnavailable: no Asterisk or no SIPp to be had
    """
    for name in names:
        if name not in FIGURES:
            raise ConfigError("bench", f"there is no figure {name!r}", f"Known: {', '.join(FIGURES)}.")
    for name in names or FIGURES:
        yield from FIGURES[name](smoke=smoke)
