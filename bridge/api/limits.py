"""How much one asks: a bucket of requests that fills evenly. Counted in each worker for itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

OWNERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request found. reset_s: until the bucket is full again; retry_s: until one request fits, 0 now."""

    quota: int
    window_s: int
    left: int
    reset_s: int
    retry_s: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them, with Retry-After (RFC 9110) once nothing is left."""
        told = {
            "RateLimit-Policy": f'"burst";q={self.quota};w={self.window_s}',
            "RateLimit": f'"burst";r={self.left};t={self.reset_s}',
        }
        return told | ({"Retry-After": str(self.retry_s)} if self.retry_s else {})


class Limiter:
    """quota   requests that fit at once, and that come back within window_s"""

    def __init__(self, quota: int = 6000, window_s: int = 60) -> None:
        self._quota, self._window_s = quota, window_s
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # left, at

    def left(self, owner: Hashable, now_s: float) -> int:
        """Requests that an owner has left, without taking one."""
        left, at_s = self._buckets.get(owner, (float(self._quota), now_s))
        return int(min(left + (now_s - at_s) * self._quota / self._window_s, self._quota))

    def take(self, owner: Hashable, now_s: float) -> Taken:
        """One request of an owner at a monotonic time."""
        a_second = self._quota / self._window_s
        left, at_s = self._buckets.pop(owner, (float(self._quota), now_s))
        left = min(left + (now_s - at_s) * a_second, float(self._quota))
        fits = left >= 1
        left -= 1 if fits else 0
        self._buckets[owner] = (left, now_s)
        if len(self._buckets) > OWNERS_MAX:
            self._buckets.popitem(last=False)
        return Taken(
            self._quota,
            self._window_s,
            int(left),
            -int(-(self._quota - left) // a_second),
            0 if fits else max(-int(-(1 - left) // a_second), 1),
        )
