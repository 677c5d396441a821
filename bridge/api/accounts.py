"""Accounts: what is on them, what was booked, what is held, and what money and bundles are put on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.amounts import PARTNERS_CREDIT_MAX_MICRO, NotNegative, Positive
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AccountId,
    AllowanceId,
    Body,
    BundleId,
    CallId,
    CurrencyCode,
    Line,
    PartnerId,
    Told,
    TransferId,
    sample,
    show_at,
    show_id,
    show_money,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.ledger.listing import balance_of
from bridge.ledger.store import top_up
from bridge.partners import store

router = routes("accounts")
Reader = Annotated[Desk, Depends(Needs("accounts:read"))]
Writer = Annotated[Desk, Depends(Needs("accounts:write"))]

Kind = Literal["subscriber", "carrier", "partner", "system"]
State = Literal["active", "suspended", "closed"]
Period = Literal["day", "month"]
CALLS_MAX: Final = 1_000_000
CLEARED: Final = ("call_cap", "low_balance", "spend_cap")  # null: none of it


class SpendCap(Body):
    """What calls may cost in a day or month of Europe/Berlin. Messages, data and bundles count and are not refused."""

    amount: NotNegative = Field(examples=["20.00"])
    period: Period


class ToldSpendCap(Told):
    amount: str
    period: Period
    spent: str = Field(description="In the day or month that goes on; what is held comes on top")
    left: str = Field(description="For calls that begin now; negative where the cap was lowered")


class AccountChange(Body):
    """What may change. null: no credit, no cap, no threshold."""

    model_config = sample(call_cap=2, spend_cap={"amount": "20.00", "period": "day"}, low_balance="2.00")

    credit_limit: NotNegative | None = Field(
        None, description="Postpaid only. A partner gives up to 500.00; more, an operator", examples=["50.00"]
    )
    call_cap: int | None = Field(None, ge=0, le=CALLS_MAX, description="Calls at a time")
    spend_cap: SpendCap | None = None
    low_balance: NotNegative | None = Field(
        None, description="`balance.low` is told when the balance falls below it", examples=["2.00"]
    )


class Account(Told):
    """Money. The balance of a carrier, a partner or the house is the sum of all entries: a list does not tell it."""

    account_id: AccountId
    partner_id: PartnerId | None
    kind: Kind
    name: str
    currency: CurrencyCode
    funding: Literal["prepaid", "postpaid"] | None
    state: State
    balance: str | None
    held: str | None = Field(description="Set aside for calls that may still be running")
    available: str | None
    credit_limit: str | None
    call_cap: int | None
    spend_cap: ToldSpendCap | None
    low_balance: str | None
    created_at: datetime


class Entry(Told):
    """What a transfer did to the account. A call's stands where the call began."""

    transfer_id: TransferId
    kind: str = Field(description="call, top_up, purchase, usage, refund, correction, reversal, rebooking …")
    amount: str = Field(description="Positive: the account gained")
    currency: CurrencyCode
    booked_at: datetime
    value_at: datetime = Field(description="When what was booked had happened")
    reverses: TransferId | None = Field(description="What it takes back, a refund in part")


class Hold(Told):
    """Money set aside for one call."""

    call_id: CallId
    amount: str
    currency: CurrencyCode
    extensions: int
    opened_at: datetime


class NewTopUp(Body):
    """Money that came in. The Idempotency-Key holds for ever: no top-up is booked twice with it."""

    model_config = sample(amount="20.00", currency="EUR", note="voucher 4711")

    amount: Positive = Field(examples=["20.00"])
    currency: CurrencyCode
    note: Line = Field("", description="One line for the books", examples=["voucher 4711"])


class NewPurchase(Body):
    bundle_id: BundleId


class Allowance(Told):
    """A bundle that was bought, and what is left of it."""

    allowance_id: AllowanceId
    bundle_id: BundleId
    bundle: str
    units: int | None = Field(description="null: without limit")
    used_units: int
    held_units: int
    fair_use_units: int | None
    covers: dict[str, int] = Field(description="What one unit pays for: seconds, messages, bytes by service")
    zone: Literal["home", "roaming", "any"]
    from_at: datetime
    until_at: datetime
    renews: bool
    renewed_by: AllowanceId | None


