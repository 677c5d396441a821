from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from bridge.database import Connection
from bridge.rollout import store
from bridge.rollout.trial import parse_thresholds
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.house import House, build_house

CPS_MAX: Final = 10
OFFERED_CPS: Final = 2 * CPS_MAX
FLOOD_S: Final = 5
OFFERED: Final = OFFERED_CPS * FLOOD_S
REFUSAL_RATE_MAX: Final = 0.2
METRIC: Final = re.compile(r'^callbridge_calls_overloaded_total\{limit="cps"\} (\S+)$', re.MULTILINE)


@pytest.fixture
def house(
    postgres: EmbeddedPostgres, template: str, install: AsteriskInstall, sipp: tuple[str, ...], tmp_path: Path
) -> Iterator[House]:
    with build_house(postgres, template, install, sipp, tmp_path, pressure={"cps_max": CPS_MAX}) as made:
        yield made
        made.prove()


async def opened(conn: Connection) -> UUID:
    """A window on trial."""
    at, thresholds = datetime.now(UTC), parse_thresholds({"refusal_rate_max": REFUSAL_RATE_MAX})
    settings: dict[str, Any] = {
        "name": "spring",
        "invite_limit": None,
        "depth_max": None,
        "call_activates": True,
        "invite_s": 86_400,
    }
    async with conn.transaction():
        rollout = await store.add_rollout(conn, "messenger", settings, None, "tests", at)
        settings = dict.fromkeys(("opens_at", "closes_at", "quota", "next_window_id"))
        settings |= {"name": "first", "trial_s": 600, "thresholds": thresholds.to_json()}
        window = await store.add_window(conn, rollout, settings, "tests", at)
        assert await store.set_window(conn, window["window_id"], "open", "operator", "tests", at)
    window_id: UUID = window["window_id"]
    return window_id


def test_twice_as_many_calls_as_are_taken(house: House) -> None:
    carrier = house.alpha_for_many(answers(ring_s=0.05), OFFERED + 10)
    talk = house.calls(Caller(house.payer(), BERLIN).talks(FLOOD_S + 2.5))
    house.wait_live(talk, answered=True)
    many = house.subscriber(balance_micro=10**9)
    window_id = house.ask(opened)
    house.until("SELECT count(*) = 1 FROM trial")
    flood = house.many_call(Caller(many, BERLIN).talks_or_hears(0.5, 503), calls=OFFERED, cps=OFFERED_CPS)
    house.until("SELECT count(*) > 10 FROM call WHERE refuse_reason = 'overloaded'")
    help_comes = house.calls(Caller(house.subscriber(balance_micro=0), "112").talks(0.2))
    seen, _, _ = well(flood, help_comes, talk)

    refused = {call_id(message) for message in seen.received if message.startswith("SIP/2.0 503 ")}
    answered = {call_id(message) for message in seen.received if message.startswith("SIP/2.0 200 ")}
    assert len(refused) + len(answered) == OFFERED
    assert not refused & answered
    assert len(refused) == pytest.approx(OFFERED / 2, abs=CPS_MAX + 2)
    assert not [each for each in seen.received if each.startswith("SIP/2.0 ") and each[8:11] not in KNOWN]

    records = "SELECT count(*) FROM call WHERE a_number = $1 AND state = $2"
    house.until("SELECT count(*) = $2 FROM call WHERE a_number = $1 AND state <> 'live'", many, OFFERED)
    assert house.value(records, many, "refused") == len(refused)
    assert house.value(records, many, "answered") == len(answered)
    reasons = "SELECT array_agg(DISTINCT refuse_reason) FROM call WHERE state = 'refused' AND account_id IS NOT NULL"
    assert house.value(reasons) == ["overloaded"]
    assert float(METRIC.findall(metrics(house))[0]) == len(refused)

    trial = house.ask(lambda conn: conn.fetchrow("SELECT * FROM trial WHERE window_id = $1", window_id))
    assert trial is not None
    assert (trial["verdict"], trial["why"], trial["allowed"]) == (
        "failed",
        "refusal_rate_max",
        REFUSAL_RATE_MAX,
    )
    assert trial["value"] > REFUSAL_RATE_MAX
    window = "SELECT state || ' ' || cause FROM rollout_window WHERE window_id = $1"
    assert house.value(window, window_id) == "paused trial"
    last = house.value("SELECT max(admitted_at) FROM call WHERE a_number = $1", many)
    assert trial["ended_at"] < last  # it did not take the whole flood

    told = house.story(talk)
    assert told["talk_ms"] == pytest.approx((FLOOD_S + 2.5) * 1000, abs=400)
    assert told["hold"]["extensions"] >= 1
    assert told["cdr"]["release_party"] == "caller"
    house.until("SELECT count(*) = 1 FROM call WHERE dialled = '112' AND state = 'answered'")
    carrier.stop()


KNOWN: Final = ("100", "180", "183", "200", "503")


def call_id(message: str) -> str:
    found = re.search(r"^Call-ID: (\S+)$", message, re.MULTILINE)
    assert found is not None
    return found[1]


def metrics(house: House) -> str:
    with urllib.request.urlopen(f"{house.stack.api_url}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
