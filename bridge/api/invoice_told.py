"""Invoices as the API tells them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from bridge.api.fields import (
    CurrencyCode,
    InvoiceId,
    Money,
    PartnerId,
    PaymentId,
    StatementId,
    Told,
    show_at,
    show_id,
    show_money,
)
from bridge.database import Connection
from bridge.exports.invoice import CENT
from bridge.exports.invoicing import State
from bridge.exports.store import invoice as store
from bridge.telephony.money import format_micro


class InvoiceLine(Told):
    line_no: int
    kind: str
    title: str
    detail: str
    quantity: str
    unit: str = Field(description="UN/ECE 20: SEC, MIN, C62", examples=["SEC"])
    price: Money = Field(description="For price_base units")
    price_base: str
    net: Money
    vat_category: Literal["S", "AE", "O"]
    vat_percent: str


class InvoicePayment(Told):
    """Money, or a credit note that was set off."""

    payment_id: PaymentId
    kind: Literal["payment", "credit"]
    amount: Money
    paid_on: date
    other_invoice_id: InvoiceId | None


class Invoice(Told):
    """type: 380 our invoice, 389 one that we wrote for the partner (self-billed), 381 a credit note of either."""

    invoice_id: InvoiceId
    partner_id: PartnerId
    statement_id: StatementId
    type: Literal["380", "381", "389"]
    self_billed: bool = Field(description="The partner is the seller, and is paid")
    credits: InvoiceId | None = Field(description="Of a credit note: what it takes back")
    state: State
    number: str | None = Field(examples=["CB-2026-000001"])
    issued_on: date | None
    due_on: date | None
    from_on: date
    until_on: date
    currency: CurrencyCode
    net: Money
    tax: Money
    gross: Money
    paid: Money
    open: Money
    created_at: datetime
    validated_at: datetime | None
    sent_at: datetime | None
    settled_at: datetime | None


class InvoiceWhole(Invoice):
    """With its lines and payments."""

    lines: list[InvoiceLine]
    payments: list[InvoicePayment]


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "invoice_id": show_id("inv", row["invoice_id"]),
        "partner_id": show_id("prt", row["partner_id"]),
        "statement_id": show_id("stm", row["statement_id"]),
        "type": row["type"],
        "self_billed": row["self_billed"],
        "credits": show_id("inv", row["credits"]) if row["credits"] else None,
        "state": row["state"],
        "number": row["number"],
        **{
            name: row[name] and row[name].isoformat()
            for name in ("issued_on", "due_on", "from_on", "until_on")
        },
        "currency": row["currency"],
        "net": _cents(row["net_cents"]),
        "tax": _cents(row["tax_cents"]),
        "gross": _cents(row["gross_cents"]),
        "paid": _cents(row["paid_cents"]),
        "open": _cents(row["gross_cents"] - row["paid_cents"]),
        **{name: show_at(row[name]) for name in ("created_at", "validated_at", "sent_at", "settled_at")},
    }


def _cents(cents: int) -> str:
    return format_micro(cents * CENT)


def show_line(row: Mapping[str, Any]) -> dict[str, Any]:
    title, _, detail = row["title"].partition("\n")
    return {
        "line_no": row["line_no"],
        "kind": row["kind"],
        "title": title,
        "detail": detail,
        "quantity": format_micro(row["quantity_micro"], 0),
        "unit": row["unit"],
        "price": show_money(row["price_micro"]),
        "price_base": format_micro(row["per_micro"], 0),
        "net": _cents(row["net_cents"]),
        "vat_category": row["category"],
        "vat_percent": format_micro(row["vat_hundredths"] * CENT, 0),
    }


def show_payment(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "payment_id": show_id("pay", row["payment_id"]),
        "kind": row["kind"],
        "amount": _cents(row["amount_cents"]),
        "paid_on": row["paid_on"].isoformat(),
        "other_invoice_id": show_id("inv", row["other_id"]) if row["other_id"] else None,
    }


async def whole(conn: Connection, row: Mapping[str, Any]) -> dict[str, Any]:
    invoice_id = row["invoice_id"]
    return show(row) | {
        "lines": [show_line(one) for one in await store.lines(conn, invoice_id)],
        "payments": [show_payment(one) for one in await store.payments(conn, invoice_id)],
    }
