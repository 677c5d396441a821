"""`callbridge bench`: each figure against its baseline, measured in the same run on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, Protocol, cast

from bridge.errors import ConfigError


class Figure(Protocol):
    """Measures, and returns what it found: one figure, or several that share a run."""

    def __call__(self, *, smoke: bool) -> list[dict[str, object]]: ...


# Who measures it, in which module beside this one: read when it is asked for.
FIGURES: Final = {
    "bridged_cps": ("bench_calls", "bridged_cps"),
    "call_cpu": ("bench_calls", "call_cpu"),
    "added_pdd": ("bench_calls", "added_pdd"),
    "admit_settle": ("bench_store", "admit_settle"),
    "agi_codec": ("bench_agi", "agi_codec"),
    "rerate": ("bench_rerate", "bench_rerate"),
    "route_plan": ("bench_route", "route_plan"),
    "deck_import": ("bench_deck", "deck_import"),
    "api_read": ("bench_api", "api_read"),
    "api_write": ("bench_api", "api_write"),
    "cdr_page": ("bench_cdrs", "cdr_page"),
    "growth": ("bench_growth", "growth"),
    "cdr_export": ("bench_export", "cdr_export"),
    "reconcile": ("bench_reconcile", "reconcile"),
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
        module, function = FIGURES[name]
        figure = cast(Figure, getattr(import_module(f"bridge.sandbox.{module}"), function))
        yield from figure(smoke=smoke)
