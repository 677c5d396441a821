"""A staged file next to the active version of its deck: what it would add and remove, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection

# Kinds of change, what matters most first.
KINDS: Final = ("increase", "blocked", "deleted", "decrease", "changed", "new")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The file in `deck_staged` next to the active version of its deck."""

    import_id: UUID
    deck_id: UUID
    adding: bool
    effective_at: datetime
    at: datetime

    async def stage(self, conn: Connection, summary: dict[str, Any]) -> dict[str, int]:
        """Stage what the file would change. Fills the summary, returns how many rates it adds and removes."""
        asked, deck_id, import_id = queries.decks, self.deck_id, self.import_id
        overlaid = {"deck_id": deck_id, "adding": self.adding}
        if await asked.is_empty.value(conn, deck_id=deck_id):
            await asked.all_is_unmatched.run(conn)
        else:
            since = await asked.first_instant.value(conn, effective_at=self.effective_at)
            await asked.make_unmatched.run(conn)
            await asked.match.run(conn, since=since, **overlaid)
            await asked.measure_unmatched.run(conn)
        await asked.make_touched.run(conn)
        await asked.touch.run(conn, deck_id=deck_id)
        await asked.measure_touched.run(conn)
        await asked.stage_new.run(conn, import_id=import_id)
        fresh = sum((await self._kinds(conn)).values())
        await asked.make_timeline.run(conn)
        await asked.lay_over.run(conn, effective_at=self.effective_at, **overlaid)
        await asked.measure_timeline.run(conn)
        await asked.make_difference.run(conn)
        await asked.stage_changes.run(conn, import_id=import_id)
        found = await self._kinds(conn)
        counts = dict(await asked.staged_rows.one(conn, import_id=import_id, at=self.at))
        summary["prefixes"] -= await asked.repeated_rows.value(conn)
        summary["same"] = summary["prefixes"] - fresh - await asked.changed_in_file.value(conn)
        summary |= {kind: found.get(kind, 0) for kind in KINDS} | {"backdated": counts.pop("backdated")}
        return counts

    async def _kinds(self, conn: Connection) -> dict[str, int]:
        rows = await queries.decks.kinds.all(conn, import_id=self.import_id)
        return {row["kind"]: row["prefixes"] for row in rows}
