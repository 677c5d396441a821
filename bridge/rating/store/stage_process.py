"""A file from outside is read in a process of its own: whatever is in it, the calls of the worker do not wait for it.

The job comes on standard input, the file as an open descriptor, and what became of it goes to standard output. Memory
and processor time are limited, so that a file made to break its reader breaks nothing but the reader.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from datetime import datetime
from typing import Any, BinaryIO, Final
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import connect
from bridge.errors import BridgeError, Conflict, DeckError, StoreError
from bridge.rating.store.imports import Asked, DeckFile, stage

MEMORY_BYTES_MAX: Final = 2 << 30
CPU_S_MAX: Final = 180
NICE: Final = 10  # calls first


async def work(job: dict[str, Any], file: BinaryIO) -> str:
    """Stage the file. Returns the import's id. raises: as `stage` · Conflict: the key was used meanwhile"""
    asked = Asked(
        UUID(job["owner_id"]),
        job["key"],
        bytes.fromhex(job["fingerprint"]),
        dry_run=job["dry_run"],
        notice=job["notice"],
        errors_max=job["errors_max"],
        lines_max=job["lines_max"],
    )
    begin = job["effective_at"]
    async with connect(job["dsn"]) as conn, conn.transaction():
        await queries.deck_pages.patience.run(conn)
        try:
            staged = await stage(
                conn,
                job["deck"],
                DeckFile(file, job["file_name"], job["author"], job["encoding"]),
                job["mode"],
                at=datetime.fromisoformat(job["at"]),
                effective_at=datetime.fromisoformat(begin) if begin else None,
                asked=asked,
            )
        except (asyncpg.UniqueViolationError, asyncpg.LockNotAvailableError):
            raise Conflict("An import with this Idempotency-Key is still at work. Ask again.") from None
    return str(staged.import_id)


def main() -> None:
    job = json.load(sys.stdin)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    said: dict[str, Any]
    try:
        with os.fdopen(job["file"], "rb") as file:
            said = {"import_id": asyncio.run(work(job, file))}
    except DeckError as error:
        said = {"error": "DeckError", "detail": error.problem, "row": error.row, "column": error.column}
    except MemoryError:
        said = {"error": "DeckError", "detail": "the file takes too much memory to read. Split it"}
    except (StoreError, BridgeError) as error:
        said = {"error": type(error).__name__, "detail": str(error)}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
