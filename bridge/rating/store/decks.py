"""Decks and plans as they stand in the database."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.bands import Band
from bridge.rating.deck import Deck
from bridge.rating.packed import Packed, Packing
from bridge.rating.plan import Plan
from bridge.rating.rate import Tier
from bridge.rating.terms import Terms

BATCH_ROWS: Final = (
    1000  # read and packed at a time: neither keeps callers waiting for more than some milliseconds
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A deck as it was read, without its bands.

    head     its row; changes_at in it: the rates are others from then on
    read_at  the instant they are those in force of
    """

    deck: Deck
    head: Any
    read_at: datetime

    def holds(self, head: Any, at: datetime) -> bool:
        """Whether reading it again at this instant would give the same."""
        changes_at = self.head["changes_at"]
        return (
            tuple(self.head)[:-1] == tuple(head)[:-1]
            and self.read_at <= at
            and (changes_at is None or at < changes_at)
        )


class Decks(Mapping[str, Deck]):
    """Decks by deck_id, with what tells whether they still hold.

    changes_at   when the first of them changes by the passing of time; None: never
    changed_at   when somebody last changed one of them; None: there is none
    """

    def __init__(self, decks: Mapping[str, Deck], kept: Mapping[UUID, _Kept]) -> None:
        self._decks, self._kept = decks, kept
        self.changes_at: datetime | None = min(
            (one.head["changes_at"] for one in kept.values() if one.head["changes_at"]), default=None
        )
        self.changed_at: datetime | None = max(
            (one.head["changed_at"] for one in kept.values()), default=None
        )

    def __getitem__(self, deck_id: str) -> Deck:
        return self._decks[deck_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decks)

    def __len__(self) -> int:
        return len(self._decks)

    def kept(self, deck_id: UUID) -> _Kept | None:
        return self._kept.get(deck_id)


NO_DECKS: Final = Decks({}, {})


async def load_decks(conn: Connection, at: datetime, known: Decks = NO_DECKS) -> Decks:
    """Every deck with the rates in force at `at`, by deck_id. One of `known` that still holds is taken over as it is.

    Read in a transaction that sees one moment of the database, when the result is to be `known` later.
    """
    async with conn.transaction():
        shelf = await _open_shelf(conn, at, known)
        decks = {str(deck_id): await shelf.deck(deck_id) for deck_id in shelf.heads}
    return Decks(decks, shelf.kept)


async def load_decks_for(conn: Connection, at: datetime, digits: str) -> Decks:
    """Every deck, with only those of its rates in force at `at` that a number could be priced by. Quick, however big.

    digits   the number without +; empty: no rates at all
    """
    prefixes = [digits[:length] for length in range(1, len(digits) + 1)]
    async with conn.transaction():
        shelf = await _open_shelf(conn, at)
        rates: defaultdict[UUID, list[Any]] = defaultdict(list)
        for deck_id, *row in await queries.book.rates_for.all(
            conn, deck_ids=list(shelf.heads), prefixes=prefixes, at=at
        ):
            rates[deck_id].append(row)
        for deck_id, head in shelf.heads.items():
            packing = Packing()
            _pack(packing, rates[deck_id])
            shelf.kept[deck_id] = _Kept(_deck(head, packing, head["version"]), head, at)
        decks = {str(deck_id): await shelf.deck(deck_id) for deck_id in shelf.heads}
    return Decks(decks, {})


async def load_deck(conn: Connection, deck_id: str | UUID, at: datetime, version: int | None = None) -> Deck:
    """One deck with the rates in force at `at`, as version `version` of it had them; the active one unless given.

    Terms and bands are today's in each case: only rates have versions.
    raises  NotFound: no such deck, or it never had this version
    """
    key = deck_id if isinstance(deck_id, UUID) else UUID(deck_id)
    async with conn.transaction():
        shelf = await _open_shelf(conn, at)
        head = shelf.head(key)
        if version is None or version == head["version"]:
            return await shelf.deck(key)
        if not 0 < version < head["version"]:
            raise NotFound(f"deck {head['name']} has no version {version}: it has 1 to {head['version']}")
        rates = queries.book.rates_of_version.batches(conn, BATCH_ROWS, deck_id=key, at=at, version=version)
        return await shelf.deck(key, await _packed(head, rates, version))


