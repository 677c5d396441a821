"""Decks as they were in force at an instant, read from the database."""

from __future__ import annotations

from datetime import datetime

from bridge import queries
from bridge.calls.reprice import DeckThen
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.store import load_deck


def versioned(text: str) -> tuple[str, int | None]:
    """ "name@version" apart, or "name" and None, which is the version in force.

    >>> versioned("sell standard@3"), versioned("buy@home")
    (('sell standard', 3), ('buy@home', None))
    """
    name, at, version = text.rpartition("@")
    return (name, int(version)) if at and version.isdecimal() else (text, None)


async def load_then(conn: Connection, deck_id: str, version: int | None, at: datetime) -> DeckThen:
    """A deck with the rates in force at `at`, and how long these are; one that is gone has none."""
    try:
        deck = await load_deck(conn, deck_id, at, version)
    except (NotFound, ValueError):
        return DeckThen(None)
    edges = await queries.rerating.edges.one(conn, deck_id=deck.deck_id, at=at)
    return DeckThen(deck, edges["since"], edges["until"])
