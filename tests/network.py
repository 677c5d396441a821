"""A trunk that brings calls from the network, as the bridge takes them, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from bridge.calls.admit import Admitted
from bridge.calls.caller import SwitchCall
from bridge.calls.inbound import Inbound
from bridge.config import Messages
from bridge.telephony.cause import Refuse
from tests.seeded import Seeded, Who

CALLER = "+493023125099"
_serial = count(1)


class Network:
    """A trunk that brings calls."""

    def __init__(self, house: Seeded, trunk: str) -> None:
        self.house, self.trunk = house, trunk
        self.inbound = Inbound(house.store, house.rules, Messages())

    async def set(self, **columns: object) -> None:
        for name, value in columns.items():
            await self.house.rows(f"UPDATE trunk SET {name} = $2 WHERE name = $1", self.trunk, value)
        await self.house.reload()

    async def call(
        self, dialled: Who | str, a_number: str = CALLER, *, private: bool = False
    ) -> Refuse | Admitted:
        name = f"in{next(_serial)}"
        to = dialled.a_number if isinstance(dialled, Who) else dialled
        channel = f"PJSIP/{self.trunk}-{name}"
        asked = SwitchCall(self.trunk, a_number, to, channel, name, f"{name}@network", anonymous=private)
        peer = next(one for one in self.house.book.peers.values() if one.trunk.name == self.trunk)
        return await self.inbound.admit(asked, peer, self.house.book, datetime.now(UTC))

    async def admitted(self, dialled: Who | str, a_number: str = CALLER, *, private: bool = False) -> UUID:
        verdict = await self.call(dialled, a_number, private=private)
        assert isinstance(verdict, Admitted), verdict
        return verdict.frozen.call_id

    async def row(self, call_id: UUID) -> Any:
        return await self.house.row("SELECT * FROM call WHERE call_id = $1", call_id)
