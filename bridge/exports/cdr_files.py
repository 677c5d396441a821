"""Files of call records, from the plan to where they belong. Each step is safe to repeat, and goes on after a kill.

A file is planned in one transaction: it has its number and its range of records, or neither. What is in it follows from
these, so that whoever writes it again writes the same. It is told to be written once it lies there whole, and to be
delivered once its manifest is where it belongs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import BridgeError, ConfigError, Conflict, Invalid, InvariantBroken
from bridge.exports.delivery import deliver
from bridge.exports.file_name import (
    EXTENSIONS,
    TYPES,
    checked_name,
    extract_name,
    file_name,
    manifest_name,
    sums_name,
)
from bridge.exports.manifest import Manifest, Totals, sums_text
from bridge.exports.sequence import horizon
from bridge.exports.spans import spans, whole_second
from bridge.exports.store.cdr_files import (
    Part,
    Planned,
    Recipient,
    alone,
    file_named,
    file_of,
    recipients,
    totals_of,
)
from bridge.exports.streamed import Progress, WrittenFile, silent, stream

HOUSE: Final = "house"  # whose extract it is that has everybody's records
_READ_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Outcome:
    """What a run did for one recipient. problem: why it did not come to the end; the next run goes on from there."""

    recipient: str
    planned: int = 0
    written: list[str] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    problem: str | None = None


async def plan(conn: Connection, recipient: Recipient, until: datetime, sender: str) -> list[UUID]:
    """Number the files of all periods that are over by then, for each type. Periods without records are files, too.

    until    no later than what is numbered counts
    raises   Conflict: the recipient gets no files any more · Invalid: too many periods are due
    """
    files = queries.cdr_files
    planned: list[UUID] = []
    async with conn.transaction():
        held = await files.hold_recipient.one(conn, recipient_id=recipient.recipient_id)
        if held is None or not held["enabled"]:
            raise Conflict(f"{recipient.code} gets no files. `callbridge export recipient set` enables it.")
        reached = await horizon(conn)
        if reached is None:
            return []
        names_id: int | None = None
        for kind in recipient.types:
            last = await files.latest.one(conn, recipient_id=recipient.recipient_id, type=kind)
            after = last["to_at"] if last else whole_second(recipient.since_at)
            due = list(spans(after, min(until, reached), recipient.every, recipient.zone))
            if not due:
                continue
            if names_id is None:
                names_id = await files.names.value(conn)
            # The first file begins with the first record of its time: what counted before is in no file.
            instants = [after, *(to_at for _, to_at in due)]
            found = await files.numbers_before.all(conn, partner_id=recipient.partner_id, instants=instants)
            numbers = [one["last_no"] or 0 for one in found]
            if last:
                numbers[0] = last["last_no"]
            file_no = last["file_no"] if last else 0
            for place, (from_at, to_at) in enumerate(due):
                file_no += 1
                planned.append(
                    await files.add_file.value(
                        conn,
                        recipient_id=recipient.recipient_id,
                        partner_id=recipient.partner_id,
                        type=kind,
                        file_no=file_no,
                        first_no=numbers[place],
                        last_no=numbers[place + 1],
                        from_at=from_at,
                        to_at=to_at,
                        period=recipient.every.value,
                        time_zone=recipient.zone.key,
                        format=recipient.format,
                        sender=sender,
                        name=file_name(
                            sender, recipient.code, kind, file_no, from_at, to_at, recipient.format
                        ),
                        names_id=names_id,
                    )
                )
    return planned


async def write(
    conn: Connection, file_id: UUID, folder: Path, progress: Progress = silent, *, schema: str = ""
) -> Path:
    """Have a planned file under the folder, whole, with its sums and its manifest. Returns its path.

    Nothing is done where it lies there already as it was written.

    schema   of TAP3: the path of the operator's module
    raises   NotFound · Conflict: the file before it is not written yet · ConfigError: nothing can be written there ·
             InvariantBroken: it came out otherwise than the first time
    """
    planned = await file_of(conn, file_id)
    path = folder / planned.place
    if planned.state != "planned":
        totals, size, sha256 = planned.kept()
        if await _hash_of(path) != sha256:
            made = await _make(conn, planned, path, progress, schema)
            if made.sha256 != sha256:
                path.unlink(missing_ok=True)
                await _refuse_purged(conn, planned, file_id)
                raise InvariantBroken(
                    f"{planned.name} came out otherwise than it was written first: what its records are made of has"
                    " changed, or another version wrote it"
                )
        _beside(path, planned.manifest(totals, size, sha256))
        return path
    if planned.row["previous_state"] == "planned":
        raise Conflict(f"{planned.row['previous_name']} comes before {planned.name} and is not written yet.")
    manifest = await _make(conn, planned, path, progress, schema)
    _beside(path, manifest)
    await queries.cdr_files.written.value(
        conn,
        file_id=file_id,
        totals=json.dumps(manifest.totals.to_json()),
        rows=manifest.totals.rows,
        bytes=manifest.bytes,
        sha256=bytes.fromhex(manifest.sha256),
    )
    return path


async def again(
    conn: Connection, settings: Settings, name: str, progress: Progress = silent
) -> tuple[Path, str]:
    """Write a file that was written before once more, and have it in its place if it is missing there.

    Returns its path and its SHA-256, which is that of the first time.

    raises   NotFound · Conflict: it was never written, or traffic data of it are gone · InvariantBroken: it came out
             otherwise
    """
    planned = await file_named(conn, name)
    if planned.state == "planned":
        raise Conflict(f"{name} was never written. `callbridge export run` writes it.")
    path = settings.exports.folder / planned.place
    totals, size, sha256 = planned.kept()
    proof = path.with_name(f"AGAIN_{path.name}")
    try:
        made = await _make(conn, planned, proof, progress, settings.exports.tap_schema)
        if made.sha256 != sha256:
            await _refuse_purged(conn, planned, planned.row["file_id"])
            raise InvariantBroken(
                f"{name} comes out as {made.sha256} and was written as {sha256}: what its records are made of has"
                " changed, or another version wrote it"
            )
        if await _hash_of(path) != sha256:
            proof.replace(path)
    finally:
        proof.unlink(missing_ok=True)
    _beside(path, planned.manifest(totals, size, sha256))
    return path, sha256


async def _refuse_purged(conn: Connection, planned: Planned, file_id: UUID) -> None:
    """raises   Conflict: its calls' numbers went when their time had come, so it cannot be as it was"""
    gone_at: datetime | None = await queries.cdr_files.purged_of_file.value(conn, file_id=file_id)
    if gone_at is not None:
        raise Conflict(
            f"{planned.name} cannot be written again: the time of traffic data in it had come, and they were purged "
            f"(lately at {gone_at:%Y-%m-%d %H:%M} UTC, `callbridge retention log`). Its sums, its SHA-256 and its "
            "manifest are kept; whoever it was delivered to has it."
        )


