"""What a statement follows from, read from the books: sums of records, purchases, disputes, rates and terms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid
from bridge.ledger.exchange import RATE_DAYS_MAX, FxRate, known
from bridge.partners.deal import Terms
from bridge.partners.month import month as month_of_text
from bridge.partners.month import zone_of
from bridge.partners.statement_inputs import (
    CARRIAGE,
    Evidence,
    Inputs,
    Outcome,
    Part,
    PurchaseSum,
    Rate,
    RecordSum,
)
from bridge.partners.statement_parts import Agreed, parts_of
from bridge.partners.store.account import Row


@dataclass(frozen=True, slots=True)
class Sums:
    """All that was counted and booked in a period, by its parts."""

    records: tuple[RecordSum, ...]
    purchases: tuple[PurchaseSum, ...]


async def inputs_of(conn: Connection, deal: Row, month: str, zone: str) -> Inputs:
    """The inputs of a deal's statement for a month that is numbered to its end.

    raises   Invalid: the deal was not in force in that month · Conflict: the numbering is under way, or two deals
             say something of the same kind
    """
    from_at, to_at = month_of_text(month, zone)
    deal_id, partner_id = deal["deal_id"], deal["partner_id"]
    agreed = [
        Agreed(
            row["deal_id"].hex, row["name"], row["version"], row["from_at"], row["until_at"],
            Terms.from_json(json.loads(row["terms"])),
        )
        for row in await queries.statements.agreed.all(conn, partner_id=partner_id, from_at=from_at, to_at=to_at)
    ]  # fmt: skip
    if not any(one.deal == deal_id.hex for one in agreed):
        raise Invalid(f"The deal {deal['name']!r} was not in force in {month}.")
    parts, late = parts_of(deal_id.hex, agreed, from_at, to_at, zone_of(zone))
    sums = await sums_of(conn, partner_id, parts)
    outcomes = await _outcomes(conn, deal, from_at, to_at) if CARRIAGE in late else ()
    last_day = (to_at - timedelta(microseconds=1)).astimezone(zone_of(zone)).date()
    units = {one.currency for one in sums.records if one.amount_micro}
    units |= {one.currency for one in sums.purchases if one.amount_micro}
    units |= {one.currency for one in outcomes}
    return Inputs(
        month=month,
        time_zone=zone,
        from_at=from_at,
        to_at=to_at,
        last_day=last_day,
        currency=deal["currency"],
        parts=parts,
        late=late,
        records=sums.records,
        purchases=sums.purchases,
        fx=await _rates(conn, deal["currency"], units - {deal["currency"]}, last_day),
        outcomes=outcomes,
        evidence=await _evidence(conn, partner_id, from_at, to_at),
    )


async def sums_of(conn: Connection, partner_id: UUID, parts: Sequence[Part]) -> Sums:
    """What a partner's records and its subscribers' purchases come to, in each part of a period."""
    asked = {
        "partner_id": partner_id,
        "from_at": parts[0].from_at,
        "to_at": parts[-1].until_at,
        "edges": [part.from_at for part in parts],
    }
    records = [
        RecordSum(
            row["leg"], row["part"], row["purpose"], row["currency"], row["tax_ppm"], row["carrier"],
            int(row["calls"]), int(row["billed_s"]), int(row["amount_micro"]),
        )
        for row in await queries.statements.records.all(conn, **asked)
    ]  # fmt: skip
    records += [
        RecordSum(
            "zero_cost", row["part"], row["purpose"], row["currency"], 0, "",
            int(row["calls"]), int(row["billed_s"]), int(row["amount_micro"]),
        )
        for row in await queries.statements.zero_costs.all(conn, **asked)
    ]  # fmt: skip
    purchases = [
        PurchaseSum(
            row["part"],
            row["bundle_id"].hex,
            row["currency"],
            int(row["purchases"]),
            int(row["amount_micro"]),
            row["tax_ppm"],
        )
        for row in await queries.statements.purchases.all(conn, **asked)
    ]
    return Sums(tuple(sorted(records)), tuple(sorted(purchases)))


async def _outcomes(conn: Connection, deal: Row, from_at: datetime, to_at: datetime) -> tuple[Outcome, ...]:
    """Of disputes with the partner: they are on the statement of the deal that settles its traffic."""
    rows = await queries.statements.outcomes.all(
        conn, partner_id=deal["partner_id"], from_at=from_at, to_at=to_at, currency=deal["currency"]
    )
    return tuple(
        sorted(
            Outcome(
                f"dsp_{row['dispute_id'].hex}",
                row["title"],
                row["currency"],
                row["booked_on"],
                int(row["amount_micro"]),
                row["about"],
            )
            for row in rows
        )
    )


async def _rates(conn: Connection, currency: str, units: set[str], last_day: date) -> tuple[Rate, ...]:
    """Those in force on the month's last day between the deal's currency and others that occur."""
    if not units:
        return ()
    rows = await queries.ledger.fx_known.all(
        conn, since=last_day - timedelta(days=RATE_DAYS_MAX), until=last_day
    )
    rates = known(FxRate(**row) for row in rows).values()
    return tuple(
        sorted(
            Rate(one.base, one.quote, one.valid_on, one.rate_nano)
            for one in rates
            if currency in (one.base, one.quote) and {one.base, one.quote} & units
        )
    )


async def _evidence(conn: Connection, partner_id: UUID, from_at: datetime, to_at: datetime) -> Evidence:
    """raises   Conflict: the days of the month are not chained yet"""
    day = to_at.astimezone(UTC).date() - timedelta(days=1)  # the last that is over when the month is
    row = await queries.statements.evidence.one(
        conn, partner_id=partner_id, from_at=from_at, to_at=to_at, day=day
    )
    if row["house_last_no"] and not row["closed"]:
        raise Conflict(f"The days until {day} are being numbered. Ask again in a moment.")
    return Evidence(
        first_no=row["first_no"],
        last_no=row["last_no"],
        records=row["records"],
        house_last_no=row["house_last_no"],
        hash_day=day.isoformat(),
        hash=row["hash"].hex() if row["hash"] else "",
    )
