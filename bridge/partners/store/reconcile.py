"""Reconciliation in the database: a counterparty's file in, matched with our records, and looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, TypeAlias
from uuid import UUID, uuid4

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, DeckError, Invalid, NotFound
from bridge.partners.recon_file import COPIED, Frame, TheirRows
from bridge.partners.recon_mapping import FileMapping, column_of
from bridge.partners.reconciliation import Terms, clock_hint, crossed, hints, summed
from bridge.rating.deck_file import open_sheet
from bridge.rating.deck_import import Finding
from bridge.rating.store.imports import hashed

ERRORS_MAX: Final = 1_000  # told of one file; all are counted
_STEPS: Final = ("our records", "their rows", "ids", "numbers", "times", "classes")

Row: TypeAlias = Mapping[str, Any]
# (step, done, total): bytes of the file, then steps
Progress: TypeAlias = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """For callers nobody watches."""


@dataclass(frozen=True, slots=True)
class TheirFile:
    """What is imported, and against what.

    file        seekable; it stays the caller's
    from_at, to_at   the period, aware, half-open
    currency    None: that of the counterparty's account
    """

    file: BinaryIO
    name: str
    leg: str
    from_at: datetime
    to_at: datetime
    mapping: FileMapping
    author: str
    currency: str | None = None
    keep_months: int = 6


@dataclass(slots=True)
class _Findings:
    most: int
    count: int = 0
    kept: list[Finding] = field(default_factory=list)

    def add(self, one: Finding) -> None:
        self.count += 1
        if len(self.kept) < self.most:
            self.kept.append(one)


class _Refused(Exception):
    """The file is wrong: the transaction goes back."""


async def counterparty(conn: Connection, name: str | None, account_id: UUID | None = None) -> Row:
    """A partner by its name, or a carrier by its account's; with the terms agreed. raises NotFound"""
    row: Row | None = await queries.reconcile.counterparty.one(conn, name=name, account_id=account_id)
    if row is None:
        raise NotFound(
            f"there is no partner or carrier {name!r:.80}. `callbridge account list` names carriers"
        )
    return row


def terms_of(party: Row) -> Terms:
    return Terms(**{name: party[name] for name in Terms.__dataclass_fields__})


async def set_terms(conn: Connection, party: Row, **given: int) -> Terms:
    """What is not given stays. raises Invalid"""
    terms = Terms(**(terms_of(party).to_json() | given))
    await queries.reconcile.set_terms.run(conn, account_id=party["account_id"], **terms.to_json())
    return terms


async def save_mapping(conn: Connection, party: Row, name: str, mapping: FileMapping, author: str) -> None:
    """raises   Invalid: a name nobody can type"""
    kept = json.dumps(mapping.to_json())
    await queries.reconcile.save_mapping.run(
        conn, account_id=party["account_id"], name=name, mapping=kept, author=author
    )


async def load_mapping(conn: Connection, party: Row, name: str, *, needed: bool = True) -> FileMapping:
    """raises   NotFound: none of this name was saved, and it is needed"""
    kept = await queries.reconcile.mapping.value(conn, account_id=party["account_id"], name=name)
    if kept is None and needed:
        raise NotFound(f"{party['name']} has no mapping {name!r:.40}. `callbridge reconcile map` saves one")
    return FileMapping.from_json(json.loads(kept or "{}"))


async def mappings(conn: Connection) -> list[dict[str, Any]]:
    rows = await queries.reconcile.mappings.all(conn)
    return [
        {
            "counterparty": row["counterparty"],
            "name": row["name"],
            "mapping": json.loads(row["mapping"]),
            "author": row["author"],
            "saved_at": row["saved_at"].isoformat(),
        }
        for row in rows
    ]


