"""Invoices: made of approved statements, validated (number, documents, booking, in one transaction), and read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from bridge import queries
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.exports.billing import company, due_on, partner, rates_of, terms_of
from bridge.exports.invoice import Invoice, Totals, difference_micro, totals_of
from bridge.exports.invoice_rules import broken
from bridge.exports.invoicing import (
    PARTNER,
    Occasion,
    documents_of,
    last_day,
    postings,
    sources_of,
)
from bridge.exports.store.billing import billing
from bridge.ledger.entry import Entry
from bridge.ledger.store import book, system_account
from bridge.partners.month import zone_of

Row = Mapping[str, Any]
KEPT: Final = TypeAdapter(Invoice)
_UNNUMBERED: Final = "-"  # stands for the number while the rules are checked


# ---------------------------------------------------------------- reading


async def invoices(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    state: str | None = None,
    statement_id: UUID | None = None,
    number: str | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`; of a partner or of all. Partners see none that are drafts."""
    asked: dict[str, Any] = {
        "before": before, "rows": rows, "state": state, "statement_id": statement_id, "number": number,
    }  # fmt: skip
    if partner_id is not None:
        return list(await queries.invoices.invoices_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.invoices.invoices.all(conn, **asked))


async def bills(conn: Connection, before: UUID, rows: int, partner_id: UUID | None) -> Sequence[Row]:
    """Those that have a number, newest first."""
    return list(await queries.invoices.bills.all(conn, before=before, rows=rows, partner_id=partner_id))


