"""What became of a deck: its versions, what an import changes, the way back, and the deck as a file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, DeckError, NotFound
from bridge.rating.deck_cells import guarded
from bridge.rating.deck_columns import EXPORTED
from bridge.rating.rate import Tier
from bridge.rating.store.imports import SHOWN_MAX, head_of, import_of
from bridge.telephony.money import format_micro

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)
_PREFIX: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


async def preview(
    conn: Connection,
    import_id: UUID,
    most: int | None = SHOWN_MAX,
    errors_most: int | None = SHOWN_MAX,
) -> dict[str, Any]:
    """An import with what it would change, or what is wrong with it. JSON-able.

    most    changes told at most; None: all
    raises  NotFound
    """
    one = await import_of(conn, import_id)
    changes = await queries.decks.changes.all(conn, import_id=import_id, most=most)
    errors = await queries.decks.errors.all(conn, import_id=import_id, most=errors_most)
    before = await queries.decks.applied_before.one(
        conn, deck_id=one["deck_id"], file_sha256=one["file_sha256"]
    )
    return {
        "import_id": str(import_id),
        "deck": one["deck"],
        "currency": one["currency"],
        "state": one["state"],
        "mode": one["mode"],
        "version": one["version"],
        "base_version": one["base_version"],
        "deck_version": one["deck_version"],
        "file_name": one["file_name"],
        "file_sha256": one["file_sha256"].hex(),
        "applied_before_as": before["version"] if before else None,
        "author": one["author"],
        "staged_at": one["staged_at"].isoformat(),
        "effective_at": one["effective_at"].isoformat(),
        "summary": json.loads(one["summary"]),
        "changes": [_change(row) for row in changes],
        "errors": [
            {"row": row["row_no"], "column": row["column_name"], "problem": row["problem"]} for row in errors
        ],
    }


async def rollback(conn: Connection, deck: str, author: str, to_version: int | None = None) -> int:
    """Give a deck the content of an older version again, as its next version. Returns that version's number.

    to_version  the one before the active one unless given
    raises      NotFound: no such deck or version · Conflict: somebody changed the deck meanwhile
    """
    async with conn.transaction():
        head = await head_of(conn, deck)
        deck_id, now = head["deck_id"], head["version"]
        to_version = now - 1 if to_version is None else to_version
        if not 0 < to_version < now:
            raise NotFound(f"deck {deck} is version {now}: it has no version {to_version} to go back to")
        version = await queries.decks.next_version.value(conn, deck_id=deck_id, version=now)
        if version is None:
            raise Conflict(f"deck {deck} has just been changed. Look at its history and try again")
        which = {"deck_id": deck_id, "version": version, "to_version": to_version}
        removed = await queries.decks.remove_since.value(conn, **which)
        added = await queries.decks.bring_back.value(conn, **which)
        await queries.decks.add_version.run(
            conn, **which, origin="rollback", import_id=None, author=author, added=added, removed=removed
        )
    return int(version)


async def history(conn: Connection, deck: str) -> dict[str, Any]:
    """The versions of a deck, newest first, and the imports that became none. JSON-able. raises NotFound"""
    head = await head_of(conn, deck)
    versions = await queries.decks.versions.all(conn, deck_id=head["deck_id"])
    waiting = await queries.decks.imports_open.all(conn, deck_id=head["deck_id"])
    return {
        "deck": head["name"],
        "version": head["version"],
        "versions": [
            _plain(row) | {"summary": json.loads(row["summary"]) if row["summary"] else None}
            for row in versions
        ],
        "imports": [_plain(row) for row in waiting],
    }


async def decks(conn: Connection, at: datetime) -> list[dict[str, Any]]:
    """Every deck, with how many rates are in force. JSON-able."""
    return [
        _plain(row) | {"terms": json.loads(row["terms"])}
        for row in await queries.decks.all_decks.all(conn, at=at)
    ]


async def show(conn: Connection, deck: str, at: datetime, most: int | None = SHOWN_MAX) -> dict[str, Any]:
    """A deck's head and its rates in force or to come. JSON-able. raises NotFound"""
    head = await head_of(conn, deck)
    rows = await queries.decks.current_rates.all(conn, deck_id=head["deck_id"], at=at, most=most)
    return _plain(head) | {
        "terms": json.loads(head["terms"]),
        "rates": [cells(row, head["currency"]) for row in rows],
    }