async def extract(
    conn: Connection,
    settings: Settings,
    folder: Path,
    *,
    partner_id: UUID | None,
    whose: str,
    kind: str,
    since: datetime,
    until: datetime,
    form: str,
    rows_max: int | None = None,
    progress: Progress = silent,
) -> tuple[Path, Manifest]:
    """Records of a time in a file without a number, with its sums and its manifest beside it.

    partner_id   whose records; None: everybody's, for the house
    whose        a code that stands in the name
    raises       Invalid: the time is none, or there are more than rows_max records
    """
    since, until = whole_second(since), whole_second(until)
    if kind not in TYPES:
        raise Invalid(f"The type is one of {', '.join(TYPES)}.")
    if form not in EXTENSIONS:
        raise Invalid(f"The format is one of {', '.join(EXTENSIONS)}.")
    reached = await horizon(conn)
    until = min(until, whole_second(reached)) if reached else until
    if since >= until:
        raise Invalid("There is no time between since and until of which calls are numbered.")
    found = await queries.cdr_files.numbers_before.all(conn, partner_id=partner_id, instants=[since, until])
    first_no, last_no = (one["last_no"] or 0 for one in found)
    names_id = await queries.cdr_files.names.value(conn)
    name = extract_name(settings.company.code, whose, kind, since, until, form)
    about = Manifest(
        name, "", 0, settings.company.code, whose, kind, form, since, until, "extract", "UTC", first_no, last_no,
        Totals(0),
    )  # fmt: skip
    part = Part(partner_id, kind, first_no, last_no, names_id)
    path = folder / name
    manifest = await _written(conn, part, path, about, settings.exports.tap_schema, progress, rows_max)
    _beside(path, manifest)
    return path, manifest


