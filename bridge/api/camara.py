"""CAMARA ClickToDial: the published contract on top of originations. It says what they say, in its own words.

The path says which release the contract is of: the one this follows has not got a number yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import Body, Instant, Told, read_id, sample, show_at, show_id
from bridge.api.originations import order
from bridge.api.problems import Problem
from bridge.api.route import StrictRoute
from bridge.calls import orders
from bridge.calls.orders import Sink
from bridge.database import Connection
from bridge.errors import Conflict, NotFound

BASE: Final = "/click-to-dial/v0.2"
SINK_CHARS_MAX: Final = 2048
TOKEN: Final = re.compile(r"[!-~]{1,4096}", re.ASCII)
PHONE_NUMBER: Final = re.compile(r"\+[1-9][0-9]{4,14}", re.ASCII)

_CODES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    409: "ALREADY_EXISTS",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "TIMEOUT",
}
# What the core calls it -> the contract's 422.
_UNPROCESSABLE: Final = {"same_number": "SAME_CALLER_CALLEE", "invalid_number": "INVALID_PHONE_NUMBER"}
_UNPROCESSABLE_ELSE: Final = "CALLEE_NOT_AVAILABLE"
_MESSAGE_CHARS_MAX: Final = 512

Status = Literal["initiating", "callingCaller", "callingCallee", "connected", "disconnected", "failed"]


class ErrorInfo(BaseModel):
    """An error as this contract has it."""

    status: int
    code: str = Field(examples=["INVALID_ARGUMENT"])
    message: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route: the errors it may answer with."""
    return {status: {"model": ErrorInfo, "description": _described(status)} for status in statuses}


def _described(status: int) -> str:
    return _CODES.get(status, "UNPROCESSABLE").replace("_", " ").lower()


def dialect(request: Request, problem: Problem) -> Response:
    """A problem in the contract's form."""
    del request
    status, code = problem.status, problem.code
    # A path that can name nothing, not even a call that is gone, is an error of form here; so is a body.
    if (status == 404 and problem.errors) or (status == 422 and code == "invalid_request"):
        status, code = 400, _CODES[400]
    elif status == 422:
        code = code if code.isupper() else _UNPROCESSABLE.get(code, _UNPROCESSABLE_ELSE)
    elif status not in _CODES:
        status, code = 400, _CODES[400]
    else:
        code = _CODES[status]
    told = "; ".join([problem.detail, *(f"{one['pointer']}: {one['detail']}" for one in problem.errors)])
    body = {"status": status, "code": code, "message": told[:_MESSAGE_CHARS_MAX]}
    return JSONResponse(body, status, problem.headers)


router = APIRouter(
    prefix=BASE, tags=["click-to-dial"], route_class=StrictRoute, responses=errors(400, 401, 403, 429, 503)
)
Creator = Annotated[Desk, Depends(Needs("click-to-dial:calls:create"))]
Reader = Annotated[Desk, Depends(Needs("click-to-dial:calls:read"))]
Deleter = Annotated[Desk, Depends(Needs("click-to-dial:calls:delete"))]
Listener = Annotated[Desk, Depends(Needs("click-to-dial:recordings:read"))]
Key = Annotated[str, Path(alias="callId", pattern=r"^[A-Za-z0-9._~:-]{1,256}$")]