async def invoice(conn: Connection, invoice_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.invoices.invoice.one(conn, invoice_id=invoice_id)
    if row is None:
        raise NotFound("There is no such invoice.")
    return row


async def numbered(conn: Connection, number: str) -> UUID:
    """raises   NotFound"""
    found: UUID | None = await queries.invoices.numbered.value(conn, number=number)
    if found is None:
        raise NotFound(f"There is no invoice {number[:40]!r}.")
    return found


async def statements_of_month(conn: Connection, month: str) -> list[UUID]:
    """Those that are approved."""
    rows = await queries.invoices.approved_of_month.all(conn, month=month)
    return [row["statement_id"] for row in rows]


async def lines(conn: Connection, invoice_id: UUID) -> Sequence[Row]:
    return list(await queries.invoices.lines.all(conn, invoice_id=invoice_id))


async def payments(conn: Connection, invoice_id: UUID) -> Sequence[Row]:
    return list(await queries.invoices.payments.all(conn, invoice_id=invoice_id))


async def document(conn: Connection, invoice_id: UUID, kind: str) -> Row:
    """content, sha256 and number. kind: xml (XRechnung) or pdf (with Factur-X inside).

    raises   NotFound: no such invoice, or a draft, which has none
    """
    row: Row | None = await queries.invoices.document.one(conn, invoice_id=invoice_id, kind=kind)
    if row is None:
        raise NotFound("There is no such document. An invoice has its documents from its validation on.")
    return row


# ---------------------------------------------------------------- made of a statement


async def issue(
    conn: Connection, statement_id: UUID, settings: Settings, author: str, *, at: datetime | None = None
) -> list[UUID]:
    """Drafts of an approved statement's invoices, in the place of earlier drafts: of what we supplied, and of what the
    partner did where it agreed to self-billing. Those with a number stay as they are. As ours, in a transaction.

    at       now, unless given
    raises   NotFound: no statement, no billing details · Invalid: something is missing, and what to do
             Conflict: it is a draft, or was paid as a statement
    """
    source = await _source(conn, statement_id)
    if source["state"] == "draft":
        raise Conflict("The statement is a draft. Approve it first; what is approved is invoiced.")
    before = await queries.invoices.of_statement.all(conn, statement_id=statement_id)
    if source["paid"] and not before:
        raise Conflict("The statement was paid as it is: there is nothing to invoice.")
    done = {row["self_billed"]: row["invoice_id"] for row in before if row["number"]}
    for row in before:
        if row["number"] is None:
            await queries.invoices.forget.run(conn, invoice_id=row["invoice_id"])
    made = dict(done)
    for draft in await _drafts(conn, source, settings, at or datetime.now(UTC)):
        if draft.self_billed not in done:
            made[draft.self_billed] = await add(conn, source["partner_id"], statement_id, None, draft, author)
    return [invoice_id for _, invoice_id in sorted(made.items())]


async def check_drafts(conn: Connection, statement_id: UUID, settings: Settings) -> list[str]:
    """What would keep a statement's invoices, as they would be now, from getting a number; none: nothing. As ours.

    raises   NotFound: no statement, no billing details · Invalid: VAT cannot be told, and what to do
    """
    source = await _source(conn, statement_id)
    drafts = await _drafts(conn, source, settings, datetime.now(UTC))
    unnumbered = [replace(draft, number=_UNNUMBERED) for draft in drafts]
    return [one.problem for draft in unnumbered for one in broken(draft, totals_of(draft))]


async def _source(conn: Connection, statement_id: UUID) -> Row:
    """Locked before any invoice of it, so that it is not paid meanwhile. raises NotFound"""
    row: Row | None = await queries.invoices.source.one(conn, statement_id=statement_id)
    if row is None:
        raise NotFound("There is no such statement.")
    return row


async def _drafts(conn: Connection, source: Row, settings: Settings, at: datetime) -> list[Invoice]:
    details = await billing(conn, source["partner_id"])
    zone = zone_of(settings.company.time_zone)
    today = at.astimezone(zone).date()
    occasion = Occasion(
        source["currency"], source["deal"], source["from_at"].astimezone(zone).date(),
        last_day(source["to_at"].astimezone(zone).date()), today, due_on(details, settings, today),
    )  # fmt: skip
    found = sources_of(await queries.invoices.source_lines.all(conn, statement_id=source["statement_id"]))
    us, them = company(settings.company), partner(source["partner_id"], details)
    return documents_of(found, us, them, terms_of(details), occasion, rates_of(settings))


async def add(
    conn: Connection,
    partner_id: UUID,
    statement_id: UUID,
    credits_id: UUID | None,
    draft: Invoice,
    author: str,
) -> UUID:
    """Keep a draft."""
    totals = totals_of(draft)
    invoice_id: UUID = await queries.invoices.add.value(
        conn, partner_id=partner_id, statement_id=statement_id, type=draft.type, self_billed=draft.self_billed,
        credits=credits_id, from_on=draft.from_on, until_on=draft.until_on, currency=draft.currency,
        net_cents=totals.net_cents, tax_cents=totals.tax_cents, gross_cents=totals.gross_cents,
        rounding_micro=difference_micro(draft.lines), content=KEPT.dump_json(draft).decode(), author=author,
        note=draft.note,
    )  # fmt: skip
    await queries.invoices.add_lines.run(conn, invoice_id=invoice_id, lines=_lines_kept(draft))
    return invoice_id


def _lines_kept(draft: Invoice) -> str:
    return json.dumps(
        [
            {
                "line_no": no,
                "kind": line.kind,
                "title": f"{line.title}\n{line.note}".strip(),
                "quantity_micro": line.quantity_micro,
                "unit": line.unit,
                "price_micro": line.price_micro,
                "per_micro": line.per_micro,
                "net_cents": line.net_cents,
                "amount_micro": line.amount_micro,
                "category": line.vat.category,
                "vat_hundredths": line.vat.hundredths,
                "source_no": line.source_no,
            }
            for no, line in enumerate(draft.lines, 1)
        ]
    )


# ---------------------------------------------------------------- validated


async def validate(
    conn: Connection, invoice_id: UUID, settings: Settings, author: str, *, at: datetime | None = None
) -> str:
    """Give a draft its number, make its documents, and book its tax: all of it or nothing. Returns the number; one that
    has it keeps it. As ours, in a transaction, at whose end the next number can be given.

    raises   NotFound · Conflict: it is on hold · Invalid: a rule of EN 16931 or XRechnung does not hold, and what to do
    """
    source = await _source(conn, (await invoice(conn, invoice_id))["statement_id"])
    held = await held_invoice(conn, invoice_id)
    if held["number"] is not None:
        return str(held["number"])
    if held["state"] != "new":
        raise Conflict(f"The invoice is {held['state']}. Release it first.")
    at = at or datetime.now(UTC)
    if held["credits"] is None:
        draft = await _drawn_again(conn, held, source, settings, at)
    else:
        draft = await _up_to_date(conn, held, settings, at)
    totals = totals_of(draft)
    problems = broken(replace(draft, number=_UNNUMBERED), totals)
    if problems:
        told: dict[str, list[str]] = {}
        for one in problems:
            told.setdefault(one.problem, []).append(one.rule)
        said = " ".join(f"{problem} ({', '.join(rules)})" for problem, rules in told.items())
        raise Invalid(f"The invoice cannot be sent. {said}")
    prefix, year = settings.invoices.prefix, draft.issued_on.year
    series_no: int = await queries.invoices.next_number.value(conn, prefix=prefix, year=year)
    final = replace(draft, number=f"{prefix}{year}-{series_no:06}")
    xml, pdf = await asyncio.to_thread(_documents, final, totals)
    transfer_id = await _book(conn, held["partner_id"], invoice_id, final, totals, author)
    await queries.invoices.validate.run(
        conn, invoice_id=invoice_id, prefix=prefix, year=year, series_no=series_no, number=final.number,
        issued_on=final.issued_on, due_on=final.due_on, content=KEPT.dump_json(final).decode(), transfer_id=transfer_id,
    )  # fmt: skip
    await queries.invoices.add_document.run(conn, invoice_id=invoice_id, kind="xml", content=xml)
    await queries.invoices.add_document.run(conn, invoice_id=invoice_id, kind="pdf", content=pdf)
    return final.number


async def held_invoice(conn: Connection, invoice_id: UUID) -> Row:
    """Locked until the transaction ends. raises NotFound"""
    row: Row | None = await queries.invoices.hold.one(conn, invoice_id=invoice_id)
    if row is None:
        raise NotFound("There is no such invoice.")
    return row


async def _drawn_again(conn: Connection, held: Row, source: Row, settings: Settings, at: datetime) -> Invoice:
    """The draft as it would be made now, which may differ in its days and in what the parties are called.

    raises   Conflict: in more, such as how it is taxed; or the statement was paid as it is
    """
    if source["paid"] and held["self_billed"] == (source["total_micro"] > 0):
        raise Conflict("The statement was paid as it is: there is nothing to invoice.")
    draft = KEPT.validate_json(held["content"])
    for now in await _drafts(conn, source, settings, at):
        if (now.self_billed, now.type, now.lines) == (draft.self_billed, draft.type, draft.lines):
            return now
    raise Conflict("What the invoice follows from has changed since it was drafted. Issue it again.")


async def _up_to_date(conn: Connection, held: Row, settings: Settings, at: datetime) -> Invoice:
    """A credit note with today's date and with the parties as they are known now; its amounts stay."""
    draft = KEPT.validate_json(held["content"])
    details = await billing(conn, held["partner_id"])
    us, them = company(settings.company), partner(held["partner_id"], details)
    today = at.astimezone(zone_of(settings.company.time_zone)).date()
    seller, buyer = (them, us) if draft.self_billed else (us, them)
    return replace(
        draft, seller=seller, buyer=buyer, issued_on=today, due_on=due_on(details, settings, today),
        buyer_reference=us.key if draft.self_billed else details.buyer_reference,
    )  # fmt: skip


def _documents(final: Invoice, totals: Totals) -> tuple[bytes, bytes]:
    from bridge.exports.invoice_pdf import to_pdf  # noqa: PLC0415 - slow to load, and seldom used
    from bridge.exports.invoice_xml import to_xml  # noqa: PLC0415 - the same

    return to_xml(final, totals, "xrechnung"), to_pdf(final, totals, to_xml(final, totals, "factur-x"))


async def _book(
    conn: Connection, partner_id: UUID, invoice_id: UUID, final: Invoice, totals: Totals, author: str
) -> UUID | None:
    booked = postings(final, totals)
    if not booked:
        return None
    unit = final.currency
    accounts = {
        account: await system_account(conn, account, unit)
        for account in sorted(account for account, _ in booked if account != PARTNER)
    }
    accounts[PARTNER] = str(
        await queries.statements.partner_account.value(conn, partner_id=partner_id, currency=unit)
    )
    entries = [Entry(accounts[account], amount, unit) for account, amount in booked]
    key, note = f"invoice:{invoice_id}", f"{final.type} {final.number}"
    return UUID(await book(conn, "invoice", entries, key=key, author=author, note=note))
