"""`callbridge demo`: one call on real parts, from the app over two carriers into the ledger, and its story."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bridge.calls.story import story
from bridge.database import Connection
from bridge.errors import BridgeError
from bridge.queries import calls
from bridge.sandbox.process import Deadline
from bridge.sandbox.progress import Progress, shown
from bridge.sandbox.stack import ask
from bridge.sandbox.world import CALLED, CALLER, world

TALK_S: Final = 3.0
END_S: Final = 30.0


def run(*, keep: bool = False) -> dict[str, Any]:
    """Make the call and return its story.

    keep     leave the run's files in place and say where
    raises   BridgeError: a part did not start, or the call did not end in time
    """
    root = Path(tempfile.mkdtemp(prefix="callbridge-demo-"))
    try:
        with shown() as progress, world(root, progress) as all_parts:
            progress(f"calling {CALLED} as {CALLER}", 0, 0)
            all_parts.carriers.originate(CALLER, CALLED, TALK_S)
            return wait_for_end(all_parts.stack.dsn, progress)
    finally:
        if keep:
            print(f"kept: {root}", file=sys.stderr)
        else:
            shutil.rmtree(root, ignore_errors=True)


def wait_for_end(dsn: str, progress: Progress, after: UUID | None = None) -> dict[str, Any]:
    """The story of the newest call once it has ended. after: only a call that came later than this one counts.

    raises   BridgeError: it did not end in time
    """
    deadline = Deadline(END_S)
    told = False
    while deadline.pause():
        newest = ask(dsn, latest)
        if newest is None or newest["call_id"] == after:
            continue
        if newest["answered_at"] is not None and not told:
            progress("answered; talking", 0, 0)
            told = True
        if newest["ended_at"] is not None:
            return ask(dsn, partial(story, call_id=newest["call_id"]))
    raise BridgeError(f"the call did not end within {END_S:g} s")


async def latest(conn: Connection) -> Mapping[str, Any] | None:
    """The newest call and how far it is."""
    row: Mapping[str, Any] | None = await calls.latest.one(conn)
    return row
