"""Recipients and their files, as the database keeps them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.exports import file_name
from bridge.exports.manifest import Manifest, Totals
from bridge.exports.spans import Every, zone_named
from bridge.exports.target import read_target

PATIENCE_MS: Final = 3_000  # a process that was killed holds its lock until the server notices
NOTHING_TO_PAY: Final = "XXX"  # ISO 4217: no currency

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets which files. partner_id None: the house itself, which gets everybody's records."""

    recipient_id: UUID
    code: str
    partner_id: UUID | None
    types: tuple[str, ...]
    format: str
    every: Every
    zone: ZoneInfo
    target: Mapping[str, Any]
    since_at: datetime
    enabled: bool
    edition: int = 1

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(
            row["recipient_id"],
            row["code"],
            row["partner_id"],
            tuple(row["types"]),
            row["format"],
            Every(row["period"]),
            zone_named(row["time_zone"]),
            json.loads(row["target"]),
            row["since_at"],
            row["enabled"],
            row["edition"],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the records: what a file or an extract is of, and all that its content follows from."""

    partner_id: UUID | None
    type: str
    first_no: int
    last_no: int
    names_id: int

    def given(self) -> dict[str, Any]:
        return {
            "partner_id": self.partner_id,
            "type": self.type,
            "first_no": self.first_no,
            "last_no": self.last_no,
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """A file as planned, and what is known of it since."""

    row: Row

    @property
    def name(self) -> str:
        return file_name.checked_name(self.row["name"])

    @property
    def state(self) -> str:
        return str(self.row["state"])

    @property
    def part(self) -> Part:
        row = self.row
        return Part(row["partner_id"], row["type"], row["first_no"], row["last_no"], row["names_id"])

    @property
    def place(self) -> PurePosixPath:
        """Under the folder of all files."""
        month = f"{self.row['from_at'].astimezone(zone_named(self.row['time_zone'])):%Y-%m}"
        return file_name.place(self.row["code"], self.row["format"], self.name, month)

    def manifest(self, totals: Totals, size: int, sha256: str) -> Manifest:
        row = self.row
        before = row["previous_sha256"]
        return Manifest(
            self.name,
            sha256,
            size,
            row["sender"],
            row["code"],
            row["type"],
            row["format"],
            row["from_at"],
            row["to_at"],
            row["period"],
            row["time_zone"],
            row["first_no"],
            row["last_no"],
            totals,
            row["file_no"],
            (row["previous_name"], before.hex()) if before else None,
        )

    def kept(self) -> tuple[Totals, int, str]:
        """Totals, bytes and SHA-256 as they were when it was written first."""
        row = self.row
        return Totals.from_json(json.loads(row["totals"])), row["bytes"], row["sha256"].hex()


@asynccontextmanager
async def alone(conn: Connection, recipient: Recipient) -> AsyncIterator[None]:
    """Be the only one at work on the files of a recipient, whatever process the others are.

    raises   Conflict: somebody else is
    """
    files = queries.cdr_files
    await files.patience.run(conn, wait_ms=str(PATIENCE_MS))
    try:
        await files.lock.run(conn, recipient_id=recipient.recipient_id)
    except asyncpg.LockNotAvailableError:
        raise Conflict(
            f"The files of {recipient.code} are being made by another process. Let it finish."
        ) from None
    finally:
        await files.patience.run(conn, wait_ms="0")
    try:
        yield
    finally:
        if not conn.is_closed():
            await files.release.run(conn, recipient_id=recipient.recipient_id)


async def recipient_coded(conn: Connection, code: str) -> Recipient:
    """raises   NotFound"""
    row = await queries.cdr_files.recipient.one(conn, code=code)
    if row is None:
        raise NotFound(
            f"There is no recipient {code[:40]!r}. `callbridge export recipient list` tells which there are."
        )
    return Recipient.of(row)


async def recipient_by_id(conn: Connection, recipient_id: UUID) -> Recipient:
    """raises   NotFound"""
    row = await queries.cdr_files.recipient_by_id.one(conn, recipient_id=recipient_id)
    if row is None:
        raise NotFound("There is no such recipient.")
    return Recipient.of(row)


async def recipients(conn: Connection) -> list[Recipient]:
    """By their codes."""
    return [Recipient.of(row) for row in await queries.cdr_files.recipients.all(conn)]


async def add_recipient(
    conn: Connection,
    code: str,
    partner_id: UUID | None,
    *,
    types: Sequence[str],
    form: str,
    every: Every,
    zone: str,
    target: Mapping[str, Any],
    since_at: datetime,
) -> UUID:
    """raises   Invalid · Conflict: the code is taken, also when it is written otherwise"""
    if file_name.CODE.fullmatch(code) is None:
        raise Invalid(
            "A recipient's code is 1 to 20 letters, digits and hyphens: it is in the names of its files."
        )
    check_recipient(types, form, zone, target)
    found: UUID = await queries.cdr_files.add_recipient.value(
        conn,
        code=code,
        partner_id=partner_id,
        types=sorted(set(types)),
        format=form,
        period=every.value,
        time_zone=zone,
        target=json.dumps(dict(target)),
        since_at=since_at,
    )
    return found


async def set_recipient(conn: Connection, recipient: Recipient) -> int:
    """Keep its settings as they are here, from the next file on. Returns the edition. raises Invalid · NotFound"""
    check_recipient(recipient.types, recipient.format, recipient.zone.key, recipient.target)
    edition = await queries.cdr_files.set_recipient.value(
        conn,
        recipient_id=recipient.recipient_id,
        types=sorted(set(recipient.types)),
        format=recipient.format,
        period=recipient.every.value,
        time_zone=recipient.zone.key,
        target=json.dumps(dict(recipient.target)),
        enabled=recipient.enabled,
    )
    if edition is None:
        raise NotFound("There is no such recipient.")
    return int(edition)


def check_recipient(types: Sequence[str], form: str, zone: str, target: Mapping[str, Any]) -> None:
    """raises   Invalid"""
    if not types or not set(types) <= set(file_name.TYPES):
        raise Invalid(f"types are some of {', '.join(file_name.TYPES)}.")
    if form not in file_name.EXTENSIONS:
        raise Invalid(f"The format is one of {', '.join(file_name.EXTENSIONS)}.")
    if form == "tap3" and set(types) != {"cdr"}:
        raise Invalid("TAP3 files are of the type cdr only.")
    zone_named(zone)
    read_target(target)


async def file_of(conn: Connection, file_id: UUID) -> Planned:
    """raises   NotFound"""
    row = await queries.cdr_files.file.one(conn, file_id=file_id)
    if row is None:
        raise NotFound("There is no such file.")
    return Planned(row)


async def file_named(conn: Connection, name: str) -> Planned:
    """raises   Invalid · NotFound"""
    found = await queries.cdr_files.file_named.value(conn, name=file_name.checked_name(name))
    if found is None:
        raise NotFound(f"There is no file {name}.")
    return await file_of(conn, found)


async def totals_of(conn: Connection, part: Part) -> Totals:
    """As the records have them."""
    sums = await queries.cdr_files.totals.all(conn, **part.given())
    answers = [at for one in sums for at in (one["first_answer_at"], one["last_answer_at"]) if at is not None]
    return Totals(
        sum(one["rows"] for one in sums),
        sum(one["duration_ms"] for one in sums),
        sum(one["billed_s"] for one in sums),
        {
            one["currency"]: one["amount_micro"]
            for one in sums
            if one["currency"] != NOTHING_TO_PAY or one["amount_micro"]
        },
        min(answers, default=None),
        max(answers, default=None),
    )


async def partner_named(conn: Connection, name: str) -> UUID:
    """raises   NotFound"""
    found: UUID | None = await queries.cdr_files.partner_named.value(conn, name=name)
    if found is None:
        raise NotFound(f"There is no partner {name[:80]!r}. `callbridge partner list` tells which there are.")
    return found


async def files(
    conn: Connection,
    *,
    recipient_id: UUID | None = None,
    kind: str | None = None,
    state: str | None = None,
    rows: int = 100,
) -> list[Row]:
    """The latest files, newest first."""
    return list(
        await queries.cdr_files.files.all(conn, recipient_id=recipient_id, type=kind, state=state, rows=rows)
    )


async def partner_name(conn: Connection, partner_id: UUID | None) -> str | None:
    """None: the house."""
    found: str | None = await queries.cdr_files.partner_name.value(conn, partner_id=partner_id)
    return found
