"""Long work, so much of it at a time in one worker; who comes beyond that is told when to come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from bridge.api.problems import Problem


class Slots:
    """most    at a time; most_each: of one owner, so that nobody keeps all of them from others"""

    def __init__(self, most: int, most_each: int | None = None, retry_s: int = 5) -> None:
        self._most, self._most_each, self._retry_s = most, most_each or most, retry_s
        self._taken: Counter[Hashable] = Counter()

    @contextmanager
    def take(self, what: str, owner: Hashable = None) -> Iterator[None]:
        """raises   Problem 503 when there is none left"""
        if self._taken.total() >= self._most or self._taken[owner] >= self._most_each:
            raise Problem(
                503,
                f"{what} is at work here. Ask again in {self._retry_s} s.",
                headers={"Retry-After": str(self._retry_s)},
            )
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            self._taken += Counter()  # forgets who has none