async def import_file(
    conn: Connection,
    party: Row,
    given: TheirFile,
    *,
    errors_max: int = ERRORS_MAX,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read a file whole, or nothing of it. state: imported, or refused with what is wrong, row by row.

    raises   Conflict: this very file was imported before · ConfigError: its columns cannot be told
             Invalid: a carrier that is no partner has no originations
    """
    if given.leg == "origination" and not party["partner"]:
        raise Invalid("only a partner's subscribers' calls come from it: reconcile a carrier's terminations")
    sha256, size = hashed(given.file)
    same = await queries.reconcile.same_file.one(
        conn, account_id=party["account_id"], leg=given.leg, sha256=sha256
    )
    if same is not None:
        raise Conflict(f"this file was imported on {same['made_at']:%Y-%m-%d} as run {same['run_id']}")
    run_id, found = uuid4(), _Findings(errors_max)
    currency = given.currency or party["currency"]
    from_at, to_at = (at.astimezone(UTC).replace(tzinfo=None) for at in (given.from_at, given.to_at))
    try:
        sheet = open_sheet(
            given.file,
            given.mapping.encoding,
            known=_known(given.mapping),
            delimiter=given.mapping.delimiter,
            lenient=True,
        )
    except DeckError as broken:
        found.add(Finding(broken.row, broken.column or "file", broken.problem))
        return _refused(found)
    rows = TheirRows(sheet, given.mapping, Frame(str(run_id), currency, given.leg, from_at, to_at), found.add)

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in rows.chunks():
            yield b"" if found.count else chunk
            progress("reading", given.file.tell(), size)

    try:
        async with conn.transaction():
            await queries.reconcile.add_run.run(
                conn, run_id=run_id, account_id=party["account_id"], partner_id=party["partner_id"], leg=given.leg,
                from_at=given.from_at, to_at=given.to_at, currency=currency, file_name=given.name[-200:],
                sha256=sha256, mapping=json.dumps(given.mapping.to_json()), author=given.author,
                keep_months=given.keep_months,
            )  # fmt: skip
            await conn.copy_to_table("recon_row", source=chunks(), columns=COPIED, schema_name="bridge")
            if not found.count:
                progress("checking", 0, 0)
                await _check(conn, run_id, party, found)
            if found.count:
                raise _Refused
            await queries.reconcile.set_rows.run(conn, run_id=run_id, rows=rows.rows)
    except _Refused:
        return _refused(found)
    return {
        "state": "imported",
        "run_id": str(run_id),
        "rows": rows.rows,
        "unanswered": rows.unanswered,
        "other_leg": rows.other_leg,
        "ignored_columns": list(rows.ignored),
    }


def _known(mapping: FileMapping) -> Callable[[str], object | None]:
    """Headers that a mapping names are as well known as those everybody uses."""
    named = {header.strip().casefold() for headers in mapping.columns.values() for header in headers}
    return lambda header: header if header.strip().casefold() in named else column_of(header)


async def _check(conn: Connection, run_id: UUID, party: Row, found: _Findings) -> None:
    """What only all rows together show."""
    await queries.reconcile.room.run(conn)
    await queries.reconcile.temp_room.run(conn)
    await queries.reconcile.measure_rows.run(conn)
    async for row in queries.reconcile.repeated.stream(conn, run_id=run_id):
        found.add(Finding(row["row_no"], row["name"], f"is that of row {row['first_no']}, too"))
    await queries.reconcile.make_ours.run(conn)
    await queries.reconcile.fill_ours.run(conn, run_id=run_id, partner=party["partner"])
    await queries.reconcile.measure_ours.run(conn)
    counted = await queries.reconcile.swapped.one(conn, run_id=run_id)
    if crossed(counted["rows"], counted["straight"], counted["crossed"]):
        problem = (
            f"{counted['crossed']} of {counted['rows']} rows have as caller whom our calls were to: the columns are "
            "swapped. Map them the other way round"
        )
        found.add(Finding(0, "a_number, b_number", problem))


def _refused(found: _Findings) -> dict[str, Any]:
    errors = [{"row": one.row, "column": one.column, "problem": one.problem} for one in found.kept]
    return {"state": "refused", "error_count": found.count, "errors": errors}


async def match(
    conn: Connection, run_id: UUID, *, clock_ms: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Match a run's rows with our records as they are now, in place of what it was matched with before.

    clock_ms   is added to their times
    raises     NotFound · Conflict: our records of the period are not numbered yet, or their numbers are purged, so that
               calls cannot be told apart; or a dispute was opened on what the run says
    """
    async with conn.transaction():
        if await queries.reconcile.lock_run.one(conn, run_id=run_id) is None:
            raise NotFound(f"there is no run {run_id}. `callbridge reconcile list` names them")
        one = await queries.reconcile.run_of.one(conn, run_id=run_id)
        if await queries.reconcile.disputed.value(conn, run_id=run_id):
            raise Conflict(f"a dispute was opened on run {run_id}: what it says stays")
        if one["purged_at"] is not None:
            raise Conflict(
                f"the numbers of run {run_id} were purged on {one['purged_at']:%Y-%m-%d}: it cannot be matched"
            )
        horizon = await queries.sequence.horizon.value(conn)
        if horizon is None or horizon < one["to_at"]:
            numbered = f"{horizon:%Y-%m-%d %H:%M} UTC" if horizon else "never"
            raise Conflict(
                f"our records are numbered until {numbered}: match it after {one['to_at']:%Y-%m-%d %H:%M} UTC is"
            )
        party = await counterparty(conn, None, one["account_id"])
        terms = terms_of(party)
        summary = await _matched(conn, one, party, terms, clock_ms, progress)
        await queries.reconcile.matched.run(
            conn,
            run_id=run_id,
            clock_ms=clock_ms,
            terms=json.dumps(terms.to_json()),
            summary=json.dumps(summary),
        )
    return await run(conn, run_id)


async def _matched(
    conn: Connection, one: Row, party: Row, terms: Terms, clock_ms: int, progress: Progress
) -> dict[str, Any]:
    ask, run_id, partner = queries.reconcile, one["run_id"], party["partner"]

    def step(number: int) -> None:
        progress(f"matching: {_STEPS[number]}", number, len(_STEPS))

    near_ms = {"answer_ms": terms.answer_s * 1000, "duration_ms": terms.duration_s * 1000}
    step(0)
    await ask.room.run(conn)
    await ask.temp_room.run(conn)
    await ask.make_ours.run(conn)
    await ask.fill_ours.run(conn, run_id=run_id, partner=partner)
    await ask.measure_ours.run(conn)
    step(1)
    await ask.make_theirs.run(conn)
    await ask.fill_theirs.run(conn, run_id=run_id, clock_ms=clock_ms)
    await ask.measure_theirs.run(conn)
    step(2)
    await ask.make_pairs.run(conn)
    await ask.pair_by_call.run(conn)
    await ask.pair_by_record.run(conn)
    await ask.pair_by_sip.run(conn)
    await ask.measure_pairs.run(conn)
    left = await ask.leftover.one(conn)
    if left["purged"] and left["theirs"]:
        raise Conflict(
            f"the numbers of {left['purged']} of our {left['ours']} records of the period are purged, and "
            f"{left['theirs']} of their rows have no id of ours: they cannot be matched any more"
        )
    for number, near in ((3, True), (4, False)):
        step(number)
        await ask.pair_by_number.run(conn, **near_ms, bucket_ms=terms.bucket_ms, near=near)
        await ask.measure_pairs.run(conn)
    step(5)
    await ask.remove_matches.run(conn, run_id=run_id)
    await ask.keep_matches.run(
        conn,
        run_id=run_id,
        duration_ms=near_ms["duration_ms"],
        amount_micro=terms.amount_micro,
        amount_permyriad=terms.amount_permyriad,
    )
    rows = await ask.classes.all(conn, run_id=run_id)
    lag = await ask.clock.one(conn, **near_ms)
    classes = summed(rows)
    clock = clock_hint(lag["ms"], lag["calls"], lag["looked_at"], terms) if lag else None
    other = await ask.other_currency.value(conn, run_id=run_id, partner=partner)
    ways = {way: sum(row["calls"] for row in rows if row["way"] == way) for way in ("id", "number", "time")}
    return {"classes": classes, "ways": ways, "hints": hints(classes, clock, other, one["currency"])}


async def run(conn: Connection, run_id: UUID) -> dict[str, Any]:
    """raises   NotFound"""
    row = await queries.reconcile.run_of.one(conn, run_id=run_id)
    if row is None:
        raise NotFound(f"there is no run {run_id}. `callbridge reconcile list` names them")
    return shown(row)


async def runs(conn: Connection, rows: int = 50) -> list[dict[str, Any]]:
    """The latest, newest first."""
    return [shown(row) for row in await queries.reconcile.runs.all(conn, rows=rows)]


async def matches(conn: Connection, run_id: UUID, classes: Sequence[str], rows: int) -> list[Row]:
    """The calls of some classes, the largest differences first. raises NotFound"""
    await run(conn, run_id)
    return list(await queries.reconcile.matches.all(conn, run_id=run_id, classes=classes, rows=rows))


async def by_destination(conn: Connection, run_id: UUID, classes: Sequence[str], rows: int) -> list[Row]:
    """raises   NotFound"""
    await run(conn, run_id)
    return list(await queries.reconcile.by_destination.all(conn, run_id=run_id, classes=classes, rows=rows))


async def remove(conn: Connection, run_id: UUID) -> None:
    """Take an import back, so that the file can be read in another way. raises NotFound · Conflict: it is disputed"""
    async with conn.transaction():
        if await queries.reconcile.lock_run.one(conn, run_id=run_id) is None:
            raise NotFound(f"there is no run {run_id}")
        if await queries.reconcile.disputed.value(conn, run_id=run_id):
            raise Conflict(f"a dispute was opened on run {run_id}: it stays")
        await queries.reconcile.remove_matches.run(conn, run_id=run_id)
        await queries.reconcile.remove_rows.run(conn, run_id=run_id)
        await queries.reconcile.remove_run.run(conn, run_id=run_id)


def shown(row: Row) -> dict[str, Any]:
    """A run as it is told: instants as texts, sums as micro-units."""
    kept = json.loads(row["summary"]) if row["summary"] else {"classes": None, "ways": None, "hints": []}
    return {
        "run_id": str(row["run_id"]),
        "counterparty": row["partner"] or row["counterparty"],
        "account_id": str(row["account_id"]),
        "leg": row["leg"],
        "from": row["from_at"].isoformat(),
        "to": row["to_at"].isoformat(),
        "currency": row["currency"],
        "file_name": row["file_name"],
        "file_sha256": row["file_sha256"].hex(),
        "rows": row["rows"],
        "state": row["state"],
        "clock_s": row["clock_ms"] / 1000,
        "terms": json.loads(row["terms"]) if row["terms"] else None,
        "author": row["author"],
        "made_at": row["made_at"].isoformat(),
        "matched_at": row["matched_at"].isoformat() if row["matched_at"] else None,
        **kept,
    }
