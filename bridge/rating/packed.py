"""The rates of a deck in columns, some fifty bytes each, in the order of their prefixes."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import compress, count
from operator import eq, le
from sys import intern
from typing import Any, Final, NamedTuple

from bridge.errors import DeckError
from bridge.rating.prefixes import Prefixes, decode, encode
from bridge.rating.rate import Rate, Tier

Row = tuple[str, bytes | str, str, int, int, int, int, int, bool, int, str, tuple[Tier, ...]]
"""One rate: prefix, rate_id (a UUID's 16 bytes, or any text), destination, rate_micro, then as in `Shared`."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_UUID_BYTES: Final = 16


class Shared(NamedTuple):
    """What many rates of a deck have in common, kept once."""

    connect_fee_micro: int
    initial_s: int
    next_s: int
    minimum_s: int
    blocked: bool
    grace_s: int
    origin_set: str
    tiers: tuple[Tier, ...]


def row_of(rate: Rate) -> Row:
    return (
        rate.prefix,
        bytes.fromhex(rate.rate_id.replace("-", "")) if _UUID.fullmatch(rate.rate_id) else rate.rate_id,
        rate.destination,
        rate.rate_micro,
        rate.connect_fee_micro,
        rate.initial_s,
        rate.next_s,
        rate.minimum_s,
        rate.blocked,
        rate.grace_s,
        rate.origin_set,
        rate.tiers,
    )


class Packed:
    """raises   DeckError: a prefix appears twice for the same callers"""

    __slots__ = (
        "_destinations",
        "_ids",
        "_rate_micro",
        "_shared",
        "_which_destination",
        "_which_shared",
        "minimum_s_max",
        "origin_sets",
        "prefixes",
    )

    def __init__(self, rows: Iterable[Row]) -> None:
        keys, rate_micro = array("Q"), array("q")
        which_destination, which_shared = array("I"), array("I")
        ids: list[bytes | str] = []
        destinations: dict[str, int] = {}
        shared: dict[tuple[Any, ...], int] = {}
        for row in rows:
            keys.append(encode(row[0]))
            ids.append(row[1])
            which_destination.append(destinations.setdefault(row[2], len(destinations)))
            rate_micro.append(row[3])
            which_shared.append(shared.setdefault(row[4:], len(shared)))
        if not all(map(le, keys, keys[1:])):
            order = sorted(range(len(keys)), key=keys.__getitem__)
            ids = [ids[position] for position in order]
            keys, rate_micro, which_destination, which_shared = (
                array(column.typecode, map(column.__getitem__, order))
                for column in (keys, rate_micro, which_destination, which_shared)
            )
        self.prefixes = Prefixes(keys)
        self._rate_micro = rate_micro
        self._which_destination, self._which_shared = which_destination, which_shared
        self._ids = _joined(ids)
        self._destinations = tuple(map(intern, destinations))  # carriers name the same places
        self._shared = tuple(Shared(*columns) for columns in shared)
        self.origin_sets = frozenset(columns.origin_set for columns in self._shared) - {""}
        self.minimum_s_max = max((columns.minimum_s for columns in self._shared), default=0)
        self._check_no_prefix_twice()

    def __len__(self) -> int:
        return len(self.prefixes)

    def prefix(self, position: int) -> str:
        return decode(self.prefixes.keys[position])

    def shared(self, position: int) -> Shared:
        return self._shared[self._which_shared[position]]

    def price(self, position: int) -> tuple[int, int]:
        """Stands for all that a charge depends on: within a deck, rates of one price charge the same."""
        return self._rate_micro[position], self._which_shared[position]

    def rate(self, position: int, deck_id: str, currency: str) -> Rate:
        return Rate(
            self._id(position),
            deck_id,
            self.prefix(position),
            self._destinations[self._which_destination[position]],
            currency,
            self._rate_micro[position],
            *self.shared(position),
        )

    def find(self, key: int, origins: Sequence[str]) -> int:
        """Position of the rate for an encoded number; -1: none. See `Deck.longest`."""
        position = self.prefixes.longest(key)
        if not self.origin_sets:
            return position
        wanted = (*origins, "")
        while position >= 0:
            equals = self._equals(position)
            found = [equal for equal in equals if self.shared(equal).origin_set in wanted]
            if found:
                return min(found, key=lambda equal: wanted.index(self.shared(equal).origin_set))
            position = self.prefixes.shorter(equals[0])
        return position

    def _equals(self, position: int) -> range:
        """The last position of a prefix, and those before it with the same one."""
        keys = self.prefixes.keys
        first = position
        while first > 0 and keys[first - 1] == keys[position]:
            first -= 1
        return range(first, position + 1)

    def _check_no_prefix_twice(self) -> None:
        keys = self.prefixes.keys
        for position in compress(count(1), map(eq, keys, keys[1:])):
            callers = self.shared(position).origin_set
            if any(self.shared(equal).origin_set == callers for equal in self._equals(position)[:-1]):
                which = (
                    f"{self.prefix(position)} for callers from {callers}"
                    if callers
                    else self.prefix(position)
                )
                raise DeckError(f"prefix {which} appears twice. Keep one of the two", column="prefix")

    def _id(self, position: int) -> str:
        if isinstance(self._ids, bytes):
            return _dashed(self._ids[position * _UUID_BYTES : (position + 1) * _UUID_BYTES])
        kept = self._ids[position]
        return _dashed(kept) if isinstance(kept, bytes) else kept


def _joined(ids: list[bytes | str]) -> bytes | list[bytes | str]:
    """One string when every id is a UUID; else as they are."""
    uuids = [kept for kept in ids if isinstance(kept, bytes)]
    return b"".join(uuids) if len(uuids) == len(ids) else ids


def _dashed(uuid: bytes) -> str:
    digits = uuid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
