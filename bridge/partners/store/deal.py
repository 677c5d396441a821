"""Deals with partners and their versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.partners.deal import Terms, may_become
from bridge.telephony.money import check_currency

Row = Mapping[str, Any]


async def deals(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    state: str | None = None,
    in_force_at: datetime | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(
        await queries.deals.deals.all(
            conn, before=before, rows=rows, partner_id=partner_id, state=state, in_force_at=in_force_at
        )
    )


async def deal(conn: Connection, deal_id: UUID) -> Row:
    """With its last version. raises   NotFound"""
    row: Row | None = await queries.deals.deal.one(conn, deal_id=deal_id)
    if row is None:
        raise NotFound("There is no such deal.")
    return row


async def add_deal(conn: Connection, partner_id: UUID, name: str, currency: str) -> UUID:
    """The id of a draft without any version yet: it is there once it is agreed on. raises   Invalid: no currency"""
    try:
        check_currency(currency)
    except ValueError as error:
        raise Invalid(str(error)) from None
    deal_id: UUID = await queries.deals.add_deal.value(
        conn, partner_id=partner_id, name=name, currency=currency
    )
    return deal_id


async def agree(
    conn: Connection,
    deal_id: UUID,
    based_on: int,
    terms: Terms,
    *,
    from_at: datetime | None,
    until_at: datetime | None,
    note: str,
    author: str,
) -> Row:
    """The deal's next version. It takes the place of those before from its begin on, which is now where none is given.

    based_on   the last version its author knows; 0 for the first
    raises     Conflict: there is a later one by now, or the deal has ended · Invalid: it begins in the past, though
               the deal is signed, or ends before it begins
    """
    number = await queries.deals.agree.value(
        conn, deal_id=deal_id, based_on=based_on, from_at=from_at, until_at=until_at,
        terms=json.dumps(terms.to_json()), note=note, author=author,
    )  # fmt: skip
    return await version(conn, deal_id, number)


async def change_deal(
    conn: Connection, deal_id: UUID, edition: int, *, name: str | None, state: str | None
) -> Row | None:
    """What is None stays. Returns None when the deal is of another edition by now.

    raises   Conflict: a deal of its state does not become that
    """
    held = await queries.deals.lock_deal.one(conn, deal_id=deal_id)
    if held is None or held["edition"] != edition:
        return None
    if state is not None and state != held["state"]:
        if not may_become(held["state"], state):
            raise Conflict(f"A deal that is {held['state']} does not become {state}.")
        change = queries.deals.sign_deal if state == "signed" else queries.deals.end_deal
        await change.run(conn, deal_id=deal_id)
    await queries.deals.name_deal.run(conn, deal_id=deal_id, name=name)
    return await deal(conn, deal_id)


async def version(conn: Connection, deal_id: UUID, number: int) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.deals.version.one(conn, deal_id=deal_id, version=number)
    if row is None:
        raise NotFound("The deal has no such version.")
    return row


async def versions(
    conn: Connection, deal_id: UUID, before: UUID, rows: int, in_force_at: datetime | None = None
) -> Sequence[Row]:
    """Newest first. in_force_at: the one in force at that instant only, if any is."""
    return list(
        await queries.deals.versions.all(
            conn, deal_id=deal_id, before=before, rows=rows, in_force_at=in_force_at
        )
    )


async def terms_in_force(conn: Connection, partner_id: UUID, at: datetime) -> Sequence[Terms]:
    """Of all deals with a partner, the terms that count at an instant."""
    rows = await queries.deals.terms_in_force.all(conn, partner_id=partner_id, at=at)
    return [Terms.from_json(json.loads(row["terms"])) for row in rows]


async def bundle_of(
    conn: Connection, partner_id: UUID, *, bundle_id: UUID | None, name: str | None
) -> tuple[UUID, str]:
    """A bundle that the partner's subscribers may buy, by its id or its name. raises   NotFound"""
    row = await queries.deals.bundle_named.one(conn, bundle_id=bundle_id, name=name, partner_id=partner_id)
    if row is None:
        raise NotFound("There is no such bundle for this partner.")
    return row["bundle_id"], row["name"]
