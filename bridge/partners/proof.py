"""Codes by which whoever has a number proves it. Pure, but for the chance in a new code."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

DIGITS: Final = 6
LASTS_S: Final = 600.0
TRIES_MAX: Final = 5
CODES_AN_HOUR: Final = 5  # of one subscriber
_ROUNDS: Final = 20_000  # whoever reads the database in those ten minutes shall not have all codes at once


@dataclass(frozen=True, slots=True)
class Code:
    """A new code. Only salt and hash are kept."""

    digits: str
    salt: bytes
    hash: bytes


def new_code() -> Code:
    digits, salt = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}", secrets.token_bytes(16)
    return Code(digits, salt, _hash(digits, salt))


def is_code(digits: str, salt: bytes, known: bytes) -> bool:
    """Takes as long for a wrong code as for the right one."""
    return hmac.compare_digest(_hash(digits, salt), known)


def _hash(digits: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", digits.encode(), salt, _ROUNDS)
