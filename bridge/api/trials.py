"""The report of a window's capacity trial."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Needs
from bridge.api.fields import RolloutId, Told, TrialId, WindowId, show_at, show_id
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.rollout.store.trials import trials
from bridge.rollout.trial import Which
from bridge.rollout.trial_report import report

router = routes("rollouts", "/v1/rollouts/{rollout_id}/windows/{window_id}/trial")
Reader = Annotated[Desk, Depends(Needs("rollouts:read"))]

Verdict = Literal["running", "passed", "failed", "cut_short"]
_IDS: Final = {"trial_id": "trl", "rollout_id": "rol", "window_id": "win", "next_window_id": "win"}


class Breach(Told):
    """The threshold that was not kept, what was measured, and what was allowed."""

    threshold: Which
    value: float
    limit: float


class Measure(Told):
    """A measure beside its threshold. Of asr_min, peak is the lowest, and p95 what it was at least 95 times of 100."""

    threshold: Which
    limit: float | None = Field(description="null: it is not judged")
    peak: float | None = Field(description="null: there was nothing to measure")
    p95: float | None
    breached: bool


class TrialRun(Told):
    """cut_short: the window was paused or closed otherwise, or its thresholds changed; cut_short_by says by what."""

    trial_id: TrialId
    verdict: Verdict
    began_at: datetime
    ended_at: datetime | None
    duration_s: int
    calls: int = Field(description="Admitted")
    breach: Breach | None
    cut_short_by: str | None


class Trial(TrialRun):
    """The newest trial of a window. It begins when the window opens, and anew when it is opened again."""

    rollout_id: RolloutId
    window_id: WindowId
    name: str
    trial_s: int | None = Field(description="null: the window is watched without an end")
    proved_s: int = Field(description="Of trial_s: time in which nobody looked is left out")
    sampled_at: datetime
    calls_min: int
    attempts_min: int | None
    refused: int = Field(description="For want of room: overloaded, unavailable, no_route")
    activated: int = Field(description="Members activated in it")
    measures: list[Measure]
    next_window_id: WindowId | None
    next_opened: bool
    earlier: list[TrialRun]


def show(told: Mapping[str, Any]) -> dict[str, Any]:
    """As it is written in replies."""
    shown: dict[str, Any] = {}
    for name, value in told.items():
        if isinstance(value, UUID):
            shown[name] = show_id(_IDS[name], value)
        elif isinstance(value, datetime):
            shown[name] = show_at(value)
        else:
            shown[name] = value
    return shown | ({"earlier": [show(run) for run in told["earlier"]]} if "earlier" in told else {})


@router.get(
    "", response_model=Trial, responses=responses(404), summary="The report of a window's capacity trial"
)
async def read_trial(desk: Reader, rollout_id: RolloutId, window_id: WindowId) -> Response:
    async with desk.reading() as conn:
        rows = await trials(conn, window_id, rollout_id)
    return desk.shown(show(report(rows)))
