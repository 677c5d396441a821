"""How much one asks: a bucket of requests that fills evenly. Counted in each worker for itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil
from typing import Final

OWNERS_MAX: Final = 10_000
_TOLERANCE_S: Final = 1e-6  # of sums of floats


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
        self._full_at_s: OrderedDict[Hashable, float] = OrderedDict()  # when an owner's bucket is full again

    def take(self, owner: Hashable, now_s: float) -> Taken:
        """One request of an owner at a monotonic time. What is refused costs nothing."""
        a_request_s = self._window_s / self._quota
        full_in_s = max(self._full_at_s.pop(owner, now_s) - now_s, 0.0)
        over_s = full_in_s + a_request_s - self._window_s
        fits = over_s <= _TOLERANCE_S
        full_in_s += a_request_s if fits else 0.0
        self._full_at_s[owner] = now_s + full_in_s
        if len(self._full_at_s) > OWNERS_MAX:
            self._full_at_s.popitem(last=False)
        return Taken(
            self._quota,
            self._window_s,
            min(int((self._window_s - full_in_s + _TOLERANCE_S) / a_request_s), self._quota),
            ceil(full_in_s - _TOLERANCE_S),
            0 if fits else max(ceil(over_s - _TOLERANCE_S), 1),
        )