def show(row: Mapping[str, Any], balance_micro: int | None) -> dict[str, Any]:
    """balance_micro   of accounts that are not tracked in their row"""
    tracked = row["tracked"]
    limit_micro = row["credit_limit_micro"] if row["funding"] == "postpaid" else 0
    available_micro = row["balance_micro"] - row["held_micro"] + limit_micro
    return {
        "account_id": show_id("acc", row["account_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "kind": row["kind"],
        "name": row["name"],
        "currency": row["currency"],
        "funding": row["funding"] if tracked else None,
        "state": row["state"],
        "balance": show_money(row["balance_micro"] if tracked else balance_micro),
        "held": show_money(row["held_micro"]) if tracked else None,
        "available": show_money(available_micro) if tracked else None,
        "credit_limit": show_money(limit_micro) if tracked else None,
        "call_cap": row["call_cap"],
        "spend_cap": _show_cap(row),
        "low_balance": show_money(row["low_balance_micro"]),
        "created_at": show_at(row["created_at"]),
    }


def _show_cap(row: Mapping[str, Any]) -> dict[str, Any] | None:
    cap_micro, left_micro = row["spend_cap_micro"], row["spend_left_micro"]
    if cap_micro is None:
        return None
    return {
        "amount": show_money(cap_micro),
        "period": row["spend_period"],
        "spent": show_money(cap_micro - row["held_micro"] - left_micro),
        "left": show_money(left_micro),
    }


def show_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "transfer_id": show_id("tr", row["transfer_id"]),
        "kind": row["kind"],
        "amount": show_money(row["amount_micro"]),
        "currency": row["currency"],
        "booked_at": show_at(row["booked_at"]),
        "value_at": show_at(row["value_at"] or row["booked_at"]),
        "reverses": show_id("tr", row["reverses"]) if row["reverses"] else None,
    }


def show_hold(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "call_id": show_id("call", row["call_id"]),
        "amount": show_money(row["held_micro"]),
        "currency": row["currency"],
        "extensions": row["extensions"],
        "opened_at": show_at(row["opened_at"]),
    }


def show_allowance(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "allowance_id": show_id("alw", row["allowance_id"]),
        "bundle_id": show_id("bdl", row["bundle_id"]),
        "bundle": row["name"],
        "units": row["units"],
        "used_units": row["used_units"],
        "held_units": row["held_units"],
        "fair_use_units": row["fair_use_units"],
        "covers": json.loads(row["covers"]),
        "zone": row["zone"],
        "from_at": show_at(row["from_at"]),
        "until_at": show_at(row["until_at"]),
        "renews": row["renews"],
        "renewed_by": show_id("alw", row["renewed_by"]) if row["renewed_by"] else None,
    }


@router.get("", response_model=Page[Account], summary="Accounts, newest first")
async def list_accounts(
    desk: Reader,
    paging: Asked,
    kind: Annotated[Kind | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.accounts(
            conn, paging.before, paging.rows, partner_id=desk.principal.partner_id, kind=kind, state=state
        )
    return desk.shown(page(rows, paging, "account_id", lambda row: show(row, None)))


@router.get("/{account_id}", response_model=Account, responses=responses(404), summary="One account")
async def read_account(desk: Reader, account_id: AccountId) -> Response:
    async with desk.reading() as conn:
        row = await store.account(conn, account_id)
        summed = None if row["tracked"] else await balance_of(conn, account_id, datetime.now(UTC))
    # Without a 304: balance and holds change while the edition of the settings stays.
    return desk.shown(show(row, summed), row["edition"], fresh=True)


@router.patch(
    "/{account_id}",
    response_model=Account,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change the settings of a subscriber's account",
)
async def change_account(desk: Writer, account_id: AccountId, body: AccountChange) -> Response:
    given = body.spend_cap
    limit_micro = body.credit_limit
    if limit_micro is None and "credit_limit" in body.model_fields_set:
        limit_micro = 0
    settings = store.Settings(
        credit_limit_micro=limit_micro,
        call_cap=body.call_cap,
        low_balance_micro=body.low_balance,
        spend_cap=store.SpendCap(given.amount, given.period) if given else None,
        clear=tuple(
            name for name in CLEARED if name in body.model_fields_set and getattr(body, name) is None
        ),
    )

    async def work(conn: Connection, edition: int) -> Made:
        found = await store.subscribers_account(conn, account_id)
        _check_credit(desk, found, limit_micro)
        await desk.as_ours(conn)
        row = await store.change_account(conn, account_id, edition, settings)
        if row is None:
            raise stale()
        return Made(show_id("acc", account_id), show(row, None), row["partner_id"], row["edition"])

    return await desk.change("account.change", body, work)


@router.get(
    "/{account_id}/entries",
    response_model=Page[Entry],
    responses=responses(404),
    summary="What was booked on an account, newest first",
)
async def list_account_entries(desk: Reader, account_id: AccountId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.account(conn, account_id)
        rows = await store.entries(conn, account_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "transfer_id", show_entry))


@router.get(
    "/{account_id}/holds",
    response_model=Page[Hold],
    responses=responses(404),
    summary="Money held for calls that may still be running, newest first",
)
async def list_account_holds(desk: Reader, account_id: AccountId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.account(conn, account_id)
        rows = await store.holds(conn, account_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "call_id", show_hold))


@router.post(
    "/{account_id}/top-ups",
    status_code=201,
    response_model=Entry,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Book money that came in for a subscriber",
)
async def create_top_up(desk: Writer, account_id: AccountId, body: NewTopUp) -> Response:
    async def work(conn: Connection) -> Made:
        found = await store.subscribers_account(conn, account_id)
        if found["currency"] != body.currency:
            told = [{"pointer": "#/currency", "detail": f"the account is kept in {found['currency']}"}]
            raise Problem(422, f"The account is kept in {found['currency']}.", errors=told)
        key = desk.booking_key("top-up")
        await desk.as_ours(conn)
        booked = await top_up(conn, str(account_id), body.amount, body.currency, key=key, note=body.note)
        told_entry = show_entry(await store.transfer(conn, account_id, UUID(booked)))
        return Made(told_entry["transfer_id"], told_entry, found["partner_id"])

    return await desk.create("account.top_up", body, work)


@router.get(
    "/{account_id}/allowances",
    response_model=Page[Allowance],
    responses=responses(404),
    summary="What an account has and had of bundles, newest first",
)
async def list_account_allowances(desk: Reader, account_id: AccountId, paging: Asked) -> Response:
    async with desk.reading() as conn, conn.transaction():
        await store.account(conn, account_id)
        await desk.as_ours(conn)
        rows = await store.allowances(conn, account_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "allowance_id", show_allowance))


@router.post(
    "/{account_id}/bundles",
    status_code=201,
    response_model=Allowance,
    responses=responses(402, 404, *BY_METHOD["POST"]),
    summary="Buy a bundle for a subscriber, from the balance",
)
async def buy_bundle(desk: Writer, account_id: AccountId, body: NewPurchase) -> Response:
    async def work(conn: Connection) -> Made:
        found = await store.subscribers_account(conn, account_id)
        key = desk.booking_key("bundle")
        await desk.as_ours(conn)
        row = await store.buy_bundle(
            conn, found, body.bundle_id, key=key, author=desk.principal.actor, at=datetime.now(UTC)
        )
        told = show_allowance(row)
        return Made(told["allowance_id"], told, found["partner_id"])

    return await desk.create("account.buy", body, work)


def _check_credit(desk: Desk, account: Mapping[str, Any], limit_micro: int | None) -> None:
    """A partner lowers any limit and raises it up to its own: who set a higher one may have had a reason.

    raises   Problem 403: more than a partner gives · 409: prepaid
    """
    if limit_micro is None:
        return
    if account["funding"] != "postpaid" and limit_micro:
        raise Problem(409, "A prepaid account has no credit limit.")
    raised = limit_micro > account["credit_limit_micro"]
    if raised and limit_micro > PARTNERS_CREDIT_MAX_MICRO and not desk.principal.operator:
        raise Problem(403, "Credit of more than 500.00 is given by operators.")
