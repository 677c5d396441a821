"""Files from our disk, whole or from where a download broke off."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from fastapi import Response
from fastapi.responses import FileResponse

from bridge.api.desk import Desk
from bridge.api.problems import Problem

ANY: Final = "application/octet-stream"
JSON: Final = "application/json"
_MEDIA: Final = {".gz": "application/gzip", ".parquet": "application/vnd.apache.parquet", ".json": JSON}
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})", re.ASCII)
# For a route: how what it hands out is documented.
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file. `ETag` is its SHA-256, `Accept-Ranges` are bytes",
        "content": {ANY: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "The SHA-256 of the file, in quotes"},
            "X-Content-SHA256": {"schema": {"type": "string"}, "description": "The same, bare"},
        },
    },
    206: {"description": "The part that `Range` asked for"},
    304: {"description": "`If-None-Match` names its SHA-256"},
}


async def hand_out(desk: Desk, path: Path, sha256: bytes, size: int) -> Response:
    """The file, as it was written: `Range` goes on with a download that broke off.

    path     of ours, not of whoever asks
    raises   Problem 410: it is not there any more
    """
    whole = sha256.hex()
    tag = f'"{whole}"'
    known = desk.request.headers.get("if-none-match")
    if known == tag:
        return Response(status_code=304, headers={"ETag": tag})
    found = await asyncio.to_thread(_size, path)
    if found != size:
        raise Problem(
            410, "The file is not here any more. Tell us: it can be written again, the same to the last byte."
        )
    _keep_ranges_simple(desk, size)
    headers = {"ETag": tag, "X-Content-SHA256": whole}
    media = _MEDIA.get(path.suffix, ANY)
    return FileResponse(path, headers=headers, media_type=media, filename=path.name)


def _size(path: Path) -> int | None:
    """None: there is no such file. A link is none of ours."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def _keep_ranges_simple(desk: Desk, size: int) -> None:
    """One range that begins within the file; what else is asked for is answered with the whole (RFC 9110, 14.2)."""
    headers = desk.request.scope["headers"]
    given = desk.request.headers.get("range")
    found = _RANGE.fullmatch(given.strip()) if given is not None else None
    first, last = (int(found[1]), int(found[2] or size)) if found else (size, 0)
    if (given is not None and first >= size) or last < first:
        desk.request.scope["headers"] = [one for one in headers if one[0] != b"range"]
