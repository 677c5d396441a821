from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import time

from bridge.calls.snapshot import read_key, seal, unseal
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House, micro

LIMIT_S = 10
CREDIT = {"funding": "postpaid", "credit_limit_micro": 1_000_000}


def test_without_the_bridge_only_those_billed_afterwards_may_call(build: Build) -> None:
    house: House = build(failsafe={"refresh_s": 0.2, "limit_s": LIMIT_S, "age_s_max": 60})
    billed, other, prepaid = house.payer(0, **CREDIT), house.payer(0, **CREDIT), house.payer(600)
    snapshot = house.stack.settings.failsafe.snapshot
    wait_listed(house, snapshot, billed, other)
    house.stack.stop_bridge()

    carrier = house.alpha(answers())
    call = house.calls(Caller(billed, BERLIN).listens())
    house.wait_journal("answered")
    well(house.calls(Caller(prepaid, BERLIN).hears(503)))
    for spoilt in spoil(house, snapshot.read_bytes()):
        snapshot.unlink(missing_ok=True)
        if spoilt:
            snapshot.write_bytes(spoilt)
        well(house.calls(Caller(other, BERLIN).hears(503)))
    well(call, carrier)
    cut_s = call.clock("BYE") - call.clock("ACK")
    assert LIMIT_S - 1 < cut_s < LIMIT_S + 1

    house.start_bridge()
    call_id = house.until("SELECT call_id FROM call WHERE state = 'answered'")
    told = house.story_of(str(call_id))
    assert (told["a_number"], told["b_number"], told["cdr"]["ended_by"]) == (billed, BERLIN, "journal")
    assert micro(told["charge"]) == told["billed_s"] * SECOND_MICRO
    assert told["billed_s"] in (LIMIT_S, LIMIT_S + 1)  # the switch cuts at the limit, and begun seconds count
    assert house.account(billed) == (-told["billed_s"] * SECOND_MICRO, 0)
    house.wait_files_read()
    assert house.value("SELECT count(*) FROM call") == 1


def wait_listed(house: House, snapshot: Path, *numbers: str) -> None:
    house.wait_for(
        lambda: snapshot.exists() and all(number in snapshot.read_text() for number in numbers), "snapshot"
    )


def spoil(house: House, good: bytes) -> list[bytes]:
    """A snapshot that was changed, one that is too old, and none."""
    key = read_key(house.stack.settings.failsafe.key_file)
    known = unseal(good, key, time())
    signature, _, body = good.partition(b"\n")
    changed = json.dumps({**json.loads(body), "limit_s": LIMIT_S * 100}).encode()
    old = replace(known, made_at=known.made_at - known.age_s_max - 60)
    return [signature + b"\n" + changed, seal(old, key), b""]
