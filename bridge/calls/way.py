"""Which way a call goes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from uuid import UUID

Direction = Literal["out", "on_net", "in"]
LegClass = Literal["app", "pstn", "voip_only"]


@dataclass(frozen=True, slots=True)
class Way:
    """out: over a carrier. on_net: to the phones of another user of the app. in: from the network to a user's phones.

    callee_id      whose phones ring
    trunk_in_id    over which it came in
    leg_class      of the leg that came in
    anonymous      the caller's number is not shown; it is known all the same
    after_call_id  the call that reached no phone, and goes on as this one
    """

    direction: Direction = "out"
    callee_id: UUID | None = None
    trunk_in_id: UUID | None = None
    leg_class: LegClass = "app"
    anonymous: bool = False
    after_call_id: UUID | None = None

    def columns(self) -> dict[str, Any]:
        """As the call's row has them."""
        return asdict(self)


OUT: Final = Way()
