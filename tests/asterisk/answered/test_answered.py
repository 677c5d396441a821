from __future__ import annotations

import pytest

from tests.asterisk.scene import BALANCE_MICRO, BERLIN, PRICE_MICRO, Scene, assert_booked, well
from tests.asterisk.sipp import Caller, answers, hangs_up


def test_the_caller_hangs_up(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(1.2))
    _, carrier_saw = well(call, carrier)
    told = scene.story(call)
    assert_booked(told, a_number)
    assert told["talk_ms"] == pytest.approx(1200, abs=150)
    assert told["cdr"]["release_party"] == "caller"
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{BERLIN}"]
    assert f"<sip:{a_number}@" in carrier_saw.header("From")


def test_the_callee_hangs_up(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(hangs_up(after_s=0.7))
    call = scene.calls(Caller(a_number, BERLIN).listens())
    well(call, carrier)
    told = scene.story(call)
    assert_booked(told, a_number)
    assert told["talk_ms"] == pytest.approx(700, abs=150)
    assert told["cdr"]["release_party"] == "callee"


def test_a_long_call_is_extended_slice_by_slice(scene: Scene) -> None:
    a_number = scene.subscriber(plan="by the second")
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(5.5))
    well(call, carrier)
    told = scene.story(call)
    assert told["talk_ms"] == pytest.approx(5500, abs=200)
    assert (told["charge"], told["cost"]) == ("0.006", "0.0012")
    hold = {name: told["hold"][name] for name in ("opened", "extensions", "held", "settled", "released")}
    assert hold == {
        "opened": "0.004",
        "extensions": 1,
        "held": "0.008",
        "settled": "0.006",
        "released": "0.002",
    }


def test_a_call_is_cut_before_it_costs_more_than_there_is(scene: Scene) -> None:
    a_number = scene.subscriber(plan="by the second", balance_micro=3_000)
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).listens())
    well(call, carrier)
    told = scene.story(call)
    assert 2500 < told["talk_ms"] <= 3000
    assert (told["charge"], told["written_off"]) == ("0.003", "0.00")
    assert scene.account(a_number) == (0, 0)
    assert told["cdr"]["release_party"] == "bridge"


def test_an_app_that_is_known_by_its_port_calls_from_there(scene: Scene) -> None:
    a_number = scene.subscriber(app="gateway")
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.2), address=scene.world.gateway)
    well(call, carrier)
    assert_booked(scene.story(call), a_number)
