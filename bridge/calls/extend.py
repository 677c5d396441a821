"""Extending the hold of a long call, slice by slice, before the money it has runs out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from bridge.calls.store import CallStore
from bridge.config import Calls
from bridge.rating.charge import affordable_ms, charge
from bridge.rating.tariff import Tariff

# While the account cannot pay for more, a top-up is looked for this often.
ASK_AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Extended:
    """A hold that now covers limit_ms of talk; the switch must cut the call at `cut_at` and not before."""

    call_id: UUID
    channel: str
    limit_ms: int
    cut_at: datetime


class Extensions:
    """Finds the calls whose slice runs out and sets aside the next one."""

    def __init__(self, store: CallStore, rules: Calls) -> None:
        self._store, self._rules = store, rules

    async def due(self) -> list[Extended]:
        """Extend every call that is due. Returns those whose cut must move."""
        found = [await self._one(row) for row in await self._store.due_for_extension()]
        return [extended for extended in found if extended is not None]

    async def _one(self, row: Mapping[str, Any]) -> Extended | None:
        """One more slice, or as much of it as the account can pay; nothing when it can pay for no more."""
        call_id: UUID = row["call_id"]
        sell = Tariff.from_json(json.loads(row["sell"]))
        wanted_ms = min(row["limit_ms"] + self._rules.slice_s * 1000, self._rules.talk_s_max * 1000)
        while wanted_ms > row["limit_ms"]:
            status, available_micro = await self._raise(row, sell, wanted_ms)
            if status == "ok":
                cut_ms = wanted_ms - self._rules.cut_margin_ms
                cut_at = row["answered_at"] + timedelta(milliseconds=cut_ms)
                return Extended(call_id, row["channel"], wanted_ms, cut_at)
            if status == "gone":
                return None
            affordable = affordable_ms(sell, row["held_micro"] + max(available_micro, 0), cap_ms=wanted_ms)
            wanted_ms = affordable if affordable < wanted_ms else 0
        await self._store.ask_again(call_id, ASK_AGAIN_S)
        return None

    async def _raise(self, row: Mapping[str, Any], sell: Tariff, limit_ms: int) -> tuple[str, int]:
        answered_at: datetime = row["answered_at"]
        end_at = answered_at + timedelta(milliseconds=limit_ms)
        return await self._store.extend(
            row["call_id"],
            held_micro=charge(sell, limit_ms).amount_micro,
            limit_ms=limit_ms,
            extend_at=end_at - timedelta(seconds=self._rules.slice_lead_s),
            expires_at=end_at + timedelta(seconds=self._rules.lease_grace_s),
        )
