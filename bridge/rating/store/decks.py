"""Decks and plans as they stand in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bridge import queries
from bridge.database import Connection
from bridge.rating.deck import Deck
from bridge.rating.rate import Rate


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscriber pays by. margin_floor_micro: least margin for one minute; negative allows a loss."""

    plan_id: str
    name: str
    deck: Deck
    margin_floor_micro: int


async def load_decks(conn: Connection, at: datetime) -> dict[str, Deck]:
    """Every deck with the rates in force at `at`, by deck_id."""
    heads = {str(row["deck_id"]): row for row in await queries.book.decks.all(conn)}
    rates: defaultdict[str, list[Rate]] = defaultdict(list)
    for row in await queries.book.rates.all(conn, at=at):
        columns = dict(row)
        deck_id = columns["deck_id"] = str(row["deck_id"])
        columns["rate_id"] = str(row["rate_id"])
        rates[deck_id].append(Rate(**columns, currency=heads[deck_id]["currency"]))
    return {
        deck_id: Deck(deck_id, head["name"], head["currency"], head["version"], rates[deck_id])
        for deck_id, head in heads.items()
    }


async def load_plans(conn: Connection, decks: Mapping[str, Deck]) -> dict[str, Plan]:
    """Every plan by plan_id."""
    return {
        str(row["plan_id"]): Plan(
            str(row["plan_id"]), row["name"], decks[str(row["deck_id"])], row["margin_floor_micro"]
        )
        for row in await queries.book.plans.all(conn)
    }