async def export(conn: Connection, deck: str, at: datetime) -> AsyncIterator[str]:
    """The rates in force or to come as a CSV file, in pieces. Imported to replace, it changes nothing.

    No text in it is taken for a formula by a spreadsheet. raises NotFound
    """
    head = await head_of(conn, deck)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, EXPORTED, lineterminator="\r\n")
    writer.writeheader()
    async with conn.transaction():
        query = queries.decks.current_rates
        async for row in query.stream(conn, deck_id=head["deck_id"], at=at, most=None):
            found = cells(row, head["currency"])
            writer.writerow(found | {"destination": guarded(found["destination"])})
            if out.tell() > io.DEFAULT_BUFFER_SIZE:
                yield out.getvalue()
                out.seek(0)
                out.truncate()
    yield out.getvalue()


async def set_origin_set(conn: Connection, name: str, prefixes: list[str]) -> None:
    """Make an origin set of exactly these prefixes, or change it to them.

    raises  DeckError: not a name, nothing given, or not a prefix
    """
    if _NAME.fullmatch(name) is None:
        problem = (
            f"{name!r:.40} is no name of an origin set. Write a small letter, then letters, digits and _"
        )
        raise DeckError(problem, column="name")
    for prefix in prefixes or [""]:
        if _PREFIX.fullmatch(prefix) is None:
            raise DeckError(f"{prefix!r:.40} is not a prefix. Write 1 to 15 digits", column="prefix")
    await queries.decks.set_origin_set.run(conn, name=name, prefixes=prefixes)


def _change(row: Any) -> dict[str, Any]:
    before = json.loads(row["before"]) if row["before"] else None
    deleted = row["kind"] == "deleted"
    return {
        "kind": row["kind"],
        "prefix": row["prefix"],
        "origin_set": row["origin_set"],
        "destination": row["destination"],
        "since": row["since"].isoformat(),
        "row": row["row_no"],
        "before": _price(before) if before else None,
        "after": None if deleted else _price({**row, "tiers": json.loads(row["tiers"] or "null")}),
    }


def _price(row: Any) -> dict[str, Any]:
    return {
        "rate": format_micro(row["rate_micro"]),
        "connection_fee": format_micro(row["connect_fee_micro"]),
        "increment": f"{row['initial_s']}/{row['next_s']}",
        "minimum_s": row["minimum_s"],
        "grace_s": row["grace_s"],
        "tiers": tiers_text(row["tiers"]),
        "blocked": row["blocked"],
        "destination": row["destination"],
    }


def cells(row: Any, currency: str) -> dict[str, Any]:
    """A rate as a row of a file, by column."""
    tiers = json.loads(row["tiers"] or "null")
    valid = row["valid"]
    return {
        "prefix": row["prefix"],
        "destination": row["destination"],
        "rate": format_micro(row["rate_micro"]),
        "currency": currency,
        "effective_from": _utc(valid.lower),
        "effective_to": _utc(valid.upper),
        "interval_1": row["initial_s"],
        "interval_n": row["next_s"],
        "connection_fee": format_micro(row["connect_fee_micro"]),
        "minimum_s": row["minimum_s"],
        "grace_s": row["grace_s"],
        "origin_set": row["origin_set"],
        "tiers": tiers_text(tiers),
        "blocked": "yes" if row["blocked"] else "",
    }


def tiers_text(tiers: Any) -> str:
    """Tiers as a cell has them.

    >>> tiers_text([[180, 50_000, 60]])
    '180:0.05/60'
    """
    found = (Tier(*tier) for tier in tiers or ())
    return ";".join(f"{tier.from_s}:{format_micro(tier.rate_micro)}/{tier.next_s}" for tier in found)


def _utc(instant: datetime | None) -> str:
    return "" if instant is None else instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(row: Any) -> dict[str, Any]:
    """A row with its keys and instants as JSON has them."""
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, UUID)
        else value
        for name, value in row.items()
    }
