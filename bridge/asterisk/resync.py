"""Ending calls nobody reported: the switch was killed, or its records could not be written.

Such a call ended at its last proof of life: the last time the switch listed its channel, or, when the switch itself
went away, the last time that answered at all. Nothing is billed beyond it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from bridge.asterisk.ami_events import LiveChannel
from bridge.calls.book import Book
from bridge.calls.end import Endings
from bridge.calls.ended import EndRecord
from bridge.calls.store import CallStore
from bridge.config import Calls

# A call younger than this may not have shown its channel yet.
YOUNG_S: Final = 3.0
# Beyond the witness's pause: by then both files have been heard.
MISSING_GRACE_S: Final = 3.0

log = structlog.get_logger("switch")


class Resync:
    """Compares live calls with live channels.

    alive_until   last proof of life of the switch before its manager link came up; the owner sets it
    """

    def __init__(self, store: CallStore, endings: Endings, book: Callable[[], Book], rules: Calls) -> None:
        self._store, self._endings, self._book, self._rules = store, endings, book, rules
        self._missing_since: dict[UUID, datetime] = {}
        self._seen: dict[UUID, datetime] = {}
        self.alive_until: datetime | None = None

    async def compare(self, channels: Callable[[], Awaitable[Sequence[LiveChannel]]]) -> None:
        """One comparison. The switch is only asked when some call is old enough to be compared."""
        now = datetime.now(UTC)
        leases = [
            row for row in await self._store.leases() if (now - row["admitted_at"]).total_seconds() > YOUNG_S
        ]
        if not leases:
            self._missing_since.clear()
            self._seen.clear()
            return
        present = {channel.uniqueid for channel in await channels()}
        live = {row["call_id"]: row for row in leases}
        self._seen = {call_id: at for call_id, at in self._seen.items() if call_id in live}
        self._missing_since = {call_id: at for call_id, at in self._missing_since.items() if call_id in live}
        for call_id, row in live.items():
            if row["uniqueid"] in present:
                self._seen[call_id] = now
                self._missing_since.pop(call_id, None)
            else:
                self._missing_since.setdefault(call_id, now)
        patience = timedelta(seconds=self._rules.witness_s + MISSING_GRACE_S)
        gone = [live[call_id] for call_id, since in self._missing_since.items() if now - since > patience]
        if gone:
            await self._end([self._record(row) for row in gone])

    async def expire(self) -> None:
        """Without a switch to ask: end the calls whose lease has run out, later than any of them can have lasted."""
        gone = [row for row in await self._store.leases() if row["expired"]]
        if gone:
            await self._end([self._record(row) for row in gone])

    async def _end(self, records: Sequence[EndRecord]) -> None:
        async with self._store.batch() as conn:
            done = await self._endings.end(conn, records, self._book())
        for record in records:
            self._missing_since.pop(record.call_id, None)
        log.error("calls ended at their last proof of life", calls=len(done))

    def _record(self, row: Mapping[str, Any]) -> EndRecord:
        answered_at: datetime | None = row["answered_at"]
        began_at: datetime = answered_at or row["admitted_at"]
        proofs = [at for at in (self._seen.get(row["call_id"]), self.alive_until) if at is not None]
        latest = began_at + timedelta(milliseconds=row["limit_ms"])
        ended_at = min(max([began_at, *proofs]), latest)
        return EndRecord(
            call_id=row["call_id"],
            attempt_no=row["attempt_no"] if answered_at else None,
            answered_us=_micros(answered_at) if answered_at else 0,
            ended_us=_micros(ended_at),
            source="resync",
            release_party="unknown",
            pdd_ms=row["pdd_ms"],
        )


def _micros(at: datetime) -> int:
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
