"""Capacity trials: what a window must bear, for how long, and whether it does.

A window with thresholds is watched while it is open. One that is breached fails the trial at once; who bears them all
for so long, and with so many calls, passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from bridge.errors import Invalid

Which = Literal["database_ms_max", "cps_max", "live_max", "refusal_rate_max", "pdd_p95_ms_max", "asr_min"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

BUCKETS_MAX: Final = 3600  # samples kept of one trial
GUARD_S: Final = 60  # and of a window that is watched without an end, one in so long


class Thresholds(BaseModel):
    """What is borne. A measure without a threshold is kept for the report, and not judged."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True,
        json_schema_extra={"examples": [{"cps_max": 50, "live_max": 2000, "asr_min": 0.4}]},
    )  # fmt: skip

    cps_max: int | None = Field(None, ge=1, le=100_000, description="Calls admitted in one second.")
    live_max: int | None = Field(None, ge=1, le=10_000_000, description="Calls at the same time.")
    asr_min: Share | None = Field(None, description="Share of the last minute's calls that were answered.")
    pdd_p95_ms_max: int | None = Field(
        None, ge=1, le=600_000, description="Time to ringing that 95 of 100 calls of the last minute kept."
    )
    refusal_rate_max: Share | None = Field(
        None,
        description="Share of the last minute's calls that we had no room for: overloaded, unavailable, no_route.",
    )
    database_ms_max: int | None = Field(
        None, ge=1, le=60_000, description="What taking one sample from the database takes."
    )
    attempts_min: int = Field(
        20, ge=1, le=1_000_000, description="Shares and percentiles of fewer calls are not judged."
    )
    calls_min: int = Field(0, ge=0, le=1_000_000_000, description="Calls without which no trial is passed.")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, told: Any) -> Any:
        """Whoever misspells one must not believe that it is watched."""
        unknown = (
            sorted(str(name)[:40] for name in told if name not in cls.model_fields)
            if isinstance(told, dict)
            else []
        )
        if unknown:
            known = ", ".join(cls.model_fields)
            raise ValueError(f"{unknown[0]!r} is no threshold; known are {known}")
        return told

    @model_validator(mode="after")
    def _judges_something(self) -> Thresholds:
        if not self.limits():
            raise ValueError(f"names no threshold; give at least one of {', '.join(NAMES)}")
        return self

    @model_serializer(mode="wrap")
    def _those_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}

    def limits(self) -> Mapping[Which, float]:
        """The thresholds that are set."""
        told = {name: getattr(self, name) for name in NAMES}
        return {name: limit for name, limit in told.items() if limit is not None}

    def to_json(self) -> dict[str, Any]:
        return self.model_dump()


# In this order: a database that is slow makes all the others worse, too.
NAMES: Final[tuple[Which, ...]] = (
    "database_ms_max", "cps_max", "live_max", "refusal_rate_max", "pdd_p95_ms_max", "asr_min",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the calls of the last minute, or of the trial where it is younger.

    cps, cps_peak   calls admitted in the last whole second, and in the busiest
    live            calls now
    attempts        calls of which is known whether they were answered
    pdds            calls that rang, of which pdd_p95_ms is
    asked, refused  calls that we should have taken, and those of them for which there was no room
    total           calls admitted since the trial began
    """

    database_ms: float
    cps: int = 0
    cps_peak: int = 0
    live: int = 0
    attempts: int = 0
    answered: int = 0
    pdds: int = 0
    pdd_p95_ms: int | None = None
    asked: int = 0
    refused: int = 0
    total: int = 0

    @property
    def asr(self) -> float | None:
        return self.answered / self.attempts if self.attempts else None

    @property
    def refusal_rate(self) -> float | None:
        return self.refused / self.asked if self.asked else None


@dataclass(frozen=True, slots=True)
class Running:
    """So far so good."""


@dataclass(frozen=True, slots=True)
class Breached:
    """The first threshold that was not kept, what was measured, and what was allowed."""

    which: Which
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Passed:
    """Everything was borne for long enough."""


def parse_thresholds(told: object) -> Thresholds:
    """Thresholds as stored or sent.

    raises   Invalid: says what is wrong and what would be right
    """
    try:
        return Thresholds.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "thresholds"
        raise Invalid(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None


def judge(
    thresholds: Thresholds, sample: Sample, began_at: datetime, at: datetime, trial_s: int | None
) -> Running | Breached | Passed:
    """How the trial stands by its newest sample. What is exactly at its limit is borne.

    began_at  of the clock: later than the trial's beginning when nobody was looking for a while
    trial_s   None: it is watched for as long as the window is open, and never passed
    """
    for which, value in _measured(thresholds, sample):
        limit = getattr(thresholds, which)
        if limit is not None and (value < limit if which == "asr_min" else value > limit):
            return Breached(which, value, limit)
    if trial_s is None or at - began_at < timedelta(seconds=trial_s) or sample.total < thresholds.calls_min:
        return Running()
    return Passed()


def bucket_s(trial_s: int | None) -> int:
    """How many seconds of a trial are kept as one sample, the worst of them."""
    return GUARD_S if trial_s is None else -(-trial_s // BUCKETS_MAX)


def _measured(thresholds: Thresholds, sample: Sample) -> Iterator[tuple[Which, float]]:
    """What can be judged, in the order of NAMES."""
    enough = thresholds.attempts_min
    yield "database_ms_max", sample.database_ms
    yield "cps_max", sample.cps_peak
    yield "live_max", sample.live
    if sample.refusal_rate is not None and sample.asked >= enough:
        yield "refusal_rate_max", sample.refusal_rate
    if sample.pdd_p95_ms is not None and sample.pdds >= enough:
        yield "pdd_p95_ms_max", sample.pdd_p95_ms
    if sample.asr is not None and sample.attempts >= enough:
        yield "asr_min", sample.asr
