"""Accounts and what was booked on them, for people: money as decimal strings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.telephony.money import format_micro

ENTRIES_MAX: Final = 10_000  # of one statement
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def account_id_of(conn: Connection, name: str) -> str:
    """raises   NotFound: no account has that name"""
    return str((await _named(conn, name))["account_id"])


async def accounts(conn: Connection) -> list[dict[str, Any]]:
    """All accounts. `balance` is None where it is the sum of many entries, which `account` adds up."""
    return [
        _shown(row, row["balance_micro"] if row["tracked"] else None)
        for row in await queries.ledger.accounts.all(conn)
    ]


async def account(conn: Connection, name: str, at: datetime) -> dict[str, Any]:
    """One account with its balance; that of carriers, partners and our own is the sum of their entries before `at`.

    raises   NotFound: no account has that name
    """
    row = await _named(conn, name)
    if row["tracked"]:
        return _shown(row, row["balance_micro"])
    return _shown(row, await balance_of(conn, row["account_id"], at))


async def balance_of(conn: Connection, account_id: UUID, at: datetime) -> int:
    """The sum of an account's entries before `at`, in micro-units, as far as whoever asks may see them."""
    return int(await queries.ledger.balance_before.value(conn, account_id=account_id, before=at))


async def statement(conn: Connection, name: str, since: datetime, until: datetime) -> dict[str, Any]:
    """The entries of an account booked from `since` to before `until`, in that order, with the balance after each.

    `more`: there are more than ENTRIES_MAX, and the closing balance is that after the last one listed.

    raises   NotFound: no account has that name
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        row = await _named(conn, name)
        account_id = row["account_id"]
        opening = await balance_of(conn, account_id, since)
        rows = await queries.ledger.statement.all(
            conn, account_id=account_id, since=since, until=until, most=ENTRIES_MAX + 1
        )
    balance, entries = opening, []
    for one in rows[:ENTRIES_MAX]:
        balance += one["amount_micro"]
        entries.append(
            {
                "transfer_id": str(one["transfer_id"]),
                "kind": one["kind"],
                "booked_at": one["booked_at"].isoformat(),
                "value_at": (one["value_at"] or one["booked_at"]).isoformat(),
                "author": one["author"],
                "note": one["note"],
                "reverses": str(one["reverses"]) if one["reverses"] else None,
                "amount": format_micro(one["amount_micro"]),
                "balance": format_micro(balance),
            }
        )
    return {
        "name": row["name"],
        "currency": row["currency"],
        "since": since.isoformat(),
        "until": until.isoformat(),
        "opening": format_micro(opening),
        "entries": entries,
        "closing": format_micro(balance),
        "more": len(rows) > ENTRIES_MAX,
    }


async def periods(conn: Connection) -> list[dict[str, Any]]:
    """The closings of the books, newest first."""
    return [
        {
            "closed_until": row["closed_until"].isoformat(),
            "closed_at": row["closed_at"].isoformat(),
            "author": row["author"],
        }
        for row in await queries.ledger.periods.all(conn)
    ]


async def _named(conn: Connection, name: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] | None = await queries.ledger.account.one(conn, name=name)
    if row is None:
        raise NotFound(f"no account is named {name[:80]!r}: `callbridge account list` shows their names")
    return row


def _shown(row: Mapping[str, Any], balance_micro: int | None) -> dict[str, Any]:
    limit_micro = row["credit_limit_micro"] if row["funding"] == "postpaid" else 0
    return {
        "account_id": str(row["account_id"]),
        "name": row["name"],
        "kind": row["kind"],
        "state": row["state"],
        "funding": row["funding"] if row["tracked"] else None,
        "currency": row["currency"],
        "balance": format_micro(balance_micro) if balance_micro is not None else None,
        "held": format_micro(row["held_micro"]) if row["tracked"] else None,
        "available": format_micro(row["balance_micro"] - row["held_micro"] + limit_micro)
        if row["tracked"]
        else None,
        "credit_limit": format_micro(limit_micro) if limit_micro else None,
        "call_cap": row["call_cap"],
        "created_at": row["created_at"].isoformat(),
    }
