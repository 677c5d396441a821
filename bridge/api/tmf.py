"""TM Forum's words for what there is here, to read: TMF635 usage (v4) and TMF678 customer bills (v4).

Pages go by `offset` and `limit`, as TMF630 has it, but no deeper than 1 000: beyond that, and for whoever follows every
record, the header `Link` has the address of the page after, with a cursor. `X-Total-Count` is told where it is known,
on the last page; nobody counts ten million records for a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bridge.api.desk import Desk, Needs, Reads
from bridge.api.fields import Instant, Told, read_id, show_at, show_id
from bridge.api.page import LAST, PAGE_MAX
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.calls import cdrs
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.exports.store import invoice as invoices
from bridge.telephony.money import format_micro

router = routes("tmf", "/tmf-api")
Reader = Annotated[Desk, Depends(Reads("cdrs:read"), scope="function")]

BillReader = Annotated[Desk, Depends(Needs("invoices:read"))]

USAGE: Final = "/tmf-api/usageManagement/v4/usage"
BILLS: Final = "/tmf-api/customerBillManagement/v4/customerBill"
OFFSET_MAX: Final = 1000
_FIELDS: Final = r"^[A-Za-z@]{1,40}(,[A-Za-z@]{1,40}){0,19}$"


class Characteristic(Told):
    """One property of a usage; all values are strings, and valueType says of what."""

    name: str = Field(examples=["originatingNumber"])
    value: str
    valueType: str = Field(examples=["string", "integer", "dateTime"])  # noqa: N815  TM Forum's names


class TmfParty(Told):
    id: str
    role: str = Field(examples=["partner", "subscriber", "account"])
    referredType: str = Field(alias="@referredType")  # noqa: N815


class Amount(Told):
    """value: a JSON number, as TMF635 has it; `charge` of the CDR is the exact decimal string."""

    unit: str = Field(examples=["EUR"])
    value: float


class Rated(Told):
    isBilled: bool  # noqa: N815
    ratingAmountType: str  # noqa: N815
    taxIncludedRatingAmount: Amount  # noqa: N815


class TmfUsage(BaseModel):
    """A call, a message or data used. id: of the CDR or of the usage record."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str = Field(examples=["cdr_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8"])
    href: str
    usageDate: datetime | None = None  # noqa: N815
    usageType: str | None = Field(None, examples=["VOICE", "SMS", "DATA"])  # noqa: N815
    status: str | None = Field(None, examples=["rated"])
    usageCharacteristic: list[Characteristic] | None = None  # noqa: N815
    relatedParty: list[TmfParty] | None = None  # noqa: N815
    ratedProductUsage: list[Rated] | None = None  # noqa: N815


class TmfMoney(Told):
    """value: a JSON number, as TMF678 has it; the invoice has the exact decimal string."""

    unit: str = Field(examples=["EUR"])
    value: float


class CustomerBill(BaseModel):
    """An invoice of `/v1/invoices`, by the same id with `inv_`. Self-billed ones are what we pay."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str = Field(examples=["inv_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8"])
    href: str
    billNo: str | None = None  # noqa: N815
    billDate: datetime | None = None  # noqa: N815
    state: str | None = Field(None, examples=["validated", "sent", "partiallySettled", "settled", "onHold"])
    amountDue: TmfMoney | None = None  # noqa: N815
    remainingAmount: TmfMoney | None = None  # noqa: N815
    taxExcludedAmount: TmfMoney | None = None  # noqa: N815
    taxIncludedAmount: TmfMoney | None = None  # noqa: N815
    paymentDueDate: datetime | None = None  # noqa: N815
    relatedParty: list[TmfParty] | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a list, and which attributes of each."""

    offset: int
    limit: int
    fields: frozenset[str]


async def _slice(
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 20,
    fields: Annotated[
        str | None, Query(pattern=_FIELDS, description="Attributes; id and href come always")
    ] = None,
) -> Slice:
    return Slice(offset, limit, frozenset((fields or "").split(",")) - {""})


Sliced = Annotated[Slice, Depends(_slice)]


def _characteristics(**named: object) -> list[dict[str, str]]:
    kinds = {"int": "integer", "str": "string"}
    return [
        {
            "name": name,
            "value": str(value),
            "valueType": "dateTime" if name.endswith("Date") else kinds[type(value).__name__],
        }
        for name, value in named.items()
        if value is not None
    ]


def _parties(told: Mapping[str, Any]) -> list[dict[str, str]]:
    parties = (
        ("partner", told["partner_id"], "Organization"),
        ("subscriber", told.get("subscriber_id"), "Individual"),
        ("account", told["account_id"], "BillingAccount"),
    )
    return [{"id": key, "role": role, "@referredType": kind} for role, key, kind in parties if key]


