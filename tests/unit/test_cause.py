from __future__ import annotations

import pytest

from bridge.telephony.cause import (
    SIP_OF_CAUSE,
    Fault,
    Outcome,
    RefuseReason,
    classify,
    parse_tech_cause,
    refuse,
)

# DIALSTATUS, Q.850, SIP -> reason, fault, and the SIP status the caller gets when no route remains
Case = tuple[str, int | None, int | None, str, Fault, int]

CARRIER_FAILS: list[Case] = [
    ("CONGESTION", 34, 503, "congested", Fault.carrier, 503),
    ("CHANUNAVAIL", 38, 500, "failed", Fault.carrier, 503),
    ("CHANUNAVAIL", 27, 502, "unreachable", Fault.carrier, 503),
    ("CHANUNAVAIL", 102, 504, "timeout", Fault.carrier, 503),
    ("CONGESTION", 34, 580, "failed", Fault.carrier, 503),
    ("CHANUNAVAIL", 18, 408, "timeout", Fault.carrier, 503),
    ("CHANUNAVAIL", 21, 403, "not_let_in", Fault.carrier, 503),
    ("CHANUNAVAIL", 21, 401, "not_let_in", Fault.carrier, 503),
    ("CHANUNAVAIL", 21, 407, "not_let_in", Fault.carrier, 503),
    ("CHANUNAVAIL", 127, 402, "not_let_in", Fault.carrier, 503),
    ("NOANSWER", 19, 483, "looped", Fault.carrier, 503),
    ("CHANUNAVAIL", 23, 302, "redirected", Fault.carrier, 503),
    ("CHANUNAVAIL", 127, 400, "request_not_accepted", Fault.us, 503),
    ("CHANUNAVAIL", 58, 488, "no_common_codec", Fault.us, 488),
    ("CHANUNAVAIL", 1, 404, "number_not_found", Fault.callee, 404),
    ("CHANUNAVAIL", 20, None, "unreachable", Fault.carrier, 503),  # trunk not registered
    ("CHANUNAVAIL", 18, None, "unreachable", Fault.carrier, 503),  # INVITE timer B, sent and never heard of
    ("CHANUNAVAIL", 3, None, "unreachable", Fault.carrier, 503),  # endpoint without a contact
    ("CHANUNAVAIL", None, None, "unreachable", Fault.carrier, 503),  # connection refused
    ("CHANUNAVAIL", 0, 100, "unreachable", Fault.carrier, 503),  # Dial()'s progress timeout
    ("CONGESTION", None, None, "congested", Fault.carrier, 503),
    ("CONGESTION", 41, None, "failed", Fault.carrier, 503),
    ("CONGESTION", 42, None, "congested", Fault.carrier, 503),
    ("CONGESTION", 44, None, "congested", Fault.carrier, 503),
    ("CHANUNAVAIL", 47, None, "failed", Fault.carrier, 503),
    ("CHANUNAVAIL", 102, None, "timeout", Fault.carrier, 503),
    ("NOANSWER", None, None, "timeout", Fault.carrier, 503),  # ring time over, not a single response
    ("NOANSWER", 0, 100, "timeout", Fault.carrier, 503),  # Trying, and then nothing
    ("NOANSWER", 34, None, "timeout", Fault.carrier, 503),  # the cause is left over from the attempt before
    ("INVALIDARGS", None, None, "request_not_accepted", Fault.us, 503),
]
SOMEBODY_DECIDED: list[Case] = [
    ("BUSY", 17, 486, "busy", Fault.callee, 486),
    ("BUSY", 17, 600, "busy", Fault.callee, 486),
    ("BUSY", 17, 503, "busy", Fault.callee, 486),  # Reason: Q.850;cause=17
    ("BUSY", None, None, "busy", Fault.callee, 486),
    ("NOANSWER", None, 180, "no_answer", Fault.callee, 480),
    ("NOANSWER", 34, 183, "no_answer", Fault.callee, 480),  # the cause is left over from the attempt before
    ("NOANSWER", 19, None, "no_answer", Fault.callee, 480),
    ("NOANSWER", 127, 487, "no_answer", Fault.callee, 480),  # echo of our own CANCEL
    ("NOANSWER", 19, 480, "no_answer", Fault.callee, 480),
    ("CHANUNAVAIL", 20, 480, "away", Fault.callee, 480),
    ("CHANUNAVAIL", 18, 480, "away", Fault.callee, 480),
    ("CHANUNAVAIL", 19, 500, "no_answer", Fault.callee, 480),
    ("CHANUNAVAIL", 21, 603, "rejected", Fault.callee, 403),
    ("CHANUNAVAIL", 21, 607, "rejected", Fault.callee, 403),
    ("CHANUNAVAIL", 127, 699, "rejected", Fault.callee, 403),
    ("CHANUNAVAIL", 21, None, "rejected", Fault.callee, 403),
    ("CHANUNAVAIL", 22, 410, "number_changed", Fault.callee, 410),
    ("CHANUNAVAIL", 28, 484, "number_incomplete", Fault.callee, 484),
    ("CHANUNAVAIL", 1, 604, "number_nowhere", Fault.callee, 404),
    ("CHANUNAVAIL", 58, 606, "incompatible", Fault.callee, 488),
    ("DONTCALL", None, None, "rejected", Fault.callee, 403),
]


