"""Rate decks: dated price lists, what a carrier charges (buy) or what subscribers pay (sell)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field

from bridge.api import deck_imports, deck_rates, deck_upload
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    Body,
    CurrencyCode,
    DeckId,
    ImportId,
    Name,
    PartnerId,
    Told,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.store import deck_pages as store
from bridge.rating.store.versions import rollback
from bridge.rating.terms import Terms
from bridge.rating.terms_file import band_json, terms_json

router = APIRouter()
_own = routes("decks")
Reader = Annotated[Desk, Depends(Needs("decks:read"))]
Writer = Annotated[Desk, Depends(Needs("decks:write"))]
Side = Literal["buy", "sell"]
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]
VERSION_MAX = 2**31 - 1


class NewDeck(Body):
    """An empty deck. A partner's own buy deck is what that carrier charges us."""

    model_config = sample(name="Termination 2027", side="buy", currency="EUR")

    name: Name = Field(examples=["Termination 2027"])
    side: Side
    currency: CurrencyCode
    partner_id: PartnerId | None = Field(None, description="Whose it is. A partner makes its own")


class DeckChange(Body):
    """What may change. `notice_days` is for operators."""

    model_config = sample(name="Termination 2027/28")

    name: Name | None = None
    notice_days: int | None = Field(
        None, ge=0, le=365, description="How long ahead a carrier announces what gets dearer"
    )


class Deck(Told):
    """A rate deck."""

    deck_id: DeckId
    name: str
    side: Side
    currency: CurrencyCode
    version: int = Field(description="The active one")
    partner_id: PartnerId | None
    notice_days: int
    created_at: datetime
    changed_at: datetime


class Band(Told):
    """Other prices for a part of the week. The first band in force wins."""

    name: str
    days: list[str] = Field(examples=[["mon", "tue"]])
    from_: str = Field(alias="from", examples=["18:00"])
    to: str
    deck_id: DeckId
    deck: str | None = Field(description="Its name; null where the deck is not yours")


class DeckCounts(Told):
    """Rates of the active version."""

    in_force: int
    to_come: int


class DeckRead(Deck):
    """A deck with how much is in it, its terms and bands."""

    rates: DeckCounts
    terms: dict[str, Any] = Field(description="Clock, rounding, tax, holidays")
    bands: list[Band]


class DeckVersion(Told):
    """What a version of a deck came from."""

    deck_id: DeckId
    version: int
    origin: Literal["new", "import", "rollback"]
    import_id: ImportId | None
    to_version: int | None = Field(description="Whose content a rollback brought back")
    author: str
    added: int = Field(description="Rates, not prefixes")
    removed: int
    made_at: datetime


class Rollback(Body):
    """Which version's content to bring back."""

    model_config = sample(to_version=1)

    to_version: int = Field(ge=1, le=VERSION_MAX)


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "deck_id": show_id("deck", row["deck_id"]),
        "name": row["name"],
        "side": row["side"],
        "currency": row["currency"],
        "version": row["version"],
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "notice_days": row["notice_days"],
        "created_at": show_at(row["created_at"]),
        "changed_at": show_at(row["changed_at"]),
    }


