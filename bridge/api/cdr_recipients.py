"""Who gets numbered files of call records, which, how often and where to. Operators say so; a partner reads its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.exports import Type
from bridge.api.fields import Body, Instant, PartnerId, RecipientId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import Invalid
from bridge.exports.spans import Every
from bridge.exports.store import handed_out as store
from bridge.exports.store.cdr_files import add_recipient
from bridge.exports.target import Directory, read_target
from bridge.partners import store as partners

router = routes("cdr-recipients")
Reader = Annotated[Desk, Depends(Needs("exports:read"))]
Operator = Annotated[Desk, Depends(Needs("exports:write", operator=True))]

Format = Literal["csv", "jsonl", "parquet", "tap3"]
Period = Literal["hourly", "daily", "monthly", "manual"]


class Target(Body):
    """Where files go.

    `api`: they are fetched from `/v1/cdr-files`. `sftp`: host, port, user, folder and host_key, which is the server's
    public key.
    `directory`: path, below the folder of exports; others are set at the command line.
    """

    kind: Literal["api", "sftp", "directory"]
    host: str | None = Field(None, max_length=253, examples=["sftp.example.com"])
    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = Field(None, max_length=64)
    folder: str | None = Field(None, max_length=500)
    host_key: str | None = Field(None, max_length=4000, examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"])
    path: str | None = Field(None, max_length=500)


Types = Annotated[list[Type], Field(min_length=1, max_length=3)]
Zone = Annotated[str, Field(min_length=1, max_length=60, examples=["Europe/Berlin"])]


class NewCdrRecipient(Body):
    """A recipient to be. Its first files begin at `since`."""

    model_config = sample(code="eplus", types=["cdr", "quality", "correction"], target={"kind": "api"})

    code: str = Field(pattern=r"^[A-Za-z0-9-]{1,20}$", description="In the names of its files; for good")
    partner_id: PartnerId | None = Field(
        None, description="Whose records it gets; null: everybody's, for the house"
    )
    types: Types = Field(["cdr"])
    format: Format = "csv"
    period: Period = "daily"
    time_zone: Zone | None = Field(None, description="In which its periods begin; ours when missing")
    target: Target
    since: Instant | None = Field(None, description="Now when missing")


class CdrRecipientChange(Body):
    """What may change, from the next file on."""

    model_config = sample(period="hourly")

    types: Types | None = None
    format: Format | None = None
    period: Period | None = None
    time_zone: Zone | None = None
    target: Target | None = None
    enabled: bool | None = None


class CdrRecipient(Told):
    """A recipient. Its files: `/v1/cdr-files?recipient_id=…`."""

    recipient_id: RecipientId
    code: str
    partner_id: PartnerId | None
    types: list[Type]
    format: Format
    period: Period
    time_zone: str
    target: Target | None = Field(description="For operators; null for partners")
    since: datetime
    enabled: bool
    created_at: datetime


def show(row: Mapping[str, Any], target: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "recipient_id": show_id("rcp", row["recipient_id"]),
        "code": row["code"],
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "types": row["types"],
        "format": row["format"],
        "period": row["period"],
        "time_zone": row["time_zone"],
        "target": None if target is None else {name: target.get(name) for name in Target.model_fields},
        "since": show_at(row["since_at"]),
        "enabled": row["enabled"],
        "created_at": show_at(row["created_at"]),
    }


def _given(desk: Desk, target: Target | None) -> dict[str, Any] | None:
    """As it is kept.

    raises   Invalid: no target, or a folder that is to be named at the machine itself
    """
    if target is None:
        return None
    given = target.model_dump(exclude_none=True)
    where, ours = read_target(given), desk.services.settings.exports.folder
    if isinstance(where, Directory) and ours not in Path(where.path).parents:
        raise Invalid(
            f"target.path should lie below {ours}. Other folders are set at the command line: `callbridge export`."
        )
    return given


async def _made(conn: Connection, row: Mapping[str, Any]) -> Made:
    told = show(row, await store.target(conn, row["recipient_id"]))
    location = f"/v1/cdr-recipients/{told['recipient_id']}"
    return Made(told["recipient_id"], told, row["partner_id"], row["edition"], location)


@router.get("", response_model=Page[CdrRecipient], summary="Recipients of numbered files, newest first")
async def list_cdr_recipients(desk: Reader, paging: Asked) -> Response:
    """Without where their files go; reading one tells operators that."""
    async with desk.reading() as conn:
        rows = await store.recipients(conn, desk.principal.partner_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "recipient_id", show))


@router.post(
    "",
    status_code=201,
    response_model=CdrRecipient,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Have numbered files made for somebody",
)
async def create_cdr_recipient(desk: Operator, body: NewCdrRecipient) -> Response:
    target = _given(desk, body.target)
    assert target is not None

    async def work(conn: Connection) -> Made:
        if body.partner_id is not None:
            await partners.partner(conn, body.partner_id)
        recipient_id = await add_recipient(
            conn,
            body.code,
            body.partner_id,
            types=body.types,
            form=body.format,
            every=Every(body.period),
            zone=body.time_zone or desk.services.settings.company.time_zone,
            target=target,
            since_at=body.since or datetime.now(UTC),
        )
        return await _made(conn, await store.recipient(conn, recipient_id))

    return await desk.create("cdr_recipient.create", body, work)


@router.get("/{recipient_id}", response_model=CdrRecipient, responses=responses(404), summary="One recipient")
async def read_cdr_recipient(desk: Reader, recipient_id: RecipientId) -> Response:
    async with desk.reading() as conn:
        row = await store.recipient(conn, recipient_id)
        target = await store.target(conn, recipient_id) if desk.principal.operator else None
    return desk.shown(show(row, target), row["edition"])


@router.patch(
    "/{recipient_id}",
    response_model=CdrRecipient,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a recipient",
)
async def change_cdr_recipient(
    desk: Operator, recipient_id: RecipientId, body: CdrRecipientChange
) -> Response:
    given = body.model_dump(exclude_none=True) | {"target": _given(desk, body.target)}

    async def work(conn: Connection, edition: int) -> Made:
        row = await store.change_recipient(conn, recipient_id, edition, given)
        if row is None:
            raise stale()
        return await _made(conn, row)

    return await desk.change("cdr_recipient.change", body, work)
