"""The last results of a rule, kept for those who ask again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Kept(Generic[Result]):
    """Results by what they were worked out from; when there are more than `most`, the first go.

    It can be emptied a few at a time: freeing many thousand plans at once keeps callers waiting for a third of a
    second.
    """

    __slots__ = ("_most", "_results")

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[tuple[Any, ...], Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, given: tuple[Any, ...]) -> Result | None:
        return self._results.get(given)

    def put(self, given: tuple[Any, ...], result: Result) -> None:
        self._results[given] = result
        if len(self._results) > self._most:
            self._results.popitem(last=False)

    def forget(self, most: int) -> None:
        """Let go of so many, at most."""
        for _ in range(min(most, len(self._results))):
            self._results.popitem()


class Asked(Kept[Result]):
    """A rule that is asked again and again, as with functools.lru_cache: what was not asked for longest goes.

    rule   depends on nothing but what it is called with, and never returns None
    """

    __slots__ = ("_rule",)

    def __init__(self, most: int, rule: Callable[..., Result]) -> None:
        super().__init__(most)
        self._rule = rule

    def __call__(self, *given: Any) -> Result:
        found = self._results.get(given)
        if found is None:
            found = self._rule(*given)
            self.put(given, found)
        else:
            self._results.move_to_end(given)
        return found
