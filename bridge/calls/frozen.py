"""What a call was admitted on and is billed by, whatever the decks say later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from bridge.calls.way import OUT, Way
from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route


@dataclass(frozen=True, slots=True)
class Frozen:
    """Sell tariff and routes of one call; attempt n uses routes[n - 1]. One that rings phones has no routes."""

    call_id: UUID
    sell: Tariff
    routes: tuple[Route, ...]
    b_number: str
    sip_call_id: str = ""  # for the logs
    bundled: bool = False  # it holds units of allowances, too
    a_number: str = ""  # E.164; as received where it is none
    subscriber_id: UUID | None = None  # who pays
    way: Way = OUT

    def route(self, attempt_no: int) -> Route | None:
        """The route of an attempt, or None past the last."""
        return self.routes[attempt_no - 1] if 0 < attempt_no <= len(self.routes) else None


def thaw(row: Mapping[str, Any]) -> Frozen:
    """From the call's row, as the query `frozen` has it."""
    kept: Mapping[str, Any] = json.loads(row["routes"])
    return Frozen(
        row["call_id"],
        Tariff.from_json(json.loads(row["sell"])),
        tuple(map(Route.from_json, kept["routes"])),
        row["b_number"],
        row["sip_call_id"],
        row["bundled"],
        row["a_number"],
        row["subscriber_id"],
        Way(**{one.name: row[one.name] for one in fields(Way)}),
    )
