"""Messages and data that were used: reported into bundles, and charged beyond them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Response
from pydantic import AfterValidator, Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import (
    AccountId,
    Body,
    CurrencyCode,
    Instant,
    SubscriberId,
    Told,
    UsageId,
    show_at,
    show_id,
    show_money,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import Invalid, NotFound
from bridge.partners import store
from bridge.rating.store.usage import Report, ReportsRefused, WrongReport, report_all
from bridge.rating.store.usage import Usage as Booked

router = routes("usage")
Reader = Annotated[Desk, Depends(Needs("usage:read"))]
Writer = Annotated[Desk, Depends(Needs("usage:write"))]

RECORDS_MAX: Final = 1000
QUANTITY_MAX: Final = 10**12
# Clocks differ; and what is older than two months is nobody's bill any more.
AHEAD: Final = timedelta(minutes=5)
OLDEST: Final = timedelta(days=62)


def _lately(at: datetime) -> datetime:
    now = datetime.now(UTC)
    if not now - OLDEST <= at <= now + AHEAD:
        raise ValueError("should lie in the last 62 days")
    return at


Service = Annotated[str, Field(pattern=r"^(sms|data)(\.[a-z]{1,20})?$", examples=["sms", "data.messenger"])]
RecordName = Annotated[str, Field(pattern=r"^[!-~]{1,80}$", examples=["2026-11-30-000017"])]


class NewUsage(Body):
    """What a subscriber has used. `record_id` is your own name for it: the same record again is not booked again."""

    record_id: RecordName
    subscriber_id: SubscriberId
    service: Service
    quantity: int = Field(
        ge=1, le=QUANTITY_MAX, description="Messages, or bytes: a MB is 1000000", examples=[3]
    )
    used_at: Annotated[Instant, AfterValidator(_lately)]


class NewBatch(Body):
    """All of them or none."""

    records: list[NewUsage] = Field(min_length=1, max_length=RECORDS_MAX)


class Burnt(Told):
    """Units of one allowance."""

    bundle: str
    units: int
    per: int = Field(description="Messages or bytes that one unit paid for")


class Reported(Told):
    """What a record burnt and cost."""

    usage_id: UsageId
    record_id: str
    account_id: AccountId
    burnt: list[Burnt]
    charged_quantity: int = Field(description="What allowances did not pay for")
    amount: str
    written_off: str = Field(description="The part of it that no money was left for")
    currency: CurrencyCode
    throttled: bool = Field(description="Fair use is exceeded: slower from now on, at no charge")


class Batch(Told):
    """In the order in which they were reported."""

    records: list[Reported]


class Usage(Told):
    """A record as it was booked."""

    usage_id: UsageId
    account_id: AccountId
    service: str
    zone: str
    quantity: int
    charged_quantity: int
    price: str = Field(description="For each begun `per` beyond the allowances")
    per: int
    amount: str
    written_off: str
    currency: CurrencyCode
    throttled: bool
    used_at: datetime
    reported_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "usage_id": show_id("use", row["usage_id"]),
        "account_id": show_id("acc", row["account_id"]),
        "service": row["service"],
        "zone": row["zone"],
        "quantity": row["quantity"],
        "charged_quantity": row["charged_quantity"],
        "price": show_money(row["price_micro"]),
        "per": row["per"],
        "amount": show_money(row["amount_micro"]),
        "written_off": show_money(row["written_off_micro"]),
        "currency": row["currency"],
        "throttled": row["throttled"],
        "used_at": show_at(row["used_at"]),
        "reported_at": show_at(row["reported_at"]),
    }


def show_reported(record: NewUsage, booked: Booked, payer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "usage_id": show_id("use", booked.usage_id),
        "record_id": record.record_id,
        "account_id": show_id("acc", payer["account_id"]),
        "burnt": [{"bundle": one.name, "units": one.units, "per": one.per} for one in booked.burns],
        "charged_quantity": booked.charged_quantity,
        "amount": show_money(booked.amount_micro),
        "written_off": show_money(booked.written_off_micro),
        "currency": booked.currency,
        "throttled": booked.throttled,
    }


@router.get("", response_model=Page[Usage], summary="Reported usage, newest first")
async def list_usage(
    desk: Reader,
    paging: Asked,
    account_id: Annotated[AccountId | None, Query()] = None,
    reported_from: Annotated[Instant | None, Query(description="Reported then or later")] = None,
    reported_to: Annotated[Instant | None, Query(description="Reported before")] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.usages(
            conn, paging.before, paging.rows, partner_id=desk.principal.partner_id, account_id=account_id,
            since=reported_from, until=reported_to,
        )  # fmt: skip
    return desk.shown(page(rows, paging, "usage_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Reported,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Report one usage",
)
async def create_usage(desk: Writer, body: NewUsage) -> Response:
    async def work(conn: Connection) -> Made:
        ((told, partner_id),) = await _report(desk, conn, [body], "#")
        return Made(told["usage_id"], told, partner_id, location=f"/v1/usage/{told['usage_id']}")

    return await desk.create("usage.report", body, work)


@router.post(
    "/batches",
    status_code=201,
    response_model=Batch,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Report many usages, all or none",
)
async def create_usage_batch(desk: Writer, body: NewBatch) -> Response:
    async def work(conn: Connection) -> Made:
        told = await _report(desk, conn, body.records, "#/records")
        partners = {partner_id for _, partner_id in told}
        records = [one for one, _ in told]
        owner = partners.pop() if len(partners) == 1 else None
        return Made(f"{len(records)} records", {"records": records}, owner)

    return await desk.create("usage.report_batch", body, work)


@router.get("/batches", include_in_schema=False)
async def no_batches() -> Response:
    """Else it would be taken for the id of a usage."""
    raise Problem(405, "Batches are sent, and their records are read one by one.", headers={"Allow": "POST"})


@router.get("/{usage_id}", response_model=Usage, responses=responses(404), summary="One usage")
async def read_usage(desk: Reader, usage_id: UsageId) -> Response:
    async with desk.reading() as conn:
        row = await store.usage(conn, usage_id)
    return desk.shown(show(row))


async def _report(
    desk: Desk, conn: Connection, records: Sequence[NewUsage], place: str
) -> list[tuple[dict[str, Any], Any]]:
    """The records as they were booked, each with whose it is.

    raises   Problem 404, 409, 422: nothing was booked; `errors` says what is wrong with which
    """
    known = await store.payers(conn, [one.subscriber_id for one in records])
    unknown = [
        WrongReport(at, "subscriber_id", NotFound("There is no such subscriber."))
        for at, one in enumerate(records)
        if one.subscriber_id not in known
    ]
    if unknown:
        raise _problem(unknown, place)
    owner = desk.principal.owner_id.hex
    reports = [
        Report(one.subscriber_id, one.service, one.quantity, one.used_at, f"{owner} {one.record_id}")
        for one in records
    ]
    await desk.as_ours(conn)
    try:
        booked = await report_all(conn, reports)
    except ReportsRefused as refused:
        raise _problem(refused.wrong, place) from None
    return [
        (show_reported(record, one, known[record.subscriber_id]), known[record.subscriber_id]["partner_id"])
        for record, one in zip(records, booked, strict=True)
    ]


def _problem(wrong: Sequence[WrongReport], place: str) -> Problem:
    """404 where a record names what is not there, 409 where one was reported otherwise, else 422."""
    errors = []
    for one in wrong:
        where = place if place == "#" else f"{place}/{one.place}"
        if one.field == "key":
            detail = "This record was reported with another content."
            errors.append({"pointer": f"{where}/record_id", "detail": detail})
        else:
            errors.append({"pointer": f"{where}/{one.field}", "detail": str(one.error)})
    statuses = {"subscriber_id": 404, "key": 409, "service": 422}
    status = min(422 if isinstance(one.error, Invalid) else statuses[one.field] for one in wrong)
    return Problem(status, errors[0]["detail"], errors=errors)
