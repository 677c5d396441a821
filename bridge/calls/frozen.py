"""What a call was admitted on and is billed by, whatever the decks say later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route


@dataclass(frozen=True, slots=True)
class Frozen:
    """Sell tariff and routes of one call; attempt n uses routes[n - 1]."""

    call_id: UUID
    sell: Tariff
    routes: tuple[Route, ...]
    b_number: str
    sip_call_id: str = ""  # for the logs
    bundled: bool = False  # it holds units of allowances, too
    a_number: str = ""  # E.164; as received where it is none

    def route(self, attempt_no: int) -> Route | None:
        """The route of an attempt, or None past the last."""
        return self.routes[attempt_no - 1] if 0 < attempt_no <= len(self.routes) else None


def thaw(
    call_id: UUID,
    sell: str,
    routes: str,
    b_number: str,
    sip_call_id: str = "",
    *,
    bundled: bool = False,
    a_number: str = "",
) -> Frozen:
    """From the call's row."""
    kept: Mapping[str, Any] = json.loads(routes)
    return Frozen(
        call_id,
        Tariff.from_json(json.loads(sell)),
        tuple(map(Route.from_json, kept["routes"])),
        b_number,
        sip_call_id,
        bundled,
        a_number,
    )