def _https(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("should be a URL") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("should be an https:// URL without user and fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("should be a URL, percent-encoded")
    return url


def _bearer(token: SecretStr) -> SecretStr:
    if not TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("should be 1 to 4096 printable ASCII characters without spaces")
    return token


def _future(at: datetime) -> datetime:
    if at <= datetime.now(UTC):
        raise ValueError("has expired")
    return at


class ClickToDialParty(Body):
    """One end of a call, in E.164 form."""

    number: str = Field(max_length=256, examples=["+493023125017"])


class AccessToken(Body):
    """Sent with each event as a bearer token."""

    credentialType: Literal["ACCESSTOKEN"]  # noqa: N815 - the contract's name
    accessToken: Annotated[SecretStr, AfterValidator(_bearer)]  # noqa: N815
    accessTokenExpiresUtc: Annotated[Instant, AfterValidator(_future)]  # noqa: N815
    accessTokenType: Literal["bearer"]  # noqa: N815


class CreateCall(Body):
    """Who is to be connected with whom. The caller is one of your subscribers, and pays for both legs."""

    model_config = sample(caller={"number": "+493023125017"}, callee={"number": "+499998998042"})

    caller: ClickToDialParty
    callee: ClickToDialParty
    sink: Annotated[str, AfterValidator(_https)] | None = Field(
        None, max_length=SINK_CHARS_MAX, examples=["https://partner.example/events"]
    )
    sinkCredential: AccessToken | None = None  # noqa: N815
    recordingEnabled: bool = False  # noqa: N815


class ClickToDialCall(Told):
    """One call by order."""

    callId: str = Field(examples=["org_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8"])  # noqa: N815
    caller: ClickToDialParty
    callee: ClickToDialParty
    status: Status
    createdAt: datetime  # noqa: N815
    recordingEnabled: bool  # noqa: N815


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "callId": show_id("org", row["origination_id"]),
        "caller": {"number": row["a_number"]},
        "callee": {"number": row["b_number"]},
        "status": row["click_state"],
        "createdAt": show_at(row["made_at"]),
        "recordingEnabled": False,
    }


async def _found(conn: Connection, key: str) -> Any:
    """raises   NotFound"""
    try:
        origination_id = read_id("org", key)
    except ValueError:
        raise NotFound("There is no such call.") from None
    return await orders.origination(conn, origination_id)


@router.post("/calls", status_code=201, response_model=ClickToDialCall, responses=errors(409, 413, 415, 422))
async def create_click_to_dial_call(desk: Creator, body: CreateCall) -> Response:
    """Connect the caller with the callee. This contract knows no Idempotency-Key, but one that is sent counts; without
    one a repeated request finds the call in progress, and gets 409.
    """
    sink = _sink(body)

    async def work(conn: Connection) -> Made:
        for number in (body.caller.number, body.callee.number):
            if not PHONE_NUMBER.fullmatch(number):
                raise Problem(422, "A phone number is not in E.164 form.", code="INVALID_PHONE_NUMBER")
        if body.caller.number == body.callee.number:
            raise Problem(422, "Caller and callee are the same.", code="SAME_CALLER_CALLEE")
        if body.recordingEnabled:
            raise Problem(422, "Calls are not recorded here.", code="RECORDING_NOT_SUPPORTED")
        try:
            payer = await orders.payer(conn, a_number=body.caller.number)
        except (NotFound, Conflict) as error:
            raise Problem(422, str(error), code="CALLER_NOT_AVAILABLE") from None
        if payer["state"] != "active":
            raise Problem(422, "The caller may not call.", code="CALLER_NOT_AVAILABLE")
        row = await order(desk, conn, payer, body.callee.number, sink)
        told = show(row)
        return Made(told["callId"], told, row["partner_id"], location=f"{BASE}/calls/{told['callId']}")

    if "idempotency-key" in desk.request.headers:
        return await desk.create("origination.create", body, work)
    return await desk.act("origination.create", body, work, status=201)


def _sink(body: CreateCall) -> Sink | None:
    credential = body.sinkCredential
    if body.sink is None:
        if credential is not None:
            raise Problem(400, "A sinkCredential without a sink.")
        return None
    if credential is None:
        return Sink(body.sink)
    return Sink(body.sink, credential.accessToken.get_secret_value(), credential.accessTokenExpiresUtc)


@router.get("/calls/{callId}", response_model=ClickToDialCall, responses=errors(404))
async def read_click_to_dial_call(desk: Reader, key: Key) -> Response:
    """One call and how far it is."""
    async with desk.reading() as conn:
        row = await _found(conn, key)
    return desk.shown(show(row))


@router.delete("/calls/{callId}", status_code=204, responses=errors(404, 409))
async def terminate_click_to_dial_call(desk: Deleter, key: Key) -> Response:
    """Hang up. 409 when it is over."""

    async def work(conn: Connection) -> Made:
        row = await _found(conn, key)
        if row["ended_at"] is not None:
            raise Conflict("The call is over.")
        await desk.as_ours(conn)
        await orders.cancel(conn, row["origination_id"])
        return Made(show_id("org", row["origination_id"]), None, row["partner_id"])

    return await desk.act("origination.cancel", None, work)


@router.get("/calls/{callId}/recording", responses=errors(404), response_model=ErrorInfo, status_code=404)
async def read_click_to_dial_recording(desk: Listener, key: Key) -> Response:
    """Calls are not recorded here: always 404."""
    async with desk.reading() as conn:
        await _found(conn, key)
    raise NotFound("There is no recording of this call.")
