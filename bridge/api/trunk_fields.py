"""What a trunk is set to. Most of it ends in a file the switch reads or in a dial string, so each value is plain."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from bridge.api.fields import AN_ID, E164, AccountId, Body, DeckId, PartnerId, sample
from bridge.routing.trunk import OPUS, TLS, VOIP_ONLY, WHATSAPP
from bridge.telephony.writing import Writing

# Sections of the switch's own, and what it takes for something else than a carrier.
RESERVED: Final = frozenset(
    {
        "anonymous",
        "app",
        "default_outbound_endpoint",
        "dpma_endpoint",
        "global",
        "none",
        "system",
        "tcp",
        "tls",
        "trunk",
        "udp",
    }
)
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_PATTERN: Final = rf"^({_LABEL}\.)*{_LABEL}$"
_SECRET: Final = re.compile(r"[A-Za-z0-9!%*+,./:=?^_~-]{8,128}", re.ASCII)
_NETWORK_BITS_MIN: Final = 16


def _name(text: str) -> str:
    if text in RESERVED:
        raise ValueError("is a name the switch keeps for itself")
    return text


def _host(text: str) -> str:
    """An IPv4 address written as usual, or a name: not the other ways in which resolvers read addresses."""
    last = text.rpartition(".")[2]
    if last[0].isdigit():
        try:
            address = IPv4Address(text)
        except AddressValueError:
            raise ValueError("should be an IPv4 address such as 192.0.2.1, or a host name") from None
        if address.is_multicast or address.is_unspecified or address.is_reserved:
            raise ValueError("is no address of one host")
    return text


def _network(text: str) -> str:
    try:
        network = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise ValueError(
            "should be an IPv4 network such as 192.0.2.0/28, with no bits behind its mask"
        ) from None
    if network.prefixlen < _NETWORK_BITS_MIN or network.is_multicast or network.is_unspecified:
        raise ValueError(f"is too wide for one carrier: /{_NETWORK_BITS_MIN} at most")
    return str(network)


def _secret(secret: SecretStr) -> SecretStr:
    if _SECRET.fullmatch(secret.get_secret_value()) is None:
        raise ValueError("should be 8 to 128 letters, digits, and !%*+,./:=?^_~-")
    return secret


def _once(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("should hold nothing twice")
    return values


TrunkName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$", examples=["eplus_berlin"]), AfterValidator(_name)
]
Host = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=HOST_PATTERN, examples=["sbc.example.net"]),
    AfterValidator(_host),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Transport = Literal["udp", "tcp", "tls"]
Codec = Literal["alaw", "ulaw", "g722", "gsm", "opus"]
Kind = Annotated[
    Literal["carrier", "whatsapp"],
    Field(
        description="whatsapp: a WhatsApp Business number. host is wa.meta.vc; 5061, tls, opus and voip_only are its"
        " defaults; auth holds the number's digits and Meta's password; its calls never meet the phone network"
    ),
]
Codecs = Annotated[
    list[Codec],
    Field(
        min_length=1,
        max_length=4,
        json_schema_extra={"uniqueItems": True},
        description="Offered in this order, behind what the app speaks, if it is here",
    ),
    AfterValidator(_once),
]
Network = Annotated[
    str, Field(pattern=r"^[0-9.]{7,15}(/[0-9]{1,2})?$", examples=["192.0.2.0/28"]), AfterValidator(_network)
]
Networks = Annotated[
    list[Network], Field(max_length=32, json_schema_extra={"uniqueItems": True}), AfterValidator(_once)
]
Capacity = Annotated[int, Field(ge=0, le=100_000, description="Calls at a time; null: no limit")]
Cps = Annotated[int, Field(ge=1, le=10_000, description="Call starts a second; null: no limit")]
QualifyS = Annotated[
    int, Field(ge=1, le=3600, description="Seconds between OPTIONS that ask whether it lives; null: never")
]
Priority = Annotated[
    int, Field(ge=-1_000_000, le=1_000_000, description="Lower first, where the cost is equal")
]
RingS = Annotated[int, Field(ge=1, le=300)]
NumberFormat = Literal["e164_plus", "e164", "international", "national"]
Origin = Literal["domestic", "foreign"]
PolicyClass = Literal["pstn", "voip_only", "emergency"]
State = Literal["active", "draining"]
Health = Literal["up", "down", "unknown"]
AuthSecret = Annotated[
    SecretStr,
    AfterValidator(_secret),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "writeOnly": True,
            "pattern": f"^{_SECRET.pattern}$",
            "examples": ["correct.horse-battery"],
        }
    ),
]


class SipAuth(Body):
    """Who we are when the carrier asks (digest). The secret is never told again."""

    username: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", examples=["callbridge"])]
    secret: AuthSecret


class NumberWriting(Body):
    """How numbers are written for the carrier: `e164_plus` +4930…, `e164` 4930…, `international` 004930…,
    `national` 030… and 00… abroad. tech_prefix: digits before the B-number; not with a plus."""

    b_format: NumberFormat = "e164_plus"
    a_format: NumberFormat = "e164_plus"
    tech_prefix: Annotated[str, Field(pattern=r"^[0-9]{0,8}$")] = ""

    @model_validator(mode="after")
    def _writable(self) -> NumberWriting:
        Writing(self.b_format, self.a_format, self.tech_prefix)
        return self


class NewTrunk(Body):
    """A trunk to be. Operators alone set account_id, enabled, kind, origin, policy_class, priority and ring_s."""

    model_config = sample(
        name="eplus_berlin",
        deck_id=AN_ID["deck"],
        host="sbc.example.net",
        port=5060,
        transport="udp",
        codecs=["alaw", "ulaw"],
        auth={"username": "callbridge", "secret": "correct.horse-battery"},
        capacity=120,
        cps=10,
    )

    name: TrunkName
    partner_id: PartnerId | None = None
    account_id: AccountId | None = Field(
        None, description="The carrier's; null: its own in the deck's currency"
    )
    deck_id: DeckId = Field(description="The buy deck: what calls over this trunk cost")
    host: Host
    port: Port = 5060
    transport: Transport = "udp"
    codecs: Codecs = Field(default=["alaw", "ulaw"])
    auth: SipAuth | None = None
    allowed_ips: Networks = Field(default=[])
    capacity: Capacity | None = None
    cps: Cps | None = None
    numbers: NumberWriting = NumberWriting()
    origin: Origin = "domestic"
    policy_class: PolicyClass = "pstn"
    priority: Priority = 0
    ring_s: RingS = 45
    enabled: bool = False
    qualify_s: QualifyS | None = None
    kind: Kind = "carrier"
    business_number: E164 | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_kind(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("kind") == WHATSAPP:
            return {"port": 5061, "transport": TLS, "codecs": [OPUS], "policy_class": VOIP_ONLY, **given}
        return given


class TrunkChange(Body):
    """What may change; what is absent stays. null takes auth, capacity, cps and qualify_s away. Operators alone set
    deck_id, enabled, origin, policy_class, priority and ring_s."""

    model_config = sample(host="sbc2.example.net", capacity=240)

    deck_id: DeckId | None = None
    host: Host | None = None
    port: Port | None = None
    transport: Transport | None = None
    codecs: Codecs | None = None
    auth: SipAuth | None = None
    allowed_ips: Networks | None = None
    capacity: Capacity | None = None
    cps: Cps | None = None
    numbers: NumberWriting | None = None
    origin: Origin | None = None
    policy_class: PolicyClass | None = None
    priority: Priority | None = None
    ring_s: RingS | None = None
    enabled: bool | None = None
    qualify_s: QualifyS | None = None


_MAY_GO: Final = frozenset({"auth", "business_number", "capacity", "cps", "qualify_s"})
_NOT_SETTINGS: Final = frozenset({"name", "partner_id", "account_id"})


def settings_of(body: NewTrunk | TrunkChange) -> dict[str, Any]:
    """What a body sets, by column; of a change only what it names."""
    names = type(body).model_fields if isinstance(body, NewTrunk) else body.model_fields_set
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(body, name)
        if name in _NOT_SETTINGS or (value is None and name not in _MAY_GO):
            continue
        if name == "auth":
            found["auth_username"] = value.username if value else None
            found["auth_secret"] = value.secret.get_secret_value() if value else None
        elif name == "numbers":
            found |= value.model_dump()
        else:
            found[name] = value
    return found
