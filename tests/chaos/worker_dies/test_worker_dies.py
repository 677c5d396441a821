from __future__ import annotations

import os
import signal
from pathlib import Path

from bridge.sandbox.process import Deadline, descendants
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House


def test_another_worker_takes_the_switch_over(build: Build) -> None:
    house: House = build(workers=2, calls={"slice_s": 6, "slice_lead_s": 2})
    a_number = house.payer(600)
    owner = house.wait_said("switch owned")["pid"]
    house.wait_said("worker ready", 2)
    talk = house.talk(a_number, talk_s=9)
    os.kill(owner, signal.SIGKILL)
    heir = house.wait_said("switch owned", 2)["pid"]
    assert heir != owner
    assert house.extensions(talk) == 0
    replaced = house.wait_said("worker ready", 3)["pid"]
    assert replaced not in (owner, heir)
    talk.well()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert told["hold"]["extensions"] >= 1
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)
    carrier = house.alpha(answers())
    well(house.calls(Caller(a_number, BERLIN).talks(0.3)), carrier)


def test_workers_do_not_outlive_their_supervisor(build: Build) -> None:
    house: House = build(workers=2)
    house.wait_said("worker ready", 2)
    supervisor = house.stack.bridge_pid
    workers = descendants(supervisor)
    assert len(workers) == 2
    os.kill(supervisor, signal.SIGKILL)
    deadline = Deadline(15)
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert deadline.pause(), "a worker still runs"
    house.stack.stop_bridge()  # nothing is left to stop
    house.start_bridge()  # its ports are free
    a_number = house.payer(60)
    carrier = house.alpha(answers())
    well(house.calls(Caller(a_number, BERLIN).talks(0.3)), carrier)
