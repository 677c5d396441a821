"""A tariff: all that one call is priced by. Frozen with the call, so that it prices to the same amount years later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.rating.rate import Rate


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rate that was found, and the version of its deck."""

    rate: Rate
    version: int = 0

    @property
    def currency(self) -> str:
        return self.rate.currency

    def to_json(self) -> dict[str, Any]:
        """Flat: the rate's columns and, beside them, what is not as usual."""
        return self.rate.to_json() | {"version": self.version}

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> Tariff:
        """The inverse of `to_json`; DeckError when a column is missing, unknown or wrong."""
        kept = dict(frozen)
        version = kept.pop("version", 0)
        return cls(Rate.from_json(kept), version)
