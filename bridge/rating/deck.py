"""A deck: one dated price list, sell or buy, found by longest prefix."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

from bridge.errors import DeckError
from bridge.rating.packed import Packed, Packing, Row, row_of
from bridge.rating.prefixes import encode
from bridge.rating.rate import Rate
from bridge.rating.tariff import PLAIN, Band, BandRate, Tariff, Terms

Bands = Sequence[tuple[Band, "Deck"]]
_CACHED_MAX: Final = 256


class Deck:
    """Rates of one price list in one currency, one per prefix and origin set. Immutable; replaced, never edited.

    Rates are kept packed and made into objects when they are asked for.

    version  grows with every change of the list and is kept with each call
    bands    each with the deck that prices calls while it is in force; where that lacks the number, the rate of
             this one stays
    raises   DeckError: a prefix appears twice, a rate or a band has another currency, a rate another deck
    """

    __slots__ = ("_cached", "_packed", "bands", "currency", "deck_id", "name", "terms", "version")

    def __init__(
        self,
        deck_id: str,
        name: str,
        currency: str,
        version: int,
        rates: Iterable[Rate],
        *,
        terms: Terms = PLAIN,
        bands: Bands = (),
    ) -> None:
        self.deck_id, self.name, self.currency, self.version = deck_id, name, currency, version
        rows = (row_of(self._own(rate)) for rate in rates)
        self._fill(Packed(Packing().add(rows)), terms, bands)

    @classmethod
    def of_rows(
        cls,
        deck_id: str,
        name: str,
        currency: str,
        version: int,
        rows: Iterable[Row],
        *,
        terms: Terms = PLAIN,
        bands: Bands = (),
    ) -> Self:
        """From columns that were checked before they were stored; only a repeated prefix is still refused.

        rows   quickest in the order of their prefixes
        """
        packed = Packed(Packing().add(rows))
        return cls.of_packed(deck_id, name, currency, version, packed, terms=terms, bands=bands)

    @classmethod
    def of_packed(
        cls,
        deck_id: str,
        name: str,
        currency: str,
        version: int,
        packed: Packed,
        *,
        terms: Terms = PLAIN,
        bands: Bands = (),
    ) -> Self:
        """From rates that were packed before, as `of_rows`."""
        deck = cls.__new__(cls)
        deck.deck_id, deck.name, deck.currency, deck.version = deck_id, name, currency, version
        deck._fill(packed, terms, bands)
        return deck

    def with_bands(self, bands: Bands) -> Deck:
        """The same rates, kept once for both, beside other prices in these bands."""
        return Deck.of_packed(
            self.deck_id, self.name, self.currency, self.version, self._packed, terms=self.terms, bands=bands
        )

    def __len__(self) -> int:
        return len(self._packed)

    def __repr__(self) -> str:
        return f"Deck({self.name!r}, version {self.version}, {len(self)} rates)"

    @property
    def keys(self) -> array[int]:
        """The encoded prefixes in order, see `bridge.rating.prefixes`; without those of the bands' decks."""
        return self._packed.prefixes.keys

    @property
    def origin_sets(self) -> frozenset[str]:
        """Those it knows, so that a caller's other ones make no difference."""
        return self._packed.origin_sets

    @property
    def minimum_s_max(self) -> int:
        """The longest minimum of its rates."""
        return self._packed.minimum_s_max

    def longest(self, digits: str, origins: Sequence[str] = ()) -> Rate | None:
        """The rate of the longest prefix of `digits` (no +). A blocked one is returned, not skipped.

        origins   the sets the caller belongs to, most specific first; a rate for every caller comes last. A
                  prefix that is priced for other callers only does not match
        """
        position = self._packed.find(encode(digits), origins)
        return None if position < 0 else self._rate(position)

    def tariff(self, digits: str, origins: Sequence[str] = ()) -> Tariff | None:
        """What a call to this number is priced by."""
        rate = self.longest(digits, origins)
        if rate is None:
            return None
        if not self.bands:
            return Tariff(rate, self.version, self.terms)
        bands = tuple(BandRate(band, deck.longest(digits, origins) or rate) for band, deck in self.bands)
        return Tariff(rate, self.version, self.terms, bands)

    def price(self, key: int, origins: Sequence[str] = ()) -> tuple[int, int] | None:
        """Calls to numbers of the same price cost the same, unless there are bands. None: no prefix.

        key   the number, encoded
        """
        position = self._packed.find(key, origins)
        return None if position < 0 else self._packed.price(position)

    def explain(self, digits: str, origins: Sequence[str] = ()) -> dict[str, Any]:
        """Which prefixes matched, longest first, which one counts, and why not the others.

        JSON-able; of the number it tells no more than the longest prefix.
        """
        packed, key = self._packed, encode(digits)
        chosen = packed.find(key, origins)
        return {
            "deck_id": self.deck_id,
            "version": self.version,
            "matched": [
                {
                    "prefix": packed.prefix(position),
                    "origin_set": packed.shared(position).origin_set,
                    "why": self._why(position, chosen, origins),
                }
                for position in packed.prefixes.matching(key)
            ],
            "chosen": packed.prefix(chosen) if chosen >= 0 else None,
            "origin_set": packed.shared(chosen).origin_set if chosen >= 0 else None,
            "blocked": packed.shared(chosen).blocked if chosen >= 0 else False,
        }

    def _fill(self, packed: Packed, terms: Terms, bands: Bands) -> None:
        for band, deck in bands:
            if deck.currency != self.currency:
                problem = (
                    f"band {band.name} is in {deck.currency}, the deck in {self.currency}. Use one a deck"
                )
                raise DeckError(problem, column="currency")
        self.terms, self.bands = terms, tuple(bands)
        self._packed = packed
        self._cached: dict[int, Rate] = {}

    def _own(self, rate: Rate) -> Rate:
        if rate.currency != self.currency:
            problem = (
                f"prefix {rate.prefix} is in {rate.currency}, the deck in {self.currency}. Use one a deck"
            )
            raise DeckError(problem, column="currency")
        if rate.deck_id != self.deck_id:
            raise DeckError(
                f"prefix {rate.prefix} belongs to deck {rate.deck_id}, not {self.deck_id}", column="deck_id"
            )
        return rate

    def _rate(self, position: int) -> Rate:
        rate = self._cached.get(position)
        if rate is None:
            rate = self._packed.rate(position, self.deck_id, self.currency)
            if len(self._cached) >= _CACHED_MAX:
                self._cached.clear()
            self._cached[position] = rate
        return rate

    def _why(self, position: int, chosen: int, origins: Sequence[str]) -> str:
        if position == chosen:
            return "chosen"
        callers = self._packed.shared(position).origin_set
        if callers and callers not in origins:
            return f"for callers from {callers} only"
        if self.keys[position] != self.keys[chosen]:
            return "shorter"
        return f"{self._packed.shared(chosen).origin_set} is more specific"
