"""The rule of calls to another user of the app: nobody pays, and who may not call may not ring either."""

from dataclasses import replace
from uuid import UUID

import pytest

from bridge.calls.caller import Callee
from bridge.calls.ring import KEPT_OUT, Ring, free, lease_s, not_reached, ring
from bridge.telephony.caller_id import wants_privacy
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.number import Number, may_be_anonymous, parse_dialled, parse_shown
from tests.unit.test_admit import BERLIN, CALLER, RULES, book

BEN = Callee(UUID("01a203c8-4c13-7987-9c96-f6a99d52ec63"), allowed=True)
EUR = replace(CALLER, call_cap=2)


def reason(caller=EUR, number: Number | Refuse = BERLIN, callee=BEN, **more) -> str:
    verdict = ring(caller, number, callee, book(), **more)
    return verdict.reason.value if isinstance(verdict, Refuse) else "rings"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subscriber_state": "suspended"}, "account_suspended"),
        ({"account_state": "suspended"}, "account_suspended"),
        ({"allowed": False}, "not_invited"),
        ({"may_show": False}, "caller_id"),
        ({"live": 2}, "too_many_calls"),
        ({"available_micro": 0}, "rings"),
        ({"available_micro": -5}, "rings"),
        ({"spend_left_micro": 0}, "rings"),
        ({"currency": "USD"}, "no_rate"),
    ],
)
def test_each_refusal(changes, expected):
    assert reason(replace(EUR, **changes)) == expected


def test_a_number_that_may_not_be_called_rings_nobody():
    assert reason(number=parse_dialled("0900123456")) == "barred_destination"
    assert reason(number=parse_dialled("12$3")) == "invalid_number"


def test_nobody_calls_themselves_but_by_order():
    me = Callee(EUR.subscriber_id, allowed=True)
    assert reason(callee=me) == "own_number"
    assert reason(callee=me, to_self=True) == "rings"


def test_who_is_not_enabled_is_rung_only_if_the_call_enables_them():
    verdict = ring(EUR, BERLIN, replace(BEN, allowed=False), book())
    assert isinstance(verdict, Ring)
    assert verdict.activate
    verdict = ring(EUR, BERLIN, BEN, book())
    assert isinstance(verdict, Ring)
    assert not verdict.activate


@pytest.mark.parametrize("number", [BERLIN, Number("+442079460123")])
def test_it_is_free_with_and_without_a_rate(number):
    plan = book().plans["p1"]
    tariff = free(plan, number)
    assert (tariff.rate.rate_micro, tariff.rate.connect_fee_micro, tariff.zero_rated) == (0, 0, "on-net")
    assert type(tariff).from_json(tariff.to_json()) == tariff


def test_what_becomes_of_a_call_that_reaches_no_phone():
    plan = book().plans["p1"]
    assert not_reached(plan, "no_phone") == Refuse(RefuseReason.not_reachable, 20, "no_phone")
    assert not_reached(plan, "no_rollout") == Refuse(RefuseReason.not_reachable, 20, "no_rollout")
    for why in KEPT_OUT:
        assert not_reached(plan, why) == Refuse(RefuseReason.not_enabled, 20, why)
    assert not_reached(replace(plan, on_net_fallback=True), "no_window") is None


def test_a_lease_outlives_the_longest_call():
    assert lease_s(RULES) > RULES.wake_s + RULES.app_ring_s + RULES.talk_s_max


@pytest.mark.parametrize(
    "text",
    [
        "<sip:+493023125777@phone.invalid>",
        '"A, \\" b" <sip:+493023125777@phone.invalid;user=phone>',
        "Anna <tel:+493023125777>",
        "tel:+493023125777;phone-context=x",
        "sips:+493023125777@[::1]:5061",
        '"\u00dc" <sip:+493023125777@a>',
    ],
)
def test_the_number_somebody_wants_to_be_seen_as(text):
    assert parse_shown(text) == Number("+493023125777")


@pytest.mark.parametrize(
    "text",
    [
        "", "anonymous", "<sip:anonymous@anonymous.invalid>", "<sip:493023125777@x>", "<sip:+49900123456@x>",
        "<tel:112>", "<sip:+493023125777@a>,<sip:+493023125778@b>", '"<sip:+493023125777@a>" <sip:eve@b>',
        "<sip:+4930\u0662\u0663@a>",
        "<sip:+493023125777@a>" + "x" * 300, '"' * 300, "<" * 300, "sip:+493023125777\r\nX: y",
    ],
)  # fmt: skip
def test_what_is_no_number_to_be_seen_as(text):
    found = parse_shown(text)
    assert isinstance(found, Refuse)
    assert found.reason is RefuseReason.caller_id


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("id", True), ("ID;critical", True), ("header; user", True), ("none", False), ("", False),
        ("session", False), ("x" * 200 + ";id", False),
    ],
)  # fmt: skip
def test_who_does_not_want_to_be_seen(header, asked):
    assert wants_privacy(header) is asked


def test_counsel_sees_who_calls():
    assert [may_be_anonymous(Number(one)) for one in ("+49124124", "+49116117", "+49116116")] == [
        False,
        False,
        True,
    ]
