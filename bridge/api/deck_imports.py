"""Files for rate decks that were staged: looked at, and applied. How they come: `deck_upload`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.deck_rates import Price, file_of, show_price
from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import DeckId, ImportId, Told, show_at, show_id
from bridge.api.page import PAGE_MAX, Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import Conflict
from bridge.rating.store import deck_pages as store
from bridge.rating.store.imports import apply

router = routes("decks")
Reader = Annotated[Desk, Depends(Needs("decks:read"))]
Writer = Annotated[Desk, Depends(Needs("decks:write"))]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Rows of a page")]
Kind = Literal["increase", "blocked", "deleted", "decrease", "changed", "new"]

CSV: Final = "text/csv"
_REPORT: Final = ("row", "column", "problem")


class DeckImport(Told):
    """A file that was read against a version of a deck."""

    import_id: ImportId
    deck_id: DeckId
    state: Literal["staged", "refused", "same", "applied"] = Field(
        description="refused: it has errors. same: it changes nothing"
    )
    mode: Literal["add", "replace"]
    dry_run: bool = Field(description="It cannot be applied")
    base_version: int
    version: int | None = Field(description="What it was applied as")
    file_name: str
    file_sha256: str
    effective_at: datetime = Field(description="From when rows hold that do not say")
    rises_at: datetime | None = Field(
        description="A carrier's own import: when it first makes something dearer"
    )
    author: str
    staged_at: datetime
    adds: int = Field(description="Rates, not prefixes")
    removes: int
    summary: dict[str, int] = Field(
        description="`rows` of the file, `prefixes` it stands for, and how many of these are `same` or of each kind of"
        " change; `backdated`: that change earlier than now; `errors`",
        examples=[{"rows": 2, "prefixes": 2, "same": 1, "increase": 1, "backdated": 0}],
    )


class DeckImportError(Told):
    """One thing that is wrong with the file."""

    row: int = Field(description="As a spreadsheet counts: 1 is the header; 0: the file as a whole")
    column: str
    problem: str


class DeckChangeTold(Told):
    """What happens to a prefix."""

    kind: Kind
    prefix: str
    origin_set: str
    destination: str
    since: datetime
    row: int | None = Field(description="Of the file; null: it is not in it")
    before: Price | None
    after: Price | None


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "import_id": show_id("imp", row["import_id"]),
        "deck_id": show_id("deck", row["deck_id"]),
        "state": row["state"],
        "mode": row["mode"],
        "dry_run": row["dry_run"],
        "base_version": row["base_version"],
        "version": row["version"],
        "file_name": row["file_name"],
        "file_sha256": row["file_sha256"].hex(),
        "effective_at": show_at(row["effective_at"]),
        "rises_at": show_at(row["rises_at"]),
        "author": row["author"],
        "staged_at": show_at(row["staged_at"]),
        "adds": row["adds"],
        "removes": row["removes"],
        "summary": json.loads(row["summary"]),
    }


def path(row: Mapping[str, Any]) -> str:
    return f"/v1/decks/{show_id('deck', row['deck_id'])}/imports/{show_id('imp', row['import_id'])}"


@router.get(
    "/{deck_id}/imports",
    response_model=Page[DeckImport],
    responses=responses(404),
    summary="Imports, newest first",
)
async def list_deck_imports(desk: Reader, deck_id: DeckId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.deck(conn, deck_id)
        rows = await store.imports(conn, deck_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "import_id", show))


@router.get(
    "/{deck_id}/imports/{import_id}",
    response_model=DeckImport,
    responses=responses(404),
    summary="One import",
)
async def read_deck_import(desk: Reader, deck_id: DeckId, import_id: ImportId) -> Response:
    async with desk.reading() as conn:
        row = await store.import_of_deck(conn, deck_id, import_id)
    return desk.shown(show(row))


@router.get(
    "/{deck_id}/imports/{import_id}/errors",
    response_model=Page[DeckImportError],
    responses=responses(404),
    summary="What is wrong with the file, by row and column",
)
async def list_import_errors(
    desk: Reader,
    deck_id: DeckId,
    import_id: ImportId,
    limit: Limit = 20,
    cursor: Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the page before")] = 0,
) -> Response:
    """The first 10 000 are kept; `summary.errors` of the import counts all."""
    async with desk.reading() as conn:
        await store.import_of_deck(conn, deck_id, import_id)
        rows = await store.import_errors(conn, import_id, cursor, limit + 1)
    more = str(rows[limit - 1]["error_no"]) if len(rows) > limit else None
    return desk.shown({"data": [_show_error(row) for row in rows[:limit]], "next": more})


@router.get(
    "/{deck_id}/imports/{import_id}/report",
    response_class=Response,
    responses=responses(404)
    | {200: {"content": {CSV: {"schema": {"type": "string"}}}, "description": "The errors as a file"}},
    summary="What is wrong with the file, as CSV",
)
async def read_import_report(desk: Reader, deck_id: DeckId, import_id: ImportId) -> Response:
    async with desk.reading() as conn:
        await store.import_of_deck(conn, deck_id, import_id)

    async def batches() -> AsyncIterator[Iterable[Mapping[str, Any]]]:
        after = 0
        while True:
            async with desk.reading() as conn:
                rows = await store.import_errors(conn, import_id, after, store.BATCH_ROWS)
            yield [_show_error(row) for row in rows]
            if len(rows) < store.BATCH_ROWS:
                return
            after = rows[-1]["error_no"]

    return file_of(_REPORT, batches(), f"{show_id('imp', import_id)}.csv")


@router.get(
    "/{deck_id}/imports/{import_id}/changes",
    response_model=Page[DeckChangeTold],
    responses=responses(404),
    summary="What a staged file would change",
)
async def list_import_changes(
    desk: Reader,
    deck_id: DeckId,
    import_id: ImportId,
    kind: Kind | None = None,
    limit: Limit = 20,
    cursor: Annotated[str, Query(pattern=r"^([0-9]{1,15}\.[a-z0-9_]{0,31})?$")] = "",
) -> Response:
    """In the order of prefixes. Told until the import is applied or cannot be any more: then `/diff` has it."""
    prefix, _, origin_set = cursor.partition(".")
    async with desk.reading() as conn:
        await store.import_of_deck(conn, deck_id, import_id)
        rows = await store.import_changes(conn, import_id, prefix, origin_set, kind, limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    more = f"{last['prefix']}.{last['origin_set']}" if last else None
    return desk.shown({"data": [_show_change(row) for row in rows[:limit]], "next": more})


@router.post(
    "/{deck_id}/imports/{import_id}/apply",
    response_model=DeckImport,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a staged file the deck's next version",
)
async def apply_deck_import(desk: Writer, deck_id: DeckId, import_id: ImportId) -> Response:
    """409 when the deck has changed since the file was staged, or when what gets dearer is too near by now."""

    async def work(conn: Connection) -> Made:
        row = await store.deck(conn, deck_id)
        one = await store.import_of_deck(conn, deck_id, import_id)
        if not desk.principal.operator and row["side"] == "buy":
            _check_notice(one, row["notice_days"])
        await desk.as_ours(conn)
        await store.be_patient(conn)
        await apply(conn, import_id)
        told = show(await store.import_of_deck(conn, deck_id, import_id))
        return Made(told["import_id"], told, row["partner_id"])

    with desk.services.applying.take("Another deck"):
        return await desk.create("deck.apply", None, work, status=200, at_length=True)


def _check_notice(one: Mapping[str, Any], notice_days: int) -> None:
    if one["state"] != "staged" or one["rises_at"] is None:
        return
    earliest = datetime.now(UTC) + timedelta(days=notice_days)
    if one["rises_at"] < earliest:
        raise Conflict(
            f"It makes something dearer at {show_at(one['rises_at'])}; by now that takes until {show_at(earliest)}. "
            "Stage the file again with later times."
        )


def _show_error(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"row": row["row_no"], "column": row["column_name"], "problem": row["problem"]}


def _show_change(row: Mapping[str, Any]) -> dict[str, Any]:
    before = json.loads(row["before"]) if row["before"] else None
    return {
        "kind": row["kind"],
        "prefix": row["prefix"],
        "origin_set": row["origin_set"],
        "destination": row["destination"],
        "since": show_at(row["since"]),
        "row": row["row_no"],
        "before": show_price(before) if before else None,
        "after": None if row["kind"] == "deleted" else show_price(row),
    }
