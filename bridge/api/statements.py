"""Statements: what a partner and we owe each other for a month. Operators make them, partners read their own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.amounts import Positive
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AN_ID,
    Body,
    CurrencyCode,
    DealId,
    Line,
    Money,
    PartnerId,
    PaymentId,
    StatementId,
    Told,
    sample,
    show_at,
    show_id,
    show_money,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners.deal import MINUTE_S
from bridge.partners.statement_line import SECOND
from bridge.partners.statement_line import Kind as LineKind
from bridge.partners.store import statement as store
from bridge.rating.deck_cells import guarded
from bridge.telephony.money import MICRO, Rounding, divide, format_micro

router = routes("statements")
Reader = Annotated[Desk, Depends(Needs("statements:read"))]
Operator = Annotated[Desk, Depends(Needs("statements:write", operator=True))]

State = Literal["draft", "approved", "sent", "settled"]
Month = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", examples=["2026-10"])]
CSV: Final = "text/csv"
COLUMNS: Final = (
    "line_no", "kind", "title", "quantity", "unit", "seconds", "rate", "base", "amount", "currency", "purpose",
    "corrects",
)  # fmt: skip


class NewStatement(Body):
    """A month that is over, of the company's time zone. A draft that is there is made again."""

    model_config = sample(deal_id=AN_ID["deal"], month="2026-10")

    deal_id: DealId
    month: Month


class Sending(Body):
    """How it went to the partner."""

    model_config = sample(channel="email")

    channel: Line = Field(min_length=1, max_length=store.CHANNEL_CHARS_MAX, examples=["email"])


class NewPayment(Body):
    """What was paid by whoever owes it, in the statement's currency; all that is open, unless an amount is given."""

    model_config = sample(amount="1250.00", note="Transfer of 2026-11-20")

    amount: Positive | None = None
    note: Line = ""


class Payment(Told):
    payment_id: PaymentId
    amount: Money
    booked_at: datetime


class StatementLine(Told):
    """Positive: we owe it to the partner. Negative: the partner owes it to us."""

    line_no: int
    kind: LineKind
    title: str
    quantity: str | None = Field(description="Minutes, to six decimals, or bundles; null: there is none")
    unit: Literal["minute", "purchase"] | None
    seconds: int | None = Field(description="The minutes exactly")
    rate: Money | None = Field(description="For one minute")
    base: Money | None = Field(description="What a percentage is of, or a cost that is passed on")
    amount: Money
    purpose: str | None = Field(description="Of zero-rated traffic: `destination` or `on-net`")
    corrects: LineKind | None = Field(description="Of a correction: what it corrects")
    detail: dict[str, Any] = Field(description="How it came about")


class StatementEvidence(Told):
    """Which records it was made from, as the completeness proof has them."""

    first_no: int = Field(description="The partner's record numbers from this")
    last_no: int = Field(description="to this one; both 0: there are none")
    chain_day: date
    chain_hash: str | None = Field(description="Of the partner's chain after that day")


class Statement(Told):
    """A month under a deal. `total` positive: we owe it to the partner; negative: the partner owes it to us."""

    statement_id: StatementId
    deal_id: DealId
    partner_id: PartnerId
    month: Month
    from_at: datetime
    to_at: datetime
    currency: CurrencyCode
    state: State
    total: Money
    paid: Money
    open: Money = Field(description="What is still to be paid, by whoever owes it")
    evidence: StatementEvidence
    approved_at: datetime | None
    sent_at: datetime | None
    channel: str | None
    settled_at: datetime | None


class StatementWhole(Statement):
    """With its lines and payments."""

    lines: list[StatementLine]
    payments: list[Payment]


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "statement_id": show_id("stm", row["statement_id"]),
        "deal_id": show_id("deal", row["deal_id"]),
        "partner_id": show_id("prt", row["partner_id"]),
        "month": row["month"],
        "from_at": show_at(row["from_at"]),
        "to_at": show_at(row["to_at"]),
        "currency": row["currency"],
        "state": row["state"],
        "total": show_money(row["total_micro"]),
        "paid": show_money(row["paid_micro"]),
        "open": show_money(abs(row["total_micro"]) - row["paid_micro"]),
        "evidence": {
            "first_no": row["first_no"],
            "last_no": row["last_no"],
            "chain_day": row["chain_day"].isoformat(),
            "chain_hash": row["chain_hash"].hex() if row["chain_hash"] else None,
        },
        "approved_at": show_at(row["approved_at"]),
        "sent_at": show_at(row["sent_at"]),
        "channel": row["channel"],
        "settled_at": show_at(row["settled_at"]),
    }


def show_line(row: Mapping[str, Any]) -> dict[str, Any]:
    timed = row["unit"] == SECOND
    quantity = _minutes(row["quantity"]) if timed else str(row["quantity"])
    return {
        "line_no": row["line_no"],
        "kind": row["kind"],
        "title": row["title"],
        "quantity": quantity if row["unit"] else None,
        "unit": "minute" if timed else row["unit"] or None,
        "seconds": row["quantity"] if timed else None,
        "rate": show_money(row["rate_micro"]),
        "base": show_money(row["base_micro"]),
        "amount": show_money(row["amount_micro"]),
        "purpose": row["purpose"] or None,
        "corrects": row["of_kind"] if row["kind"] == LineKind.CORRECTION else None,
        "detail": json.loads(row["detail"]),
    }


def _minutes(seconds: int) -> str:
    return format_micro(divide(seconds * MICRO, MINUTE_S, Rounding.HALF_UP), 0)


