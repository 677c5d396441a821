"""Exports: records of a time as one file, made when it is asked for. That it is done is told by an event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.download import DOCUMENTED, hand_out
from bridge.api.fields import Body, ExportId, Instant, PartnerId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import Invalid
from bridge.exports import extract
from bridge.exports.store import export as store
from bridge.partners import store as partners

router = routes("exports")
Reader = Annotated[Desk, Depends(Needs("exports:read"))]
Writer = Annotated[Desk, Depends(Needs("exports:write"))]

PERIOD_DAYS_MAX: Final = 400
Type = Literal["cdr", "quality", "correction"]


class NewExport(Body):
    """Which records. An operator without `partner_id` gets everybody's."""

    model_config = sample(
        type="cdr", since="2026-10-01T00:00:00Z", until="2026-10-02T00:00:00Z", format="csv"
    )

    type: Type = Field(
        description="cdr: what is paid for. quality: what was not answered. correction: re-ratings"
    )
    since: Instant = Field(description="Records that count from then on: `at` of a record; to the second")
    until: Instant = Field(
        description=f"And before then: not later than now, up to {PERIOD_DAYS_MAX} days after `since`"
    )
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    partner_id: PartnerId | None = Field(None, description="For operators")


class Totals(Told):
    """Sums over the rows, as the manifest has them."""

    rows: int
    duration_ms: int
    billed_s: int
    amount: dict[str, str] = Field(description="By currency", examples=[{"EUR": "12.34"}])
    first_answer_at: datetime | None
    last_answer_at: datetime | None


class Export(Told):
    """A file that is made. It is kept for seven days."""

    export_id: ExportId
    partner_id: PartnerId | None = Field(description="Whose records; null: everybody's")
    type: Type
    format: Literal["csv", "jsonl", "parquet"]
    since: datetime
    until: datetime
    state: Literal["queued", "running", "done", "failed"]
    problem: str | None = Field(description="Why it failed")
    name: str | None = Field(description="Of the file")
    rows: int | None
    bytes: int | None
    totals: Totals | None
    sha256: str | None
    url: str | None = Field(description="Where the file is, as long as it is kept")
    created_at: datetime
    done_at: datetime | None
    expires_at: datetime | None = Field(description="The file is removed then")


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    export_id = show_id("exp", row["export_id"])
    there = row["state"] == "done" and row["removed_at"] is None
    return {
        "export_id": export_id,
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "type": row["type"],
        "format": row["format"],
        "since": show_at(row["since_at"]),
        "until": show_at(row["until_at"]),
        "state": row["state"],
        "problem": row["problem"] or None,
        "name": row["name"],
        "rows": row["rows"],
        "bytes": row["bytes"],
        "totals": json.loads(row["totals"]) if row["totals"] else None,
        "sha256": row["sha256"].hex() if row["sha256"] else None,
        "url": f"/v1/exports/{export_id}/file" if there else None,
        "created_at": show_at(row["created_at"]),
        "done_at": show_at(row["done_at"]),
        "expires_at": show_at(row["expires_at"]),
    }


@router.get("", response_model=Page[Export], summary="Exports, newest first")
async def list_exports(desk: Reader, paging: Asked) -> Response:
    async with desk.reading() as conn:
        rows = await store.exports(conn, desk.principal.partner_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "export_id", show))


@router.post(
    "",
    status_code=202,
    response_model=Export,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Have records of a time made into a file",
)
async def create_export(desk: Writer, body: NewExport) -> Response:
    """It is done when the event `export.done` says so, or when reading it does. 409 while three are at work already.

    Numbered files, each record once, are at `/v1/cdr-files`; an export is for whoever wants to look at some again.
    """
    since, until = body.since.replace(microsecond=0), body.until.replace(microsecond=0)
    now = datetime.now(UTC)
    if not since < until <= since + timedelta(days=PERIOD_DAYS_MAX):
        raise Invalid(f"until should be after since, and at most {PERIOD_DAYS_MAX} days.")
    if until > now:
        raise Invalid("until should not lie ahead.")
    lag = timedelta(seconds=desk.services.settings.exports.lag_s)
    partner_id = desk.partner_of(body.partner_id)

    async def work(conn: Connection) -> Made:
        if partner_id is not None:
            await partners.partner(conn, partner_id)
        await desk.as_ours(conn)
        row = await store.add(
            conn,
            partner_id,
            kind=body.type,
            form=body.format,
            since=since,
            until=until,
            due_at=max(now, until + lag),
        )
        told = show(row)
        return Made(told["export_id"], told, partner_id, location=f"/v1/exports/{told['export_id']}")

    return await desk.create("export.create", body, work, status=202)


@router.get("/{export_id}", response_model=Export, responses=responses(404), summary="One export")
async def read_export(desk: Reader, export_id: ExportId) -> Response:
    async with desk.reading() as conn:
        row = await store.export(conn, export_id)
    return desk.shown(show(row))


@router.get(
    "/{export_id}/file",
    response_class=Response,
    responses=DOCUMENTED | responses(404, 409, 410),
    summary="The file of an export",
)
async def read_export_file(desk: Reader, export_id: ExportId) -> Response:
    """409 as long as it is not done. A download that broke off goes on with `Range: bytes=N-`."""
    async with desk.reading() as conn:
        row = await store.export(conn, export_id)
    if row["state"] != "done":
        raise Problem(
            409, f"This export is {row['state']}." + (" Read it to see why." if row["problem"] else "")
        )
    if row["removed_at"] is not None:
        raise Problem(410, f"The file was removed at {show_at(row['removed_at'])}. Ask for another export.")
    path = extract.home(desk.services.settings, export_id) / row["name"]
    return await hand_out(desk, path, row["sha256"], row["bytes"])
