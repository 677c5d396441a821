"""Backpressure: whether a worker takes on one more call. Pure: time is an argument, and nothing here is waited for.

Only new calls are held up to it. A call in progress (its next attempt, its extension, its end, the second leg of a call
by order) never is, and an emergency call never asks.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum

from bridge.config import Pressure


class Limit(StrEnum):
    """What would be too much. The values are public: metrics and logs carry them."""

    cps = "cps"  # so many in this second
    deciding = "deciding"  # so many being decided
    live = "live"  # so many calls of the switch
    database = "database"  # it is slow, or no connection to it is free


class Gate:
    """Times are monotonic seconds, and never go back.

    Calls that live are those last counted, and those of this worker since that count began, so that counting needs no
    question per call. What other workers admitted meanwhile comes with the next count.
    """

    def __init__(self, limits: Pressure) -> None:
        self._limits = limits
        # A log of one second, not a bucket that fills: in no second whatever are there more than cps_max.
        self._let_in_s: deque[float] = deque(maxlen=limits.cps_max)
        self._counted = 0
        self._admitted = 0  # since the last count, or since the one before while a count is under way
        self._before = 0  # of these, before the count that is under way began
        self._asked_s: float | None = None
        self.database_ms = 0.0  # the last count, as long as this worker waited for it
        self.deciding = 0
        self.turned_away: Counter[Limit] = Counter()

    @property
    def live(self) -> int:
        """Calls of the switch, those being decided among them: each may become one."""
        return self._counted + self._admitted + self.deciding

    def enter(self, now_s: float) -> Limit | None:
        """One new call asks. None: it may be decided, and `leave` follows, whatever comes of it."""
        over = self._over(now_s)
        if over is not None:
            self.turned_away[over] += 1
            return over
        self._let_in_s.append(now_s)
        self.deciding += 1
        return None

    def leave(self, *, admitted: bool) -> None:
        """It is decided."""
        self.deciding -= 1
        self._admitted += admitted

    def asks(self, now_s: float) -> None:
        """A count of the calls that live begins."""
        self._asked_s, self._before = now_s, self._admitted

    def told(self, live: int | None, now_s: float) -> None:
        """It has ended. None: without an answer, and what was known still holds."""
        if self._asked_s is not None:
            self.database_ms, self._asked_s = (now_s - self._asked_s) * 1000, None
        if live is not None:
            self._counted = live
            self._admitted -= self._before
            self._before = 0

    def _over(self, now_s: float) -> Limit | None:
        limits, log = self._limits, self._let_in_s
        waiting_ms = (now_s - self._asked_s) * 1000 if self._asked_s is not None else 0.0
        if max(waiting_ms, self.database_ms) > limits.database_ms_max:
            return Limit.database
        if self.deciding >= limits.deciding_max:
            return Limit.deciding
        if self.live >= limits.live_max:
            return Limit.live
        if len(log) == limits.cps_max and now_s - log[0] < 1.0:
            return Limit.cps
        return None
