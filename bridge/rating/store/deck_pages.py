"""Rate decks by their keys, page by page, as the API tells of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, DeckError, Invalid, NotFound
from bridge.rating.bands import Band
from bridge.rating.deck import Deck
from bridge.rating.deck_cells import plain_text
from bridge.rating.origin import Origins
from bridge.rating.packed import Packed, Packing
from bridge.rating.rate import Tier
from bridge.rating.tariff import InForce
from bridge.rating.terms import Terms
from bridge.telephony.money import check_currency

Row = Mapping[str, Any]
Reading = Callable[[], AbstractAsyncContextManager[Connection]]

_TAKEN: Final = "The name is taken. Take another one."  # by whom is nobody's business
DECKS_MAX: Final = 200  # a partner may have
BATCH_ROWS: Final = 1_000
_EVER: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class After:
    """Where a page of rates begins: behind this one."""

    prefix: str = ""
    origin_set: str = ""
    begins: datetime = _EVER


@dataclass(frozen=True, slots=True)
class Rates:
    """Which rates are asked for. version: None: the active one. at: in force then; None: whenever"""

    deck_id: UUID
    version: int | None = None
    prefix: str = ""
    destination: str | None = None
    at: datetime | None = None
    after: After = After()


@dataclass(frozen=True, slots=True)
class Found:
    """What prices calls to a number. in_force: None: no rate. matched: as `Deck.explain` has it"""

    in_force: InForce | None
    matched: Sequence[Mapping[str, str]]
    terms: Terms


async def deck(conn: Connection, deck_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.deck_pages.deck.one(conn, deck_id=deck_id)
    if row is None:
        raise NotFound("There is no such deck.")
    return row


async def decks(
    conn: Connection, before: UUID, rows: int, *, partner_id: UUID | None, side: str | None, name: str | None
) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    given = {"partner_id": partner_id, "side": side, "name": name}
    return list(await queries.deck_pages.decks.all(conn, before=before, rows=rows, **given))


async def add_deck(conn: Connection, name: str, side: str, currency: str, partner_id: UUID | None) -> Row:
    """raises   Invalid: no currency, or a name nobody can type · Conflict: the name is taken, or there are too many"""
    try:
        check_currency(currency)
        _check_name(name)
    except (ValueError, DeckError) as wrong:
        raise Invalid(str(wrong)) from None
    if partner_id and await queries.deck_pages.decks_had.value(conn, partner_id=partner_id) >= DECKS_MAX:
        raise Conflict(f"There are {DECKS_MAX} decks. No more are kept.")
    try:
        row: Row = await queries.deck_pages.add_deck.one(
            conn, name=name, side=side, currency=currency, partner_id=partner_id
        )
    except asyncpg.UniqueViolationError:
        raise Conflict(_TAKEN) from None
    return row


async def change_deck(
    conn: Connection, deck_id: UUID, edition: int, *, name: str | None, notice_days: int | None
) -> Row | None:
    """What is None stays. Returns None when the deck is of another edition by now. raises Invalid · Conflict"""
    if name is not None:
        try:
            _check_name(name)
        except ValueError as wrong:
            raise Invalid(str(wrong)) from None
    try:
        row: Row | None = await queries.deck_pages.change_deck.one(
            conn, deck_id=deck_id, edition=edition, name=name, notice_days=notice_days
        )
    except asyncpg.UniqueViolationError:
        raise Conflict(_TAKEN) from None
    return row


def _check_name(name: str) -> None:
    if plain_text(name) != name or name != name.strip():
        raise ValueError("A deck's name has no blanks around it, and does not begin like a formula.")


async def counts(conn: Connection, deck_id: UUID, at: datetime) -> Row:
    """in_force and to_come: rates"""
    row: Row = await queries.deck_pages.counts.one(conn, deck_id=deck_id, at=at)
    return row


async def bands(conn: Connection, deck_id: UUID) -> list[tuple[Band, UUID, str | None]]:
    """Each band with its deck and that deck's name; None: it is somebody else's."""
    rows = await queries.deck_pages.bands.all(conn, deck_id=deck_id)
    return [(_band(row), row["band_deck_id"], row["deck"]) for row in rows]


async def rates(conn: Connection, which: Rates, rows: int) -> Sequence[Row]:
    """A page of rates, in the order of their prefixes."""
    after = which.after
    given = {
        "deck_id": which.deck_id,
        "first": max(which.prefix, after.prefix),
        # No prefix is longer than 15 digits, and digits sort as numbers do in every collation.
        "last": which.prefix.ljust(16, "9"),
        "prefix": after.prefix,
        "origin_set": after.origin_set,
        "begins": after.begins,
        "destination": which.destination,
        "at": which.at,
        "rows": rows,
    }
    asked = queries.deck_pages
    if which.version is None:
        return list(await asked.rates.all(conn, **given))
    return list(await asked.rates_of_version.all(conn, version=which.version, **given))


def behind(row: Row) -> After:
    """Where the page behind this rate begins."""
    return After(row["prefix"], row["origin_set"], row["valid"].lower or _EVER)


async def all_rates(reading: Reading, which: Rates) -> AsyncIterator[Sequence[Row]]:
    """Every rate of one version, some at a time: whoever reads slowly keeps no connection from others."""
    while True:
        async with reading() as conn:
            found = await rates(conn, which, BATCH_ROWS)
        if found:
            yield found
        if len(found) < BATCH_ROWS:
            return
        which = replace(which, after=behind(found[-1]))


async def look_up(
    conn: Connection, deck_row: Row, digits: str, at: datetime, a_digits: str, as_ours: Callable[[], Awaitable[None]]
) -> Found:  # fmt: skip
    """What a call to a number would be priced by at this instant, in the active version.

    deck_row   of a deck that whoever asks may read
    a_digits   the caller's number; empty: unknown
    as_ours    from then on the connection sees the decks of its bands, whosesoever they are
    """
    asked, deck_id = queries.deck_pages, deck_row["deck_id"]
    prefixes = [digits[:size] for size in range(1, len(digits) + 1)]
    origins: tuple[str, ...] = ()
    if a_digits:
        own = [a_digits[:size] for size in range(1, len(a_digits) + 1)]
        sets = await asked.origins_of.all(conn, prefixes=own)
        origins = Origins({row["name"]: row["prefixes"] for row in sets}).of(a_digits)
    terms = Terms.from_json(json.loads(deck_row["terms"]))

    async def few(key: UUID) -> Deck:
        rows = await asked.rates_at.all(conn, deck_id=key, prefixes=prefixes, at=at)
        packing = Packing()
        packing.add((*row[:-1], _tiers(row[-1])) for row in map(tuple, rows))
        packed = Packed(packing)
        return Deck.of_packed(
            str(key), deck_row["name"], deck_row["currency"], deck_row["version"], packed, terms=terms
        )

    plain = await few(deck_id)
    laid = await asked.bands.all(conn, deck_id=deck_id)
    if laid:
        await as_ours()
    banded = (
        plain.with_bands([(_band(row), await few(row["band_deck_id"])) for row in laid]) if laid else plain
    )
    tariff = banded.tariff(digits, origins)
    matched = plain.explain(digits, origins)["matched"] if len(plain) else []
    return Found(tariff.at(at) if tariff else None, matched, terms)


async def versions(conn: Connection, deck_id: UUID, before: int, rows: int) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(await queries.deck_pages.versions.all(conn, deck_id=deck_id, before=before, rows=rows))


async def difference(
    conn: Connection, deck_id: UUID, old: int, new: int, after_prefix: str, rows: int
) -> tuple[Sequence[tuple[str, str, Sequence[Row], Sequence[Row]]], str | None]:
    """What differs between two versions: prefix, origin set, rates in the one and in the other.

    Returns a page of prefixes, of which some may have come back as they were, and the last of them when there are more.
    """
    asked = queries.deck_pages
    touched = await asked.touched.all(
        conn, deck_id=deck_id, prefix=after_prefix, older=min(old, new), newer=max(old, new), rows=rows + 1
    )
    prefixes = [row["prefix"] for row in touched[:rows]]
    sides: list[defaultdict[tuple[str, str], list[Row]]] = []
    for version in (old, new):
        side: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in await asked.rates_of_prefixes.all(
            conn, deck_id=deck_id, prefixes=prefixes, version=version
        ):
            side[row["prefix"], row["origin_set"]].append(row)
        sides.append(side)
    was, now = sides
    keys = sorted({*was, *now})
    found = [(*key, was[key], now[key]) for key in keys if _plain(was[key]) != _plain(now[key])]
    return found, prefixes[-1] if len(touched) > rows else None


def _plain(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Without the version they came in."""
    return [tuple(row)[:-1] for row in rows]


