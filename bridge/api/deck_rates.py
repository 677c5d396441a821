"""What is in a rate deck: rates as pages or as a file, what prices a number, what differs between versions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from bridge.api.desk import Desk, Needs
from bridge.api.fields import DeckId, Instant, Told, show_at, show_id, show_money
from bridge.api.page import PAGE_MAX, Page
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.errors import NotFound
from bridge.rating.deck_cells import guarded
from bridge.rating.deck_columns import EXPORTED
from bridge.rating.store import deck_pages as store
from bridge.rating.store.versions import cells

router = routes("decks")
Reader = Annotated[Desk, Depends(Needs("decks:read"))]
VERSION_MAX: Final = 2**31 - 1
CSV: Final = "text/csv"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Version = Annotated[int | None, Query(ge=1, le=VERSION_MAX, description="The active one unless given")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Rows of a page")]
Digits = Annotated[str, Query(pattern="^[0-9]{1,15}$")]
Number = Annotated[str, Query(pattern=r"^\+?[1-9][0-9]{2,14}$", examples=["+493023125000"])]


class Tier(Told):
    """A later price within a call."""

    from_s: int
    rate: str
    interval_n: int


class Price(Told):
    """What a minute costs, and how it is measured. The names are those of a deck's file."""

    destination: str
    rate: str = Field(description="For a minute", examples=["0.09"])
    connection_fee: str
    interval_1: int = Field(description="The first increment, seconds")
    interval_n: int = Field(description="Each further one")
    minimum_s: int
    grace_s: int
    tiers: list[Tier]
    blocked: bool


class Rate(Price):
    """The price of a prefix for some time."""

    prefix: str
    origin_set: str = Field(description="For callers of this set only; empty: for all")
    effective_from: datetime | None
    effective_to: datetime | None


class DeckDifference(Told):
    """A prefix that is priced otherwise in another version."""

    prefix: str
    origin_set: str
    kind: Literal["new", "deleted", "changed"]
    before: list[Rate]
    after: list[Rate]


class Matched(Told):
    """A prefix that the number begins with, and why it counts or does not."""

    prefix: str
    origin_set: str
    why: str = Field(examples=["chosen", "shorter"])


class LookUp(Told):
    """What prices calls to a number."""

    number: str = Field(pattern=r"^\+[1-9][0-9]{2,14}$", examples=["+493023125000"])
    origin: str | None
    at: datetime
    deck_id: DeckId
    version: int
    currency: str
    blocked: bool = Field(description="Calls are not carried: the rate says so, or there is none")
    band: str | None = Field(description="The band in force")
    prefix: str | None
    origin_set: str | None
    price: Price | None
    matched: list[Matched]


def show_price(row: Mapping[str, Any]) -> dict[str, Any]:
    """A price from its columns; tiers as JSON text, a list, or None."""
    tiers = row["tiers"]
    return {
        "destination": row["destination"],
        "rate": show_money(row["rate_micro"]),
        "connection_fee": show_money(row["connect_fee_micro"]),
        "interval_1": row["initial_s"],
        "interval_n": row["next_s"],
        "minimum_s": row["minimum_s"],
        "grace_s": row["grace_s"],
        "tiers": [
            {"from_s": from_s, "rate": show_money(rate_micro), "interval_n": next_s}
            for from_s, rate_micro, next_s in (json.loads(tiers) if isinstance(tiers, str) else tiers or ())
        ],
        "blocked": row["blocked"],
    }


def _show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prefix": row["prefix"],
        "origin_set": row["origin_set"],
        **show_price(row),
        "effective_from": show_at(row["valid"].lower),
        "effective_to": show_at(row["valid"].upper),
    }


def _cursor(row: Mapping[str, Any]) -> str:
    after = store.behind(row)
    return f"{after.prefix}.{after.origin_set}.{(after.begins - _EPOCH) // timedelta(microseconds=1)}"


def _after(cursor: str | None) -> store.After:
    if cursor is None:
        return store.After()
    prefix, origin_set, begins = cursor.split(".")
    try:
        return store.After(prefix, origin_set, _EPOCH + timedelta(microseconds=int(begins)))
    except OverflowError:
        problem = {"pointer": "query/cursor", "detail": "is none that was told"}
        raise Problem(400, "Take the cursor from `next` of the page before.", errors=[problem]) from None


