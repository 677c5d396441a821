"""What holds for every request, whatever it asks: size, time, correlator, and headers that keep browsers safe."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.problems import Problem

CORRELATOR: Final = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{0,256}", re.ASCII)  # CAMARA Commonalities
SECURE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Strict-Transport-Security": "max-age=31536000",
}
# The pages of the reference load their own script and style, from here only.
PAGES: Final = ("/docs", "/reference")
PAGE_POLICY: Final = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"  # noqa: E501
BODY_BYTES_MAX: Final = 1 << 20
REQUEST_S: Final = 30.0


class _TooLarge(HTTPException):
    """The body goes on beyond what is read. Of this kind, because FastAPI makes 400 of any other while it reads."""

    def __init__(self, size_max: int) -> None:
        super().__init__(413, _too_large(size_max))


def _too_large(size_max: int) -> str:
    return f"The body is larger than {size_max} bytes."


class Guard:
    """ASGI middleware around the whole application.

    roomy     path patterns whose bodies may be larger: pattern -> bytes
    patient   path patterns whose requests may last: streams and uploads
    patience_s  how long any other may take, the sending of its body included
    """

    def __init__(
        self,
        app: ASGIApp,
        api: FastAPI,
        roomy: dict[re.Pattern[str], int],
        patient: re.Pattern[str],
        patience_s: float = REQUEST_S,
    ) -> None:
        self._app, self._api, self._roomy, self._patient = app, api, roomy, patient
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        given = request.headers.get("x-correlator")
        scope["correlator"] = given or str(uuid.uuid4())
        begun, status, came_s = False, 0, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal begun, status
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                message["headers"] = self._with_ours(scope, message.get("headers", []))
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._count(scope, status, time.perf_counter() - came_s)

        if given is not None and not CORRELATOR.fullmatch(given):
            scope["correlator"] = ""
            problem = Problem(400, "x-correlator may hold up to 256 of a-z A-Z 0-9 - _ : ; . / < > { }",
                              errors=[{"pointer": "header/x-correlator", "detail": "is malformed"}])  # fmt: skip
            await self._refuse(request, problem, receive, sending)
            return
        size_max = next(
            (size for path, size in self._roomy.items() if path.fullmatch(scope["path"])), BODY_BYTES_MAX
        )
        too_large = Problem(413, _too_large(size_max))
        if _announced(request) > size_max:
            await self._refuse(request, too_large, receive, sending)
            return
        patience_s = None if self._patient.fullmatch(scope["path"]) else self._patience_s
        try:
            async with asyncio.timeout(patience_s):
                await self._app(scope, _bounded(receive, size_max), sending)
        except _TooLarge:
            if not begun:
                await self._refuse(request, too_large, receive, sending)
        except TimeoutError:
            if not begun:
                problem = Problem(
                    504, f"This took longer than {self._patience_s:g} s. Nothing was kept of it."
                )
                await self._refuse(request, problem, receive, sending)

    def _count(self, scope: Scope, status: int, took_s: float) -> None:
        """Whatever is asked of no route of ours counts as one: strangers cannot make the list of figures longer."""
        route = getattr(scope.get("route"), "path", None)
        method = scope["method"] if route else "other"
        self._api.state.services.requests.count(method, route or "other", status, took_s)

    async def _refuse(self, request: Request, problem: Problem, receive: Receive, send: Send) -> None:
        response = self._api.state.render(request, problem)
        await response(request.scope, receive, send)

    def _with_ours(self, scope: Scope, said: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What a page says for itself, of its policy and its caching, stands."""
        given = dict(said)
        return [*said, *(one for one in self._headers(scope) if one[0] not in given)]

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        told: dict[str, Any] = {**SECURE, "x-correlator": scope["correlator"]}
        if scope["path"].startswith(PAGES):
            told["Content-Security-Policy"] = PAGE_POLICY
        if "rate" in scope:
            told |= scope["rate"].headers()
        return [(name.lower().encode(), str(value).encode("latin-1")) for name, value in told.items()]


def _announced(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    return int(text[:20]) if text.isascii() and text.isdigit() else 0


def _bounded(receive: Receive, size_max: int) -> Receive:
    """Whatever was announced, no more than this is read."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > size_max:
            raise _TooLarge(size_max)
        return message

    return receiving
