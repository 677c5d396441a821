"""Calls by order as requests write and read them. The switch's keeper does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound, SwitchUnavailable
from bridge.telephony.cause import Refuse
from bridge.telephony.number import Number, parse_dialled

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the events of one call by order go, and the bearer token they are sent with."""

    url: str
    token: str | None = None
    until: datetime | None = None


class TooManyOrders(Conflict):
    """A partner has as many calls by order in flight as it may."""


class SameNumber(Conflict):
    """A and B are one."""


async def originations(
    conn: Connection, before: UUID, rows: int, *, partner_id: UUID | None = None
) -> Sequence[Row]:
    """Newest first, those older than `before`. None: of all."""
    if partner_id is not None:
        return list(
            await queries.originations.originations_partner.all(
                conn, partner_id=partner_id, before=before, rows=rows
            )
        )
    return list(await queries.originations.originations.all(conn, before=before, rows=rows))


async def origination(conn: Connection, origination_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.originations.origination.one(conn, origination_id=origination_id)
    if row is None:
        raise NotFound("There is no such origination.")
    return row


async def payer(conn: Connection, *, subscriber_id: UUID | None = None, a_number: str | None = None) -> Row:
    """Who is to be A.

    raises   NotFound · Conflict: the number is a subscriber's in several apps
    """
    rows = await queries.originations.payer.all(conn, subscriber_id=subscriber_id, a_number=a_number)
    if not rows:
        raise NotFound("There is no such subscriber.")
    if len(rows) > 1 and rows[1]["state"] == rows[0]["state"]:
        raise Conflict("Several apps have a subscriber of this number. Name the subscriber_id.")
    found: Row = rows[0]
    return found


def other_party(a_number: str, b_number: str, home: str) -> str | Refuse:
    """B's number as it is dialled, or why it is none.

    raises   SameNumber
    """
    number = parse_dialled(b_number, home=home)
    if not isinstance(number, Number):
        return number
    if number.e164 == a_number:
        raise SameNumber("A and B are the same number.")
    return number.e164


async def add_origination(
    conn: Connection, switch: str, subscriber_id: UUID, b_number: str, sink: Sink | None, open_max: int
) -> Row:
    """Order a call. It begins when the keeper hears of it, within milliseconds of the commit.

    raises   TooManyOrders · Conflict: A is being connected with B already · SwitchUnavailable: there is none yet
    """
    said = await queries.originations.add.one(
        conn,
        switch=switch,
        subscriber_id=subscriber_id,
        b_number=b_number,
        sink_url=sink.url if sink else None,
        sink_token=sink.token if sink else None,
        sink_until=sink.until if sink else None,
        open_max=open_max,
    )
    match said["said"]:
        case "open":
            raise Conflict("A is being connected with B already.")
        case "full":
            raise TooManyOrders(f"{open_max} originations are in flight.")
        case "no_switch":
            raise SwitchUnavailable("No worker has been here yet to say which switch is ours.")
    return await origination(conn, said["origination_id"])


async def cancel(conn: Connection, origination_id: UUID) -> None:
    """Hang up whatever there is of it; once it is over this does nothing."""
    await queries.originations.cancel.run(conn, origination_id=origination_id)


async def hang_up(conn: Connection, call_id: UUID, partner_id: UUID | None) -> Row:
    """Hang up a call; one that is over stays as it is.

    partner_id   whose call it must be; None: anybody's
    raises       NotFound
    """
    row: Row | None = await queries.originations.call_of.one(conn, call_id=call_id, partner_id=partner_id)
    if row is None:
        raise NotFound("There is no such call.")
    await queries.originations.hang_up.run(conn, call_id=call_id)
    return row
