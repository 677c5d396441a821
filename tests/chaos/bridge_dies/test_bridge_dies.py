from __future__ import annotations

from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House


def test_a_restarted_bridge_extends_the_call_in_time(build: Build) -> None:
    house: House = build(calls={"slice_s": 8, "slice_lead_s": 2})
    a_number = house.payer(600)
    talk = house.talk(a_number, talk_s=10)
    house.stack.kill_bridge()
    assert house.extensions(talk) == 0
    house.start_bridge()
    talk.well()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert told["hold"]["extensions"] >= 1
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)


def test_without_a_bridge_the_call_ends_with_its_slice(build: Build) -> None:
    house: House = build(calls={"slice_s": 3, "slice_lead_s": 1})
    a_number = house.payer(600)
    talk = house.talk(a_number)
    house.stack.kill_bridge()
    talk.well()
    assert 2.0 < talk.app_s() <= 3.0
    house.start_bridge()
    told = house.charged_once(talk)
    assert 2000 < told["talk_ms"] <= 3000
    assert (told["hold"]["extensions"], told["cdr"]["release_party"]) == (0, "bridge")
    assert house.account(a_number) == (597 * SECOND_MICRO, 0)
