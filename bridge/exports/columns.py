"""The columns of a file of call records, in order, and what is in each. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Kind(Enum):
    """What a cell is, where it is not empty."""

    TEXT = "text"
    WHOLE = "whole"
    MONEY = "money"  # up to six decimals
    INSTANT = "instant"  # RFC 3339, UTC


COLUMNS: Final[dict[str, Kind]] = {
    "record_id": Kind.WHOLE,
    "call_id": Kind.TEXT,
    "leg": Kind.TEXT,
    "partner": Kind.TEXT,
    "trunk_in": Kind.TEXT,
    "trunk_out": Kind.TEXT,
    "direction": Kind.TEXT,
    "cli_received": Kind.TEXT,
    "cli_presented": Kind.TEXT,
    "cld_dialled": Kind.TEXT,
    "cld_routed": Kind.TEXT,
    "setup_at": Kind.INSTANT,
    "answer_at": Kind.INSTANT,
    "end_at": Kind.INSTANT,
    "duration_ms": Kind.WHOLE,
    "billed_s": Kind.WHOLE,
    "increment": Kind.TEXT,
    "destination": Kind.TEXT,
    "prefix": Kind.TEXT,
    "rate": Kind.MONEY,
    "rate_id": Kind.TEXT,
    "connection_fee": Kind.MONEY,
    "amount": Kind.MONEY,
    "currency": Kind.TEXT,
    "allowance_units": Kind.WHOLE,
    "sip_code": Kind.WHOLE,
    "q850_cause": Kind.WHOLE,
    "release_party": Kind.TEXT,
    "purpose": Kind.TEXT,
    "deck_version": Kind.WHOLE,
    "attempt_no": Kind.WHOLE,
    "kind": Kind.TEXT,
    "revision": Kind.WHOLE,
    "at": Kind.INSTANT,
}
HEADER: Final = ",".join(COLUMNS).encode() + b"\n"
