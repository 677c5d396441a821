"""Decks and plans as they stand in the database."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.bands import Band
from bridge.rating.deck import Deck
from bridge.rating.rate import Tier
from bridge.rating.terms import Terms


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscriber pays by. margin_floor_micro: least margin for one minute; negative allows a loss."""

    plan_id: str
    name: str
    deck: Deck
    margin_floor_micro: int


async def load_decks(conn: Connection, at: datetime) -> dict[str, Deck]:
    """Every deck with the rates in force at `at`, by deck_id."""
    shelf = await _open_shelf(conn, at)
    return {str(deck_id): await shelf.deck(deck_id) for deck_id in shelf.heads}


async def load_deck(conn: Connection, deck_id: str | UUID, at: datetime, version: int | None = None) -> Deck:
    """One deck with the rates in force at `at`, as version `version` of it had them; the active one unless given.

    Terms and bands are today's in each case: only rates have versions.
    raises  NotFound: no such deck, or it never had this version
    """
    shelf = await _open_shelf(conn, at)
    key = deck_id if isinstance(deck_id, UUID) else UUID(deck_id)
    head = shelf.head(key)
    if version is None or version == head["version"]:
        return await shelf.deck(key)
    if not 0 < version < head["version"]:
        raise NotFound(f"deck {head['name']} has no version {version}: it has 1 to {head['version']}")
    rows = await queries.book.rates_of_version.all(conn, deck_id=key, at=at, version=version)
    return await shelf.deck(key, rows, version)


async def load_staged_deck(conn: Connection, import_id: UUID, at: datetime) -> Deck:
    """The deck with the rates in force at `at` as it will be once a staged import is applied.

    raises  NotFound: no such import
    """
    one = await queries.decks.import_of.one(conn, import_id=import_id)
    if one is None:
        raise NotFound(f"there is no import {import_id}")
    shelf = await _open_shelf(conn, at)
    if one["state"] != "staged":
        return await load_deck(conn, one["deck_id"], at, one["version"] or one["base_version"])
    rows = await queries.book.rates_staged.all(conn, deck_id=one["deck_id"], at=at, import_id=import_id)
    return await shelf.deck(one["deck_id"], rows, one["base_version"] + 1)


async def load_origin_sets(conn: Connection) -> dict[str, tuple[str, ...]]:
    """The prefixes of each origin set, by name."""
    return {row["name"]: tuple(row["prefixes"]) for row in await queries.decks.origin_sets.all(conn)}


async def load_plans(conn: Connection, decks: Mapping[str, Deck]) -> dict[str, Plan]:
    """Every plan by plan_id."""
    return {
        str(row["plan_id"]): Plan(
            str(row["plan_id"]), row["name"], decks[str(row["deck_id"])], row["margin_floor_micro"]
        )
        for row in await queries.book.plans.all(conn)
    }


@dataclass(slots=True)
class _Shelf:
    """Builds decks with their bands. A band prices by the rates of its deck alone, not by that deck's own bands."""

    conn: Connection
    at: datetime
    heads: Mapping[UUID, Any]
    bands: Mapping[UUID, Sequence[Any]]
    _plain: dict[UUID, Deck]

    def head(self, deck_id: UUID) -> Any:
        if deck_id not in self.heads:
            raise NotFound(f"there is no deck {deck_id}")
        return self.heads[deck_id]

    async def deck(
        self, deck_id: UUID, rows: Sequence[Any] | None = None, version: int | None = None
    ) -> Deck:
        """rows: the rates in force; today's unless given"""
        bands = self.bands.get(deck_id, ())
        if rows is None and not bands:
            return await self._without_bands(deck_id)
        placed = [
            (
                Band(band["name"], frozenset(band["days"]), band["from_minute"], band["to_minute"]),
                await self._without_bands(band["band_deck_id"]),
            )
            for band in bands
        ]
        head = self.head(deck_id)
        if rows is None:
            rows = await queries.book.rates.all(self.conn, deck_id=deck_id, at=self.at)
        return _deck(head, rows, head["version"] if version is None else version, placed)

    async def _without_bands(self, deck_id: UUID) -> Deck:
        if deck_id not in self._plain:
            rows = await queries.book.rates.all(self.conn, deck_id=deck_id, at=self.at)
            head = self.head(deck_id)
            self._plain[deck_id] = _deck(head, rows, head["version"], ())
        return self._plain[deck_id]


async def _open_shelf(conn: Connection, at: datetime) -> _Shelf:
    heads = {row["deck_id"]: row for row in await queries.book.decks.all(conn)}
    bands: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in await queries.book.bands.all(conn):
        bands[row["deck_id"]].append(row)
    return _Shelf(conn, at, heads, bands, {})


def _deck(head: Any, rows: Sequence[Any], version: int, bands: Sequence[tuple[Band, Deck]]) -> Deck:
    return Deck.of_rows(
        str(head["deck_id"]),
        head["name"],
        head["currency"],
        version,
        ((*row[:-1], _tiers(row[-1])) for row in map(tuple, rows)),
        terms=Terms.from_json(json.loads(head["terms"])),
        bands=bands,
    )


def _tiers(kept: str | None) -> tuple[Tier, ...]:
    return tuple(Tier(*tier) for tier in json.loads(kept)) if kept else ()