def _rated(amount: str | None, currency: str | None) -> list[dict[str, Any]]:
    if amount is None:
        return []
    total = {"unit": currency, "value": float(amount)}  # the standard's number, made at the very edge
    return [{"isBilled": False, "ratingAmountType": "Total", "taxIncludedRatingAmount": total}]


def of_call(line: str) -> dict[str, Any]:
    """A call record in TM Forum's words."""
    told = json.loads(line)
    return {
        "id": told["cdr_id"],
        "href": f"{USAGE}/{told['cdr_id']}",
        "usageDate": told["admitted_at"],
        "usageType": "VOICE",
        "status": told["rating_state"],
        "usageCharacteristic": _characteristics(
            originatingNumber=told["a_number"],
            destinationNumber=told["b_number"],
            dialledNumber=told["dialled"],
            callState=told["state"],
            refuseReason=told["refuse_reason"],
            answerDate=told["answered_at"],
            endDate=told["ended_at"],
            durationMs=told["talk_ms"],
            billedSeconds=told["billed_s"],
            coveredSeconds=told["covered_s"],
            destination=told["destination"],
            releaseCause=told["q850_cause"],
        ),
        "relatedParty": _parties(told),
        "ratedProductUsage": _rated(told["charge"], told["currency"]),
        "@type": "Usage",
    }


def of_invoice(row: Mapping[str, Any]) -> dict[str, Any]:
    """An invoice in TM Forum's words."""
    key = show_id("inv", row["invoice_id"])

    def money(cents: int) -> dict[str, Any]:
        return {"unit": row["currency"], "value": cents / 100}  # the standard's number, made at the very edge

    def day(on: date) -> str:
        return f"{on.isoformat()}T00:00:00Z"

    return {
        "id": key,
        "href": f"{BILLS}/{key}",
        "billNo": row["number"],
        "billDate": day(row["issued_on"]),
        "billingPeriod": {"startDateTime": day(row["from_on"]), "endDateTime": day(row["until_on"])},
        "category": {"380": "normal", "381": "credit", "389": "selfBilled"}[row["type"]],
        "runType": "onCycle",
        "state": row["state"],
        "lastUpdate": show_at(row["settled_at"] or row["sent_at"] or row["validated_at"]),
        "amountDue": money(row["gross_cents"]),
        "remainingAmount": money(row["gross_cents"] - row["paid_cents"]),
        "taxExcludedAmount": money(row["net_cents"]),
        "taxIncludedAmount": money(row["gross_cents"]),
        "paymentDueDate": day(row["due_on"]),
        "billDocument": [
            {
                "id": f"{key}.{kind}",
                "name": f"{row['number']}.{kind}",
                "mimeType": f"application/{kind}",
                "url": f"/v1/invoices/{key}/invoice.{kind}",
            }
            for kind in ("pdf", "xml")
        ],
        "relatedParty": [
            {
                "id": show_id("prt", row["partner_id"]),
                "role": "seller" if row["self_billed"] else "buyer",
                "@referredType": "Organization",
            },
        ],
        "@type": "CustomerBill",
    }


def of_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """Messages or data in TM Forum's words."""
    key = show_id("use", row["usage_id"])
    ids = {
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "account_id": show_id("acc", row["account_id"]),
    }
    return {
        "id": key,
        "href": f"{USAGE}/{key}",
        "usageDate": show_at(row["used_at"]),
        "usageType": row["service"].upper(),
        "status": "rated",
        "usageCharacteristic": _characteristics(
            quantity=row["quantity"], chargedQuantity=row["charged_quantity"], zone=row["zone"]
        ),
        "relatedParty": _parties(ids),
        "ratedProductUsage": _rated(
            format_micro(row["amount_micro"] - row["written_off_micro"]), row["currency"]
        ),
        "@type": "Usage",
    }


async def _billed(conn: Connection, told: Sequence[tuple[UUID, dict[str, Any]]]) -> None:
    """Say of those that are in an approved statement that they are billed."""
    ids = await cdrs.billed(conn, [key for key, _ in told])
    for one in [one for key, one in told if key in ids and one["ratedProductUsage"]]:
        one["status"] = "billed"
        one["ratedProductUsage"][0]["isBilled"] = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """Keys of calls and of usage records both begin with the time, so that one list holds them."""

    before: UUID
    since: UUID


async def _wanted(
    cursor: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="From the header Link")] = None,
    since: Annotated[Instant | None, Query(alias="usageDate.gte")] = None,
    until: Annotated[Instant | None, Query(alias="usageDate.lt")] = None,
) -> Wanted:
    before = UUID(hex=cursor) if cursor else cdrs.LAST
    last = cdrs.key_at(until) if until else cdrs.LAST
    return Wanted(min(before, last), cdrs.key_at(since) if since else cdrs.FIRST)


