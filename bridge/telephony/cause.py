"""Why a call did not happen, and what the caller's phone is told: one table for DIALSTATUS × SIP × Q.850.

Sources: ITU-T Q.850 (cause numbers), RFC 3398 §7.2.4.1 and §8.2.6.1 (ISUP to SIP and back), RFC 3261 §21 (SIP
statuses), RFC 3326 and RFC 6432 (the Q.850 cause a carrier sends in a Reason header), Asterisk 22
`channels/chan_pjsip.c` hangup_cause2sip() and `apps/app_dial.c` handle_cause().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

NORMAL: Final = 16
BUSY: Final = 17
NO_USER: Final = 20
NO_ANSWER: Final = 19
REJECTED: Final = 21
NUMBER_CHANGED: Final = 22
INVALID_FORMAT: Final = 28
NORMAL_UNSPECIFIED: Final = 31
UNALLOCATED: Final = 1
NO_ROUTE: Final = 3
NO_CIRCUIT: Final = 34
CONGESTION: Final = 42
BEARER_UNAVAILABLE: Final = 58

# What chan_pjsip makes of Hangup(<cause>). It knows few: any other cause leaves as 603 Decline, as if
# a person had refused. So 41, 52, 102 and their like are never handed to Hangup().
SIP_OF_CAUSE: Final[Mapping[int, int]] = MappingProxyType(
    {1: 404, 2: 404, 3: 404, 17: 486, 18: 408, 19: 480, 20: 480, 21: 403, 22: 410, 23: 302, 27: 502, 28: 484}
    | {29: 501, 31: 480, 34: 503, 38: 500, 42: 503, 58: 488, 66: 503, 127: 500}
)


class RefuseReason(StrEnum):
    """Why we, not the network, say no. The values are public: API, metrics and call records carry them."""

    invalid_number = "invalid_number"
    unknown_caller = "unknown_caller"
    account_suspended = "account_suspended"
    not_invited = "not_invited"
    barred_destination = "barred_destination"
    too_many_calls = "too_many_calls"
    no_credit = "no_credit"
    spend_cap = "spend_cap"
    no_rate = "no_rate"
    no_route = "no_route"
    own_number = "own_number"
    caller_id = "caller_id"
    not_reachable = "not_reachable"
    not_enabled = "not_enabled"
    unknown_number = "unknown_number"
    policy_class = "policy_class"
    overloaded = "overloaded"
    unavailable = "unavailable"


# 402 Payment Required would fit no_credit and spend_cap, but no cause leads there; barring is 403 in
# RFC 3398, as 21 is.
# too_many_calls is one account's limit: 503 would make its switch believe we are all down, 480 does not.
# caller_id: not theirs to show; own_number: one's own. not_reachable: no phone of the app answers the switch.
# not_enabled: the callee waits for an invitation to the app, and this call could not be one; the detail says why.
# unknown_number: from the network, for a number that is nobody's. policy_class: what may never be joined.
# overloaded: we take no more for now, and say so before anything else suffers.
# no_rate is a place we do not sell (404); no_route is one we sell and cannot reach just now (503).
_CAUSE_OF_REASON: Final[Mapping[RefuseReason, int]] = MappingProxyType(
    {
        RefuseReason.invalid_number: INVALID_FORMAT,  # 484
        RefuseReason.unknown_caller: REJECTED,  # 403
        RefuseReason.account_suspended: REJECTED,  # 403
        RefuseReason.not_invited: REJECTED,  # 403
        RefuseReason.barred_destination: REJECTED,  # 403
        RefuseReason.too_many_calls: NORMAL_UNSPECIFIED,  # 480
        RefuseReason.no_credit: REJECTED,  # 403
        RefuseReason.spend_cap: REJECTED,  # 403
        RefuseReason.no_rate: NO_ROUTE,  # 404
        RefuseReason.no_route: NO_CIRCUIT,  # 503
        RefuseReason.own_number: REJECTED,  # 403
        RefuseReason.caller_id: REJECTED,  # 403
        RefuseReason.not_reachable: NO_USER,  # 480
        RefuseReason.not_enabled: NO_USER,  # 480
        RefuseReason.unknown_number: UNALLOCATED,  # 404
        RefuseReason.policy_class: REJECTED,  # 403
        RefuseReason.overloaded: CONGESTION,  # 503
        RefuseReason.unavailable: NO_CIRCUIT,  # 503
    }
)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Our refusal of a call, a value and never an exception.

    cause    Q.850 code for Hangup()
    detail   for logs and the API; holds no full phone number
    """

    reason: RefuseReason
    cause: int
    detail: str = ""


