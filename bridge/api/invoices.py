"""Invoices: made of approved statements, with their documents and payments. Operators act, partners read their own."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.amounts import Positive
from bridge.api.desk import Desk, Made, Needs, Work
from bridge.api.fields import (
    AN_ID,
    Body,
    InvoiceId,
    Line,
    Money,
    PartnerId,
    StatementId,
    sample,
    show_id,
)
from bridge.api.invoice_told import Invoice, InvoiceWhole, show, whole
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.exports.invoice import CENT
from bridge.exports.invoicing import State
from bridge.exports.store import invoice as store
from bridge.exports.store import invoice_payment as after
from bridge.partners.month import zone_of

router = routes("invoices")
Reader = Annotated[Desk, Depends(Needs("invoices:read"))]
Operator = Annotated[Desk, Depends(Needs("invoices:write", operator=True))]

PDF: Final = "application/pdf"
XML: Final = "application/xml"


class NewInvoices(Body):
    """Of which statement."""

    model_config = sample(statement_id=AN_ID["stm"])

    statement_id: StatementId


class NewInvoicePayment(Body):
    """Money that has moved, in the invoice's currency; all that is open, unless an amount is given."""

    model_config = sample(amount="1250.00", paid_on="2026-11-20", note="Transfer 4711")

    amount: Positive | None = Field(None, description="In whole cents")
    paid_on: date | None = Field(None, description="Today, unless given")
    note: Line = ""


class CreditedLine(Body):
    line_no: int = Field(ge=1, le=32_000, examples=[1])
    amount: Money = Field(
        description="Without VAT, in whole cents; of a line that takes something back, negative"
    )


class NewCreditNote(Body):
    """What is taken back, and why: parts of lines, or all that is left."""

    model_config = sample(
        reason="Calls of 3 November were counted twice", lines=[{"line_no": 1, "amount": "12.50"}]
    )

    reason: Line = Field(min_length=1)
    lines: list[CreditedLine] | None = Field(None, min_length=1, max_length=1000)