@pytest.mark.parametrize("case", CARRIER_FAILS)
def test_the_next_trunk_is_tried(case: Case) -> None:
    dialstatus, q850, sip, reason, fault, told = case
    outcome = classify(dialstatus, q850, sip)
    assert (outcome.reason, outcome.fault, outcome.retry) == (reason, fault, True)
    assert SIP_OF_CAUSE[outcome.cause] == told


@pytest.mark.parametrize("case", SOMEBODY_DECIDED)
def test_nobody_is_rung_again(case: Case) -> None:
    dialstatus, q850, sip, reason, fault, told = case
    outcome = classify(dialstatus, q850, sip)
    assert (outcome.reason, outcome.fault, outcome.retry) == (reason, fault, False)
    assert SIP_OF_CAUSE[outcome.cause] == told


def test_a_vague_status_yields_to_the_reason_header() -> None:
    assert classify("CHANUNAVAIL", 34, 480).retry, "480 with Q.850 34 is a full trunk, not an absent person"
    assert classify("CHANUNAVAIL", 1, 503).reason == "number_not_found"
    assert not classify("CHANUNAVAIL", 34, 604).retry, "604 is not vague"


def test_answer_and_cancel_are_nobodys_failure() -> None:
    assert classify("ANSWER", 16, 200) == Outcome(Fault.unknown, "answered", False, 16)
    assert classify("CANCEL", 127, 487) == Outcome(Fault.caller, "gave_up", False, 16)
    assert classify(" answer\n", None, None).reason == "answered"


@pytest.mark.parametrize("dialstatus", ["", "WHATEVER", "\x00", "ANSWERED?", "Ü" * 1000])
@pytest.mark.parametrize("sip", [None, -1, 0, 99, 700, 999999, 200])
def test_what_nobody_knows_stops_the_call(dialstatus: str, sip: int | None) -> None:
    outcome = classify(dialstatus, 999, sip)
    assert (outcome.fault, outcome.reason, outcome.retry) == (Fault.unknown, "not_understood", False)


def test_the_table_is_total_and_speaks_only_causes_that_asterisk_knows() -> None:
    statuses = [
        "ANSWER",
        "CANCEL",
        "BUSY",
        "NOANSWER",
        "CHANUNAVAIL",
        "CONGESTION",
        "INVALIDARGS",
        "DONTCALL",
        "?",
    ]
    for status in statuses:
        for sip in [None, 0, 100, 180, 183, 200, *range(300, 700)]:
            for q850 in [None, 0, 16, 17, 19, 34, 127]:
                outcome = classify(status, q850, sip)
                assert outcome.cause == 16 or outcome.cause in SIP_OF_CAUSE
                if outcome.fault is Fault.carrier:
                    assert outcome.retry
                    assert SIP_OF_CAUSE[outcome.cause] == 503


@pytest.mark.parametrize(
    ("reason", "sip"),
    [
        (RefuseReason.invalid_number, 484),
        (RefuseReason.unknown_caller, 403),
        (RefuseReason.account_suspended, 403),
        (RefuseReason.not_invited, 403),
        (RefuseReason.barred_destination, 403),
        (RefuseReason.too_many_calls, 480),
        (RefuseReason.no_credit, 403),
        (RefuseReason.spend_cap, 403),
        (RefuseReason.no_rate, 404),
        (RefuseReason.no_route, 503),
        (RefuseReason.unavailable, 503),
    ],
)
def test_what_a_refused_caller_gets(reason: RefuseReason, sip: int) -> None:
    refused = refuse(reason, "because")
    assert (refused.reason, refused.detail, SIP_OF_CAUSE[refused.cause]) == (reason, "because", sip)


def test_every_reason_has_a_cause() -> None:
    assert all(refuse(reason).cause in SIP_OF_CAUSE for reason in RefuseReason)


@pytest.mark.parametrize(
    ("text", "sip"),
    [
        ("SIP 503 Service Unavailable", 503),
        ("SIP 180", 180),
        ("SIP 486 Busy\r\nX: 1", 486),
        ("", None),
        ("SIP", None),
        ("SIP 50", None),
        ("SIP 5033", None),
        ("SIP 099 No", None),
        ("SIP 700 No", None),
        ("SIP -503", None),
        ("SIP ٥٠٣ x", None),
        ("sip 503", None),
        (" SIP 503", None),
        ("IAX 503", None),
        ("SIP " + "9" * 100_000, None),
    ],
)
def test_parse_tech_cause(text: str, sip: int | None) -> None:
    assert parse_tech_cause(text) == sip
