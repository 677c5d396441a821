"""Errors as RFC 9457 problem documents; the only place where exceptions become HTTP statuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bridge.errors import (
    AlreadySettled,
    BridgeError,
    ConfigError,
    Conflict,
    DeckError,
    InsufficientFunds,
    Invalid,
    NotFound,
    StoreUnavailable,
    SwitchUnavailable,
)

CODES: Final = {
    400: "bad_request",
    401: "not_authenticated",
    402: "insufficient_funds",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    410: "gone",
    412: "stale",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    428: "if_match_required",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
    504: "too_slow",
}
_QUOTA_TYPE: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_STATUS: Final[dict[type[BridgeError], int]] = {
    NotFound: 404,
    Conflict: 409,
    AlreadySettled: 409,
    InsufficientFunds: 402,
    StoreUnavailable: 503,
    SwitchUnavailable: 503,
    Invalid: 422,
    DeckError: 422,
    ConfigError: 422,
}

log = structlog.get_logger("api")


class Problem(BridgeError):
    """A request that is not answered as it was meant.

    errors   where in the request, and what: [{"pointer": "#/name", "detail": …}]
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.code = status, detail, code or CODES[status]
        self.errors, self.headers = errors, dict(headers or {})
        if status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")


class Wrong(BaseModel):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="Where, as a JSON pointer (`#/name`), or `query/…`, `header/…`")
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    code: str = Field(description="Does not change; `detail` is for people", examples=["not_found"])
    detail: str
    instance: str = Field(description="The path that was asked")
    correlator: str = Field(description="The `x-correlator` of the request")
    errors: list[Wrong] = []


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route: the problems it may answer with, beside those that every route may."""
    return {
        status: {
            "description": CODES[status].replace("_", " "),
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
            },
        }
        for status in statuses
    }


Dialect = Callable[[Request, Problem], Response]


def document(request: Request, problem: Problem) -> Response:
    """One problem document."""
    body = {
        "type": _QUOTA_TYPE if problem.status == 429 else "about:blank",
        "title": problem.code.replace("_", " "),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "instance": request.scope["path"],
        "correlator": request.scope.get("correlator", ""),
        "errors": list(problem.errors),
    }
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


def problem_of(error: BridgeError) -> Problem:
    """What an exception of ours means to whoever asked."""
    if isinstance(error, Problem):
        return error
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return Problem(_STATUS[kind], str(error))
    return Problem(500, "Something broke here. It was logged.")


def install(app: FastAPI, dialects: Mapping[str, Dialect]) -> None:
    """Render every error of the application.

    dialects   by the beginning of the path: contracts that ask for errors of another form
    """

    def render(request: Request, problem: Problem) -> Response:
        for prefix, dialect in dialects.items():
            if request.scope["path"].startswith(prefix):
                return dialect(request, problem)
        return document(request, problem)

    app.state.render = render

    @app.exception_handler(BridgeError)
    async def ours(request: Request, error: BridgeError) -> Response:
        found = problem_of(error)
        if found.status == 500:
            log.error("request failed", path=_route(request), error=repr(error))
        return render(request, found)

    @app.exception_handler(RequestValidationError)
    async def shape(request: Request, error: RequestValidationError) -> Response:
        return render(request, misshapen(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        status = error.status_code if error.status_code in CODES else 400
        headers = dict(error.headers or {})
        if status == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return render(request, Problem(status, str(error.detail), headers=headers))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _: ClientDisconnect) -> Response:
        return render(request, Problem(400, "The body ended before its end."))

    @app.exception_handler(Exception)
    async def accident(request: Request, error: Exception) -> Response:
        log.error("request failed", path=_route(request), error=repr(error), exc_info=error)
        return render(request, Problem(500, "Something broke here. It was logged."))


def misshapen(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """422 for a body, 404 for a path that can name nothing, 400 for the rest of a request."""
    places = {str(one["loc"][0]) for one in errors}
    told = [{"pointer": _pointer(one["loc"]), "detail": str(one["msg"])} for one in errors]
    if "body" in places:
        return Problem(422, "The body does not have the documented shape.", errors=told)
    if "path" in places:
        return Problem(404, "There is nothing here by that name.", errors=told)
    return Problem(400, "The request does not have the documented shape.", errors=told)


def _pointer(loc: Sequence[object]) -> str:
    place, *rest = (str(part) for part in loc)
    if place != "body":
        return "/".join([place, *rest])
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in rest)


def _methods(request: Request) -> list[str]:
    """What a path can be asked with. The framework names those of the first route that has it; and a word that stands
    in a path is no id, though a route with an id in its place has it, too."""
    found: dict[str, set[str]] = {}
    for route in iter_route_contexts(request.app.routes):
        if route.path_regex is not None and route.path_regex.match(request.scope["path"]):
            found.setdefault(route.path or "", set()).update(route.methods or set())
    return sorted(found[min(found, key=lambda path: path.count("{"))]) if found else []


def _route(request: Request) -> str:
    """The pattern, not the path: that may hold a number."""
    return getattr(request.scope.get("route"), "path", "?")
