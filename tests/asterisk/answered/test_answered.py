from __future__ import annotations

from typing import Any

import pytest

from tests.asterisk.scene import (
    ALPHA_MICRO_PER_S,
    BALANCE_MICRO,
    BERLIN,
    PRICE_MICRO,
    Scene,
    started_seconds,
    well,
)
from tests.asterisk.sipp import Caller, answers, hangs_up


def booked(told: dict[str, Any], a_number: str) -> None:
    """One answered call on alpha, the whole of it: record, price, cost, hold and ledger."""
    cost_micro = started_seconds(told["talk_ms"]) * ALPHA_MICRO_PER_S
    cost = f"{cost_micro / 1e6:.4f}"
    assert (told["state"], told["a_number"], told["b_number"]) == ("answered", a_number, BERLIN)
    assert (told["billed_s"], told["charge"], told["cost"]) == (60, "0.09", cost)
    assert [(each["trunk"], each["outcome"], each["sip_code"]) for each in told["attempts"]] == [
        ("alpha", "answered", 200)
    ]
    assert {name: told["hold"][name] for name in ("state", "opened", "settled", "released")} == {
        "state": "settled",
        "opened": "0.09",
        "settled": "0.09",
        "released": "0.00",
    }
    assert [(entry["account"], entry["amount"]) for entry in told["entries"]] == [
        (f"subscriber {a_number}", "-0.09"),
        ("revenue EUR", "0.09"),
        ("cost EUR", f"-{cost}"),
        ("carrier alpha", cost),
    ]
    assert told["cdr"]["ended_by"] == "journal"


def test_the_caller_hangs_up(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(1.2))
    _, carrier_saw = well(call, carrier)
    told = scene.story(call)
    booked(told, a_number)
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
    booked(told, a_number)
    assert told["talk_ms"] == pytest.approx(700, abs=150)
    assert told["cdr"]["release_party"] == "callee"


def test_a_long_call_is_extended_slice_by_slice(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(5.5))
    well(call, carrier)
    told = scene.story(call)
    booked(told, a_number)
    assert told["talk_ms"] == pytest.approx(5500, abs=200)


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
