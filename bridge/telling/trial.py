"""The report of a capacity trial as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bridge.telling.calls import text_table

_MEASURE: Final = {
    "database_ms_max": "database, ms",
    "cps_max": "calls a second",
    "live_max": "calls at a time",
    "refusal_rate_max": "refused for want of room",
    "pdd_p95_ms_max": "PDD p95, ms",
    "asr_min": "answered (ASR)",
}


def tell_trial(told: Mapping[str, Any]) -> str:
    """As `report` has it."""
    lines = [f"Trial of {told['name']}: {_verdict(told)}"]
    lasts = f" of {told['trial_s']} s" if told["trial_s"] else ""
    calls = f" of at least {told['calls_min']}" if told["calls_min"] else ""
    lines.append(
        f"{told['proved_s']} s{lasts}, {told['calls']} calls{calls}, {told['refused']} refused for want of room,"
        f" {told['activated']} activated"
    )
    if told["verdict"] == "passed" and told["next_window_id"]:
        lines.append(
            "The next window is open." if told["next_opened"] else "The next window could not be opened."
        )
    rows = [
        (_MEASURE[one["threshold"]], *(_plain(one[name]) for name in ("limit", "peak", "p95")), _mark(one))
        for one in told["measures"]
    ]
    parts = ["\n".join(lines), text_table("", "measure", "threshold", "peak", "p95", "", rows=rows)]
    if told["earlier"]:
        runs = [
            (_at(run["began_at"]), run["duration_s"], run["calls"], _verdict(run)) for run in told["earlier"]
        ]
        parts.append(text_table("Before", "began", "seconds", "calls", "verdict", rows=runs))
    return "\n\n".join(parts)


def _verdict(run: Mapping[str, Any]) -> str:
    if run["breach"]:
        breach = run["breach"]
        return f"failed, {breach['threshold']} {_plain(breach['limit'])} was {_plain(breach['value'])}"
    if run["cut_short_by"]:
        return f"cut short ({run['cut_short_by']})"
    return str(run["verdict"])


def _mark(measure: Mapping[str, Any]) -> str:
    return "breached" if measure["breached"] else ""


def _at(at: object) -> str:
    return at.isoformat(" ", "seconds") if isinstance(at, datetime) else str(at)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
