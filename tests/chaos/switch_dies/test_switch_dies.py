from __future__ import annotations

from time import time

from bridge.asterisk.keeper import HEARTBEAT_S
from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House


def test_a_call_ends_with_its_switch(build: Build) -> None:
    house: House = build(calls={"slice_s": 6, "slice_lead_s": 2})
    a_number = house.payer(600)
    talk = house.talk(a_number)
    answered_s = float(house.journal("answered")[0][2])
    house.until("SELECT seen_at > to_timestamp($1) FROM switch", answered_s + 2.0)
    killed_s = time()
    house.stack.switch.kill9()
    seen_s = float(house.value("SELECT extract(epoch FROM seen_at) FROM switch"))
    house.stack.switch.start()
    told = house.charged_once(talk, ended_by="resync")
    true_ms = (killed_s - answered_s) * 1000
    assert told["talk_ms"] == int((seen_s - answered_s) * 1000)
    assert true_ms - HEARTBEAT_S * 1000 - 1500 < told["talk_ms"] <= true_ms
    assert told["cdr"]["release_party"] == "unknown"
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)


def test_a_call_ends_with_its_switch_though_no_bridge_looked_on(build: Build) -> None:
    house: House = build(calls={"slice_s": 6, "slice_lead_s": 2})
    a_number = house.payer(600)
    talk = house.talk(a_number)
    answered_s = float(house.journal("answered")[0][2])
    house.until("SELECT seen_at > to_timestamp($1) FROM switch", answered_s + 1.0)
    house.stack.kill_bridge()
    seen_s = float(house.value("SELECT extract(epoch FROM seen_at) FROM switch"))
    house.stack.switch.kill9()
    house.stack.switch.start()
    house.start_bridge()
    told = house.charged_once(talk, ended_by="resync")
    assert told["talk_ms"] == int((seen_s - answered_s) * 1000)
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)


def test_a_call_does_not_wait_for_a_switch_that_stays_away(build: Build) -> None:
    house: House = build(calls={"slice_s": 3, "slice_lead_s": 0.5, "lease_grace_s": 1, "talk_s_max": 60})
    a_number = house.payer(3)  # no second slice, so the lease runs out
    talk = house.talk(a_number)
    house.stack.switch.kill9()
    told = house.charged_once(talk, ended_by="resync")
    assert told["talk_ms"] <= 3000
    balance_micro, held_micro = house.account(a_number)
    assert (balance_micro, held_micro) == ((3 - told["billed_s"]) * SECOND_MICRO, 0)
