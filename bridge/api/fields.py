"""The kinds of values in requests and replies: ids with their prefix, money as decimal strings, times in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from bridge.telephony.money import format_micro, parse_micro

MONEY_PATTERN: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"
_RFC_3339: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", re.ASCII)


class Body(BaseModel):
    """What a request carries: every field is known, and none is silently left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=4096)


def sample(**given: Any) -> ConfigDict:
    """`model_config = sample(…)`: a request as somebody might send it. It is copied from the documents."""
    return ConfigDict(json_schema_extra={"examples": [given]})


class Told(BaseModel):
    """What a reply carries. It documents; replies are written as they are."""

    model_config = ConfigDict(frozen=True)


class _Ids:
    """`AN_ID["prt"]`: an id of a kind, for examples."""

    def __getitem__(self, kind: str) -> str:
        return f"{kind}_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8"


AN_ID: Final = _Ids()


def show_id(kind: str, key: UUID) -> str:
    """`call_0197…`: what it is, and the 32 hexadecimal digits of its key."""
    return f"{kind}_{key.hex}"


def read_id(kind: str, text: object) -> UUID:
    """raises   ValueError: no id of this kind"""
    if isinstance(text, UUID):
        return text
    head = f"{kind}_"
    if not isinstance(text, str) or not text.startswith(head) or len(text) != len(head) + 32:
        raise ValueError(f"should be an id like {head}019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8")
    digits = text.removeprefix(head)
    if not set(digits) <= set("0123456789abcdef"):
        raise ValueError(f"should be {head} and 32 hexadecimal digits in lower case")
    return UUID(hex=digits)


def id_type(kind: str) -> Any:
    """The type of ids of one kind: a UUID inside, with its prefix outside."""
    schema = {
        "type": "string",
        "pattern": f"^{kind}_[0-9a-f]{{32}}$",
        "examples": [AN_ID[kind]],
    }
    return Annotated[
        UUID,
        BeforeValidator(lambda text: read_id(kind, text)),
        PlainSerializer(lambda key: show_id(kind, key), return_type=str),
        WithJsonSchema(schema),
    ]


PartnerId = id_type("prt")
DealId = id_type("deal")
TrunkId = id_type("trk")
DeckId = id_type("deck")
ImportId = id_type("imp")
PlanId = id_type("plan")
BundleId = id_type("bdl")
SubscriberId = id_type("sub")
ProofId = id_type("prf")
NumberId = id_type("num")
AccountId = id_type("acc")
TransferId = id_type("tr")
AllowanceId = id_type("alw")
UsageId = id_type("use")
CallId = id_type("call")
CdrId = id_type("cdr")  # of the call with the same digits
OriginationId = id_type("org")
WebhookId = id_type("whk")
DeliveryId = id_type("dlv")
EventId = id_type("evt")
RolloutId = id_type("rol")
WindowId = id_type("win")
TrialId = id_type("trl")
WaveId = id_type("wav")
InviteId = id_type("ivt")
RolloutEventId = id_type("rev")
KeyId = id_type("key")
AppId = id_type("app")
CredentialId = id_type("sip")
MessageId = id_type("msg")
AuditId = id_type("aud")
ExportId = id_type("exp")
RecipientId = id_type("rcp")
FileId = id_type("file")
InvoiceId = id_type("inv")
StatementId = id_type("stm")
PaymentId = id_type("pay")
DisputeId = id_type("dsp")
EvidenceId = id_type("evd")
NoteId = id_type("dsn")
RunId = id_type("rcn")


def printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should hold no control characters")
    return text


def _rfc_3339(text: object) -> object:
    """No number is an instant: whether it counts seconds or milliseconds would be a guess."""
    if isinstance(text, datetime) or (isinstance(text, str) and _RFC_3339.match(text)):
        return text
    raise ValueError("should be an instant such as 2026-01-31T12:00:00Z")


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("should have a time zone, e.g. 2026-01-31T12:00:00Z")
    at = at.astimezone(UTC)
    if not 1970 <= at.year <= 2999:
        raise ValueError("should lie between 1970 and 2999")
    return at


def _micro(text: object) -> int:
    if not isinstance(text, str):
        raise ValueError('should be a decimal string such as "12.50", not a number')
    return parse_micro(text)


# Told, not checked: `printable` refuses these and more, and says it better.
_TOLD: Final[JsonDict] = {"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}
# One line of text that people read.
Name = Annotated[str, Field(min_length=1, max_length=80, json_schema_extra=_TOLD), AfterValidator(printable)]
Line = Annotated[str, Field(max_length=500, json_schema_extra=_TOLD), AfterValidator(printable)]
E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", examples=["+493023125017"])]
CurrencyCode = Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["EUR"])]
# RFC 3339 with any offset; UTC inside and in replies.
Instant = Annotated[datetime, BeforeValidator(_rfc_3339), AfterValidator(_utc)]
# Micro-units inside, a decimal string outside.
Money = Annotated[
    int,
    BeforeValidator(_micro),
    PlainSerializer(format_micro, return_type=str),
    WithJsonSchema({"type": "string", "pattern": MONEY_PATTERN, "examples": ["12.50"]}),
]


def show_at(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def show_money(amount_micro: int | None) -> str | None:
    return None if amount_micro is None else format_micro(amount_micro)
