"""What becomes of an invoice: sent, held, paid, credited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Conflict, Invalid
from bridge.exports.invoice import CENT
from bridge.exports.invoicing import check_step, credit_of, direction
from bridge.exports.store.invoice import KEPT, Row, add, held_invoice, invoice, validate
from bridge.ledger.entry import Entry
from bridge.ledger.store import book, system_account
from bridge.telephony.money import format_micro

BANK: Final = "bank"
NOTE_CHARS_MAX: Final = 500


async def send(conn: Connection, invoice_id: UUID) -> Row:
    """Note that it was sent. As ours, in a transaction. raises NotFound · Conflict: not validated, or sent before"""
    held = await held_invoice(conn, invoice_id)
    check_step(held["state"], "sent")
    await queries.invoices.move.run(conn, invoice_id=invoice_id, state="sent", held_state=None)
    return await invoice(conn, invoice_id)


async def put_on_hold(conn: Connection, invoice_id: UUID) -> Row:
    """Nothing is asked for and nothing booked until it is released. raises NotFound · Conflict: settled, or on hold"""
    held = await held_invoice(conn, invoice_id)
    check_step(held["state"], "onHold")
    await queries.invoices.move.run(conn, invoice_id=invoice_id, state="onHold", held_state=held["state"])
    return await invoice(conn, invoice_id)


async def release(conn: Connection, invoice_id: UUID) -> Row:
    """What it was before it was put on hold. raises NotFound · Conflict: it is not on hold"""
    held = await held_invoice(conn, invoice_id)
    if held["state"] != "onHold":
        raise Conflict(f"The invoice is {held['state']}, not on hold.")
    check_step("onHold", held["held_state"])
    await queries.invoices.move.run(conn, invoice_id=invoice_id, state=held["held_state"], held_state=None)
    return await invoice(conn, invoice_id)


async def pay(
    conn: Connection,
    invoice_id: UUID,
    amount_micro: int | None,
    paid_on: date,
    *,
    key: str,
    author: str,
    note: str = "",
) -> Row:
    """Book a payment, by whoever owes it; with nothing open the invoice is settled. As ours, in a transaction.

    amount_micro   whole cents; None: all that is open
    key            the same again, with the same payment, changes nothing
    raises         NotFound · Invalid: not positive, or parts of a cent · Conflict: more than is open, not validated,
                   on hold, or the key was used for another payment
    """
    if amount_micro is not None and (amount_micro <= 0 or amount_micro % CENT):
        raise Invalid("A payment is a positive amount in whole cents; who pays follows from the invoice.")
    if len(note) > NOTE_CHARS_MAX or not note.isprintable():
        raise Invalid(f"A note is one line of at most {NOTE_CHARS_MAX} characters.")
    held = await held_invoice(conn, invoice_id)
    before = await queries.invoices.payment.one(conn, key=key)
    if before is not None:
        same = before["invoice_id"] == invoice_id and amount_micro in (None, before["amount_cents"] * CENT)
        if not same or (before["paid_on"], before["note"], before["author"]) != (paid_on, note, author):
            raise Conflict("The key was used for another payment.")
        return await invoice(conn, invoice_id)
    open_cents = held["gross_cents"] - held["paid_cents"]
    cents = open_cents if amount_micro is None else amount_micro // CENT
    state = _after(held, cents)
    transfer_id = await _pay(
        conn, held, cents, key=key, author=author, note=note or f"invoice {held['number']}"
    )
    await queries.invoices.add_payment.run(
        conn, invoice_id=invoice_id, kind="payment", amount_cents=cents, paid_on=paid_on, transfer_id=transfer_id,
        other_id=None, key=key, note=note, author=author,
    )  # fmt: skip
    await queries.invoices.paid.run(conn, invoice_id=invoice_id, amount_cents=cents, state=state)
    return await invoice(conn, invoice_id)


def _after(held: Row, cents: int) -> str:
    """The state it is in when so much of it is settled. raises Conflict"""
    open_cents = held["gross_cents"] - held["paid_cents"]
    if cents > open_cents:
        raise Conflict(f"Only {format_micro(open_cents * CENT)} {held['currency']} are open.")
    state = "settled" if cents == open_cents else "partiallySettled"
    if held["state"] == "onHold":
        raise Conflict("The invoice is on hold. Release it first.")
    check_step(held["state"], state)
    return state


async def _pay(conn: Connection, held: Row, cents: int, *, key: str, author: str, note: str) -> UUID:
    """What the partner owes comes to our bank and onto its account; what we owe goes the other way."""
    owed = direction(self_billed=held["self_billed"], credit=held["type"] == "381")
    unit, amount = held["currency"], -owed * cents * CENT
    account = await queries.statements.partner_account.value(
        conn, partner_id=held["partner_id"], currency=unit
    )
    entries = (
        Entry(str(account), amount, unit),
        Entry(await system_account(conn, BANK, unit), -amount, unit),
    )
    return UUID(await book(conn, "payment", entries, key=f"payment {key}", author=author, note=note))


async def credit(
    conn: Connection,
    invoice_id: UUID,
    parts: Mapping[int, int] | None,
    settings: Settings,
    *,
    author: str,
    reason: str,
    at: datetime | None = None,
) -> UUID:
    """A credit note for what is left of an invoice, or for parts of its lines: numbered, booked, and set off against
    what is open of the invoice. What was paid already stays open on the credit note. As ours, in a transaction.

    parts    cents by line number; None: all that is left
    raises   NotFound · Invalid: no reason, no such line · Conflict: a draft, a credit note itself, on hold, or more
             than is left
    """
    if not reason.strip() or len(reason) > NOTE_CHARS_MAX or not reason.isprintable():
        raise Invalid(f"A credit note needs a reason, in one line of at most {NOTE_CHARS_MAX} characters.")
    held = await held_invoice(conn, invoice_id)
    if held["number"] is None or held["state"] == "onHold" or held["type"] == "381":
        what = "a credit note" if held["type"] == "381" else f"in the state {held['state']}"
        raise Conflict(f"It is {what}: only what was validated is credited.")
    rows = await queries.invoices.credited.all(conn, invoice_id=invoice_id)
    credited = {row["line_no"]: (row["net_cents"], row["amount_micro"]) for row in rows}
    draft = credit_of(KEPT.validate_json(held["content"]), credited, parts, reason)
    credit_id = await add(conn, held["partner_id"], held["statement_id"], invoice_id, draft, author)
    await validate(conn, credit_id, settings, author, at=at)
    await _set_off(conn, held, await held_invoice(conn, credit_id), draft.issued_on, author)
    return credit_id


async def _set_off(conn: Connection, of: Row, by: Row, on: date, author: str) -> None:
    cents = min(of["gross_cents"] - of["paid_cents"], by["gross_cents"])
    if cents <= 0:
        return
    for one, other in ((of, by), (by, of)):
        key = f"credit {by['invoice_id']} {one['invoice_id']}"
        await queries.invoices.add_payment.run(
            conn, invoice_id=one["invoice_id"], kind="credit", amount_cents=cents, paid_on=on, transfer_id=None,
            other_id=other["invoice_id"], key=key, note=f"set off against {other['number']}", author=author,
        )  # fmt: skip
        await queries.invoices.paid.run(
            conn, invoice_id=one["invoice_id"], amount_cents=cents, state=_after(one, cents)
        )


async def note(
    conn: Connection, invoice_id: UUID, action: str, author: str, detail: Mapping[str, Any] | None = None
) -> None:
    """For the audit log: what is done at the command line or by a job."""
    row = await invoice(conn, invoice_id)
    await queries.invoices.note.run(
        conn, partner_id=row["partner_id"], actor=author, action=f"invoice.{action}",
        subject=f"inv_{invoice_id.hex}", detail=json.dumps(dict(detail or {})),
    )  # fmt: skip
