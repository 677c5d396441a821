"""Billing details of partners."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.exports.billing import FIELDS, Billing, checked, details
from bridge.partners.store import partner as partner_row

Row = Mapping[str, Any]


async def billing_row(conn: Connection, partner_id: UUID) -> Row | None:
    """As kept, with edition and changed_at. None: there are none."""
    row: Row | None = await queries.invoices.billing.one(conn, partner_id=partner_id)
    return row


async def billing(conn: Connection, partner_id: UUID) -> Billing:
    """raises   NotFound, with how to give them"""
    row = await billing_row(conn, partner_id)
    if row is None:
        raise NotFound(
            f"There are no billing details of prt_{partner_id.hex}. "
            f"Give them: callbridge partner billing prt_{partner_id.hex} --legal-name … --country …"
        )
    return Billing(**{name: row[name] for name in FIELDS})


async def put_billing(
    conn: Connection, partner_id: UUID, given: Mapping[str, Any], edition: int = 0
) -> Row | None:
    """Keep a partner's details, all of them. As ours.

    edition  the one they replace; 0: there are none yet
    returns  None: they are of another edition by now
    raises   NotFound: no such partner · Invalid: something cannot be right
    """
    kept = json.dumps(details(checked(given)))
    await partner_row(conn, partner_id)
    if edition:
        done = await queries.invoices.change_billing.one(
            conn, partner_id=partner_id, details=kept, edition=edition
        )
    else:
        done = await queries.invoices.add_billing.one(conn, partner_id=partner_id, details=kept)
    return None if done is None else await billing_row(conn, partner_id)


async def merge_billing(conn: Connection, partner_id: UUID, changed: Mapping[str, Any]) -> Row:
    """Change some of a partner's details, in a transaction. raises as `put_billing`"""
    row = await billing_row(conn, partner_id)
    before = {name: row[name] for name in FIELDS} if row else {}
    put = await put_billing(conn, partner_id, before | dict(changed), row["edition"] if row else 0)
    if put is None:
        return await merge_billing(conn, partner_id, changed)
    return put
