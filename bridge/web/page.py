"""The browser phone's page: a few built files, served from memory, that may load and reach nothing but what is ours."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from bridge.config import Settings

PAGE: Final = "/phone"
STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
_KINDS: Final = {
    _INDEX: "text/html; charset=utf-8",
    "phone.js": "text/javascript; charset=utf-8",
    "phone.css": "text/css; charset=utf-8",
    "phone.svg": "image/svg+xml",
    "licenses.txt": "text/plain; charset=utf-8",
}
_NOT_BUILT: Final = "The browser phone was not built. In a checkout `make setup` does it.\n"


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    etag: str
    plain: bytes
    packed: bytes


def install(app: FastAPI, settings: Settings, folder: Path = STATIC) -> None:
    """Serve the page below /phone. Where it was not built, say so to whoever opens it."""
    files = _read(folder)
    headers = {
        "Content-Security-Policy": policy(settings),
        "Permissions-Policy": "microphone=(self)",
        "Cache-Control": "no-cache",  # kept, and asked each time whether it is still the one
        "Vary": "Accept-Encoding",
    }

    def answer(request: Request, name: str) -> Response:
        if not files:
            return PlainTextResponse(_NOT_BUILT, 503)
        found = files.get(name)
        if found is None:
            return PlainTextResponse("There is nothing here by that name.\n", 404)
        told = headers | {"ETag": found.etag}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=told)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers=told | {"Content-Encoding": "gzip"}, media_type=found.kind)
        return Response(found.plain, headers=told, media_type=found.kind)

    @app.get(PAGE, include_in_schema=False)
    @app.get(f"{PAGE}/", include_in_schema=False)
    async def phone_page(request: Request) -> Response:
        return answer(request, _INDEX)

    @app.get(f"{PAGE}/{{name}}", include_in_schema=False)
    async def phone_file(request: Request, name: str) -> Response:
        return answer(request, name)


def policy(settings: Settings) -> str:
    """Content-Security-Policy: scripts, styles and pictures of ours; words with us and with the switch, no one else."""
    switch = urlsplit(settings.phones_url)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src blob:",
            f"connect-src 'self' {switch.scheme}://{switch.netloc}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _read(folder: Path) -> dict[str, _File]:
    """All of them, or none."""
    found = {}
    for name, kind in _KINDS.items():
        try:
            plain = (folder / name).read_bytes()
        except FileNotFoundError:
            return {}
        etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
        found[name] = _File(kind, etag, plain, gzip.compress(plain, mtime=0))
    return found
