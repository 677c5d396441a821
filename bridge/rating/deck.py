"""A deck: one dated price list, sell or buy, found by longest prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.errors import DeckError
from bridge.telephony.money import check_currency

_PREFIX: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one prefix. Immutable, and complete enough to re-price a call years later.

    prefix             digits without +, 1 to 15
    rate_micro         per minute, micro-units of `currency`
    connect_fee_micro  once per answered call
    initial_s, next_s  the increments of "60/6": first block, each further block; at least 1
    minimum_s          shorter answered calls are billed as this long
    blocked            calls to this prefix are not carried
    raises             DeckError naming the column and the fix
    """

    rate_id: str
    deck_id: str
    prefix: str
    destination: str
    currency: str
    rate_micro: int
    connect_fee_micro: int = 0
    initial_s: int = 60
    next_s: int = 60
    minimum_s: int = 0
    blocked: bool = False

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            raise DeckError(
                f"{self.prefix[:20]!r} is not a prefix. Write 1 to 15 digits, without +", column="prefix"
            )
        try:
            check_currency(self.currency)
        except ValueError as wrong:
            raise DeckError(str(wrong), column="currency") from None
        _at_least(self.rate_micro, 0, "rate_micro")
        _at_least(self.connect_fee_micro, 0, "connect_fee_micro")
        _at_least(self.initial_s, 1, "initial_s")
        _at_least(self.next_s, 1, "next_s")
        _at_least(self.minimum_s, 0, "minimum_s")

    def to_json(self) -> dict[str, Any]:
        """As frozen with a call: everything a charge needs, and where it came from."""
        return {
            "rate_id": self.rate_id,
            "deck_id": self.deck_id,
            "prefix": self.prefix,
            "destination": self.destination,
            "currency": self.currency,
            "rate_micro": self.rate_micro,
            "connect_fee_micro": self.connect_fee_micro,
            "initial_s": self.initial_s,
            "next_s": self.next_s,
            "minimum_s": self.minimum_s,
        } | ({"blocked": True} if self.blocked else {})

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> Rate:
        """The inverse of `to_json`; DeckError when a column is missing, unknown or wrong."""
        try:
            return cls(**frozen)
        except TypeError as wrong:
            raise DeckError(f"not a frozen rate: {wrong}") from None


class Deck:
    """Rates of one price list in one currency, one per prefix. Immutable once built; replaced, never edited.

    version  grows with every change of the list and is kept with each call
    raises   DeckError: a prefix appears twice, a rate has another currency or belongs to another deck
    """

    __slots__ = ("_by_prefix", "_lengths", "currency", "deck_id", "name", "version")

    def __init__(self, deck_id: str, name: str, currency: str, version: int, rates: Iterable[Rate]) -> None:
        self.deck_id, self.name, self.currency, self.version = deck_id, name, currency, version
        self._by_prefix: dict[str, Rate] = {}
        for rate in rates:
            self._add(rate)
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}, reverse=True))

    def __len__(self) -> int:
        return len(self._by_prefix)

    def __repr__(self) -> str:
        return f"Deck({self.name!r}, version {self.version}, {len(self)} rates)"

    def longest(self, digits: str) -> Rate | None:
        """The rate of the longest prefix of `digits` (no +). A blocked one is returned, not skipped."""
        by_prefix = self._by_prefix
        for length in self._lengths:
            if (rate := by_prefix.get(digits[:length])) is not None:
                return rate
        return None

    def explain(self, digits: str) -> dict[str, Any]:
        """Which prefixes matched, longest first, and which one counts. JSON-able; the number is not in it."""
        # Lengths beyond the digits would only find the same short match again.
        fitting = [digits[:length] for length in self._lengths if length <= len(digits)]
        matched = [prefix for prefix in fitting if prefix in self._by_prefix]
        chosen = self._by_prefix[matched[0]] if matched else None
        return {
            "deck_id": self.deck_id,
            "version": self.version,
            "matched": matched,
            "chosen": chosen.prefix if chosen else None,
            "blocked": chosen.blocked if chosen else False,
        }

    def _add(self, rate: Rate) -> None:
        if rate.currency != self.currency:
            problem = (
                f"prefix {rate.prefix} is in {rate.currency}, the deck in {self.currency}. Use one a deck"
            )
            raise DeckError(problem, column="currency")
        if rate.deck_id != self.deck_id:
            raise DeckError(
                f"prefix {rate.prefix} belongs to deck {rate.deck_id}, not {self.deck_id}", column="deck_id"
            )
        if self._by_prefix.setdefault(rate.prefix, rate) is not rate:
            raise DeckError(f"prefix {rate.prefix} appears twice. Keep one of the two", column="prefix")


def _at_least(value: int, least: int, column: str) -> None:
    if type(value) is not int or value < least:
        raise DeckError(f"{value!r} is not allowed. Write a whole number, {least} or more", column=column)
