"""Call records: search, fetch, explain. Lists come as JSON or as CSV, newest first."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import Field

from bridge.api.calls import DecimalText, State
from bridge.api.desk import Desk, Reads
from bridge.api.fields import (
    E164,
    AccountId,
    CallId,
    CdrId,
    CurrencyCode,
    Instant,
    PartnerId,
    SubscriberId,
    Told,
    show_id,
    show_money,
)
from bridge.api.page import Asked, Page
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.calls import cdrs, explain

router = routes("cdrs")
Reader = Annotated[Desk, Depends(Reads("cdrs:read"), scope="function")]

DAYS: Final = 31  # a search without `since` goes back so far
TALK_S_MAX: Final = 10**6
CSV: Final = "text/csv"
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

RatingState = Literal["received", "rejected", "recycled", "guided", "rated", "rerated", "billed"]


class Cdr(Told):
    """A call detail record: written at admission or refusal, closed once. charge: as booked, later prices included.

    rating_state: `received` while the call lasts or where nobody pays for it, `rejected` when it was refused, `guided`
    when it ended without an answer, `rated`, and `rerated` once it has another price. `recycled` and `billed` are not
    used yet.
    """

    cdr_id: CdrId
    call_id: CallId = Field(description="The same digits")
    partner_id: PartnerId | None
    account_id: AccountId | None
    subscriber_id: SubscriberId | None
    a_number: str = Field(examples=["+4989999998000"])
    b_number: str | None = Field(examples=["+493023125000"])
    dialled: str
    state: State
    direction: Literal["out", "on_net", "in"] = Field(
        description="Over a carrier, to another user's phone, or from the network"
    )
    refuse_reason: str | None = Field(examples=["no_credit"])
    rating_state: RatingState
    admitted_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    talk_ms: int | None
    q850_cause: int | None
    release_party: Literal["caller", "callee", "bridge", "unknown"] | None
    destination: str | None = Field(examples=["Germany"])
    prefix: str | None
    rate: DecimalText | None = Field(description="A minute, of the sell deck")
    billed_s: int | None
    covered_s: int | None = Field(description="Seconds of talk that bundles paid for")
    charge: DecimalText | None
    written_off: DecimalText | None = Field(description="What no money was left for")
    currency: CurrencyCode | None
    revision: int = Field(description="How often it was given another price")


class Reason(Told):
    """A rate that fits the number, and what became of it."""

    prefix: str
    origin_set: str
    why: str


class Arithmetic(Told):
    """A step. Amounts before the last, the total, add up to it."""

    name: str
    text: str
    amount: DecimalText | None


class Side(Told):
    """One side of a price: which rate, why no other, and the arithmetic."""

    version: int = Field(description="Of the deck, when the call was admitted")
    prefix: str
    destination: str
    origin_set: str
    candidates: list[Reason]
    rate: DecimalText
    currency: CurrencyCode
    increment: str = Field(examples=["60/6"])
    free: str = Field(description="Why it costs nothing, where it does")
    steps: list[Arithmetic]
    tax: DecimalText
    deck: str | None = Field(None, description="For operators only")


class Bought(Side):
    """The buy side of one attempt."""

    attempt: int
    trunk: str
    outcome: str
    cost: DecimalText


class CdrNumber(Told):
    dialled: str
    e164: str
    origin_sets: list[str]


class Units(Told):
    bundle: str
    unit_s: int
    held: int
    burnt: int | None


class Revision(Told):
    """A price that the call was given later. The latest one counts."""

    revision: int
    charge: DecimalText
    rate: DecimalText
    billed_s: int
    at: datetime
    cost: DecimalText | None = Field(None, description="For operators only, as what follows")
    author: str | None = None
    reason: str | None = None


class Explanation(Told):
    """Each step from number to price."""

    cdr_id: CdrId
    number: CdrNumber | None
    sell: Side | None
    units: list[Units]
    rerated: list[Revision]
    buy: list[Bought] | None = Field(None, description="For operators only, as what follows")
    margin: DecimalText | None = None


BPrefix = Annotated[
    str | None,
    Query(
        alias="b_number",
        pattern=r"^\+?[1-9][0-9]{0,14}$",
        description="The number called begins with this. Write + as %2B, or leave it out",
    ),
]


async def _search(
    desk: Reader,
    paging: Asked,
    since: Annotated[
        Instant | None, Query(description=f"Admitted at or after; {DAYS} days before `until` if not given")
    ] = None,
    until: Annotated[Instant | None, Query(description="Admitted before")] = None,
    state: Annotated[State | None, Query()] = None,
    partner_id: Annotated[PartnerId | None, Query(description="For operators")] = None,
    account_id: Annotated[AccountId | None, Query()] = None,
    subscriber_id: Annotated[SubscriberId | None, Query()] = None,
    a_number: Annotated[E164 | None, Query(description="The caller; write + as %2B")] = None,
    b_number: BPrefix = None,
    min_talk_s: Annotated[int | None, Query(ge=0, le=TALK_S_MAX)] = None,
) -> cdrs.Search:
    end_at = until or datetime.now(UTC)
    begin_at = since or end_at - timedelta(days=DAYS)
    last = cdrs.key_at(until) if until else cdrs.LAST
    return cdrs.Search(
        desk.partner_of(partner_id),
        min(paging.before, last),
        cdrs.key_at(begin_at),
        account_id,
        subscriber_id,
        state,
        a_number,
        "+" + b_number.removeprefix("+") if b_number else None,
        None if min_talk_s is None else min_talk_s * 1000,
    )


@router.get(
    "",
    response_model=Page[Cdr],
    responses={
        200: {"content": {CSV: {"schema": {"type": "string"}}}},
        **responses(404, 406),
    },
    summary="Call records, newest first",
)
async def list_cdrs(
    request: Request, desk: Reader, paging: Asked, search: Annotated[cdrs.Search, Depends(_search)]
) -> Response:
    """`since` and `until` go by the time in the record's id, which is that of its admission.

    A page looks at no more than 10 000 records, whatever is filtered. It may have fewer rows than `limit`, or none, and
    still a `next`; the search is over when `next` is null. With `Accept: text/csv` the address of the page after is in
    the header `Link`, and a cell that a spreadsheet might take for a formula begins with an apostrophe.
    """
    kind = media_type(request.headers.get("accept", ""))
    async with desk.reading() as conn:
        if search.partner_id != desk.principal.partner_id or search.account_id or search.subscriber_id:
            search = await cdrs.narrowed(conn, search)
        found = await cdrs.find(conn, search, paging.limit)
    following = found.following.hex if found.following else None
    if kind == CSV:
        headers = {}
        if following:
            url = request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Response(as_csv(found.lines), 200, headers, media_type=f"{CSV}; charset=utf-8")
    after = f'"{following}"' if following else "null"
    content = f'{{"data":[{",".join(found.lines)}],"next":{after}}}'
    return Response(content.encode(), media_type="application/json")


def media_type(accept: str) -> str:
    """JSON unless CSV alone is wanted, or wanted first.

    raises   Problem 406: something else is
    """
    kinds = (
        [one.partition(";")[0].strip().lower() for one in accept.split(",")] if accept.strip() else ["*/*"]
    )
    for kind in kinds:
        if kind in ("application/json", "application/*", "*/*"):
            return "application/json"
        if kind in (CSV, "text/*"):
            return CSV
    raise Problem(406, f"Records come as application/json or {CSV}.")


def as_csv(lines: Sequence[str]) -> str:
    """UTF-8 with a header (RFC 4180)."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(Cdr.model_fields)
    for line in lines:
        told = json.loads(line)
        writer.writerow([_cell(told[name]) for name in Cdr.model_fields])
    return file.getvalue()


def _cell(value: object) -> object:
    """A number as received may be anything: no spreadsheet shall run it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


@router.get("/{cdr_id}", response_model=Cdr, responses=responses(404), summary="One call record")
async def read_cdr(desk: Reader, cdr_id: CdrId) -> Response:
    async with desk.reading() as conn:
        line = await cdrs.record(conn, cdr_id, desk.principal.partner_id)
    return Response(line.encode(), media_type="application/json")


@router.get(
    "/{cdr_id}/explain", response_model=Explanation, responses=responses(404), summary="Why it has its price"
)
async def explain_cdr(desk: Reader, cdr_id: CdrId) -> Response:
    async with desk.reading() as conn:
        reasons = await explain.reasons(conn, cdr_id, ours=desk.principal.operator)
    told: dict[str, Any] = {"cdr_id": show_id("cdr", cdr_id), "number": None} | reasons
    for side in filter(None, (told["sell"], *told.get("buy", ()))):
        side["steps"] = [
            {"name": one["name"], "text": one["text"], "amount": show_money(one.get("amount_micro"))}
            for one in side["steps"]
        ]
    return desk.shown(told)
