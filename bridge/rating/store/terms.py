"""The terms and bands of decks in the database. They have no versions: each call keeps those it was made on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict
from bridge.rating.bands import Band
from bridge.rating.store.imports import head_of
from bridge.rating.terms import Terms
from bridge.rating.terms_file import TermsFile, band_json, terms_json
from bridge.telephony.money import format_micro

_SHOWN_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one part. done: created, changed, same, removed, or off sale."""

    part: str
    done: str
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        return {"part": self.part, "done": self.done, "detail": self.detail}


async def terms_of(conn: Connection, deck: str) -> dict[str, Any]:
    """A deck's terms and bands by the keys of their file; JSON-able. raises NotFound"""
    head = await head_of(conn, deck)
    return {
        "deck": head["name"],
        "side": head["side"],
        "currency": head["currency"],
        **terms_json(Terms.from_json(json.loads(head["terms"]))),
        "bands": [
            band_json(_band(row), row["deck"])
            for row in await queries.decks.bands_of.all(conn, deck_id=head["deck_id"])
        ],
    }


async def apply_terms(conn: Connection, deck: str, file: TermsFile) -> list[Done]:
    """Give a deck these terms and bands and no others, in one transaction.

    raises   NotFound: no such deck, or a band's deck · Conflict: a band's deck is of another side or currency
    """
    async with conn.transaction():
        placed = [(one.band, one.deck) for one in file.bands]
        return [await set_terms(conn, deck, file.terms), *await set_bands(conn, deck, placed)]


async def set_terms(conn: Connection, deck: str, terms: Terms) -> Done:
    head = await head_of(conn, deck)
    before, after = Terms.from_json(json.loads(head["terms"])), terms
    part = f"terms of {deck}"
    if before == after:
        return Done(part, "same")
    kept = json.dumps(after.to_json())
    await queries.decks.set_terms.run(conn, deck_id=head["deck_id"], terms=kept)
    return Done(part, "changed", difference(terms_json(before), terms_json(after)))


async def set_bands(conn: Connection, deck: str, bands: Sequence[tuple[Band, str]]) -> list[Done]:
    """Each band with the name of its deck; the first one in force wins. Says what became of each one."""
    head = await head_of(conn, deck)
    deck_id = head["deck_id"]
    await queries.decks.lock_head.run(conn, deck_id=deck_id)
    before = [(_band(row), row["deck"]) for row in await queries.decks.bands_of.all(conn, deck_id=deck_id)]
    if before != list(bands):
        await queries.decks.clear_bands.run(conn, deck_id=deck_id)
        for position, (band, band_deck) in enumerate(bands):
            of = await head_of(conn, band_deck)
            if (of["side"], of["currency"]) != (head["side"], head["currency"]) or of["deck_id"] == deck_id:
                raise Conflict(
                    f"band {band.name} is priced by deck {band_deck}. Name another {head['side']} deck in "
                    f"{head['currency']}"
                )
            await queries.decks.add_band.run(
                conn, deck_id=deck_id, position=position, name=band.name, days=sorted(band.days),
                from_minute=band.from_minute, to_minute=band.to_minute, band_deck_id=of["deck_id"],
                currency=head["currency"],
            )  # fmt: skip
    return _compared(before, bands)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is different, for people: money by its name in decimals, long values cut."""
    changed = (name for name, value in after.items() if before.get(name) != value)
    return ", ".join(
        f"{name.removesuffix('_micro')} {_told(name, before.get(name))} → {_told(name, after[name])}"
        for name in changed
    )


def _compared(before: Sequence[tuple[Band, str]], after: Sequence[tuple[Band, str]]) -> list[Done]:
    was = {band.name: (place, band, deck) for place, (band, deck) in enumerate(before)}
    told = []
    for place, (band, deck) in enumerate(after):
        old = was.pop(band.name, None)
        done = "created" if old is None else "same" if old == (place, band, deck) else "changed"
        told.append(Done(f"band {band.name}", done, "" if done == "same" else f"priced by {deck}"))
    return told + [Done(f"band {name}", "removed") for name in was]


def _band(row: Any) -> Band:
    return Band(row["name"], frozenset(row["days"]), row["from_minute"], row["to_minute"])


def _told(name: str, value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_micro"):
            return format_micro(value)
        case list() if len(value) > 3:
            return f"{len(value)} of them"
        case list() | tuple():
            return " ".join(map(str, value)) or "none"
        case dict():
            return " ".join(f"{key} {one}" for key, one in value.items())
    return str(value)[:_SHOWN_MAX]
