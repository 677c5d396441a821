"""The rates of a deck in columns, some fifty bytes each, in the order of their prefixes."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from sys import intern
from typing import Any, Final, NamedTuple, Self

from bridge.errors import DeckError
from bridge.rating.prefixes import Prefixes, decode, encode
from bridge.rating.rate import Rate, Tier

Row = tuple[str, bytes | str, str, int, int, int, int, int, bool, int, str, tuple[Tier, ...]]
"""One rate: prefix, rate_id (a UUID's 16 bytes, or any text), destination, rate_micro, then as in `Shared`."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_UUID_BYTES: Final = 16
_NO_UUID: Final = bytes(_UUID_BYTES)


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


class Packing:
    """Rates on their way into columns, some at a time, so that not all of their rows need be in memory.

    No step of it keeps the interpreter for long, however many rates there are: other threads go on meanwhile.
    """

    __slots__ = (
        "destinations",
        "ids",
        "in_order",
        "keys",
        "rate_micro",
        "shared",
        "text_ids",
        "which_destination",
        "which_shared",
    )

    def __init__(self) -> None:
        self.keys, self.rate_micro = array("Q"), array("q")
        self.which_destination, self.which_shared = array("I"), array("I")
        self.ids = bytearray()
        self.text_ids: dict[int, str] = {}  # by position: those that are no UUID
        self.destinations: dict[str, int] = {}
        self.shared: dict[tuple[Any, ...], int] = {}
        self.in_order = True

    def add(self, rows: Iterable[Row]) -> Self:
        """rows   quickest in the order of their prefixes, over all that is added"""
        keys, destinations, shared = self.keys, self.destinations, self.shared
        last = keys[-1] if keys else 0
        for row in rows:
            key, rate_id = encode(row[0]), row[1]
            if key < last:
                self.in_order = False
            last = key
            if isinstance(rate_id, str):
                self.text_ids[len(keys)] = rate_id
                rate_id = _NO_UUID
            keys.append(key)
            self.ids += rate_id
            self.which_destination.append(destinations.setdefault(row[2], len(destinations)))
            self.rate_micro.append(row[3])
            self.which_shared.append(shared.setdefault(row[4:], len(shared)))
        return self

    def sort(self) -> None:
        """Put them in the order of their prefixes, equals as they came."""
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        self.keys, self.rate_micro, self.which_destination, self.which_shared = (
            array(column.typecode, map(column.__getitem__, order))
            for column in (self.keys, self.rate_micro, self.which_destination, self.which_shared)
        )
        self.ids = bytearray().join(_at(self.ids, position) for position in order)
        if self.text_ids:
            texts = ((now, self.text_ids.get(before)) for now, before in enumerate(order))
            self.text_ids = {position: text for position, text in texts if text is not None}
        self.in_order = True


class Packed:
    """raises   DeckError: a prefix appears twice for the same callers"""

    __slots__ = (
        "_destinations",
        "_ids",
        "_rate_micro",
        "_shared",
        "_text_ids",
        "_which_destination",
        "_which_shared",
        "minimum_s_max",
        "origin_sets",
        "prefixes",
    )

    def __init__(self, rates: Packing) -> None:
        if not rates.in_order:
            rates.sort()
        self.prefixes = Prefixes(rates.keys)
        self._rate_micro = rates.rate_micro
        self._which_destination, self._which_shared = rates.which_destination, rates.which_shared
        self._ids, self._text_ids = bytes(rates.ids), rates.text_ids
        self._destinations = tuple(map(intern, rates.destinations))  # carriers name the same places
        self._shared = tuple(Shared(*columns) for columns in rates.shared)
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
        # In small steps: one call that compares them all would keep other threads waiting.
        for position in (here for here in range(1, len(keys)) if keys[here] == keys[here - 1]):
            callers = self.shared(position).origin_set
            if any(self.shared(equal).origin_set == callers for equal in self._equals(position)[:-1]):
                which = (
                    f"{self.prefix(position)} for callers from {callers}"
                    if callers
                    else self.prefix(position)
                )
                raise DeckError(f"prefix {which} appears twice. Keep one of the two", column="prefix")

    def _id(self, position: int) -> str:
        text = self._text_ids.get(position)
        return _dashed(_at(self._ids, position)) if text is None else text


def _at(ids: bytes | bytearray, position: int) -> bytes | bytearray:
    return ids[position * _UUID_BYTES : (position + 1) * _UUID_BYTES]


def _dashed(uuid: bytes | bytearray) -> str:
    digits = uuid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
