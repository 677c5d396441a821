"""Accounts of partners and of their subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.rating.store.allowances import buy

Row = Mapping[str, Any]
SUBSCRIBERS: Final = "subscriber"  # the kind of account that calls are paid from


@dataclass(frozen=True, slots=True)
class SpendCap:
    """period   day or month, as Europe/Berlin has them"""

    cap_micro: int
    period: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What is None stays.

    clear   of call_cap, low_balance and spend_cap, what there shall be none of
    """

    credit_limit_micro: int | None = None
    call_cap: int | None = None
    low_balance_micro: int | None = None
    spend_cap: SpendCap | None = None
    clear: tuple[str, ...] = ()


async def accounts(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    kind: str | None = None,
    state: str | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`; of a partner or of all."""
    asked = {"before": before, "rows": rows, "kind": kind, "state": state}
    if partner_id is not None:
        return list(await queries.accounts.accounts_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.accounts.accounts.all(conn, **asked))


async def account(conn: Connection, account_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.accounts.account.one(conn, account_id=account_id)
    if row is None:
        raise NotFound("There is no such account.")
    return row


async def subscribers_account(conn: Connection, account_id: UUID) -> Row:
    """An account that calls are paid from.

    raises   NotFound · Conflict: it is of another kind
    """
    row = await account(conn, account_id)
    if row["kind"] != SUBSCRIBERS:
        raise Conflict("This is done with accounts of subscribers only.")
    return row


async def entries(conn: Connection, account_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """What was booked, one row a transfer, newest first."""
    return list(await queries.accounts.entries.all(conn, account_id=account_id, before=before, rows=rows))


async def transfer(conn: Connection, account_id: UUID, transfer_id: UUID) -> Row:
    """The account's side of a transfer."""
    row: Row = await queries.accounts.transfer.one(conn, account_id=account_id, transfer_id=transfer_id)
    return row


async def holds(conn: Connection, account_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """Those that are open, newest first."""
    return list(await queries.accounts.holds.all(conn, account_id=account_id, before=before, rows=rows))


async def allowances(conn: Connection, account_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """What an account has and had of bundles, newest first. As ours."""
    return list(await queries.accounts.allowances.all(conn, account_id=account_id, before=before, rows=rows))


async def buy_bundle(
    conn: Connection, account: Row, bundle_id: UUID, *, key: str, author: str, at: datetime
) -> Row:
    """Buy one of the account's partner's bundles. As ours.

    raises   NotFound: no such bundle, or not for sale to this account · InsufficientFunds
             Conflict: the key was used for another purchase
    """
    name = await queries.accounts.bundle_of.value(conn, bundle_id=bundle_id, partner_id=account["partner_id"])
    if name is None:
        raise NotFound("There is no such bundle.")
    bought = await buy(conn, str(account["account_id"]), name, key=key, author=author, at=at)
    row: Row = await queries.accounts.allowance.one(conn, allowance_id=bought)
    return row


async def change_account(conn: Connection, account_id: UUID, edition: int, settings: Settings) -> Row | None:
    """As ours. Returns None when the account is of another edition by now."""
    if not await queries.accounts.change.value(
        conn,
        account_id=account_id,
        edition=edition,
        credit_limit_micro=settings.credit_limit_micro,
        call_cap=settings.call_cap,
        low_balance_micro=settings.low_balance_micro,
        clear=list(settings.clear),
    ):
        return None
    cap = settings.spend_cap
    if cap is not None or "spend_cap" in settings.clear:
        await set_spend_cap(conn, account_id, cap)
    return await account(conn, account_id)


async def set_spend_cap(conn: Connection, account_id: UUID, cap: SpendCap | None) -> None:
    """What was spent in the day or month before counts, too. None: no cap. As ours."""
    await queries.accounts.set_spend_cap.run(
        conn,
        account_id=account_id,
        cap_micro=cap.cap_micro if cap else None,
        period=cap.period if cap else None,
    )