async def _newest(
    conn: Connection, partner_id: UUID | None, wanted: Wanted, rows: int
) -> list[tuple[UUID, dict[str, Any]]]:
    found = await cdrs.find(conn, cdrs.Search(partner_id, wanted.before, wanted.since), rows)
    calls = [of_call(line) for line in found.lines]
    others = await cdrs.usage(conn, partner_id, wanted.before, wanted.since, rows)
    keyed = [(read_id("cdr", one["id"]), one) for one in calls]
    keyed += [(row["usage_id"], of_record(row)) for row in others]
    return sorted(keyed, key=lambda one: one[0], reverse=True)[:rows]


@router.get(
    "/usageManagement/v4/usage", response_model=list[TmfUsage], summary="Usage (TMF635), newest first"
)
async def list_tmf_usage(
    request: Request, desk: Reader, sliced: Sliced, wanted: Annotated[Wanted, Depends(_wanted)]
) -> Response:
    """Calls, messages and data. `usageDate.gte` and `usageDate.lt` go by the time in the id: of a call its admission,
    of the others when they were reported.
    """
    end = sliced.offset + sliced.limit
    async with desk.reading() as conn:
        rows = await _newest(conn, desk.principal.partner_id, wanted, end + 1)
        shown = rows[sliced.offset : end]
        await _billed(conn, shown)
    following = None
    if len(rows) > end:
        following = request.url.include_query_params(cursor=shown[-1][0].hex, offset=0)
    total = None if following or "cursor" in request.query_params else len(rows)
    link = f'<{following.path}?{following.query}>; rel="next"' if following else None
    return _listed([one for _, one in shown], sliced, total, link)


def _listed(
    rows: Sequence[Mapping[str, Any]], sliced: Slice, total: int | None, link: str | None
) -> Response:
    headers = {"X-Result-Count": str(len(rows))}
    if total is not None:
        headers["X-Total-Count"] = str(total)
    if link:
        headers["Link"] = link
    content = json.dumps(
        [_cut(one, sliced.fields) for one in rows], separators=(",", ":"), ensure_ascii=False
    )
    return Response(content.encode(), 200, headers, media_type="application/json")


def _cut(told: Mapping[str, Any], fields: frozenset[str]) -> Mapping[str, Any]:
    wanted = fields | {"id", "href"}
    return {name: value for name, value in told.items() if name in wanted} if fields else told


@router.get(
    "/usageManagement/v4/usage/{id}",
    response_model=TmfUsage,
    responses=responses(404),
    summary="One usage (TMF635)",
)
async def read_tmf_usage(
    desk: Reader, key: Annotated[str, Path(alias="id", pattern="^(cdr|use)_[0-9a-f]{32}$")]
) -> Response:
    partner_id = desk.principal.partner_id
    async with desk.reading() as conn:
        if key.startswith("cdr"):
            told = of_call(await cdrs.record(conn, read_id("cdr", key), partner_id))
        else:
            usage_id = read_id("use", key)
            after = UUID(int=min(usage_id.int + 1, cdrs.LAST.int))
            found = await cdrs.usage(conn, partner_id, after, usage_id, 1)
            if not found:
                raise NotFound("There is no such usage.")
            told = of_record(found[0])
        await _billed(conn, [(UUID(key[4:]), told)])
    return desk.shown(told)


@router.get(
    "/customerBillManagement/v4/customerBill",
    response_model=list[CustomerBill],
    summary="Bills (TMF678), newest first",
)
async def list_tmf_bills(request: Request, desk: BillReader, sliced: Sliced) -> Response:
    """Invoices that have a number. All of them, with their lines: `/v1/invoices`."""
    end = sliced.offset + sliced.limit
    async with desk.reading() as conn:
        rows = await invoices.bills(conn, LAST, end + 1, desk.principal.partner_id)
    following = None
    if len(rows) > end and end <= OFFSET_MAX:
        following = request.url.include_query_params(offset=end, limit=sliced.limit)
    link = f'<{following.path}?{following.query}>; rel="next"' if following else None
    total = None if len(rows) > end else len(rows)
    return _listed([of_invoice(row) for row in rows[sliced.offset : end]], sliced, total, link)


@router.get(
    "/customerBillManagement/v4/customerBill/{id}",
    response_model=CustomerBill,
    responses=responses(404),
    summary="One bill (TMF678)",
)
async def read_tmf_bill(
    desk: BillReader, key: Annotated[str, Path(alias="id", pattern="^inv_[0-9a-f]{32}$")]
) -> Response:
    async with desk.reading() as conn:
        row = await invoices.invoice(conn, read_id("inv", key))
    if row["number"] is None:
        raise NotFound("There is no such bill.")
    return desk.shown(of_invoice(row))
