"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 of `id.timestamp.body`, one for each secret that is valid."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def show_secret(secret: bytes) -> str:
    """`whsec_…`, as libraries take it."""
    return "whsec_" + base64.b64encode(secret).decode()


def signatures(keys: Sequence[bytes], message_id: str, at_s: int, body: bytes) -> str:
    """The header webhook-signature: `v1,<base64>` for each secret, newest first.

    at_s   seconds since 1970, the same as in the header webhook-timestamp
    """
    signed = f"{message_id}.{at_s}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys
    )
