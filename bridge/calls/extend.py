"""Extending the hold of a long call, slice by slice, before the money it has runs out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from bridge.calls.store import CallStore
from bridge.config import Calls
from bridge.rating.allowance import Allowance, Burn, covered_s
from bridge.rating.reserve import Reservation, reserve
from bridge.rating.tariff import Tariff

# While the account cannot pay for more, a top-up is looked for this often.
ASK_AGAIN_S: Final = 2.0
ANY_BUDGET_MICRO: Final = 2**62
# How often a slice is tried anew because money or units were taken meanwhile.
RACES_MAX: Final = 4


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

    async def due(self, at: datetime) -> list[Extended]:
        """Extend every call that is due. Returns those whose cut must move. at: now, for what allowances are valid."""
        found = [await self._one(row, at) for row in await self._store.due_for_extension()]
        return [extended for extended in found if extended is not None]

    async def _one(self, row: Mapping[str, Any], at: datetime) -> Extended | None:
        """One more slice, or as much of it as the account can pay; nothing when it can pay for no more."""
        call_id: UUID = row["call_id"]
        cap_ms = min(row["limit_ms"] + self._rules.slice_s * 1000, self._rules.talk_s_max * 1000)
        budget_micro = ANY_BUDGET_MICRO
        for _ in range(RACES_MAX):
            reserved = await self._next(row, budget_micro, cap_ms, at)
            if reserved.limit_ms <= row["limit_ms"]:
                break
            status, available_micro = await self._raise(row, reserved, at)
            if status == "ok":
                cut_ms = reserved.limit_ms - self._rules.cut_margin_ms
                cut_at = row["answered_at"] + timedelta(milliseconds=cut_ms)
                return Extended(call_id, row["channel"], reserved.limit_ms, cut_at)
            if status == "gone":
                return None
            if status == "no_credit":
                budget_micro = row["held_micro"] + max(available_micro, 0)
        await self._store.ask_again(call_id, ASK_AGAIN_S)
        return None

    async def _next(
        self, row: Mapping[str, Any], budget_micro: int, cap_ms: int, at: datetime
    ) -> Reservation:
        """What the next slice takes. A call that pays with money stays outside of its allowances."""
        burns: Sequence[Burn] = ()
        allowances: Sequence[Allowance] = ()
        if row["bundled"]:
            burns, allowances = await self._store.bundled(row["call_id"], row["subscriber_id"], at)
            if covered_s(burns) * 1000 < row["limit_ms"]:
                allowances = ()
        return reserve(
            Tariff.from_json(json.loads(row["sell"])),
            allowances,
            row["b_number"].removeprefix("+"),
            budget_micro,
            cap_ms=cap_ms,
            at=at,
            answered_at=row["answered_at"],
            held=burns,
        )

    async def _raise(self, row: Mapping[str, Any], reserved: Reservation, at: datetime) -> tuple[str, int]:
        end_at = row["answered_at"] + timedelta(milliseconds=reserved.limit_ms)
        return await self._store.extend(
            row["call_id"],
            reserved,
            extend_at=end_at - timedelta(seconds=self._rules.slice_lead_s),
            expires_at=end_at + timedelta(seconds=self._rules.lease_grace_s),
            at=at,
        )