def refuse(reason: RefuseReason, detail: str = "") -> Refuse:
    """A refusal with the cause that belongs to its reason."""
    return Refuse(reason, _CAUSE_OF_REASON[reason], detail)


class Fault(StrEnum):
    """Whose doing it was; carrier health counts only `carrier`."""

    us = "us"
    caller = "caller"
    callee = "callee"
    carrier = "carrier"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended.

    retry    another trunk may do better, and nobody's phone rings twice for it
    cause    Q.850 code for Hangup() when this was the last route
    """

    fault: Fault
    reason: str
    retry: bool
    cause: int


ANSWERED: Final = Outcome(Fault.unknown, "answered", retry=False, cause=NORMAL)
# Never ring someone again on a guess: a value nobody has seen stops the call and shows up in the metrics.
NOT_UNDERSTOOD: Final = Outcome(Fault.unknown, "not_understood", retry=False, cause=NO_CIRCUIT)

_GAVE_UP = Outcome(Fault.caller, "gave_up", retry=False, cause=NORMAL)
_BUSY = Outcome(Fault.callee, "busy", retry=False, cause=BUSY)
_NO_ANSWER = Outcome(Fault.callee, "no_answer", retry=False, cause=NO_ANSWER)
_AWAY = Outcome(Fault.callee, "away", retry=False, cause=NO_ANSWER)
_REJECTED = Outcome(Fault.callee, "rejected", retry=False, cause=REJECTED)
_CHANGED = Outcome(Fault.callee, "number_changed", retry=False, cause=NUMBER_CHANGED)
_INCOMPLETE = Outcome(Fault.callee, "number_incomplete", retry=False, cause=INVALID_FORMAT)
_NOWHERE = Outcome(Fault.callee, "number_nowhere", retry=False, cause=UNALLOCATED)
_INCOMPATIBLE = Outcome(Fault.callee, "incompatible", retry=False, cause=BEARER_UNAVAILABLE)
# One carrier's 404 may only mean that this carrier lacks the range; when all say it, the caller hears 404.
_NOT_FOUND = Outcome(Fault.callee, "number_not_found", retry=True, cause=UNALLOCATED)
_NO_CODEC = Outcome(Fault.us, "no_common_codec", retry=True, cause=BEARER_UNAVAILABLE)
_OUR_REQUEST = Outcome(Fault.us, "request_not_accepted", retry=True, cause=NO_CIRCUIT)
_NOT_LET_IN = Outcome(Fault.carrier, "not_let_in", retry=True, cause=NO_CIRCUIT)
_REDIRECTED = Outcome(Fault.carrier, "redirected", retry=True, cause=NO_CIRCUIT)
_SILENT = Outcome(Fault.carrier, "timeout", retry=True, cause=NO_CIRCUIT)
_UNREACHABLE = Outcome(Fault.carrier, "unreachable", retry=True, cause=NO_CIRCUIT)
_CONGESTED = Outcome(Fault.carrier, "congested", retry=True, cause=NO_CIRCUIT)
_LOOPED = Outcome(Fault.carrier, "looped", retry=True, cause=NO_CIRCUIT)
_BROKEN = Outcome(Fault.carrier, "failed", retry=True, cause=NO_CIRCUIT)

# DIALSTATUS that settles the matter alone: Dial() says BUSY also for a 503 whose Reason header is Q.850 17.
_DECISIVE: Final[Mapping[str, Outcome]] = MappingProxyType(
    {"ANSWER": ANSWERED, "CANCEL": _GAVE_UP, "BUSY": _BUSY, "DONTCALL": _REJECTED, "TORTURE": _REJECTED}
)
_OTHERWISE: Final[Mapping[str, Outcome]] = MappingProxyType(
    {"CHANUNAVAIL": _UNREACHABLE, "CONGESTION": _CONGESTED, "INVALIDARGS": _OUR_REQUEST}
)

# 487 is missing on purpose: it is the echo of our own CANCEL.
_SIP: Final[Mapping[int, Outcome]] = MappingProxyType(
    {401: _NOT_LET_IN, 402: _NOT_LET_IN, 403: _NOT_LET_IN, 407: _NOT_LET_IN}
    | {404: _NOT_FOUND, 485: _NOT_FOUND, 410: _CHANGED, 484: _INCOMPLETE, 604: _NOWHERE}
    | {408: _SILENT, 504: _SILENT, 482: _LOOPED, 483: _LOOPED, 503: _CONGESTED}
    | {480: _AWAY, 486: _BUSY, 600: _BUSY, 603: _REJECTED, 607: _REJECTED, 608: _REJECTED}
    | {415: _NO_CODEC, 488: _NO_CODEC, 606: _INCOMPATIBLE}
)
_SIP_CLASS: Final[Mapping[int, Outcome]] = MappingProxyType(
    {3: _REDIRECTED, 4: _OUR_REQUEST, 5: _BROKEN, 6: _REJECTED}
)

# 16, 18, 20 and 31 are missing on purpose: our own switch sets them for a silent or unregistered trunk, a
# carrier for a person who is away. There the SIP status or DIALSTATUS beside them decides.
_Q850: Final[Mapping[int, Outcome]] = MappingProxyType(
    {1: _NOT_FOUND, 17: _BUSY, 19: _NO_ANSWER, 21: _REJECTED, 22: _CHANGED, 28: _INCOMPLETE}
    | {
        2: _UNREACHABLE,
        3: _UNREACHABLE,
        27: _UNREACHABLE,
        38: _BROKEN,
        41: _BROKEN,
        47: _BROKEN,
        102: _SILENT,
    }
    | {34: _CONGESTED, 42: _CONGESTED, 44: _CONGESTED, 58: _NO_CODEC, 88: _INCOMPATIBLE}
)
# Gateways send these for almost anything; a Q.850 cause beside one of them is the better witness. Without a
# Reason header Asterisk derives that cause from the status itself, and then both rows agree on the retry.
_VAGUE_SIP: Final = frozenset({480, 500, 502, 503, 504})

_TECH_CAUSE: Final = re.compile(r"SIP ([1-6][0-9]{2})(?![0-9])", re.ASCII)


def classify(dialstatus: str, q850: int | None, sip: int | None) -> Outcome:
    """What one Dial() on one trunk came to. Total: any input gives an Outcome.

    dialstatus  DIALSTATUS as Dial() left it
    q850        HANGUPCAUSE; may be an earlier attempt's when this one never got an answer of its own
    sip         last SIP status of this attempt, provisional ones included; None when nothing came back

    >>> classify("CONGESTION", 34, 503).retry, classify("BUSY", 17, 486).retry
    (True, False)
    """
    status = dialstatus.strip().upper()
    if (decided := _DECISIVE.get(status)) is not None:
        return decided
    if sip is not None and 300 <= sip <= 699 and sip != 487:
        told = _Q850.get(q850) if q850 is not None and sip in _VAGUE_SIP else None
        return told or _SIP.get(sip) or _SIP_CLASS[sip // 100]
    if status == "NOANSWER":
        # PJSIP records each response. No 18x by the end of the ring time: the carrier kept silent.
        silent = sip in (None, 100) and q850 != NO_ANSWER
        return _SILENT if silent else _NO_ANSWER
    told = _Q850.get(q850) if q850 is not None else None
    return told or _OTHERWISE.get(status) or NOT_UNDERSTOOD


def parse_tech_cause(text: str) -> int | None:
    """The status in HANGUPCAUSE(<channel>,tech); None for anything that is not a SIP status.

    >>> parse_tech_cause("SIP 503 Service Unavailable"), parse_tech_cause("SIP 5030"), parse_tech_cause("")
    (503, None, None)
    """
    found = _TECH_CAUSE.match(text)
    return int(found[1]) if found else None
