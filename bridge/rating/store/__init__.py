"""Decks and plans in the database."""

from __future__ import annotations

from bridge.rating.store.decks import Plan, load_decks, load_plans

__all__ = ["Plan", "load_decks", "load_plans"]
