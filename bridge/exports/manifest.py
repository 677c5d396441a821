"""What goes along with a file: how much is in it, by which its reader proves that it has all of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from bridge.errors import InvariantBroken
from bridge.telephony.money import format_micro, parse_micro

SCHEMA: Final = 1


def shown_at(at: datetime | None) -> str | None:
    """RFC 3339 in UTC to the millisecond, as in the columns of a file."""
    return (
        None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows of a file. Those of reversals are negative.

    amount_micro   by currency
    """

    rows: int
    duration_ms: int = 0
    billed_s: int = 0
    amount_micro: Mapping[str, int] = field(default_factory=dict)
    first_answer_at: datetime | None = None
    last_answer_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "duration_ms": self.duration_ms,
            "billed_s": self.billed_s,
            "amount": {unit: format_micro(self.amount_micro[unit]) for unit in sorted(self.amount_micro)},
            "first_answer_at": shown_at(self.first_answer_at),
            "last_answer_at": shown_at(self.last_answer_at),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        first, last = (kept[name] and datetime.fromisoformat(kept[name]) for name in _ANSWERS)
        amounts = {unit: parse_micro(text) for unit, text in kept["amount"].items()}
        return cls(kept["rows"], kept["duration_ms"], kept["billed_s"], amounts, first, last)

    def must_be(self, rows: int, what: str) -> None:
        """raises   InvariantBroken: another number of rows came out than the records say"""
        if rows != self.rows:
            raise InvariantBroken(f"{what}: {rows} rows were written and {self.rows} records are kept")


_ANSWERS: Final = ("first_answer_at", "last_answer_at")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one file.

    first_no, last_no   the range of record numbers: after the first, up to and with the last
    previous            name and SHA-256 of the file before in the sequence; None for the first, and for extracts
    file_no             None: an extract
    """

    name: str
    sha256: str
    bytes: int
    sender: str
    recipient: str
    type: str
    format: str
    from_at: datetime
    to_at: datetime
    period: str
    time_zone: str
    first_no: int
    last_no: int
    totals: Totals
    file_no: int | None = None
    previous: tuple[str, str] | None = None

    def to_text(self) -> str:
        """The same to the last byte, whenever it is written: there is no clock in it."""
        told = {
            "schema": SCHEMA,
            "file": self.name,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "sender": self.sender,
            "recipient": self.recipient,
            "type": self.type,
            "format": self.format,
            "sequence": self.file_no,
            "previous": self.previous and {"file": self.previous[0], "sha256": self.previous[1]},
            "period": {
                "from": shown_at(self.from_at),
                "to": shown_at(self.to_at),
                "every": self.period,
                "time_zone": self.time_zone,
            },
            "records": {"after": self.first_no, "last": self.last_no},
            **self.totals.to_json(),
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def sums_text(name: str, sha256: str) -> str:
    """One line, as sha256sum writes it."""
    return f"{sha256}  {name}\n"
