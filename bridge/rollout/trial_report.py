"""What a capacity trial is told as: each measure beside its threshold, and every run the window has had."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.rollout.trial import NAMES, Which

Row = Mapping[str, Any]


def report(rows: Sequence[Row]) -> dict[str, Any]:
    """The newest trial of a window, and those before. Ids and instants are left as they are.

    rows   the newest first, as the query `of_window` has them
    """
    newest = rows[0]
    thresholds = json.loads(newest["thresholds"])
    measured = json.loads(newest["measures"])
    return {
        **_run(newest),
        **{
            name: newest[name]
            for name in ("rollout_id", "window_id", "name", "trial_s", "refused", "activated")
        },
        "sampled_at": newest["sampled_at"],
        "proved_s": _proved_s(newest),
        "calls_min": thresholds.get("calls_min", 0),
        "attempts_min": thresholds.get("attempts_min"),
        "measures": [_measure(newest, which, thresholds.get(which), *measured[which]) for which in NAMES],
        "next_window_id": newest["next_window_id"],
        "next_opened": newest["next_opened"],
        "earlier": [_run(row) for row in rows[1:]],
    }


def _run(row: Row) -> dict[str, Any]:
    return {
        "trial_id": row["trial_id"],
        "verdict": row["verdict"],
        "began_at": row["began_at"],
        "ended_at": row["ended_at"],
        "duration_s": _seconds(row["began_at"], row["ended_at"] or row["sampled_at"]),
        "calls": row["calls"],
        "breach": {"threshold": row["why"], "value": _rounded(row["value"]), "limit": row["allowed"]}
        if row["verdict"] == "failed"
        else None,
        "cut_short_by": row["why"] if row["verdict"] == "cut_short" else None,
    }


def _measure(
    row: Row, which: Which, limit: float | None, peak: float | None, p95: float | None
) -> dict[str, Any]:
    breached = row["verdict"] == "failed" and row["why"] == which
    return {
        "threshold": which,
        "limit": limit,
        "peak": _rounded(peak),
        "p95": _rounded(p95),
        "breached": breached,
    }


def _proved_s(row: Row) -> int:
    """Of trial_s: time in which nobody looked is left out."""
    return _seconds(row["clock_at"], row["ended_at"] or row["sampled_at"])


def _seconds(since: datetime, until: datetime) -> int:
    return max(int((until - since).total_seconds()), 0)


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
