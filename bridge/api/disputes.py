"""Disputes: opened and argued about by both sides, decided by operators, because we keep the books."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Query, Response

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.dispute_fields import (
    Attached,
    Dispute,
    DisputeChange,
    Evidence,
    NewDispute,
    NewNote,
    Note,
    State,
    show,
    show_evidence,
    show_note,
)
from bridge.api.fields import DisputeId, EvidenceId, Name, PartnerId, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import dispute as rules
from bridge.partners import store as partners
from bridge.partners.store import dispute as store

router = routes("disputes")
Reader = Annotated[Desk, Depends(Needs("disputes:read"))]
Writer = Annotated[Desk, Depends(Needs("disputes:write"))]

_FILE: Final = {
    "requestBody": {
        "required": True,
        "description": "The file itself, at most 10 MiB",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in rules.MEDIA_TYPES},
    },
}
_BYTES: Final = "application/octet-stream"


def _side(desk: Desk) -> rules.Side:
    return "us" if desk.principal.operator else "them"


def _made(row: Mapping[str, Any], *, located: bool = False) -> Made:
    told = show(row, datetime.now(UTC))
    where = f"/v1/disputes/{told['dispute_id']}" if located else None
    return Made(told["dispute_id"], told, row["partner_id"], row["edition"], where)


@router.get("", response_model=Page[Dispute], summary="Disputes, newest first")
async def list_disputes(
    desk: Reader,
    paging: Asked,
    partner_id: Annotated[PartnerId | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    overdue: Annotated[bool, Query(description="Only those whose answer is due and not there")] = False,
) -> Response:
    at = datetime.now(UTC)
    async with desk.reading() as conn:
        rows = await store.disputes(
            conn,
            paging.before,
            paging.rows,
            partner_id=partner_id,
            state=state,
            overdue_at=at if overdue else None,
        )
    return desk.shown(page(rows, paging, "dispute_id", lambda row: show(row, at)))


@router.post(
    "",
    status_code=201,
    response_model=Dispute,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Open a dispute",
)
async def create_dispute(desk: Writer, body: NewDispute) -> Response:
    async def work(conn: Connection) -> Made:
        account_id = await _account(desk, conn, body)
        side = _side(desk)
        claim = store.Claim(
            side, body.kind, body.title, desk.principal.actor, body.claimed_amount, body.currency, body.deadline,
            body.statement_id, body.run_id, body.run_class, (), body.records,
        )  # fmt: skip
        if body.statement_id is not None:
            await store.find_statement(conn, body.statement_id, account_id)
        await desk.as_ours(conn)
        row = await store.open_dispute(conn, account_id, claim)
        if body.text is not None:
            await store.comment(conn, row["dispute_id"], side, desk.principal.actor, body.text)
            row = await store.dispute(conn, row["dispute_id"])
        return _made(row, located=True)

    return await desk.create("dispute.create", body, work)


async def _account(desk: Desk, conn: Connection, body: NewDispute) -> UUID:
    """With whom. raises Problem 404: a partner names another · 403: or what only operators see"""
    if not desk.principal.operator:
        if body.account_id is not None or body.run_id is not None:
            raise Problem(403, "account_id and run_id are for operators.")
    elif (body.partner_id is None) == (body.account_id is None):
        raise Problem(422, "Name with whom: partner_id, or account_id of a carrier.")
    if body.account_id is not None:
        found: UUID = body.account_id
        return found
    partner_id = desk.partner_of(body.partner_id)
    assert partner_id is not None
    account_id: UUID = (await partners.partner(conn, partner_id))["account_id"]
    return account_id


@router.get("/{dispute_id}", response_model=Dispute, responses=responses(404), summary="One dispute")
async def read_dispute(desk: Reader, dispute_id: DisputeId) -> Response:
    async with desk.reading() as conn:
        row = await store.dispute(conn, dispute_id)
    return desk.shown(show(row, datetime.now(UTC)), row["edition"], fresh=True)


@router.patch(
    "/{dispute_id}",
    response_model=Dispute,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Decide or withdraw a dispute, or give it another deadline",
)
async def change_dispute(desk: Writer, dispute_id: DisputeId, body: DisputeChange) -> Response:
    """accepted and settled book what is agreed on as a correction, in the same transaction. Decided is for ever."""

    async def work(conn: Connection, edition: int) -> Made:
        row: Mapping[str, Any] | None = await store.dispute(conn, dispute_id)
        if _side(desk) == "them" and body.state != "withdrawn":
            raise Problem(403, "Only operators decide a dispute, and set its deadline.")
        await desk.as_ours(conn)
        if body.state is not None:
            row = await store.decide(
                conn,
                dispute_id,
                body.state,
                _side(desk),
                desk.principal.actor,
                agreed_micro=body.agreed_amount,
                text=body.text or "",
                edition=edition,
            )
        elif body.deadline is not None:
            row = await store.postpone(conn, dispute_id, body.deadline, edition)
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("dispute.change", body, work)


@router.get(
    "/{dispute_id}/notes",
    response_model=Page[Note],
    responses=responses(404),
    summary="What was said and decided, newest first",
)
async def list_dispute_notes(desk: Reader, dispute_id: DisputeId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.dispute(conn, dispute_id)
        rows = await store.notes(conn, dispute_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "note_id", show_note))


@router.post(
    "/{dispute_id}/notes",
    status_code=201,
    response_model=Note,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Say something about a dispute",
)
async def create_dispute_note(desk: Writer, dispute_id: DisputeId, body: NewNote) -> Response:
    """The first word of whoever did not open it makes it `answered`."""

    async def work(conn: Connection) -> Made:
        row = await store.dispute(conn, dispute_id)
        await desk.as_ours(conn)
        note = await store.comment(conn, dispute_id, _side(desk), desk.principal.actor, body.text)
        return Made(show_id("dsp", dispute_id), show_note(note), row["partner_id"])

    return await desk.create("dispute.comment", body, work)


@router.get(
    "/{dispute_id}/evidence",
    response_model=Page[Evidence],
    responses=responses(404),
    summary="Files of evidence, newest first",
)
async def list_dispute_evidence(desk: Reader, dispute_id: DisputeId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.dispute(conn, dispute_id)
        rows = await store.evidence(conn, dispute_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "evidence_id", lambda row: show_evidence(row, dispute_id)))


@router.post(
    "/{dispute_id}/evidence",
    status_code=201,
    response_model=Evidence,
    responses=responses(404, *BY_METHOD["POST"]),
    openapi_extra=_FILE,
    summary="Add a file of evidence",
)
async def add_dispute_evidence(
    desk: Writer, dispute_id: DisputeId, name: Annotated[Name, Query(description="Of the file")] = "evidence"
) -> Response:
    """Of the name only the last part is kept. The same file twice is 409."""
    kind = _kind_of(desk.request.headers.get("content-type", ""))
    async with desk.reading() as conn:
        await store.dispute(conn, dispute_id)
    with desk.services.receiving.take("An upload", desk.principal.owner_id):
        content = await desk.request.body()
    if not content:
        raise Problem(422, "The file is empty.")
    digest = hashlib.sha256(content).hexdigest()
    kept = Attached(name=name, media_type=kind, sha256=digest, bytes=len(content))

    async def work(conn: Connection) -> Made:
        row = await store.dispute(conn, dispute_id)
        await desk.as_ours(conn)
        side, author = _side(desk), desk.principal.actor
        made = await store.attach(conn, dispute_id, side, author, name=name, media_type=kind, content=content)
        told = show_evidence(made, dispute_id)
        return Made(told["evidence_id"], told, row["partner_id"], location=told["url"])

    return await desk.create("dispute.evidence", kept, work)


@router.get(
    "/{dispute_id}/evidence/{evidence_id}/file",
    response_class=Response,
    responses={
        200: {
            "content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}},
            "description": "The file, as it came",
        },
        **responses(404),
    },
    summary="A file of evidence",
)
async def read_dispute_evidence(desk: Reader, dispute_id: DisputeId, evidence_id: EvidenceId) -> Response:
    """Always a download of bytes: no browser shows or runs what others have sent. `X-Content-SHA256` is its digest."""
    async with desk.reading() as conn:
        await store.dispute(conn, dispute_id)
        row = await store.evidence_file(conn, dispute_id, evidence_id)
    plain = row["name"].encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    headers = {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(row['name'], safe='')}",
        "X-Content-SHA256": row["sha256"].hex(),
    }
    return Response(row["content"], media_type=_BYTES, headers=headers)


def _kind_of(content_type: str) -> str:
    """raises   Problem 415: no kind of file that is evidence"""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in rules.MEDIA_TYPES:
        raise Problem(415, f"Send the file as one of {', '.join(rules.MEDIA_TYPES)}.")
    return kind
