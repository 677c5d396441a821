"""A deck: one dated price list, sell or buy, found by longest prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bridge.errors import DeckError
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff


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

    def tariff(self, digits: str) -> Tariff | None:
        """What a call to this number is priced by."""
        rate = self.longest(digits)
        return None if rate is None else Tariff(rate, self.version)

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
