"""A rate deck's file on its way into the database: staged and compared, looked at, applied.

Staging changes no rate. It reads the whole file, tells everything that is wrong with it, and works out what the file
would add and remove. Applying does that, in one transaction, as the deck's next version.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, DeckError, NotFound
from bridge.rating.deck_cells import instant, plain_text
from bridge.rating.deck_file import open_sheet
from bridge.rating.deck_import import DeckRows, Finding, Frame, copied
from bridge.rating.store.comparison import Comparison
from bridge.rating.store.notice import find_rises
from bridge.rating.terms import Terms
from bridge.telephony.money import check_currency

MODES: Final = ("add", "replace")
SHOWN_MAX: Final = 50  # errors and changes told by default
STAGED_KEPT: Final = 20  # imports of a deck that can still be applied
_SPOOLED_BYTES: Final = 1 << 22
_BLOCK_BYTES: Final = 1 << 20

# (step, done, total): bytes of the file while it is read, then steps of unknown size with total 0
Progress: TypeAlias = Callable[[str, int, int], None]
Spool: TypeAlias = "tempfile.SpooledTemporaryFile[bytes]"


@dataclass(frozen=True, slots=True)
class DeckFile:
    """What is imported, by whom. file: seekable, read from its beginning; it stays the caller's.

    encoding  of a CSV file that is not UTF-8
    """

    file: BinaryIO
    name: str
    author: str
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for an import from outside, and how far it may go.

    owner_id     whose idempotency keys these are; fingerprint: of what was asked for with the key
    dry_run      it can be looked at, never applied
    notice       what gets dearer has to be announced as many days ahead as the deck says
    errors_max   so many are kept; all are counted
    lines_max    prefixes the file may stand for
    """

    owner_id: UUID | None = None
    key: str | None = None
    fingerprint: bytes | None = None
    dry_run: bool = False
    notice: bool = False
    errors_max: int = sys.maxsize
    lines_max: int = sys.maxsize


NOBODY: Final = Asked()


@dataclass(frozen=True, slots=True)
class Staged:
    """What an import would do. state: staged, same (nothing would change) or refused (see errors).

    summary  rows of the file, prefixes, and how many are the same or of each kind; backdated: of the changed ones, how
             many change before the file was staged; removes and adds: rates
    errors   how many there are; `load_errors` has them
    """

    import_id: UUID
    deck: str
    state: str
    summary: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "import_id": str(self.import_id),
            "deck": self.deck,
            "state": self.state,
            "summary": self.summary,
        }


def _spool() -> Spool:
    """Bytes in memory while they are few, else in a file that has no name."""
    return tempfile.SpooledTemporaryFile(_SPOOLED_BYTES)


@dataclass(slots=True)
class _Errors:
    """Everything that is wrong with a file, kept outside of memory when it is much."""

    spool: Spool
    most: int
    count: int = 0

    def add(self, one: Finding) -> None:
        self.count += 1
        if self.count > self.most:
            return
        self.spool.write(f"{one.row}\t{copied(one.column)}\t{copied(one.problem)}\n".encode())

    async def keep(self, conn: Connection, import_id: UUID) -> None:
        self.spool.seek(0)

        async def lines() -> AsyncIterator[bytes]:
            for line in self.spool:
                yield f"{import_id}\t".encode() + line

        columns = ("import_id", "row_no", "column_name", "problem")
        await conn.copy_to_table("deck_import_error", source=lines(), columns=columns, schema_name="bridge")


async def create_deck(conn: Connection, name: str, side: str, currency: str) -> bool:
    """Make an empty deck; nothing when one of this name exists. Returns whether it was made.

    raises  DeckError: no such currency, or a name nobody can type
            Conflict: the one that exists is of another side or currency
    """
    try:
        check_currency(currency)
        if not plain_text(name) or name != name.strip():
            raise ValueError("is empty or has blanks around it")
    except ValueError as wrong:
        raise DeckError(f"{name!r:.60} in {currency!r:.10}: {wrong}", column="deck") from None
    made = await queries.decks.create_deck.value(conn, name=name, side=side, currency=currency)
    head = await queries.decks.head.one(conn, name=name)
    if (head["side"], head["currency"]) != (side, currency):
        raise Conflict(
            f"deck {name} is a {head['side']} deck in {head['currency']}. Use another name, or leave both out"
        )
    return made is not None


