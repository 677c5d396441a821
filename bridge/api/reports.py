"""Reports: traffic and quality as figures, a partner's month as PDF, a subscriber's itemised bill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import Body, PartnerId, SubscriberId, Told, sample, show_at, show_id
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.config import require_dsn
from bridge.database import Connection
from bridge.partners import store as partners
from bridge.partners.month import month_of
from bridge.reports import printed
from bridge.reports.bills import bill_in
from bridge.reports.period import Period, before, of_month
from bridge.reports.report import Ask, report
from bridge.reports.store import bill as bills

router = routes("reports", "/v1")
Reader = Annotated[Desk, Depends(Needs("cdrs:read"))]
Chooser = Annotated[Desk, Depends(Needs("subscribers:write"))]
SubscriberReader = Annotated[Desk, Depends(Needs("subscribers:read"))]

PDF: Final = "application/pdf"
AT_ONCE_MAX: Final = 2  # reports and documents that one worker makes at the same time
_AGAIN_S: Final = 5
Month = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$",
        description="Of the company's time zone; the month before this one",
        examples=["2026-10"],
    ),
]
By = Annotated[
    Literal["day", "hour", "week_hour", "destination", "carrier", "purpose", "partner"],
    Query(description="purpose: of traffic only; partner: for operators; carrier: of your own trunks"),
]
Whose = Annotated[PartnerId | None, Query(description="For operators: of this partner only")]
Words = Annotated[Literal["de", "en"], Query(description="Language of the words on it")]
Numbers = Literal["full", "short"]
_A_PDF: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {PDF: {"schema": {"type": "string", "format": "binary"}}}, "description": "PDF/A"}
}


class Report(Told):
    """data: rows by what was asked for. Money and rates are decimal strings; a rate of nothing is null."""

    report: str = Field(examples=["traffic"])
    by: str = Field(examples=["day"])
    period: str = Field(examples=["2026-10"])
    from_: datetime = Field(alias="from")
    to: datetime
    time_zone: str = Field(examples=["Europe/Berlin"])
    complete_until: datetime | None = Field(description="What ended later is not counted yet; null: all is")
    data: list[dict[str, str | int | None]]
    totals: list[dict[str, str | int | None]]
    notes: list[str]


class BillLine(Told):
    """A call, or what corrects one: signed."""

    at: datetime
    number: str = Field(description="Whole, or without its last three digits", examples=["+493023125xxx"])
    destination: str
    duration_s: int
    billed_s: int
    bundle_s: int
    net: str
    tax: str
    gross: str
    kind: Literal["first", "reversal", "rebooking"]


class Unlisted(Told):
    """A sum of calls that are not itemised."""

    calls: int
    gross: str


class Bill(Told):
    """An itemised bill (TDDDG § 11). `unlisted`: free calls, and those to lines that must not be recognisable."""

    subscriber_id: SubscriberId
    a_number: str
    month: str
    from_: datetime = Field(alias="from")
    to: datetime
    complete: bool
    currency: str
    numbers: Numbers
    records_kept: bool = Field(description="false: traffic data are deleted, and only the sums are left")
    calls: list[BillLine]
    unlisted: Unlisted
    gone: Unlisted
    usage: list[dict[str, str | int | None]]
    bookings: list[dict[str, str | None]]
    totals: dict[str, str]
    balance: dict[str, str] | None


class BillChoice(Body):
    """How numbers stand on bills. It holds for months that begin after it is made."""

    model_config = sample(numbers="full")

    numbers: Numbers


class ToldChoice(Told):
    """chosen_at: null where nobody has chosen, and numbers are shortened."""

    subscriber_id: SubscriberId
    numbers: Numbers
    chosen_at: datetime | None


class _Gate:
    """So many at a time; whoever comes then is told to come again."""

    def __init__(self) -> None:
        self.inside = 0

    @asynccontextmanager
    async def pass_(self) -> AsyncIterator[None]:
        if self.inside >= AT_ONCE_MAX:
            raise Problem(
                429,
                f"Reports are being made. Ask again in {_AGAIN_S} s.",
                headers={"Retry-After": str(_AGAIN_S)},
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


_gate = _Gate()


@router.get(
    "/reports/partner.pdf",
    response_class=Response,
    responses={**_A_PDF, **responses(409)},
    summary="Your month as PDF: traffic, quality, statement",
)
async def read_partner_report(desk: Reader, month: Month = None, language: Words = "en") -> Response:
    whose = desk.principal.partner_id
    if whose is None:
        raise Problem(
            400, "This is for partners. Operators write `callbridge report partner NAME --out FILE`."
        )
    return await _printed(desk, "monthly", _period(desk, month), language, partner_id=str(whose))


@router.get(
    "/reports/traffic", response_model=Report, responses=responses(404), summary="Calls and money of a month"
)
async def read_traffic(
    desk: Reader, month: Month = None, by: By = "day", partner_id: Whose = None
) -> Response:
    return await _reported(desk, "traffic", month, by, partner_id)


@router.get(
    "/reports/quality",
    response_model=Report,
    responses=responses(404),
    summary="ASR, NER, ACD and PDD of a month",
)
async def read_quality(
    desk: Reader, month: Month = None, by: By = "day", partner_id: Whose = None
) -> Response:
    return await _reported(desk, "quality", month, by, partner_id)


@router.get(
    "/subscribers/{subscriber_id}/bill",
    response_model=Bill,
    responses=responses(404),
    summary="A subscriber's itemised bill of a month",
)
async def read_bill(desk: Reader, subscriber_id: SubscriberId, month: Month = None) -> Response:
    period = _period(desk, month)
    async with desk.reading_at_length() as conn:
        whose = await bills.holder(conn, subscriber_id)
        await desk.as_ours(conn)
        made = await bill_in(conn, desk.services.settings, whose, period)
    return desk.shown(made.to_json())


@router.get(
    "/subscribers/{subscriber_id}/bill.pdf",
    response_class=Response,
    responses={**_A_PDF, **responses(404)},
    summary="The same as PDF",
)
async def read_bill_pdf(
    desk: Reader, subscriber_id: SubscriberId, month: Month = None, language: Words = "de"
) -> Response:
    period = _period(desk, month)
    async with desk.reading() as conn:
        await bills.holder(conn, subscriber_id)
    return await _printed(desk, "bill", period, language, subscriber_id=subscriber_id.hex)


@router.get(
    "/subscribers/{subscriber_id}/bill-choice",
    response_model=ToldChoice,
    responses=responses(404),
    summary="How numbers stand on a subscriber's bills",
)
async def read_bill_choice(desk: SubscriberReader, subscriber_id: SubscriberId) -> Response:
    async with desk.reading() as conn:
        await bills.holder(conn, subscriber_id)
        made = await bills.choice(conn, subscriber_id)
    return desk.shown(_choice(subscriber_id, made), made.edition)


@router.put(
    "/subscribers/{subscriber_id}/bill-choice",
    response_model=ToldChoice,
    responses=responses(*BY_METHOD["PUT"]),
    summary="Choose how numbers stand on the bills of months to come",
)
async def choose_bill_numbers(desk: Chooser, subscriber_id: SubscriberId, body: BillChoice) -> Response:
    """Bills of months that have begun stay as they were chosen before. The same choice again is kept with its time."""

    async def work(conn: Connection, edition: int) -> Made:
        whose = await bills.holder(conn, subscriber_id)
        await desk.as_ours(conn)
        made = await bills.choose(conn, whose, body.numbers, desk.principal.actor, edition)
        if made is None:
            raise stale()
        told = _choice(subscriber_id, made)
        return Made(told["subscriber_id"], told, whose.partner_id, made.edition)

    return await desk.change("subscriber.bill_choice", body, work)


async def _reported(desk: Desk, name: str, month: str | None, by: str, partner_id: UUID | None) -> Response:
    whose = desk.partner_of(partner_id)
    ask = Ask(_period(desk, month), by, whose, asking=not desk.principal.operator)
    async with _gate.pass_(), desk.reading_at_length() as conn:
        if whose is not None:
            await partners.partner(conn, whose)
        made = await report(conn, name, ask)
    return desk.shown(made.to_json())


async def _printed(desk: Desk, kind: str, period: Period, language: str, **whose: str) -> Response:
    settings = desk.services.settings
    job = {"kind": kind, "month": period.month, "language": language, "dsn": require_dsn(settings), **whose}
    async with _gate.pass_():
        pdf = await printed.printed(job | printed.settings_of(settings))
    name = f"{'report' if kind == 'monthly' else kind}-{period.month}.pdf"
    return Response(pdf, media_type=PDF, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _period(desk: Desk, month: str | None) -> Period:
    zone = desk.services.settings.company.time_zone
    return of_month(month, zone) if month else before(of_month(month_of(datetime.now(UTC), zone), zone))


def _choice(subscriber_id: UUID, made: bills.Choice) -> dict[str, Any]:
    return {
        "subscriber_id": show_id("sub", subscriber_id),
        "numbers": made.numbers,
        "chosen_at": show_at(made.chosen_at),
    }