async def imports(conn: Connection, deck_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(await queries.deck_pages.imports.all(conn, deck_id=deck_id, before=before, rows=rows))


async def import_of_deck(conn: Connection, deck_id: UUID, import_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.deck_pages.import_of_deck.one(conn, deck_id=deck_id, import_id=import_id)
    if row is None:
        raise NotFound("There is no such import.")
    return row


async def import_by_key(conn: Connection, deck_id: UUID, owner_id: UUID, key: str) -> Row | None:
    """import_id and fingerprint of the import that was made with an idempotency key."""
    row: Row | None = await queries.deck_pages.import_by_key.one(
        conn, deck_id=deck_id, owner_id=owner_id, key=key
    )
    return row


async def import_errors(conn: Connection, import_id: UUID, after_no: int, rows: int) -> Sequence[Row]:
    return list(await queries.deck_pages.errors.all(conn, import_id=import_id, after=after_no, rows=rows))


async def import_changes(
    conn: Connection, import_id: UUID, prefix: str, origin_set: str, kind: str | None, rows: int
) -> Sequence[Row]:
    """Behind this prefix and origin set."""
    return list(
        await queries.deck_pages.changes.all(
            conn, import_id=import_id, prefix=prefix, origin_set=origin_set, kind=kind, rows=rows
        )
    )


async def be_patient(conn: Connection) -> None:
    """For the rest of the transaction statements may be long."""
    await queries.deck_pages.patience.run(conn)


def _tiers(kept: str | None) -> tuple[Tier, ...]:
    return tuple(Tier(*tier) for tier in json.loads(kept)) if kept else ()


def _band(row: Row) -> Band:
    return Band(row["name"], frozenset(row["days"]), row["from_minute"], row["to_minute"])
