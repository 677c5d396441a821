"""Carrier partners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Invalid, NotFound
from bridge.telephony.money import check_currency

Row = Mapping[str, Any]


async def partners(conn: Connection, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(await queries.partners.partners.all(conn, before=before, rows=rows))


async def partner(conn: Connection, partner_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.partners.partner.one(conn, partner_id=partner_id)
    if row is None:
        raise NotFound("There is no such partner.")
    return row


async def add_partner(conn: Connection, name: str, currency: str) -> Row:
    """A partner with its account.

    raises   Conflict: the name is taken · Invalid: no currency
    """
    try:
        check_currency(currency)
    except ValueError as error:
        raise Invalid(str(error)) from None
    row: Row = await queries.partners.add_partner.one(conn, name=name, currency=currency)
    return row


async def change_partner(
    conn: Connection, partner_id: UUID, edition: int, *, name: str | None, state: str | None
) -> Row | None:
    """What is None stays. Returns None when the partner is of another edition by now."""
    row: Row | None = await queries.partners.change_partner.one(
        conn, partner_id=partner_id, edition=edition, name=name, state=state
    )
    return row
