"""Accounts and bookings in the database."""

from __future__ import annotations

from bridge import queries
from bridge.database import Connection


async def system_account(conn: Connection, role: str, currency: str) -> str:
    """The id of our own account for a role (revenue, cost, cash) in a currency; made when first needed."""
    return str(await queries.ledger.system_account.value(conn, name=f"{role} {currency}", currency=currency))


async def top_up(
    conn: Connection, account_id: str, amount_micro: int, currency: str, *, key: str, note: str = ""
) -> str:
    """Book money that came in. Returns the transfer's id; the same key again returns the first one.

    raises   StoreError: not positive · Conflict: the key was used for another one
             NotFound: no such account in this currency
    """
    cash = await system_account(conn, "cash", currency)
    return str(
        await queries.ledger.top_up.value(
            conn, account_id=account_id, amount_micro=amount_micro, source_id=cash, key=key, note=note
        )
    )
