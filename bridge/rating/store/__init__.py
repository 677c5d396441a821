"""Decks and plans in the database. Imports and versions: `imports`, `versions`."""

from __future__ import annotations

from bridge.rating.store.decks import (
    NO_DECKS,
    Decks,
    load_deck,
    load_decks,
    load_decks_for,
    load_origin_sets,
    load_plans,
    load_staged_deck,
)

__all__ = [
    "NO_DECKS",
    "Decks",
    "load_deck",
    "load_decks",
    "load_decks_for",
    "load_origin_sets",
    "load_plans",
    "load_staged_deck",
]