def as_csv(row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """UTF-8 with a header (RFC 4180), the total as its last row. No text in it is taken for a formula."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    for one in lines:
        told = show_line(one)
        writer.writerow({**told, "title": guarded(told["title"]), "currency": row["currency"]})
    total = {"kind": "total", "amount": show_money(row["total_micro"]), "currency": row["currency"]}
    writer.writerow(total | {"title": f"Total of {row['month']}"})
    return file.getvalue()


async def _whole(conn: Connection, row: Mapping[str, Any]) -> dict[str, Any]:
    statement_id = row["statement_id"]
    return show(row) | {
        "lines": [show_line(one) for one in await store.lines(conn, statement_id)],
        "payments": [
            {
                "payment_id": show_id("pay", one["payment_id"]),
                "amount": show_money(one["amount_micro"]),
                "booked_at": show_at(one["booked_at"]),
            }
            for one in await store.payments(conn, statement_id)
        ],
    }


async def _made(conn: Connection, row: Mapping[str, Any]) -> Made:
    told = await _whole(conn, row)
    subject = told["statement_id"]
    return Made(subject, told, row["partner_id"], row["edition"], f"/v1/statements/{subject}")


@router.get("", response_model=Page[Statement], summary="Statements, newest first")
async def list_statements(
    desk: Reader,
    paging: Asked,
    partner_id: Annotated[PartnerId | None, Query()] = None,
    deal_id: Annotated[DealId | None, Query(description="Of this deal only")] = None,
    month: Annotated[Month | None, Query(description="Of this month only")] = None,
    state: Annotated[State | None, Query()] = None,
) -> Response:
    """A partner sees its own from their approval on."""
    asking = desk.partner_of(partner_id)
    async with desk.reading() as conn:
        rows = await store.statements(
            conn, paging.before, paging.rows, partner_id=asking, deal_id=deal_id, month=month, state=state
        )
    return desk.shown(page(rows, paging, "statement_id", show))


@router.post(
    "",
    status_code=201,
    response_model=StatementWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Draft the statement of a month",
)
async def create_statement(desk: Operator, body: NewStatement) -> Response:
    """409 before all calls of the month are numbered, and once it was approved."""

    async def work(conn: Connection) -> Made:
        zone, actor = desk.services.settings.company.time_zone, desk.principal.actor
        statement_id = await store.draft(conn, body.deal_id, body.month, zone, author=actor, noted=False)
        return await _made(conn, await store.statement(conn, statement_id))

    return await desk.create("statement.draft", body, work, at_length=True)


@router.get(
    "/{statement_id}",
    response_model=StatementWhole,
    responses=responses(404),
    summary="One statement with its lines",
)
async def read_statement(desk: Reader, statement_id: StatementId) -> Response:
    async with desk.reading() as conn:
        row = await store.statement(conn, statement_id)
        told = await _whole(conn, row)
    return desk.shown(told, row["edition"])


@router.get(
    "/{statement_id}/statement.csv",
    response_class=Response,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}, **responses(404)},
    summary="The lines of a statement as CSV",
)
async def read_statement_csv(desk: Reader, statement_id: StatementId) -> Response:
    async with desk.reading() as conn:
        row = await store.statement(conn, statement_id)
        lines = await store.lines(conn, statement_id)
    named = f'attachment; filename="statement_{row["month"]}_{statement_id.hex}.csv"'
    headers = {"Content-Disposition": named}
    return Response(as_csv(row, lines), 200, headers, media_type=f"{CSV}; charset=utf-8")


Change = Callable[[Connection, int], Awaitable[Mapping[str, Any] | None]]


async def _change(desk: Desk, statement_id: UUID, action: str, body: Body | None, change: Change) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.statement(conn, statement_id)
        row = await change(conn, edition)
        if row is None:
            raise stale()
        return await _made(conn, row)

    return await desk.change(f"statement.{action}", body, work)


@router.post(
    "/{statement_id}/approve",
    response_model=StatementWhole,
    responses=responses(404, 409, 412, 428),
    summary="Approve a draft, which books it",
)
async def approve_statement(desk: Operator, statement_id: StatementId) -> Response:
    """409 while the books of the month are open, and when they say something else than the draft."""

    async def approve(conn: Connection, edition: int) -> Mapping[str, Any] | None:
        return await store.approve(conn, statement_id, edition, author=desk.principal.actor, noted=False)

    return await _change(desk, statement_id, "approve", None, approve)


@router.post(
    "/{statement_id}/send",
    response_model=StatementWhole,
    responses=responses(404, 409, 412, 413, 415, 422, 428),
    summary="Note that an approved statement was sent",
)
async def send_statement(desk: Operator, statement_id: StatementId, body: Sending) -> Response:
    async def send(conn: Connection, edition: int) -> Mapping[str, Any] | None:
        return await store.send(
            conn, statement_id, edition, channel=body.channel, author=desk.principal.actor, noted=False
        )

    return await _change(desk, statement_id, "send", body, send)


@router.post(
    "/{statement_id}/payments",
    status_code=201,
    response_model=StatementWhole,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Book a payment of a statement that was sent",
)
async def create_statement_payment(desk: Operator, statement_id: StatementId, body: NewPayment) -> Response:
    """By whoever owes it, in parts or whole. With nothing open the statement is settled; more is refused (409)."""

    async def work(conn: Connection) -> Made:
        await store.statement(conn, statement_id)
        row = await store.settle(
            conn,
            statement_id,
            body.amount,
            key=desk.booking_key("statement"),
            author=desk.principal.actor,
            note=body.note,
            noted=False,
        )
        if row is None:
            raise stale()
        return await _made(conn, row)

    return await desk.create("statement.pay", body, work)
