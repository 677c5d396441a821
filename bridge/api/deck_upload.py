"""Files for rate decks as they are uploaded: received, checked and compared, once an idempotency key.

A file is staged first: read as a whole, compared with the active version, and told. Nothing is priced by it until it is
applied. It is read in a process of its own (`rating.store.upload`), because the calls of this worker cannot wait.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from email.message import Message
from typing import Annotated, BinaryIO, Final, Literal
from uuid import UUID

from fastapi import Query, Response
from starlette.requests import ClientDisconnect

from bridge.api.deck_imports import CSV, DeckImport, Writer, path, show
from bridge.api.desk import Desk, Made
from bridge.api.fields import Body, DeckId, Instant, Name
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.config import require_dsn
from bridge.database import Connection, transaction
from bridge.errors import DeckError
from bridge.rating.store import deck_pages as store
from bridge.rating.store.upload import Upload, stage_beside

router = routes("decks")

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_ZIP: Final = b"PK\x03\x04"


class Uploaded(Body):
    """What the audit log keeps of an upload."""

    mode: str
    effective_at: datetime | None
    dry_run: bool
    file_name: str
    file_sha256: str


ENCODINGS: Final = ("utf-8", "utf-16", "iso8859-1", "iso8859-15", "cp1252")
RECEIVE_S_MAX: Final = 300.0

_FILE: Final = {
    "requestBody": {
        "required": True,
        "description": "The file itself, at most 64 MiB; its first row names the columns",
        "content": {
            CSV: {
                "schema": {"type": "string", "format": "binary"},
                "example": "prefix,destination,rate,interval_1,interval_n\n49,Germany,0.0100,60,6\n",
            },
            XLSX: {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


@router.post(
    "/{deck_id}/imports",
    status_code=201,
    response_model=DeckImport,
    responses=responses(404, *BY_METHOD["POST"]),
    openapi_extra=_FILE,
    summary="Upload a file and tell what it would change",
)
async def upload_deck(
    desk: Writer,
    deck_id: DeckId,
    mode: Annotated[
        Literal["add", "replace"],
        Query(description="add: prefixes the file does not name stay; replace: they end"),
    ] = "add",
    effective_at: Annotated[Instant | None, Query(description="From when rows hold that do not say")] = None,
    dry_run: Annotated[bool, Query(description="Only to be looked at: it cannot be applied")] = False,
    file_name: Name = "upload",
) -> Response:
    """The deck knows an Idempotency-Key for as long as the import is there: the same file with it again is the same
    import. A file that cannot be read at all is 422; one with wrong rows is an import in state `refused`.
    """
    key = desk.idempotency_key()
    kind, encoding = _kind_of(desk.request.headers.get("content-type", ""))
    async with desk.reading() as conn:
        row = await store.deck(conn, deck_id)
    with desk.services.receiving.take("An upload", desk.principal.owner_id), tempfile.TemporaryFile() as file:
        digest = await _received(desk, file, kind)
        asked = f"{mode} {effective_at} {dry_run} {kind} {encoding} {file_name} ".encode()
        fingerprint = hashlib.sha256(asked + digest).digest()
        import_id = await _known(desk, deck_id, key, fingerprint)
        if import_id is not None:
            return await _replayed(desk, deck_id, import_id)
        given = Upload(
            deck_id, file, file_name, desk.principal.actor, encoding, mode, datetime.now(UTC), effective_at,
            desk.principal.owner_id, key, fingerprint, dry_run, notice=not desk.principal.operator,
        )  # fmt: skip
        with desk.services.staging.take("Another import"):
            import_id = await _staged(desk, given)

    async def work(conn: Connection) -> Made:
        made = await store.import_of_deck(conn, deck_id, import_id)
        told = show(made)
        return Made(told["import_id"], told, row["partner_id"], location=path(made))

    kept = Uploaded(
        mode=mode, effective_at=effective_at, dry_run=dry_run, file_name=file_name, file_sha256=digest.hex()
    )
    return await desk.act("deck.import", kept, work, status=201)


async def _staged(desk: Desk, given: Upload) -> UUID:
    try:
        return await stage_beside(require_dsn(desk.services.settings), given)
    except DeckError as wrong:
        where = "/".join(
            ["file", *([f"row {wrong.row}"] if wrong.row else []), *([wrong.column] if wrong.column else [])]
        )
        raise Problem(
            422, f"The file cannot be read: {wrong.problem}.", errors=[{"pointer": where, "detail": wrong.problem}]
        ) from None  # fmt: skip


async def _known(desk: Desk, deck_id: UUID, key: str, fingerprint: bytes) -> UUID | None:
    """The import that was made with the key. raises Problem 422: it was another file"""
    async with transaction(desk.services.asking) as conn:
        await desk.as_ours(conn)
        known = await store.import_by_key(conn, deck_id, desk.principal.owner_id, key)
    if known is None:
        return None
    if known["fingerprint"] != fingerprint:
        raise Problem(
            422,
            "This Idempotency-Key was used for another file. Take a new one.",
            code="idempotency_key_reused",
        )
    found: UUID = known["import_id"]
    return found


async def _replayed(desk: Desk, deck_id: UUID, import_id: UUID) -> Response:
    async with desk.reading() as conn:
        row = await store.import_of_deck(conn, deck_id, import_id)
    response = desk.shown(show(row))
    response.status_code = 201
    response.headers.update({"Location": path(row), "Idempotency-Replayed": "true"})
    return response


async def _received(desk: Desk, file: BinaryIO, kind: str) -> bytes:
    """Write the body to a file as it comes; never twice in memory. Returns its SHA-256.

    raises   Problem 400: it broke off, or came too slowly · 415: it is of the other kind
    """
    digest, start = hashlib.sha256(), b""
    late = Problem(400, f"The file did not come within {RECEIVE_S_MAX:g} s, or broke off.")
    try:
        async with asyncio.timeout(RECEIVE_S_MAX):
            async for piece in desk.request.stream():
                start = start if len(start) >= len(_ZIP) else start + piece[: len(_ZIP)]
                digest.update(piece)
                file.write(piece)
    except (TimeoutError, ClientDisconnect):
        raise late from None
    file.flush()
    if start[: len(_ZIP)] == _ZIP and kind == CSV:
        raise Problem(415, f"That is a workbook. Send it as {XLSX}.")
    if start[: len(_ZIP)] != _ZIP and kind == XLSX:
        raise Problem(415, f"That is no workbook. Send a CSV file as {CSV}.")
    return digest.digest()


def _kind_of(content_type: str) -> tuple[str, str | None]:
    """The kind of file, and the encoding that is named. raises Problem 415"""
    said = Message()
    with suppress(ValueError, IndexError):
        said["content-type"] = content_type
    kind = said.get_content_type() if content_type else ""
    if kind not in (CSV, XLSX):
        raise Problem(415, f"Send the file as {CSV} or {XLSX}.")
    if kind == XLSX or said.get_param("charset") is None:
        return kind, None
    encoding = ""
    with suppress(LookupError, ValueError):
        encoding = codecs.lookup(said.get_content_charset() or "").name
    if encoding not in ENCODINGS:
        raise Problem(415, "Known charsets are utf-8, utf-16, iso-8859-1, iso-8859-15 and windows-1252.")
    return kind, None if encoding == "utf-8" else encoding