async def load_staged_deck(conn: Connection, import_id: UUID, at: datetime) -> Deck:
    """The deck with the rates in force at `at` as it will be once a staged import is applied.

    raises  NotFound: no such import
    """
    one = await queries.decks.import_of.one(conn, import_id=import_id)
    if one is None:
        raise NotFound(f"there is no import {import_id}")
    deck_id, version = one["deck_id"], one["base_version"]
    if one["state"] != "staged":
        return await load_deck(conn, deck_id, at, one["version"] or version)
    async with conn.transaction():
        shelf = await _open_shelf(conn, at)
        rates = queries.book.rates_staged.batches(
            conn, BATCH_ROWS, deck_id=deck_id, at=at, import_id=import_id
        )
        return await shelf.deck(deck_id, await _packed(shelf.head(deck_id), rates, version + 1))


async def load_origin_sets(conn: Connection) -> dict[str, tuple[str, ...]]:
    """The prefixes of each origin set, by name."""
    return {row["name"]: tuple(row["prefixes"]) for row in await queries.decks.origin_sets.all(conn)}


async def load_plans(conn: Connection, decks: Mapping[str, Deck]) -> dict[str, Plan]:
    """Every plan by plan_id."""
    return {
        str(row["plan_id"]): Plan(
            str(row["plan_id"]),
            row["name"],
            decks[str(row["deck_id"])],
            row["margin_floor_micro"],
            roaming_deck=decks[str(row["roaming_deck_id"])] if row["roaming_deck_id"] else None,
            zero_rated=tuple(row["zero_rated"]),
            on_net_free=row["on_net_free"],
            on_net_fallback=row["on_net_fallback"],
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
    known: Decks
    kept: dict[UUID, _Kept] = field(default_factory=dict)

    def head(self, deck_id: UUID) -> Any:
        if deck_id not in self.heads:
            raise NotFound(f"there is no deck {deck_id}")
        return self.heads[deck_id]

    async def deck(self, deck_id: UUID, plain: Deck | None = None) -> Deck:
        """plain: the deck without bands; today's unless given"""
        if plain is None:
            plain = await self._plain(deck_id)
        if deck_id not in self.bands:
            return plain
        bands = tuple(
            [
                (
                    Band(band["name"], frozenset(band["days"]), band["from_minute"], band["to_minute"]),
                    await self._plain(band["band_deck_id"]),
                )
                for band in self.bands[deck_id]
            ]
        )
        before, kept = self.known.get(str(deck_id)), self.known.kept(deck_id)
        if before is not None and kept is not None and kept.deck is plain and before.bands == bands:
            return before
        return plain.with_bands(bands)

    async def _plain(self, deck_id: UUID) -> Deck:
        if deck_id not in self.kept:
            head, before = self.head(deck_id), self.known.kept(deck_id)
            if before is None or not before.holds(head, self.at):
                rates = queries.book.rates.batches(self.conn, BATCH_ROWS, deck_id=deck_id, at=self.at)
                before = _Kept(await _packed(head, rates, head["version"]), head, self.at)
            self.kept[deck_id] = before
        return self.kept[deck_id].deck


async def _open_shelf(conn: Connection, at: datetime, known: Decks = NO_DECKS) -> _Shelf:
    heads = {row["deck_id"]: row for row in await queries.book.decks.all(conn, at=at)}
    bands: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in await queries.book.bands.all(conn):
        bands[row["deck_id"]].append(row)
    return _Shelf(conn, at, heads, bands, known)


async def _packed(head: Any, batches: AsyncIterator[Sequence[Any]], version: int) -> Deck:
    """A deck without bands. All work with its rates is done in threads: callers wait for none of it."""
    packing = Packing()
    async for rows in batches:
        await asyncio.to_thread(_pack, packing, rows)
    return await asyncio.to_thread(_deck, head, packing, version)


def _pack(packing: Packing, rows: Sequence[Any]) -> None:
    packing.add((*row[:-1], _tiers(row[-1])) for row in map(tuple, rows))


def _deck(head: Any, packing: Packing, version: int) -> Deck:
    return Deck.of_packed(
        str(head["deck_id"]),
        head["name"],
        head["currency"],
        version,
        Packed(packing),
        terms=Terms.from_json(json.loads(head["terms"])),
    )


def _tiers(kept: str | None) -> tuple[Tier, ...]:
    return tuple(Tier(*tier) for tier in json.loads(kept)) if kept else ()
