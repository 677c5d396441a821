from __future__ import annotations

from bridge.asterisk.conf import JOURNAL
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.conftest import Build
from tests.chaos.house import House, Talk


def made(house: House, a_number: str) -> Talk:
    carrier = house.alpha(answers())
    call = house.calls(Caller(a_number, BERLIN).talks(1.2))
    well(call, carrier)
    return Talk(house.value("SELECT call_id FROM call WHERE sip_call_id = $1", call.call_id), call, carrier)


def test_the_switchs_own_records_stand_in_for_the_journal(build: Build) -> None:
    house: House = build()
    journal = house.stack.settings.switch.record_dir / JOURNAL
    a_number = house.payer(600)
    house.charged_once(made(house, a_number))

    kept = journal.rename(journal.with_name("kept"))
    journal.mkdir()
    talk = made(house, a_number)
    house.same_talk(house.charged_once(talk, ended_by="cdr"), talk)

    journal.rmdir()
    house.charged_once(made(house, a_number))
    assert len(house.journal("ended")) == 1
    assert len(kept.read_text().splitlines()) == 2
    assert house.said("keeper failed") == []
