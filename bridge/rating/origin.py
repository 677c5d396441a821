"""Origin sets: named groups of A-number prefixes that a deck may price apart, such as the EU's (Reg. 2021/654)."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

from bridge.rating.prefixes import Prefixes, encode


class Origins:
    """Every origin set by name. Immutable.

    sets   the prefixes of each; one prefix may be in several sets
    """

    __slots__ = ("_names", "_prefixes")

    def __init__(self, sets: Mapping[str, Iterable[str]]) -> None:
        members = sorted({(encode(prefix), name) for name, prefixes in sets.items() for prefix in prefixes})
        self._prefixes = Prefixes(array("Q", [key for key, _ in members]))
        self._names = [name for _, name in members]

    def of(self, a_digits: str) -> tuple[str, ...]:
        """The sets a caller belongs to: the one with the longest matching prefix first, then by name.

        a_digits   the A-number as received, E.164 without +; empty: unknown, so of no set

        >>> Origins({"EU": ["49", "33"], "DE mobile": ["4915", "4916", "4917"]}).of("4915112345678")
        ('DE mobile', 'EU')
        """
        size: dict[str, int] = {}
        for position in self._prefixes.matching(encode(a_digits)):  # longest first, and the first one stays
            size.setdefault(self._names[position], self._prefixes.keys[position] & 15)
        return tuple(sorted(size, key=lambda name: (-size[name], name)))
