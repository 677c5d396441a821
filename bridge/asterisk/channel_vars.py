"""Every name the dialplan and the bridge share, and the one text that carries an answer.

asterisk-conf/README.md is the contract; a test holds it, extensions.conf and this file together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ANSWER: Final = (
    "BRIDGE"  # set by every AGI route that answers; the dialplan cuts its fields out by their place
)
FIELDS: Final = (
    "verdict",  # dial, ring, wait, record or stop
    "dial",  # PJSIP/<number>@<trunk>; for ring and wait the endpoint, for record the file
    "ring_s",
    "limit_s",  # from answer to the cut, seconds with three decimals
    "cause",  # Q.850, for Hangup() when the verdict is stop
    "call",  # <call id>.<attempt>, and what the failsafe adds
    "cli",  # the A-number as the B-party may see it
    "privacy",  # prohib: the B-party may not see it; only with dial and ring
)
SEPARATOR: Final = "|"

# What the dialplan keeps of an answer while it asks for the next one.
CALL: Final = "BRIDGE_CALL"
LIMIT_S: Final = "BRIDGE_LIMIT_S"
CAUSE: Final = "BRIDGE_CAUSE"  # HANGUPCAUSE of the attempt that failed
SIP: Final = "BRIDGE_SIP"  # its "SIP 503 Service Unavailable"

PHONES: Final = "BRIDGE_PHONES"  # what Dial() rings all phones by
LEG: Final = "BRIDGE_LEG"  # "-click" in a leg made by order: which `answered` it takes

GLOBALS: Final = ("AGI", "JOURNAL", "EMERGENCY_TRUNK", "FAILSAFE", "FAILSAFE_MAX", "CALL_ENDED", "MESSAGES")

# Hangup handlers of the caller's channel, by switch.call_ended.
HANGUP_HANDLERS: Final = {"journal": "call-ended", "agi": "call-ended-agi"}

ROUTES: Final = ("authorise", "inbound", "originate", "awaited", "attempt-ended", "call-ended")

# Where calls come in, by who makes them.
CONTEXTS: Final = ("from-app", "from-user", "from-carrier", "from-whatsapp")

# The contexts of calls made by order: a leg's second half, and what A's first half does once A has answered.
CLICK: Final = "click"
JOINED: Final = "click-joined"

PROHIB: Final = "prohib"  # CALLERID(pres)

_SAFE: Final = re.compile(r"[A-Za-z0-9+@/._:-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The bridge's answer to the dialplan. Built only from digits, names of ours and numbers.

    ring_s     seconds one attempt may ring
    limit_ms   talk time until the switch cuts the call
    cause      Q.850 for Hangup() when nothing more is dialled
    call       the token that every record of the switch carries back
    """

    verdict: str
    cause: int
    dial: str = ""
    ring_s: int = 0
    limit_ms: int = 0
    call: str = ""
    cli: str = ""
    privacy: str = ""

    def text(self) -> str:
        """The value of BRIDGE. ValueError when a field holds what could leave its place."""
        limit_s = f"{self.limit_ms // 1000}.{self.limit_ms % 1000:03d}"
        numbers = (str(self.ring_s), limit_s, str(self.cause))
        fields = (self.verdict, self.dial, *numbers, self.call, self.cli, self.privacy)
        for field in fields:
            if not _SAFE.fullmatch(field):
                raise ValueError("an answer field holds a character that is not allowed in a dial string")
        return SEPARATOR.join(fields)


def dial(
    trunk: str,
    number: str,
    *,
    ring_s: int,
    limit_ms: int,
    cause: int,
    call: str,
    cli: str,
    anonymous: bool = False,
) -> Verdict:
    """Try `number` on `trunk`; hang up with `cause` should nothing come of it."""
    to = f"PJSIP/{number}@{trunk}"
    return Verdict("dial", cause, to, ring_s, limit_ms, call, cli, PROHIB if anonymous else "")


def ring(
    endpoint: str, *, ring_s: int, limit_ms: int, cause: int, call: str, cli: str, anonymous: bool = False
) -> Verdict:
    """Ring every phone that is registered as `endpoint`, and ask `attempt-ended` when none is answered."""
    return Verdict("ring", cause, endpoint, ring_s, limit_ms, call, cli, PROHIB if anonymous else "")


def wait(endpoint: str, *, cause: int, call: str) -> Verdict:
    """Let the caller hear it ring, and ask `awaited`: it answers once `endpoint` is registered or given up."""
    return Verdict("wait", cause, endpoint, call=call)


def record(file: str, *, seconds: int, cause: int, call: str) -> Verdict:
    """Take a message from the caller, of so many seconds at most, into `file`: a name of ours, without extension."""
    return Verdict("record", cause, file, seconds, call=call)


def stop(cause: int, call: str = "") -> Verdict:
    """Dial no more and hang up."""
    return Verdict("stop", cause, call=call)


def endpoint_of(channel: str) -> str:
    """The PJSIP endpoint of a channel: PJSIP/app1-0000002a -> app1."""
    return channel.removeprefix("PJSIP/").rpartition("-")[0]
