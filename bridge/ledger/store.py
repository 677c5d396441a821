"""Accounts and bookings in the database. Whatever moves money, calls apart, is booked by `book`, once a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Invalid, NotFound
from bridge.ledger.entry import Entry
from bridge.ledger.exchange import RATE_DAYS_MAX, FxRate, Known, convert, known, with_inverses
from bridge.ledger.refund import mirrored, refund_entries
from bridge.telephony.money import check_currency

REFERRALS_MAX: Final = 10  # rewarded of one referrer, unless another limit is given


async def system_account(conn: Connection, role: str, currency: str) -> str:
    """The id of our own account for a role (revenue, cost, cash) in a currency; made when first needed."""
    return str(await queries.ledger.system_account.value(conn, role=role, currency=currency))


async def currency_of(conn: Connection, account_id: str) -> str:
    """raises   NotFound: no such account"""
    currency: str | None = await queries.ledger.currency_of.value(conn, account_id=account_id)
    if currency is None:
        raise NotFound(f"no such account: {account_id}")
    return currency


async def book(
    conn: Connection,
    kind: str,
    entries: Sequence[Entry],
    *,
    key: str,
    author: str = "",
    note: str = "",
    reverses: UUID | None = None,
    value_at: datetime | None = None,
    request: str | None = None,
) -> str:
    """Book one transfer and return its id. The same key with the same booking again returns the first one.

    In a transaction of several bookings, whose accounts are locked until it ends, book in one order everywhere.

    entries    sum to zero in each currency
    value_at   when what is booked happened; None: now
    request    what was asked for, where the entries follow from it and from what changes (a rate of exchange):
               with the key it stands for them and the note
    raises     StoreError: it makes no sense · InvariantBroken: no sum of zero · NotFound: an account, or what is
               taken back · InsufficientFunds · Conflict: the key was used for another booking, the transfer was
               taken back before, or the period of value_at is closed
    """
    return str(
        await queries.ledger.book.value(
            conn,
            kind=kind,
            key=key,
            author=author,
            note=note,
            reverses=reverses,
            accounts=[entry.account_id for entry in entries],
            amounts=[entry.amount_micro for entry in entries],
            currencies=[entry.currency for entry in entries],
            value_at=value_at,
            request=request,
        )
    )


async def top_up(
    conn: Connection, account_id: str, amount_micro: int, currency: str, *, key: str, note: str = ""
) -> str:
    """Book money that came in. Returns the transfer's id; the same key again returns the first one.

    raises   StoreError: not positive · Conflict: the key was used for another one
             NotFound: no such account in this currency
    """
    if amount_micro <= 0:
        raise Invalid("a top-up must be positive")
    cash = await system_account(conn, "cash", currency)
    entries = (Entry(account_id, amount_micro, currency), Entry(cash, -amount_micro, currency))
    return await book(conn, "top_up", entries, key=key, note=note)


async def refund(
    conn: Connection,
    transfer_id: UUID,
    amount_micro: int | None = None,
    *,
    key: str,
    author: str = "",
    note: str = "",
) -> str:
    """Give back a charge, or pay out a top-up, whole (None) or in part. Returns the transfer's id.

    raises   as `book`; Conflict: more in sum than was booked, or the transfer was reversed
    """
    booked, subscribers = await _booked(conn, transfer_id)
    entries = refund_entries(booked, subscribers, amount_micro)
    return await book(conn, "refund", entries, key=key, author=author, note=note, reverses=transfer_id)


async def reverse(conn: Connection, transfer_id: UUID, *, author: str, reason: str, key: str) -> str:
    """Take a transfer back, once and whole, today. Returns the reversal's id.

    raises   as `book`; Conflict: it was reversed or refunded before · StoreError: it is a reversal itself
    """
    booked, _ = await _booked(conn, transfer_id)
    return await book(
        conn, "reversal", mirrored(booked), key=key, author=author, note=reason, reverses=transfer_id
    )


async def correct(
    conn: Connection, account_id: str, amount_micro: int, *, author: str, reason: str, key: str
) -> str:
    """Give to an account, or take from it where the amount is negative, by hand. Returns the transfer's id.

    raises   as `book`; StoreError: no author, no reason
    """
    currency = await currency_of(conn, account_id)
    ours = await system_account(conn, "correction", currency)
    entries = (Entry(account_id, amount_micro, currency), Entry(ours, -amount_micro, currency))
    return await book(conn, "correction", entries, key=key, author=author, note=reason)


async def refer(
    conn: Connection,
    referrer_id: str,
    referred_id: str,
    amount_micro: int,
    *,
    key: str,
    referrals_max: int = REFERRALS_MAX,
    author: str = "",
) -> str:
    """Credit both for a referral, once for whoever is referred. Returns the transfer's id.

    amount_micro   for each of the two
    raises         as `book`; Conflict: referred before, by each other, over referrals_max, or not both active
                   subscribers · StoreError: themselves, or not positive · NotFound: not of one currency
    """
    currency = await currency_of(conn, referrer_id)
    Entry(referrer_id, 2 * amount_micro, currency)  # what we pay fits
    return str(
        await queries.ledger.refer.value(
            conn,
            referrer_id=referrer_id,
            referred_id=referred_id,
            amount_micro=amount_micro,
            currency=currency,
            referrals_max=referrals_max,
            key=key,
            author=author,
        )
    )


async def exchange(
    conn: Connection, from_id: str, to_id: str, amount_micro: int, at: datetime, *, key: str, author: str = ""
) -> str:
    """Move money to an account of another currency, at the rate of the day. Returns the transfer's id.

    Both currencies pass through our own "exchange" accounts, so each sums to zero. A repeat with the key returns
    the first transfer, even where the rate has changed since.

    amount_micro   taken from from_id; what arrives is rounded down
    at             when it happened; its day (UTC) says the rate
    raises         as `book`; NotFound: no rate of the last days · StoreError: not positive, one currency, too little
    """
    if amount_micro <= 0:
        raise Invalid("what is exchanged must be positive")
    base, quote = await currency_of(conn, from_id), await currency_of(conn, to_id)
    try:
        got_micro, rate = convert(amount_micro, base, quote, await _known(conn, at.astimezone(UTC).date()))
    except ValueError as error:
        raise Invalid(str(error)) from error
    if got_micro == 0:
        raise Invalid(f"that little {base} is nothing in {quote}")
    # In the order of their names, as whoever exchanges the other way round does.
    ours = {unit: await system_account(conn, "exchange", unit) for unit in sorted((base, quote))}
    entries = (
        Entry(from_id, -amount_micro, base),
        Entry(ours[base], amount_micro, base),
        Entry(ours[quote], -got_micro, quote),
        Entry(to_id, got_micro, quote),
    )
    return await book(
        conn,
        "exchange",
        entries,
        key=key,
        author=author,
        note=f"{rate}, rounded down",
        value_at=at,
        request=f"{from_id} {to_id} {amount_micro}",
    )


async def note_fx(
    conn: Connection, base: str, quote: str, rate_nano: int, valid_on: date, *, source: str
) -> None:
    """Keep the rate of a day. The same again changes nothing.

    raises   StoreError: no currency · Conflict: the day has another rate, or there and back would gain
    """
    try:
        if check_currency(base) == check_currency(quote):
            raise ValueError(f"{base} to {quote} is no exchange. Name two currencies")
    except ValueError as error:
        raise Invalid(str(error)) from error
    await queries.ledger.fx_note.run(
        conn, base=base, quote=quote, valid_on=valid_on, rate_nano=rate_nano, source=source
    )


async def load_fx(conn: Connection, on: date) -> dict[tuple[str, str], int]:
    """rate_nano by (base, quote) as of a day, not older than RATE_DAYS_MAX, in both directions; none is chained."""
    return with_inverses(await _known(conn, on))


async def close_period(conn: Connection, until: datetime, *, author: str) -> datetime:
    """Close the books for whatever happened before an instant. Returns it; the same again changes nothing.

    raises   StoreError: it has not passed, or no author · Conflict: the books are closed until later already
             StoreUnavailable: bookings under way did not end in time, try again
    """
    closed: datetime = await queries.ledger.period_close.value(conn, until=until, author=author)
    return closed


async def booking_at(conn: Connection, value_at: datetime, *, into_open: bool = False) -> datetime:
    """When what happened at value_at may be booked: then, or, its period being closed and if asked for, now.

    raises   Conflict: the period is closed
    """
    at: datetime = await queries.ledger.booking_at.value(conn, value_at=value_at, into_open=into_open)
    return at


async def _known(conn: Connection, on: date) -> Known:
    since = on - timedelta(days=RATE_DAYS_MAX)
    rows = await queries.ledger.fx_known.all(conn, since=since, until=on)
    return known(FxRate(**row) for row in rows)


async def _booked(conn: Connection, transfer_id: UUID) -> tuple[list[Entry], frozenset[str]]:
    """The entries of a transfer, and which of their accounts are subscribers'."""
    rows = await queries.ledger.booked.all(conn, transfer_id=transfer_id)
    if not rows:
        raise NotFound(f"no such transfer: {transfer_id}")
    entries = [Entry(str(row["account_id"]), row["amount_micro"], row["currency"]) for row in rows]
    return entries, frozenset(str(row["account_id"]) for row in rows if row["tracked"])
