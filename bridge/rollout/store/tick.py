"""What becomes due while time goes by. A keeper asks for it each second; that several do is no harm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.rollout import window
from bridge.rollout.store.member import BRIDGE

SETTLE_ROWS: Final = 500  # keyed members activated in one go: the rollout is locked meanwhile


async def tick(conn: Connection, at: datetime) -> Sequence[tuple[UUID, window.State]]:
    """Open and close windows whose time has come, and go on activating keyed members. The windows that changed.

    A window that is due to open while another one is open waits for it.
    """
    changed: list[tuple[UUID, window.State]] = []
    for row in await queries.rollouts.due.all(conn, at=at):
        if row["window_id"] is None:
            await queries.rollouts.settle.value(conn, rollout_id=row["rollout_id"], rows=SETTLE_ROWS, at=at)
            continue
        state = window.due(row["state"], row["opens_at"], row["closes_at"], at)
        if state and await set_window(conn, row["window_id"], state, "time", BRIDGE, at):
            changed.append((row["window_id"], state))
    return changed


async def set_window(
    conn: Connection, window_id: UUID, state: window.State, cause: window.Cause, actor: str, at: datetime
) -> bool:
    """False: it was in that state, or cannot come into it: another is open, its quota is reached, all is over."""
    done: bool = await queries.rollouts.set_window.value(
        conn, window_id=window_id, state=state, cause=cause, actor=actor, at=at
    )
    return done
