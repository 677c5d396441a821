"""What a subscriber's bill is made of, and how it was chosen to name numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Invalid, NotFound
from bridge.ledger.listing import balance_of
from bridge.reports.bill import (
    COUNSELLING,
    SHORTENED,
    Bill,
    Booking,
    Call,
    Numbers,
    Sum,
    Used,
    bill,
    tax_ppm_of,
)
from bridge.reports.period import Period
from bridge.telephony.number import Number, parse_dialled

_E164: Final = re.compile(r"\+[1-9][0-9]{2,14}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose bill it is, and whose account pays."""

    subscriber_id: UUID
    a_number: str
    partner_id: UUID | None
    account_id: UUID
    account: str
    currency: str
    funding: str


async def holder(conn: Connection, subscriber_id: UUID) -> Holder:
    """raises   NotFound"""
    row = await queries.bills.subscriber.one(conn, subscriber_id=subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    return Holder(**row)


async def holder_named(conn: Connection, text: str) -> Holder:
    """A subscriber by id or by number; of a number that had several, the newest. raises NotFound"""
    if _E164.fullmatch(text):
        rows = await queries.bills.subscriber_named.all(conn, a_number=text)
        if rows:
            return await holder(conn, rows[0]["subscriber_id"])
    try:
        key = UUID(text.removeprefix("sub_"))
    except ValueError:
        raise NotFound("no subscriber has this number or id. Write +49… or sub_…") from None
    return await holder(conn, key)


async def read_bill(conn: Connection, whose: Holder, period: Period, protected: frozenset[str]) -> Bill:
    """The bill of a period, read in one moment.

    protected   counselling lines beside those that are known: see `protected_lines`
    """
    span: dict[str, Any] = {"since": period.since, "until": period.until}
    mine = {"account_id": whose.account_id, "subscriber_id": whose.subscriber_id, **span}
    calls = [_call(row) for row in await queries.bills.calls.all(conn, **mine)]
    others = await queries.bills.others.one(conn, **mine)
    used = await queries.bills.usage.all(conn, account_id=whose.account_id, **span)
    bookings = await queries.bills.bookings.all(conn, account_id=whose.account_id, **span)
    balance = None
    if whose.funding == "prepaid":
        balance = (
            await balance_of(conn, whose.account_id, period.since),
            await balance_of(conn, whose.account_id, period.until),
        )
    numbers: Numbers | None = await queries.bills.choice_before.value(
        conn, subscriber_id=whose.subscriber_id, at=period.since
    )
    return bill(
        calls,
        [
            Used(
                row["ended_at"],
                row["service"],
                row["quantity"],
                row["charged_quantity"],
                row["amount_micro"],
                tax_ppm_of(json.loads(row["tax"]) if row["tax"] else None),
            )
            for row in used
        ],
        [Booking(row["booked_at"], row["kind"], row["amount_micro"], row["bundle"]) for row in bookings],
        Sum(others["calls"], others["amount_micro"]),
        numbers=numbers or SHORTENED,
        protected=COUNSELLING | protected,
        balance=balance,
    )


def protected_lines(named: tuple[str, ...], home: str) -> frozenset[str]:
    """Lines as settings name them, as E.164. raises Invalid: one is no number"""
    found = set()
    for text in named:
        number = parse_dialled(text, home=home)
        if not isinstance(number, Number):
            raise Invalid(
                f"bills.counselling: {text[:30]!r} is no number. Write it as 0800 1110111 or +49800…"
            )
        found.add(number.e164)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen last, and when; None: nobody has chosen. edition: how often somebody has."""

    numbers: Numbers
    chosen_at: datetime | None
    edition: int


async def choice(conn: Connection, subscriber_id: UUID) -> Choice:
    row = await queries.bills.choice.one(conn, subscriber_id=subscriber_id)
    return Choice(row["numbers"], row["chosen_at"], row["edition"]) if row else Choice(SHORTENED, None, 0)


async def choose(
    conn: Connection, whose: Holder, numbers: Numbers, actor: str, edition: int | None = None
) -> Choice | None:
    """For the months that begin from now on. Those that have begun keep what was chosen before them.

    edition   it is only chosen on this one; None: on any. conn: in a transaction
    returns   None: somebody else has chosen meanwhile
    """
    await queries.bills.lock.run(conn, subscriber_id=whose.subscriber_id)
    row = await queries.bills.choose.one(
        conn,
        subscriber_id=whose.subscriber_id,
        partner_id=whose.partner_id,
        numbers=numbers,
        actor=actor,
        edition=edition,
    )
    return await choice(conn, whose.subscriber_id) if row else None


def _call(row: Mapping[str, Any]) -> Call:
    number = row["b_number"]
    known = number is not None and bool(_E164.fullmatch(number))
    return Call(
        row["answered_at"] or row["ended_at"],
        number if known else None,
        row["destination"],
        row["talk_ms"],
        row["billed_s"],
        row["covered_s"],
        row["amount_micro"],
        tax_ppm_of(json.loads(row["tax"]) if row["tax"] else None),
        row["purpose"],
        row["kind"],
        known,
    )
