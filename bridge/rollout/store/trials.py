"""Capacity trials: each second one look at every window that is watched, and what follows from it.

Any number of keepers may do this. A trial is looked at by whoever locks it first, verdict and consequence are one
transaction, and all that a keeper needs to go on from is in the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import Connection, connection, transaction
from bridge.errors import Invalid, NotFound
from bridge.rollout.trial import Breached, Running, Sample, bucket_s, judge, parse_thresholds

GAP_S: Final = 10  # without a look for longer, the trial's clock waits
SETTLE_S: Final = 2.0
RUNS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that came to its verdict here. which: the threshold that was breached."""

    window_id: UUID
    verdict: str
    which: str | None = None
    value: float | None = None
    allowed: float | None = None


class Trials:
    """Looks at the trials that run.

    settle_s   calls are counted when they are older: by then they are written
    """

    def __init__(self, pool: asyncpg.Pool, settle_s: float = SETTLE_S) -> None:
        self._pool, self._settle_s = pool, settle_s
        self._waited_ms = (
            0.0  # since the last step that came to its end, for any question: all of its samples tell of it
        )

    async def step(self) -> Sequence[Ended | Invalid]:
        """Begin, look, judge. To be called each second. Returns what ended, and why one could not be judged.

        raises   StoreUnavailable: nobody is paused by a database that is not there, but as soon as it is back
        """
        with self._timed():
            async with connection(self._pool) as conn:
                running = [row["trial_id"] for row in await queries.trials.tend.all(conn)]
        found: list[Ended | Invalid] = []
        for trial_id in running:
            try:
                ended = await self._look(trial_id)
            except Invalid as error:  # thresholds that nobody checked; the others go on
                found.append(error)
                continue
            found += [ended] if ended else []
        self._waited_ms = 0.0
        return found

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """What a question takes counts, answered or not."""
        begun_s = monotonic()
        try:
            yield
        finally:
            self._waited_ms = max(self._waited_ms, (monotonic() - begun_s) * 1000)

    async def _look(self, trial_id: UUID) -> Ended | None:
        begun_s = monotonic()
        with self._timed():
            async with transaction(self._pool) as conn:
                trial = await queries.trials.claim.one(conn, trial_id=trial_id, settle_s=self._settle_s)
                return await self._judge(conn, trial, begun_s) if trial else None

    async def _judge(self, conn: Connection, trial: Mapping[str, Any], begun_s: float) -> Ended | None:
        thresholds = parse_thresholds(json.loads(trial["thresholds"]))
        span = {name: trial[name] for name in ("since", "counted", "until_at", "at")}
        row = await queries.trials.sample.one(conn, partner_id=trial["partner_id"], **span)
        database_ms = max((monotonic() - begun_s) * 1000, self._waited_ms)
        counts = {name: value for name, value in row.items() if not name.startswith("fresh")}
        sample = Sample(database_ms, total=trial["calls"] + row["fresh"], **counts)
        clock_at = await queries.trials.note.value(
            conn,
            trial_id=trial["trial_id"],
            bucket_s=bucket_s(trial["trial_s"]),
            gap_s=GAP_S,
            at=trial["at"],
            until_at=trial["until_at"],
            cps=sample.cps,
            cps_peak=sample.cps_peak,
            live=sample.live,
            asr=sample.asr,
            pdd_p95_ms=sample.pdd_p95_ms,
            refusal_rate=sample.refusal_rate,
            database_ms=sample.database_ms,
            fresh=row["fresh"],
            fresh_refused=row["fresh_refused"],
        )
        verdict = judge(thresholds, sample, clock_at, trial["at"], trial["trial_s"])
        if isinstance(verdict, Running):
            return None
        which, value, allowed = None, None, None
        if isinstance(verdict, Breached):
            which, value, allowed = verdict.which, verdict.value, verdict.limit
        came_to = await queries.trials.finish.value(
            conn,
            trial_id=trial["trial_id"],
            verdict="passed" if which is None else "failed",
            which=which,
            value=value,
            allowed=allowed,
            at=trial["at"],
        )
        return Ended(trial["window_id"], came_to, which, value, allowed)


async def trials(
    conn: Connection, window_id: UUID, rollout_id: UUID | None = None
) -> Sequence[Mapping[str, Any]]:
    """The trials of a window, the newest first and with its measures.

    rollout_id   the window's; None: any
    raises       NotFound: none has begun
    """
    rows: Sequence[Mapping[str, Any]] = await queries.trials.of_window.all(
        conn, window_id=window_id, rollout_id=rollout_id, rows=RUNS_SHOWN
    )
    if not rows:
        raise NotFound("No trial of such a window has begun. One begins when a window with thresholds opens.")
    return rows


async def window_named(conn: Connection, name: str) -> UUID:
    """A window by its id, with or without its prefix, or by its name; of several so named, the newest.

    raises   NotFound
    """
    key = name.removeprefix("win_")
    window_id: UUID | None = None
    with suppress(ValueError):
        window_id = UUID(key)
    found: UUID | None = await queries.trials.window_named.value(conn, window_id=window_id, name=name)
    if found is None:
        raise NotFound(f"There is no window {name[:80]!r}.")
    return found