async def stage(
    conn: Connection,
    deck: str,
    given: DeckFile,
    mode: str,
    *,
    at: datetime,
    effective_at: datetime | str | None = None,
    asked: Asked = NOBODY,
    progress: Progress = lambda *_: None,
) -> Staged:
    """Read a file against the active version of a deck. No rate is changed.

    mode          `add`: prefixes that the file does not name stay; `replace`: they end at `effective_at`
    at            now
    effective_at  from when on rows hold that do not say; now unless given; a text is in the deck's time zone
    raises        NotFound: no such deck · DeckError: the file or its header cannot be read at all
                  UniqueViolationError: the key was used for an import of the deck before
    """
    if mode not in MODES:
        raise DeckError(f"{mode!r:.20} is no mode. Use add or replace", column="mode")
    head = await head_of(conn, deck)
    zone = Terms.from_json(json.loads(head["terms"])).zone
    sets = {row["name"] for row in await queries.decks.origin_sets.all(conn)}
    frame = Frame(head["currency"], zone, sets, _begin(effective_at, zone) or at)
    with _spool() as wrong, _spool() as prices:
        errors = _Errors(wrong, asked.errors_max)
        return await _staged(conn, head, given, mode, frame, at, asked, errors, prices, progress)


async def _staged(
    conn: Connection,
    head: Any,
    given: DeckFile,
    mode: str,
    frame: Frame,
    at: datetime,
    asked: Asked,
    errors: _Errors,
    prices: Spool,
    progress: Progress,
) -> Staged:
    digest, size = hashed(given.file)
    rows = DeckRows(open_sheet(given.file, given.encoding), frame, prices, errors.add, asked.lines_max)

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in rows.chunks():
            yield chunk
            progress("reading", given.file.tell(), size)

    async with conn.transaction():
        import_id = await queries.decks.add_import.value(
            conn, deck_id=head["deck_id"], base_version=head["version"], mode=mode, file_name=given.name,
            file_sha256=digest, effective_at=frame.effective_at, author=given.author, at=at, owner_id=asked.owner_id,
            idempotency_key=asked.key, fingerprint=asked.fingerprint, dry_run=asked.dry_run,
        )  # fmt: skip
        await queries.decks.make_room.run(conn)
        await queries.decks.make_staged_rows.run(conn)
        await queries.decks.make_staged_prices.run(conn)
        await conn.copy_to_table("deck_row", source=chunks())
        await conn.copy_to_table("deck_price", source=_pieces(prices))
        await queries.decks.make_staged.run(conn)
        await queries.decks.measure_staged.run(conn)
        progress("checking", 0, 0)
        await _find_overlaps(conn, errors)
        summary: dict[str, Any] = {"rows": rows.rows, "prefixes": rows.lines}
        counts, rises_at = {"adds": 0, "removes": 0}, None
        if not errors.count:
            progress("comparing", 0, 0)
            compared = Comparison(import_id, head["deck_id"], mode == "add", frame.effective_at, at)
            counts = await compared.stage(conn, summary)
            if asked.notice and head["side"] == "buy":
                days = timedelta(days=head["notice_days"])
                rises_at = await find_rises(conn, import_id, head["deck_id"], at, days, errors.add)
        state = "staged" if counts["adds"] or counts["removes"] else "same"
        if errors.count:
            state, counts = "refused", {"adds": 0, "removes": 0}
            summary = {"rows": rows.rows, "prefixes": rows.lines, "errors": errors.count}
            await queries.decks.forget_import.run(conn, import_id=import_id)
            await errors.keep(conn, import_id)
        await queries.decks.forget_staged.run(
            conn, deck_id=head["deck_id"], version=head["version"], import_id=import_id, kept=STAGED_KEPT
        )
        await queries.decks.finish_import.run(
            conn, import_id=import_id, state=state, summary=json.dumps(summary), rises_at=rises_at, **counts
        )
        await queries.decks.forget_file.run(conn)
    return Staged(import_id, head["name"], state, summary)


