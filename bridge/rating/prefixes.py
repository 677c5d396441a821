"""Prefixes as sorted integers, and which of them a number begins with."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

DIGITS_MAX: Final = 15  # E.164
_BITS: Final = 64
_SLICE: Final = 256  # of each column at a time, about
# Zeros up to fifteen digits, and then the number of digits in hex
_PADDING: Final = tuple("0" * (DIGITS_MAX - size) + f"{size:x}" for size in range(DIGITS_MAX + 1))


def encode(digits: str) -> int:
    """The digits from the left, four bits each, and how many there are; what follows the 15th cannot matter.

    Sorted as integers, prefixes stand as in a dictionary: each right before those that begin with it.
    """
    if len(digits) > DIGITS_MAX:
        digits = digits[:DIGITS_MAX]
    return int(digits + _PADDING[len(digits)], 16)


def decode(key: int) -> str:
    """The inverse of `encode`."""
    return f"{key >> 4:015x}"[: key & 15]


class Prefixes:
    """Encoded prefixes in order, twelve bytes each. One may appear several times.

    keys   sorted
    """

    __slots__ = ("_shorter", "keys")

    def __init__(self, keys: array[int]) -> None:
        self.keys = keys
        self._shorter = _enclosing(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def longest(self, key: int) -> int:
        """Position of the longest prefix the encoded number begins with; the last one among equals; -1: none."""
        keys = self.keys
        # Whatever stands between the longest prefix and the number in the order begins with that prefix, too.
        position = bisect_right(keys, key) - 1
        while position >= 0:
            found = keys[position]
            if (found ^ key) >> _BITS - 4 * (found & 15) == 0:
                break
            position = self._shorter[position]
        return position

    def shorter(self, position: int) -> int:
        """The prefix that this one begins with, or its equal before it; -1: none."""
        return self._shorter[position]

    def matching(self, key: int) -> Iterator[int]:
        """Every prefix the encoded number begins with, longest first, equals from the last to the first."""
        position = self.longest(key)
        while position >= 0:
            yield position
            position = self._shorter[position]


def union(columns: Sequence[array[int]]) -> array[int]:
    """What stands in any of these sorted columns, sorted and once.

    Millions are joined a slice at a time, so that other threads go on meanwhile.
    """
    samples = sorted(chain.from_iterable(keys[_SLICE::_SLICE] for keys in columns))
    joined = array("Q")
    begins = [0] * len(columns)
    for bound in [*samples[:: max(len(columns), 1)], None]:
        ends = [len(keys) if bound is None else bisect_left(keys, bound) for keys in columns]
        part = set[int]().union(*map(_slice, columns, begins, ends))
        joined.extend(sorted(part))
        begins = ends
    return joined


def _slice(keys: array[int], begin: int, end: int) -> array[int]:
    return keys[begin:end]


def _enclosing(keys: array[int]) -> array[int]:
    shorter = array("i")
    previous = 0
    for before, key in enumerate(keys, -1):
        position, found = before, previous
        while (found ^ key) >> _BITS - 4 * (found & 15):
            position = shorter[position]
            if position < 0:
                break
            found = keys[position]
        shorter.append(position)
        previous = key
    return shorter
