"""Files that come over the API: read beside the worker, see `stage_process`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final
from uuid import UUID

from bridge import errors
from bridge.errors import BridgeError, DeckError, StoreUnavailable

ERRORS_MAX: Final = 10_000  # kept of one file; all are counted
LINES_MAX: Final = 2_000_000
WORK_S_MAX: Final = 300.0
# The processor limit, and the kernel when memory runs out
_STOPPED: Final = (-signal.SIGXCPU, -signal.SIGKILL)
_MAPPED: Final = ("Conflict", "NotFound", "Invalid", "StoreUnavailable", "StoreError")


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be staged, for whom. file: with a descriptor of its own

    at            now
    effective_at  from when rows hold that do not say; None: now
    fingerprint   of all that was asked for with the key
    notice        what gets dearer has to be announced
    """

    deck_id: UUID
    file: BinaryIO
    file_name: str
    author: str
    encoding: str | None
    mode: str
    at: datetime
    effective_at: datetime | None
    owner_id: UUID
    key: str
    fingerprint: bytes
    dry_run: bool
    notice: bool


async def stage_beside(dsn: str, upload: Upload) -> UUID:
    """Stage a file in a process of its own. Returns the import's id.

    raises   DeckError: it cannot be read at all · Conflict: the key is in use · StoreUnavailable: it took too long
    """
    number = upload.file.fileno()
    job = {
        "dsn": dsn,
        "file": number,
        "deck": str(upload.deck_id),
        "file_name": upload.file_name,
        "author": upload.author,
        "encoding": upload.encoding,
        "mode": upload.mode,
        "at": upload.at.isoformat(),
        "effective_at": upload.effective_at.isoformat() if upload.effective_at else None,
        "owner_id": str(upload.owner_id),
        "key": upload.key,
        "fingerprint": upload.fingerprint.hex(),
        "dry_run": upload.dry_run,
        "notice": upload.notice,
        "errors_max": ERRORS_MAX,
        "lines_max": LINES_MAX,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bridge.rating.store.stage_process", stdin=pipe, stdout=pipe, stderr=pipe,
        pass_fds=(number,),
        # It imports what we import, whatever lies in the working directory.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    try:
        async with asyncio.timeout(WORK_S_MAX):
            out, told = await process.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise StoreUnavailable(f"the file was not read within {WORK_S_MAX:g} s. Split it") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode in _STOPPED:
        raise DeckError("the file takes too long or too much memory to read. Split it")
    if process.returncode:
        raise BridgeError(f"the reader of decks ended with {process.returncode}: {told[-500:]!r}")
    return _result(json.loads(out))


def _result(said: dict[str, Any]) -> UUID:
    match said:
        case {"import_id": import_id}:
            return UUID(import_id)
        case {"error": "DeckError", "detail": detail}:
            raise DeckError(detail, row=said.get("row", 0), column=said.get("column", ""))
        case {"error": str(kind), "detail": detail} if kind in _MAPPED:
            raise getattr(errors, kind)(detail)
    raise BridgeError(f"the reader of decks said {str(said)[:500]}")