async def run(
    conn: Connection,
    settings: Settings,
    recipient: Recipient,
    until: datetime,
    progress: Progress = silent,
) -> Outcome:
    """Plan, write and deliver all that is due to a recipient, each type in the order of its numbers.

    Nothing of a type is delivered before what comes before it. Not inside a transaction.

    raises   Conflict: another process is at it, or the recipient gets no files. What else goes wrong is `problem`
    """
    outcome = Outcome(recipient.code)
    exports = settings.exports
    async with alone(conn, recipient):
        outcome.planned = len(await plan(conn, recipient, until, settings.company.code))
        try:
            for row in await queries.cdr_files.due.all(conn, recipient_id=recipient.recipient_id):
                planned = await file_of(conn, row["file_id"])
                path = await write(conn, row["file_id"], exports.folder, progress, schema=exports.tap_schema)
                if planned.state == "planned":
                    outcome.written.append(planned.name)
                await deliver(exports, recipient.target, paths_of(path))
                await queries.cdr_files.delivered.value(conn, file_id=row["file_id"])
                outcome.delivered.append(planned.name)
        except InvariantBroken:
            raise
        except BridgeError as error:
            outcome.problem = str(error)
    return outcome


async def run_all(
    conn: Connection, settings: Settings, until: datetime, progress: Progress = silent
) -> list[Outcome]:
    """The same for everybody who gets files. One that another process is at is told as a problem."""
    outcomes = []
    for recipient in await recipients(conn):
        if not recipient.enabled:
            continue
        try:
            outcomes.append(await run(conn, settings, recipient, until, progress))
        except InvariantBroken:
            raise
        except BridgeError as error:
            outcomes.append(Outcome(recipient.code, problem=str(error)))
    return outcomes


async def files_agree(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """Whether the sequences have no gap, their ranges are those of their periods, and their totals are the records'.

    Returns what is broken by what it breaks, and what it is called; empty lists where all is well.
    """
    files = queries.cdr_files
    gaps = [{"name": one["name"]} for one in await files.broken_numbers.all(conn)]
    ranges = [{"name": one["name"]} for one in await files.broken_ranges.all(conn)]
    wrong = []
    for row in await files.written_files.all(conn):
        part = Part(row["partner_id"], row["type"], row["first_no"], row["last_no"], 0)
        if (await totals_of(conn, part)).to_json() != json.loads(row["totals"]):
            wrong.append({"name": row["name"]})
    return {
        "files_have_no_gap": gaps,
        "files_have_their_records": ranges,
        "files_have_their_totals": wrong,
    }


def paths_of(path: Path) -> list[Path]:
    """A file and what goes with it, in the order in which it is delivered: whoever sees the manifest has all."""
    return [path, path.with_name(sums_name(path.name)), path.with_name(manifest_name(path.name))]


async def _make(conn: Connection, planned: Planned, path: Path, progress: Progress, schema: str) -> Manifest:
    about = planned.manifest(Totals(0), 0, "")
    return await _written(conn, planned.part, path, about, schema, progress)


async def _written(
    conn: Connection,
    part: Part,
    path: Path,
    about: Manifest,
    schema: str,
    progress: Progress,
    rows_max: int | None = None,
) -> Manifest:
    """The file at its path, and its manifest: totals and rows are of one snapshot."""
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            await queries.cdr_files.steady.run(conn)
            about = replace(about, totals=await totals_of(conn, part))
            if rows_max is not None and about.totals.rows > rows_max:
                raise Invalid(
                    f"{about.totals.rows} records are more than {rows_max}. Ask for a shorter time."
                )
            with WrittenFile(path) as file:
                await stream(conn, part, about.format, file, about, schema, progress)
    except OSError as error:
        raise not_written(path, error) from error
    return replace(about, sha256=file.sha256, bytes=file.bytes)


def _beside(path: Path, manifest: Manifest) -> None:
    """The sums and the manifest next to the file. Written each time: they cost nothing and are always the same."""
    checked_name(manifest.name)
    _, sums, told = paths_of(path)
    try:
        for beside, text in ((sums, sums_text(manifest.name, manifest.sha256)), (told, manifest.to_text())):
            with WrittenFile(beside) as file:
                file.write(text.encode())
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        str(path.parent),
        f"{path.name} cannot be written ({error.strerror})",
        "Make room, or let us write there.",
    )


async def _hash_of(path: Path) -> str | None:
    """The SHA-256 of a file as it lies there; None: there is none."""

    def read() -> str | None:
        digest = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                while block := file.read(_READ_BYTES):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    return await asyncio.to_thread(read)
