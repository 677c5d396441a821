"""What the switch carries back to us with every record of a call: which call, which attempt, and, for a call the
failsafe let through while no bridge was there, everything needed to bill it later."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TOKEN: Final = re.compile(
    rf"(?P<call>{_UUID})\.(?P<attempt>[0-9]{{1,3}})"
    rf"(?::(?P<subscriber>{_UUID}):(?P<a>\+[0-9]{{5,15}}):(?P<b>\+[0-9]{{5,15}}):(?P<trunk>[a-z][a-z0-9_]{{0,30}}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A call admitted without the bridge."""

    subscriber_id: UUID
    a_number: str
    b_number: str
    trunk: str


@dataclass(frozen=True, slots=True)
class Token:
    """attempt_no counts from 1."""

    call_id: UUID
    attempt_no: int
    orphan: Orphan | None = None

    def __str__(self) -> str:
        text = f"{self.call_id}.{self.attempt_no}"
        if self.orphan is None:
            return text
        o = self.orphan
        return f"{text}:{o.subscriber_id}:{o.a_number}:{o.b_number}:{o.trunk}"


def uuid7(now: float) -> UUID:
    """RFC 9562 section 5.7: 48 bits of milliseconds since 1970, then chance."""
    chance = int.from_bytes(os.urandom(10))
    rand_a, rand_b = chance >> 62 & 0xFFF, chance & (1 << 62) - 1
    return UUID(int=int(now * 1000) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def parse_token(text: str) -> Token | None:
    """The token, or None when it is not one of ours."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    orphan = None
    if found["subscriber"] is not None:
        orphan = Orphan(UUID(found["subscriber"]), found["a"], found["b"], found["trunk"])
    return Token(UUID(found["call"]), int(found["attempt"]), orphan)