def _show_version(deck_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "deck_id": deck_id,
        "version": row["version"],
        "origin": row["origin"],
        "import_id": show_id("imp", row["import_id"]) if row["import_id"] else None,
        "to_version": row["to_version"],
        "author": row["author"],
        "added": row["added"],
        "removed": row["removed"],
        "made_at": show_at(row["made_at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    return Made(told["deck_id"], told, row["partner_id"], row["edition"], f"/v1/decks/{told['deck_id']}")


@_own.get("", response_model=Page[Deck], responses=responses(404), summary="Decks, newest first")
async def list_decks(
    desk: Reader,
    paging: Asked,
    side: Side | None = None,
    name: Annotated[str | None, Query(min_length=1, max_length=80)] = None,
    partner_id: PartnerId | None = None,
) -> Response:
    whose = desk.partner_of(partner_id)
    async with desk.reading() as conn:
        rows = await store.decks(conn, paging.before, paging.rows, partner_id=whose, side=side, name=name)
    return desk.shown(page(rows, paging, "deck_id", show))


@_own.post(
    "",
    status_code=201,
    response_model=Deck,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make an empty deck",
)
async def create_deck(desk: Writer, body: NewDeck) -> Response:
    partner_id = desk.partner_of(body.partner_id)

    async def work(conn: Connection) -> Made:
        await desk.as_ours(conn)
        return _made(await store.add_deck(conn, body.name, body.side, body.currency, partner_id))

    return await desk.create("deck.create", body, work)


@_own.get("/{deck_id}", response_model=DeckRead, responses=responses(404), summary="One deck")
async def read_deck(desk: Reader, deck_id: DeckId) -> Response:
    async with desk.reading() as conn:
        row = await store.deck(conn, deck_id)
        counts = await store.counts(conn, deck_id, datetime.now(UTC))
        bands = await store.bands(conn, deck_id)
    told = show(row) | {
        "rates": dict(counts),
        "terms": terms_json(Terms.from_json(json.loads(row["terms"]))),
        "bands": [
            band_json(band, "") | {"deck_id": show_id("deck", key), "deck": name} for band, key, name in bands
        ],
    }
    # No 304 by the edition: versions, terms and the hour change what is told, and it does not.
    response = desk.shown(told)
    response.headers["ETag"] = f'"{row["edition"]}"'
    return response


@_own.patch(
    "/{deck_id}", response_model=Deck, responses=responses(*BY_METHOD["PATCH"]), summary="Change a deck"
)
async def change_deck(desk: Writer, deck_id: DeckId, body: DeckChange) -> Response:
    if body.notice_days is not None and not desk.principal.operator:
        raise Problem(403, "How much notice a carrier gives is for operators to say.")

    async def work(conn: Connection, edition: int) -> Made:
        await store.deck(conn, deck_id)
        await desk.as_ours(conn)
        row = await store.change_deck(conn, deck_id, edition, name=body.name, notice_days=body.notice_days)
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("deck.change", body, work)


@_own.get(
    "/{deck_id}/versions",
    response_model=Page[DeckVersion],
    responses=responses(404),
    summary="What became of a deck, newest first",
)
async def list_deck_versions(
    desk: Reader,
    deck_id: DeckId,
    limit: Annotated[int, Query(ge=1, le=100, description="Rows of a page")] = 20,
    cursor: Annotated[
        int, Query(ge=1, le=VERSION_MAX, description="`next` of the page before")
    ] = VERSION_MAX,
) -> Response:
    async with desk.reading() as conn:
        await store.deck(conn, deck_id)
        rows = await store.versions(conn, deck_id, cursor, limit + 1)
    told = [_show_version(show_id("deck", deck_id), row) for row in rows[:limit]]
    return desk.shown({"data": told, "next": str(told[-1]["version"]) if len(rows) > limit else None})


@_own.get(
    "/{deck_id}/versions/{version}",
    response_model=DeckVersion,
    responses=responses(404),
    summary="One version",
)
async def read_deck_version(desk: Reader, deck_id: DeckId, version: Version) -> Response:
    async with desk.reading() as conn:
        await store.deck(conn, deck_id)
        rows = await store.versions(conn, deck_id, min(version + 1, VERSION_MAX), 1)
    if not rows or rows[0]["version"] != version:
        raise NotFound("The deck has no such version.")
    return desk.shown(_show_version(show_id("deck", deck_id), rows[0]))


@_own.post(
    "/{deck_id}/rollback",
    status_code=201,
    response_model=DeckVersion,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Bring an older version's content back, as the next version",
)
async def roll_back_deck(desk: Writer, deck_id: DeckId, body: Rollback) -> Response:
    """A carrier's own buy deck is brought back by operators only: older prices may be higher, and need their notice."""

    async def work(conn: Connection) -> Made:
        row = await store.deck(conn, deck_id)
        if row["side"] == "buy" and not desk.principal.operator:
            raise Problem(403, "Upload the older prices: what gets dearer needs notice.")
        await desk.as_ours(conn)
        await store.be_patient(conn)
        version = await rollback(conn, str(deck_id), desk.principal.actor, body.to_version)
        told = _show_version(
            show_id("deck", deck_id), (await store.versions(conn, deck_id, version + 1, 1))[0]
        )
        where = f"/v1/decks/{told['deck_id']}/versions/{version}"
        return Made(told["deck_id"], told, row["partner_id"], location=where)

    with desk.services.applying.take("Another deck"):
        return await desk.create("deck.rollback", body, work, at_length=True)


router.include_router(_own)
router.include_router(deck_rates.router)
router.include_router(deck_imports.router)
router.include_router(deck_upload.router)
