"""A trunk: one way to one carrier, with the deck that carrier charges us by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bridge.rating.deck import Deck

PSTN: Final = "pstn"
VOIP_ONLY: Final = "voip_only"
EMERGENCY: Final = "emergency"
POLICY_CLASSES: Final = frozenset({PSTN, VOIP_ONLY, EMERGENCY})
# What the switch can turn into what apps speak; asterisk-conf/modules.conf loads a module for each.
CODECS: Final = ("alaw", "ulaw", "g722", "gsm")


@dataclass(frozen=True, slots=True)
class Trunk:
    """One trunk as routing sees it.

    deck          buy prices
    capacity      simultaneous calls, None when the carrier sets no limit
    priority      breaks ties of cost; the lower goes first
    ring_s        how long one attempt may ring
    policy_class  what may be bridged here; a voip_only leg never meets the phone network
    cps           call starts a second, None when the carrier sets no limit
    draining      no new calls; those that run go on
    down          it does not answer the switch: used only when no other trunk can carry the call
    raises        ValueError naming the field and the fix
    """

    trunk_id: str
    name: str
    carrier: str
    deck: Deck
    capacity: int | None
    priority: int = 0
    ring_s: int = 30
    enabled: bool = True
    policy_class: str = PSTN
    cps: int | None = None
    draining: bool = False
    down: bool = False

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 0:
            raise ValueError(
                f"trunk {self.name}: capacity {self.capacity}. Use 0 or more, or none for no limit"
            )
        if self.ring_s < 1:
            raise ValueError(f"trunk {self.name}: ring_s {self.ring_s}. Use 1 or more")
        if self.policy_class not in POLICY_CLASSES:
            classes = ", ".join(sorted(POLICY_CLASSES))
            raise ValueError(f"trunk {self.name}: policy_class {self.policy_class!r}. Use one of {classes}")
