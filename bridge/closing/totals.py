"""Every total of a month from every side that has it: records, prices, ledger, files, statements, invoices, reports."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.closing.agreement import HOUSE, SECONDS, Agreement, Sums, laid, money, summed
from bridge.closing.closing import Closing
from bridge.closing.reading import Read, read
from bridge.database import Connection
from bridge.errors import InvariantBroken
from bridge.exports.store.cdr_files import file_of

Row = Mapping[str, Any]


@dataclass(slots=True)
class _Recipient:
    """Files of one recipient in the month, by sort."""

    code: str
    partner_id: UUID | None
    partner: str | None
    types: tuple[str, ...]
    files: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def covers(self, from_at: datetime, to_at: datetime) -> bool:
        """All records of the month are in its files."""
        return set(self.types) == {"cdr", "quality", "correction"} and all(
            rows and rows[0]["from_at"] == from_at and rows[-1]["to_at"] == to_at
            for rows in (self.files[one] for one in self.types)
        )


async def lay_records(conn: Connection, of: Closing) -> None:
    """Records, prices, ledger and files."""
    given = {"from_at": of.from_at, "to_at": of.to_at}
    rows = await queries.closing.records.all(conn, **given)
    files: dict[UUID | None, dict[str, Sums]] = defaultdict(dict)
    names: dict[UUID | None, str] = {}
    for one in await _recipients(conn, given):
        names[one.partner_id] = one.partner or HOUSE
        if not one.covers(of.from_at, of.to_at):
            of.notes.append(
                f"the files of {one.code} are of other periods or of some sorts only: not laid beside"
            )
            continue
        if any(row["format"] == "tap3" for rows in one.files.values() for row in rows):
            of.notes.append(f"the files of {one.code} are TAP3, which is not read back: not laid beside")
            continue
        try:
            files[one.partner_id][f"files of {one.code}"] = await _read(conn, one, given, of)
        except InvariantBroken as broken:
            of.problems.append(f"files of {one.code}: {broken}")
    house = summed(rows)
    of.agreements += laid(HOUSE, {**files.pop(None, {}), "records": house})
    of.agreements += await _prices(conn, given, house)
    for partner_id, read_of in files.items():
        own = summed(row for row in rows if row["partner_id"] == partner_id)
        of.agreements += laid(names[partner_id], {**read_of, "records": own})


async def _prices(conn: Connection, given: Mapping[str, Any], house: Sums) -> list[Agreement]:
    """What the records say, what they were made of, and what the ledger says."""
    priced = [
        *await queries.closing.priced.all(conn, **given),
        *await queries.closing.repriced.all(conn, **given),
    ]
    made = summed({"records": 0, "talk_ms": 0, **row} for row in priced)
    paid: dict[str, int] = defaultdict(int)
    owed: dict[str, int] = defaultdict(int)
    for row in await queries.closing.booked.all(conn, **given):
        if row["kind"] == "subscriber":
            paid[row["currency"]] -= row["amount_micro"]
        else:
            owed[row["currency"]] += row["amount_micro"]
    return [
        Agreement(HOUSE, "billed, from prices", SECONDS, {"records": house.billed_s, "prices": made.billed_s}),
        *money(HOUSE, "paid, from the ledger", {"records": house.paid, "prices": made.paid, "ledger": paid}),
        *money(
            HOUSE, "owed to carriers, from the ledger",
            {"records": house.owed, "prices": made.owed, "ledger": owed},
        ),
    ]  # fmt: skip


async def _recipients(conn: Connection, given: Mapping[str, Any]) -> list[_Recipient]:
    found: dict[str, _Recipient] = {}
    for row in await queries.closing.files.all(conn, **given):
        one = found.setdefault(
            row["code"], _Recipient(row["code"], row["partner_id"], row["partner"], tuple(row["types"]))
        )
        one.files[row["type"]].append(row)
    return list(found.values())


async def _read(conn: Connection, one: _Recipient, given: Mapping[str, Any], of: Closing) -> Sums:
    """Add up what lies there."""
    numbers = await queries.closing.numbers.one(conn, partner_id=one.partner_id, **given)
    into = Read(numbers["first_no"], numbers["last_no"])
    rows = [row for kind in one.types for row in one.files[kind]]
    for row in rows:
        if row["state"] == "planned":
            raise InvariantBroken("one is planned and was never written")
        place = of.settings.exports.folder / (await file_of(conn, row["file_id"])).place
        await asyncio.to_thread(read, place, row["format"], row["sha256"], into)
        of.progress(f"reading files of {one.code}", into.files, len(rows))
    if (gap := into.gap()) is not None:
        of.problems.append(f"files of {one.code}: {gap}")
    return summed(into.sums())