def wants_csv(accept: str) -> bool:
    """Whether somebody names CSV and not JSON."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return CSV in kinds and "application/json" not in kinds


def file_of(
    columns: Sequence[str], batches: AsyncIterator[Iterable[Mapping[str, Any]]], name: str
) -> Response:
    """A CSV file as it comes. No cell of it is taken for a formula by a spreadsheet."""

    async def pieces() -> AsyncIterator[str]:
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, columns, lineterminator="\r\n")
        writer.writeheader()
        async for batch in batches:
            writer.writerows({key: guarded(str(cell)) for key, cell in row.items()} for row in batch)
            yield out.getvalue()
            out.seek(0)
            out.truncate()
        yield out.getvalue()

    named = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
    return StreamingResponse(pieces(), media_type=CSV, headers=named)


_CSV_TOO: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}, "description": "`Accept: text/csv`: all as a file"}
}  # fmt: skip


@router.get(
    "/{deck_id}/rates",
    response_model=Page[Rate],
    responses=responses(404) | _CSV_TOO,
    summary="Rates in the order of their prefixes, or all of them as CSV",
)
async def list_deck_rates(
    desk: Reader,
    deck_id: DeckId,
    version: Version = None,
    prefix: Annotated[Digits | None, Query(description="Those that begin with it")] = None,
    destination: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    at: Annotated[Instant | None, Query(description="Those in force then; all unless given")] = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}\.[a-z0-9_]{0,31}\.-?[0-9]{1,17}$")] = None,
) -> Response:
    """A file keeps to the version that was active when it was asked for."""
    async with desk.reading() as conn:
        row = await store.deck(conn, deck_id)
        _check_version(row, version)
        which = store.Rates(deck_id, None if version == row["version"] else version, prefix or "", destination, at,
                            _after(cursor))  # fmt: skip
        if not wants_csv(desk.request.headers.get("accept", "")):
            rows = await store.rates(conn, which, limit + 1)
            found = {
                "data": [_show(one) for one in rows[:limit]],
                "next": _cursor(rows[limit - 1]) if len(rows) > limit else None,
            }
            response = desk.shown(found)
            response.headers["Vary"] = "Accept"
            return response
    kept = replace(which, version=version or row["version"])

    async def batches() -> AsyncIterator[Iterable[Mapping[str, Any]]]:
        async for some in store.all_rates(desk.reading, kept):
            yield [cells(one, row["currency"]) for one in some]

    return file_of(EXPORTED, batches(), f"{show_id('deck', deck_id)}.csv")


@router.get(
    "/{deck_id}/lookup",
    response_model=LookUp,
    responses=responses(404),
    summary="What a call to one number is priced by",
)
async def look_up_rate(
    desk: Reader,
    deck_id: DeckId,
    number: Number,
    at: Annotated[Instant | None, Query(description="Now unless given")] = None,
    origin: Annotated[Number | None, Query(description="The caller's number as received")] = None,
) -> Response:
    at = at or datetime.now(UTC)
    digits, a_digits = number.removeprefix("+"), (origin or "").removeprefix("+")
    async with desk.reading() as conn, conn.transaction():
        row = await store.deck(conn, deck_id)
        found = await store.look_up(conn, row, digits, at, a_digits, lambda: desk.as_ours(conn))
    rate = found.in_force.rate if found.in_force else None
    price = None
    if rate:
        tiers = [(tier.from_s, tier.rate_micro, tier.next_s) for tier in rate.tiers]
        price = show_price({name: getattr(rate, name) for name in rate.__slots__} | {"tiers": tiers})
    return desk.shown(
        {
            "number": f"+{digits}",
            "origin": f"+{a_digits}" if a_digits else None,
            "at": show_at(at),
            "deck_id": show_id("deck", deck_id),
            "version": row["version"],
            "currency": row["currency"],
            "blocked": rate is None or rate.blocked,
            "band": (found.in_force.band or None) if found.in_force else None,
            "prefix": rate.prefix if rate else None,
            "origin_set": rate.origin_set if rate else None,
            "price": price,
            "matched": found.matched,
        }
    )


@router.get(
    "/{deck_id}/diff",
    response_model=Page[DeckDifference],
    responses=responses(404),
    summary="What differs between two versions",
)
async def compare_deck_versions(
    desk: Reader,
    deck_id: DeckId,
    from_: Annotated[int, Query(alias="from", ge=1, le=VERSION_MAX)],
    to: Annotated[int, Query(ge=1, le=VERSION_MAX)],
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Prefixes looked at for a page")] = 20,
    cursor: Annotated[Digits | None, Query(description="`next` of the page before")] = None,
) -> Response:
    """In the order of prefixes. One that was changed and changed back is looked at and not told."""
    async with desk.reading() as conn:
        row = await store.deck(conn, deck_id)
        _check_version(row, from_)
        _check_version(row, to)
        found, more = await store.difference(conn, deck_id, from_, to, cursor or "", limit)
    told = [
        {
            "prefix": prefix,
            "origin_set": origin_set,
            "kind": "changed" if before and after else "new" if after else "deleted",
            "before": [_show(one) for one in before],
            "after": [_show(one) for one in after],
        }
        for prefix, origin_set, before, after in found
    ]
    return desk.shown({"data": told, "next": more})


def _check_version(row: Mapping[str, Any], version: int | None) -> None:
    if version is not None and version > row["version"]:
        raise NotFound(f"The deck is version {row['version']}: it has no version {version}.")
