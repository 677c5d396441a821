"""When a message that was not taken is sent again (Standard Webhooks 1.0, "retries")."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Before each attempt: the first at once, the tenth a day after the ninth; three days in all.
WAITS_S: Final = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER: Final = 0.1  # at most so much later, so that those that failed together do not come back together
RETRY_AFTER_S_MAX: Final = 86_400.0


def retry_s(tries: int, chance: float, retry_after_s: float | None = None) -> float | None:
    """How long to wait after the failure of attempt number `tries`.

    chance          0 to below 1
    retry_after_s   what the receiver asked for: it is never asked sooner, and waits a day at most
    returns         None: that was the last one
    """
    if tries >= len(WAITS_S):
        return None
    wait_s = WAITS_S[tries] * (1 + JITTER * chance)
    return max(wait_s, min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))


def read_retry_after(text: str, now: datetime) -> float | None:
    """Seconds from a Retry-After header (RFC 9110: seconds, or a date); None: it says nothing that can be read."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)