@router.get("", response_model=Page[Invoice], responses=responses(404), summary="Invoices, newest first")
async def list_invoices(
    desk: Reader,
    paging: Asked,
    partner_id: Annotated[PartnerId | None, Query()] = None,
    statement_id: Annotated[StatementId | None, Query(description="Of this statement only")] = None,
    state: Annotated[State | None, Query()] = None,
    number: Annotated[str | None, Query(max_length=40, description="The one with this number")] = None,
) -> Response:
    """A partner sees its own from their validation on."""
    asking = desk.partner_of(partner_id)
    async with desk.reading() as conn:
        rows = await store.invoices(
            conn,
            paging.before,
            paging.rows,
            partner_id=asking,
            state=state,
            statement_id=statement_id,
            number=number,
        )
    return desk.shown(page(rows, paging, "invoice_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Page[Invoice],
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Draft the invoices of an approved statement",
)
async def create_invoices(desk: Operator, body: NewInvoices) -> Response:
    """Up to two: of what we supplied (380), and of what the partner did where it agreed to self-billing (389)."""

    async def work(conn: Connection) -> Made:
        made = await store.issue(conn, body.statement_id, desk.services.settings, desk.principal.actor)
        rows = [await store.invoice(conn, invoice_id) for invoice_id in made]
        told = {"data": [show(row) for row in rows], "next": None}
        owner = rows[0]["partner_id"] if rows else None
        return Made(show_id("stm", body.statement_id), told, owner)

    return await desk.create("invoice.issue", body, work, at_length=True)


@router.get(
    "/{invoice_id}",
    response_model=InvoiceWhole,
    responses=responses(404),
    summary="One invoice with its lines",
)
async def read_invoice(desk: Reader, invoice_id: InvoiceId) -> Response:
    async with desk.reading() as conn:
        row = await store.invoice(conn, invoice_id)
        told = await whole(conn, row)
    return desk.shown(told, row["edition"])


def _file(kind: str, about: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string", "format": "binary"}
    return {200: {"content": {kind: {"schema": schema}}, "description": about}, **responses(404)}


async def _document(desk: Desk, invoice_id: UUID, kind: str, media_type: str) -> Response:
    async with desk.reading() as conn:
        await store.invoice(conn, invoice_id)
        row = await store.document(conn, invoice_id, kind)
    headers = {
        "Content-Disposition": f'attachment; filename="{row["number"]}.{kind}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(row['sha256']).decode()}:",  # RFC 9530
    }
    return Response(row["content"], 200, headers, media_type=media_type)


@router.get(
    "/{invoice_id}/invoice.pdf",
    response_class=Response,
    responses=_file(PDF, "PDF/A-3 with the XML inside (ZUGFeRD, Factur-X)"),
    summary="An invoice as PDF",
)
async def read_invoice_pdf(desk: Reader, invoice_id: InvoiceId) -> Response:
    """From its validation on; always the same bytes."""
    return await _document(desk, invoice_id, "pdf", PDF)


@router.get(
    "/{invoice_id}/invoice.xml",
    response_class=Response,
    responses=_file(XML, "XRechnung 3.0, in CII"),
    summary="An invoice as XML",
)
async def read_invoice_xml(desk: Reader, invoice_id: InvoiceId) -> Response:
    """From its validation on; always the same bytes."""
    return await _document(desk, invoice_id, "xml", XML)


Deed = Callable[[Connection], Awaitable[object]]


def _work(invoice_id: UUID, deed: Deed) -> Work:
    """Do it, and tell the invoice as it is then."""

    async def work(conn: Connection) -> Made:
        await deed(conn)
        return await _made(conn, invoice_id)

    return work


async def _made(conn: Connection, invoice_id: UUID) -> Made:
    row = await store.invoice(conn, invoice_id)
    subject = show_id("inv", invoice_id)
    return Made(subject, await whole(conn, row), row["partner_id"], row["edition"], f"/v1/invoices/{subject}")


@router.post(
    "/{invoice_id}/validate",
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Give an invoice its number, and make its documents",
)
async def validate_invoice(desk: Operator, invoice_id: InvoiceId) -> Response:
    """Its tax is booked. From then on nothing of it changes; a credit note takes it back. 422 says what is missing."""
    settings, actor = desk.services.settings, desk.principal.actor
    return await desk.create(
        "invoice.validate",
        None,
        _work(invoice_id, lambda conn: store.validate(conn, invoice_id, settings, actor)),
        status=200,
        at_length=True,
    )


@router.post(
    "/{invoice_id}/send",
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Note that an invoice was sent",
)
async def send_invoice(desk: Operator, invoice_id: InvoiceId) -> Response:
    return await desk.create(
        "invoice.send",
        None,
        _work(invoice_id, lambda conn: after.send(conn, invoice_id)),
        status=200,
        at_length=True,
    )


@router.post(
    "/{invoice_id}/hold",
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Put an invoice on hold",
)
async def hold_invoice(desk: Operator, invoice_id: InvoiceId) -> Response:
    """Nothing is booked until it is released."""
    return await desk.create(
        "invoice.hold",
        None,
        _work(invoice_id, lambda conn: after.put_on_hold(conn, invoice_id)),
        status=200,
        at_length=True,
    )


@router.post(
    "/{invoice_id}/release",
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Take an invoice off hold",
)
async def release_invoice(desk: Operator, invoice_id: InvoiceId) -> Response:
    return await desk.create(
        "invoice.release",
        None,
        _work(invoice_id, lambda conn: after.release(conn, invoice_id)),
        status=200,
        at_length=True,
    )


@router.post(
    "/{invoice_id}/payments",
    status_code=201,
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Book a payment of an invoice",
)
async def create_invoice_payment(desk: Operator, invoice_id: InvoiceId, body: NewInvoicePayment) -> Response:
    """By whoever owes it. With nothing open it is settled; more than is open is refused (409)."""
    zone = zone_of(desk.services.settings.company.time_zone)

    async def pay(conn: Connection) -> None:
        await after.pay(
            conn,
            invoice_id,
            body.amount,
            body.paid_on or datetime.now(UTC).astimezone(zone).date(),
            key=desk.booking_key("invoice"),
            author=desk.principal.actor,
            note=body.note,
        )

    return await desk.create("invoice.pay", body, _work(invoice_id, pay), at_length=True)


@router.post(
    "/{invoice_id}/credit-notes",
    status_code=201,
    response_model=InvoiceWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Write a credit note for an invoice",
)
async def create_credit_note(desk: Operator, invoice_id: InvoiceId, body: NewCreditNote) -> Response:
    """It has its number at once, and is set off against what is open; what was paid is to be paid back."""

    async def work(conn: Connection) -> Made:
        credit_id = await after.credit(
            conn,
            invoice_id,
            _parts(body),
            desk.services.settings,
            author=desk.principal.actor,
            reason=body.reason,
        )
        return await _made(conn, credit_id)

    return await desk.create("invoice.credit", body, work, at_length=True)


def _parts(body: NewCreditNote) -> dict[int, int] | None:
    if body.lines is None:
        return None
    parts = {one.line_no: one.amount // CENT for one in body.lines}
    if len(parts) != len(body.lines) or any(one.amount % CENT for one in body.lines):
        raise Problem(422, "Name each line once, and amounts in whole cents.", code="invalid_request")
    return parts
