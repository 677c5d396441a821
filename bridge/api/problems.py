"""Errors as RFC 9457 problem documents; the only place where exceptions become HTTP statuses."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bridge.api.auth import NotAuthenticated
from bridge.errors import BridgeError, Conflict, InsufficientFunds, NotFound, StoreUnavailable

_STATUS: dict[type[BridgeError], tuple[int, str]] = {
    NotAuthenticated: (401, "not_authenticated"),
    NotFound: (404, "not_found"),
    Conflict: (409, "conflict"),
    InsufficientFunds: (402, "insufficient_funds"),
    StoreUnavailable: (503, "unavailable"),
}

log = structlog.get_logger("api")


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    """One problem document."""
    body = {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(body | more, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Render every error of the application."""

    @app.exception_handler(BridgeError)
    async def ours(request: Request, error: BridgeError) -> JSONResponse:
        for kind in type(error).__mro__:
            if kind in _STATUS:
                status, code = _STATUS[kind]
                return problem(status, code, str(error))
        log.error("request failed", path=request.url.path, error=repr(error))
        return problem(500, "internal", "Something broke here. It was logged.")

    @app.exception_handler(RequestValidationError)
    async def shape(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"pointer": "/".join(map(str, one["loc"])), "detail": one["msg"]} for one in error.errors()]
        return problem(
            422, "invalid_request", "The request does not have the documented shape.", errors=errors
        )

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "http_error", str(error.detail))
