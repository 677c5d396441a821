from __future__ import annotations

from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller
from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House


def test_a_call_outlives_a_restart_of_the_database(build: Build) -> None:
    house: House = build(calls={"slice_s": 8, "slice_lead_s": 2})
    a_number = house.payer(600)
    talk = house.talk(a_number, talk_s=10)
    house.stack.postgres.kill9()
    house.stack.postgres.start()
    assert house.extensions(talk) == 0
    talk.well()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert told["hold"]["extensions"] >= 1
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)


def test_the_journal_waits_for_the_database(build: Build) -> None:
    house: House = build(calls={"slice_s": 6, "slice_lead_s": 2})
    a_number, late = house.payer(600), house.payer(600)
    talk = house.talk(a_number, talk_s=2)
    house.stack.postgres.kill9()
    well(house.calls(Caller(late, BERLIN).hears(503)))
    talk.well()
    house.wait_journal("ended")
    house.stack.postgres.start()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)
    assert house.account(late) == (600 * SECOND_MICRO, 0)
