"""A trunk: one way to one carrier, with the deck that carrier charges us by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.rating.deck import Deck

PSTN: Final = "pstn"
VOIP_ONLY: Final = "voip_only"
EMERGENCY: Final = "emergency"
POLICY_CLASSES: Final = frozenset({PSTN, VOIP_ONLY, EMERGENCY})
APP: Final = "app"
# What trunks a leg may be joined to, by the leg's class: a leg from WhatsApp never meets the phone network, nor a leg
# from the phone network WhatsApp, by Meta's terms. The database holds to the same table (leg_may_v1).
LEG_TRUNKS: Final[Mapping[str, frozenset[str]]] = {
    APP: POLICY_CLASSES,
    PSTN: frozenset({PSTN, EMERGENCY}),
    VOIP_ONLY: frozenset({VOIP_ONLY}),
}

CARRIER: Final = "carrier"
WHATSAPP: Final = "whatsapp"
KINDS: Final = (CARRIER, WHATSAPP)
TLS: Final = "tls"
OPUS: Final = "opus"
# What the switch can turn into what apps speak; asterisk-conf/modules.conf loads a module for each.
CODECS: Final = ("alaw", "ulaw", "g722", "gsm", OPUS)


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


def leg_may(leg_class: str, trunk_class: str) -> bool:
    """Whether a leg of this class may be joined to a trunk of that one. An unknown class may nothing."""
    return trunk_class in LEG_TRUNKS.get(leg_class, ())


def wrong_for_kind(trunk: Mapping[str, Any]) -> tuple[str, str] | None:
    """What in a trunk's settings, by column, does not fit its kind: the setting and how to put it right.

    Meta's rules: TLS, Opus, digest with the number's digits as user name, plain E.164, nothing of the phone network.
    """
    number = trunk["business_number"]
    if trunk["kind"] != WHATSAPP:
        alien = (
            ("business_number", number is not None, "is for trunks of kind whatsapp: leave it out"),
            ("transport", trunk["transport"] == TLS, "is for trunks of kind whatsapp: use udp or tcp"),
            (
                "codecs",
                OPUS in trunk["codecs"],
                "may hold opus in trunks of kind whatsapp only: leave it out",
            ),
        )
        return next(((name, fix) for name, wrong, fix in alien if wrong), None)
    if number is None:
        return "business_number", "is missing: give the WhatsApp Business number, such as +493012345678"
    digits = number.removeprefix("+")
    wanted = (
        (
            "policy_class",
            trunk["policy_class"] == VOIP_ONLY,
            "should be voip_only: Meta allows no phone network",
        ),
        ("transport", trunk["transport"] == TLS, "should be tls: Meta takes nothing else"),
        ("codecs", list(trunk["codecs"]) == [OPUS], "should be opus alone"),
        ("auth", trunk["auth_username"] == digits, f"should have the user name {digits} and Meta's password"),
        ("allowed_ips", bool(trunk["allowed_ips"]), "should hold the networks Meta calls from"),
        (
            "numbers",
            trunk["b_format"] == "e164_plus" and not trunk["tech_prefix"],
            "should be written as e164_plus with no tech_prefix",
        ),
    )
    return next(((name, fix) for name, right, fix in wanted if not right), None)
