from __future__ import annotations
import os, signal, time
from bridge.sandbox.process import descendants
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller
from tests.chaos.conftest import Build


def freeze(pg, sig):
    for pid in [pg.pid, *descendants(pg.pid)]:
        os.kill(pid, sig)


def test_frozen(build: Build) -> None:
    house = build(calls={"slice_s": 12, "slice_lead_s": 2})
    a, late = house.payer(600), house.payer(600)
    talk = house.talk(a, talk_s=6)
    freeze(house.stack.postgres, signal.SIGSTOP)
    try:
        t = time.time()
        well(house.calls(Caller(late, BERLIN).hears(503)))
        print("503 after", time.time() - t)
        talk.well()
        house.wait_journal("ended")
    finally:
        freeze(house.stack.postgres, signal.SIGCONT)
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert house.account(late) == (600_000, 0)
    print(house.value("SELECT json_agg(row_to_json(c)) FROM call c"))
    print(house.stack.bridge_log.read_text())


def test_supervisor(build: Build) -> None:
    house = build(workers=2, calls={"slice_s": 12, "slice_lead_s": 2})
    house.wait_said("worker ready", 2)
    b = house.stack._bridge
    kids = descendants(b.pid)
    os.kill(b.pid, signal.SIGKILL)
    time.sleep(2)
    print("alive", [k for k in kids if os.path.exists(f"/proc/{k}")])
    for k in kids:
        if os.path.exists(f"/proc/{k}"):
            os.kill(k, 9)
    time.sleep(0.5)
    house.start_bridge()