async def apply(conn: Connection, import_id: UUID) -> int:
    """Make a staged import the deck's next version. Returns the version; a repeat returns the same.

    raises  NotFound · Conflict: it has errors, or the deck has changed since, or its rows were lost: stage it again
    """
    async with conn.transaction():
        locked = await queries.decks.lock_import.one(conn, import_id=import_id)
        if locked is None:
            raise NotFound(f"there is no import {import_id}")
        one = await queries.decks.import_of.one(conn, import_id=import_id)
        if one["state"] == "applied":
            return int(one["version"])
        if one["state"] == "same":
            return int(one["deck_version"])
        if one["state"] == "refused":
            raise Conflict(f"import {import_id} has errors. Mend the file and stage it again")
        if one["dry_run"]:
            raise Conflict(f"import {import_id} was a dry run. Stage the file again without")
        version = await queries.decks.next_version.value(
            conn, deck_id=one["deck_id"], version=one["base_version"]
        )
        if version is None:
            raise Conflict(
                f"deck {one['deck']} has changed since: it was version {one['base_version']}. Stage the file again"
            )
        await queries.decks.make_room.run(conn)
        which = {"import_id": import_id, "deck_id": one["deck_id"], "version": version}
        removed = await queries.decks.remove_staged.value(conn, **which)
        added = await queries.decks.add_staged.value(conn, **which)
        if (removed, added) != (one["removes"], one["adds"]):
            raise Conflict(f"what import {import_id} staged was lost with the server. Stage the file again")
        await queries.decks.close_import.run(conn, import_id=import_id, version=version)
        await queries.decks.add_version.run(
            conn,
            **which,
            origin="import",
            to_version=None,
            author=one["author"],
            added=added,
            removed=removed,
        )
    return int(version)


async def import_of(conn: Connection, import_id: UUID) -> Any:
    """An import's row, with its deck's name, currency and version. raises NotFound"""
    one = await queries.decks.import_of.one(conn, import_id=import_id)
    if one is None:
        raise NotFound(f"there is no import {import_id}")
    return one


async def head_of(conn: Connection, deck: str) -> Any:
    """A deck's row by name. raises NotFound"""
    head = await queries.decks.head.one(conn, name=deck)
    if head is None:
        raise NotFound(f"there is no deck {deck!r:.60}. `callbridge deck list` names those there are")
    return head


def _begin(given: datetime | str | None, zone: ZoneInfo) -> datetime | None:
    if not isinstance(given, str):
        return given
    try:
        return instant(given, zone)
    except ValueError as wrong:
        raise DeckError(str(wrong), column="effective_at") from None


async def _find_overlaps(conn: Connection, errors: _Errors) -> None:
    await queries.decks.make_repeated.run(conn)
    async for row in queries.decks.overlaps.stream(conn):
        time = "for the same time" if row["same"] else "for a time that overlaps"
        problem = f"{row['prefix']} stands in row {row['other_no']}, too, {time}. Keep one of the two"
        errors.add(Finding(row["row_no"], "prefix", problem))


async def _pieces(spool: Spool) -> AsyncIterator[bytes]:
    spool.seek(0)
    while piece := spool.read(_BLOCK_BYTES):
        yield piece


def hashed(file: BinaryIO) -> tuple[bytes, int]:
    """SHA-256 and size; the file is back at its beginning."""
    file.seek(0)
    digest = hashlib.sha256()
    size = 0
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    file.seek(0)
    return digest.digest(), size
