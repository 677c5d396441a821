"""Extracts: records of a time in one file, made once it is asked for and kept for some days."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Conflict
from bridge.exports import cdr_files, sequence
from bridge.exports.store import export as store

FOLDER: Final = "extracts"
WHOSE_CHARS: Final = 12  # of an export's id, in the name of its file


async def make(conn: Connection, settings: Settings, export_id: UUID) -> Mapping[str, Any]:
    """Have the file there and tell whoever asked. Killed anywhere, it is made again from the beginning.

    raises   NotFound · Invalid: there are more rows than may be asked for · Conflict: its time is not numbered yet
    """
    row = await store.begin(conn, export_id)
    if row is None:
        return {"rows": (await store.export(conn, export_id))["rows"]}
    await _numbered(conn, settings, row["until_at"])
    folder = home(settings, export_id)
    await asyncio.to_thread(_empty, folder)
    path, manifest = await cdr_files.extract(
        conn,
        settings,
        folder,
        partner_id=row["partner_id"],
        whose=export_id.hex[-WHOSE_CHARS:],
        kind=row["type"],
        since=row["since_at"],
        until=row["until_at"],
        form=row["format"],
        rows_max=settings.exports.extract_rows_max,
    )
    await store.done(
        conn,
        export_id,
        name=path.name,
        rows=manifest.totals.rows,
        size=manifest.bytes,
        totals=manifest.totals.to_json(),
        sha256=manifest.sha256,
    )
    return {"rows": manifest.totals.rows, "bytes": manifest.bytes}


def home(settings: Settings, export_id: UUID) -> Path:
    """Where the file of an export lies, alone with what goes with it."""
    return settings.exports.folder / FOLDER / export_id.hex


async def remove_expired(conn: Connection, settings: Settings) -> int:
    """Remove the files that were kept long enough. Returns how many exports had one."""
    count = 0
    while ids := await store.expired(conn):
        for export_id in ids:
            await asyncio.to_thread(shutil.rmtree, home(settings, export_id), ignore_errors=True)
        await store.removed(conn, ids)
        count += len(ids)
    return count


async def _numbered(conn: Connection, settings: Settings, until: datetime) -> None:
    """All that ended before `until` is numbered from now on, so that the extract is whole."""
    reached = await sequence.horizon(conn)
    if reached is not None and reached >= until:
        return
    now = datetime.now(UTC) - timedelta(seconds=settings.exports.lag_s)
    if until > now:
        raise Conflict(f"Calls that end before {until.isoformat()} are not numbered yet.")
    await sequence.seal(conn, now, keeping=settings.retention, time_zone=settings.company.time_zone)


def _empty(folder: Path) -> None:
    """Nothing of an earlier try is left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
