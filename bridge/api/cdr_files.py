"""Numbered files of call records: without gaps, each record in one of them. They are fetched here, or delivered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Needs
from bridge.api.download import DOCUMENTED, JSON, hand_out
from bridge.api.exports import Totals, Type
from bridge.api.fields import FileId, PartnerId, RecipientId, Told, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.exports.file_name import manifest_name
from bridge.exports.store import handed_out as store
from bridge.exports.store.cdr_files import Planned

router = routes("cdr-files")
Reader = Annotated[Desk, Depends(Needs("exports:read"))]


class CdrFile(Told):
    """A file. What was written once never changes; corrections are files of their own."""

    file_id: FileId
    recipient_id: RecipientId
    recipient: str = Field(description="Its code, as in the name")
    partner_id: PartnerId | None
    type: Type
    file_no: int = Field(description="Counts up without gaps, for each recipient and type")
    after_record: int = Field(description="The file has the records after this one,")
    last_record: int = Field(description="up to and with this one")
    since: datetime
    until: datetime
    format: Literal["csv", "jsonl", "parquet", "tap3"]
    name: str
    state: Literal["planned", "written", "delivered"]
    rows: int | None
    bytes: int | None
    totals: Totals | None
    sha256: str | None
    url: str | None
    written_at: datetime | None
    delivered_at: datetime | None


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    file_id = show_id("file", row["file_id"])
    return {
        "file_id": file_id,
        "recipient_id": show_id("rcp", row["recipient_id"]),
        "recipient": row["code"],
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "type": row["type"],
        "file_no": row["file_no"],
        "after_record": row["first_no"],
        "last_record": row["last_no"],
        "since": show_at(row["from_at"]),
        "until": show_at(row["to_at"]),
        "format": row["format"],
        "name": row["name"],
        "state": row["state"],
        "rows": row["rows"],
        "bytes": row["bytes"],
        "totals": json.loads(row["totals"]) if row["totals"] else None,
        "sha256": row["sha256"].hex() if row["sha256"] else None,
        "url": None if row["state"] == "planned" else f"/v1/cdr-files/{file_id}/file",
        "written_at": show_at(row["written_at"]),
        "delivered_at": show_at(row["delivered_at"]),
    }


@router.get(
    "", response_model=Page[CdrFile], responses=responses(404), summary="Numbered files, newest first"
)
async def list_cdr_files(
    desk: Reader,
    paging: Asked,
    recipient_id: Annotated[RecipientId | None, Query(description="For whom they are")] = None,
    type: Annotated[Type | None, Query(description="What is in them")] = None,  # noqa: A002  as the field is called
) -> Response:
    async with desk.reading() as conn:
        if recipient_id is not None:
            await store.recipient(conn, recipient_id)
        rows = await store.files(
            conn, desk.principal.partner_id, paging.before, paging.rows, recipient_id=recipient_id, kind=type
        )
    return desk.shown(page(rows, paging, "file_id", show))


@router.get("/{file_id}", response_model=CdrFile, responses=responses(404), summary="One numbered file")
async def read_cdr_file(desk: Reader, file_id: FileId) -> Response:
    async with desk.reading() as conn:
        row = await store.file(conn, file_id)
    return desk.shown(show(row))


@router.get(
    "/{file_id}/file",
    response_class=Response,
    responses=DOCUMENTED | responses(404, 409, 410),
    summary="The file itself",
)
async def read_cdr_file_content(desk: Reader, file_id: FileId) -> Response:
    """A download that broke off goes on with `Range: bytes=N-`."""
    row, path = await _written(desk, file_id)
    return await hand_out(desk, path, row["sha256"], row["bytes"])


@router.get(
    "/{file_id}/manifest",
    response_class=Response,
    responses=responses(404, 409, 410)
    | {
        200: {
            "description": "Rows, sums by currency, SHA-256, and which file comes before",
            "content": {JSON: {"schema": {"type": "object"}}},
        }
    },
    summary="Its manifest",
)
async def read_cdr_file_manifest(desk: Reader, file_id: FileId) -> Response:
    _, path = await _written(desk, file_id)
    try:
        text = path.with_name(manifest_name(path.name)).read_bytes()
    except OSError:
        raise Problem(410, "The manifest is not here any more. Tell us: it can be written again.") from None
    return Response(text, media_type=JSON)


async def _written(desk: Desk, file_id: FileId) -> tuple[Mapping[str, Any], Path]:
    async with desk.reading() as conn:
        row = await store.file(conn, file_id)
    if row["state"] == "planned":
        raise Problem(409, "This file is not written yet.")
    return row, desk.services.settings.exports.folder / Planned(row).place
