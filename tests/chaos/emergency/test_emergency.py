from __future__ import annotations

import re
import urllib.request

from tests.asterisk.scene import well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.conftest import Build
from tests.chaos.house import House

SESSIONS = re.compile(r"^callbridge_agi_sessions(?:_total\{.*\}|_open) (\S+)$", re.MULTILINE)


def help_comes(house: House, a_number: str, number: str) -> None:
    trunk = house.alpha(answers())
    _, seen = well(house.calls(Caller(a_number, number).talks(0.3)), trunk)
    assert [line.split("@")[0] for line in seen.invites()] == [f"INVITE sip:{number}"]


def sessions(house: House) -> int:
    """AGI sessions since the start."""
    with urllib.request.urlopen(f"{house.stack.api_url}/metrics", timeout=5) as answer:
        found = SESSIONS.findall(answer.read().decode())
    assert found
    return sum(int(float(each)) for each in found)


def test_emergency_calls_need_neither_bridge_nor_database(build: Build) -> None:
    house: House = build()
    a_number = house.subscriber(balance_micro=0)
    house.stack.stop_bridge()
    house.stack.postgres.kill9()
    help_comes(house, a_number, "112")
    help_comes(house, a_number, "110")
    house.stack.postgres.start()
    house.start_bridge()
    house.until("SELECT count(*) = 2 FROM call WHERE state = 'answered' AND dialled IN ('110', '112')")
    assert house.value("SELECT count(*) FROM hold") == 0
    assert house.value("SELECT count(*) FROM charge") == 0


def test_an_emergency_call_asks_the_bridge_nothing(build: Build) -> None:
    house: House = build()
    before = sessions(house)
    for number in ("112", "110"):
        help_comes(house, house.subscriber(balance_micro=0), number)
    assert sessions(house) == before
    assert house.value("SELECT count(*) FROM hold") == 0
