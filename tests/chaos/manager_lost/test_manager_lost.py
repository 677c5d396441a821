from __future__ import annotations

from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House
from tests.chaos.wire import Wire


def test_the_switch_is_told_when_the_link_is_back(build: Build) -> None:
    with Wire() as wire:
        house: House = build(
            ami={"port": wire.port}, manager_port=wire.far_port, calls={"slice_s": 8, "slice_lead_s": 7}
        )
        a_number = house.payer(600)
        talk = house.talk(a_number, talk_s=10)
        silent_at = house.value("SELECT clock_timestamp()")
        wire.silence()
        house.until("SELECT extensions > 0 FROM hold WHERE call_id = $1", talk.call_id)
        assert house.said("cut moved") == []
        assert house.transactions_since(silent_at) == []
        wire.cut()
        house.wait_said("ami_up", 2)
        talk.well()
        told = house.charged_once(talk)
        house.same_talk(told, talk)
        assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)
