"""Capacity trials over the API: thresholds that make sense, a report of one's own, and what people are told."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest

from bridge.api.trials import show
from bridge.rollout.store.trials import Trials, trials, window_named
from bridge.rollout.trial_report import report
from bridge.sandbox.seed import APP
from bridge.telling.trial import tell_trial
from tests.api.estate import told
from tests.api.scene import Api, problem
from tests.seeded import ended

THRESHOLDS: Final = {"live_max": 10, "refusal_rate_max": 0.5, "calls_min": 0}


@pytest.fixture
async def path(api: Api) -> str:
    """Where the windows of alpha's rollout are."""
    made = await api.operator.post("/v1/rollouts", {"app": APP, "name": "spring", "partner_id": api.alpha.id})
    return f"{made.headers['location']}/windows"


async def opened(api: Api, path: str, **more: Any) -> dict[str, Any]:
    made = told(await api.alpha.post(path, {"name": "evening", **more}))
    told(await api.alpha.post(f"{path}/{made['window_id']}/open"))
    return made


async def looked(api: Api, seconds: int = 0) -> None:
    """The keepers look twice, so many seconds apart."""
    keeper = Trials(api.house.pool, 0)
    await keeper.step()
    await api.house.rows(
        "UPDATE trial SET began_at = began_at - make_interval(secs => $1), sampled_at = now() - interval '1 second',"
        " clock_at = clock_at - make_interval(secs => $1) WHERE ended_at IS NULL",
        seconds,
    )
    await keeper.step()


@pytest.mark.parametrize(
    ("sent", "pointer", "fix"),
    [
        ('{"csp_max": 10}', "#/thresholds", "is no threshold; known are cps_max"),
        ("{}", "#/thresholds", "give at least one of"),
        ('{"asr_min": NaN}', "#/thresholds/asr_min", "finite"),
        ('{"asr_min": 1e999}', "#/thresholds/asr_min", "finite"),
        ('{"asr_min": -0.1}', "#/thresholds/asr_min", "greater than or equal to 0"),
        ('{"asr_min": 45}', "#/thresholds/asr_min", "less than or equal to 1"),
        ('{"cps_max": 1' + "0" * 400 + "}", "#/thresholds/cps_max", "100000"),
        ('{"live_max": "10"}', "#/thresholds/live_max", "integer"),
        ('{"database_ms_max": 0}', "#/thresholds/database_ms_max", "greater than or equal to 1"),
        ("[1]", "#/thresholds", "dictionary"),
    ],
)
async def test_thresholds_that_make_no_sense_are_refused_with_what_would(
    api: Api, path: str, sent: str, pointer: str, fix: str
) -> None:
    body = f'{{"name": "evening", "trial_s": 60, "thresholds": {sent}}}'
    answer = await api.alpha.ask(
        "POST", path, content=body.encode(), headers={"Content-Type": "application/json"}
    )
    found = problem(answer, 422, "invalid_request")["errors"]
    assert any(one["pointer"].startswith(pointer) and fix in one["detail"] for one in found), found
    assert told(await api.alpha.get(path))["data"] == []


async def test_thresholds_are_kept_as_they_were_sent(api: Api, path: str) -> None:
    made = told(await api.alpha.post(path, {"name": "evening", "trial_s": 60, "thresholds": THRESHOLDS}))
    assert made["thresholds"] == THRESHOLDS | {"attempts_min": 20}
    own = f"{path}/{made['window_id']}"
    changed = told(await api.alpha.patch(own, {"thresholds": {"cps_max": 7}}))
    assert changed["thresholds"] == {"cps_max": 7, "attempts_min": 20, "calls_min": 0}
    assert told(await api.alpha.patch(own, {"thresholds": None}))["thresholds"] is None


async def test_a_trial_that_failed_and_was_resumed_and_passed(api: Api, path: str) -> None:
    following = told(await api.alpha.post(path, {"name": "night"}))
    made = await opened(api, path, trial_s=60, thresholds=THRESHOLDS, next_window_id=following["window_id"])
    own = f"{path}/{made['window_id']}/trial"
    problem(await api.alpha.get(own), 404, "not_found")
    await looked(api, 5)
    running = told(await api.alpha.get(own))
    assert (running["verdict"], running["proved_s"], running["trial_s"]) == ("running", 5, 60)
    who = await api.house.subscriber(balance_micro=10**7)
    admitted = [(await api.house.admitted(who)).frozen.call_id for _ in range(11)]
    await api.house.rows("UPDATE lease SET partner_id = $1", api.alpha.partner_id)
    await api.house.rows(
        "UPDATE call SET partner_id = $1 WHERE call_id = ANY ($2)", api.alpha.partner_id, admitted
    )
    await looked(api, 5)
    failed = told(await api.alpha.get(own))
    assert failed["breach"] == {"threshold": "live_max", "value": 11, "limit": 10}
    assert (failed["verdict"], failed["calls"], failed["next_opened"]) == ("failed", 11, False)
    measures = {one["threshold"]: one for one in failed["measures"]}
    assert (measures["live_max"]["peak"], measures["live_max"]["breached"]) == (11, True)
    assert (measures["cps_max"]["limit"], measures["cps_max"]["breached"]) == (None, False)
    window = told(await api.alpha.get(f"{path}/{made['window_id']}"))
    assert (window["state"], window["cause"]) == ("paused", "trial")
    assert "failed, live_max 10 was 11" in tell_trial(failed)

    await api.house.end(*(ended(call_id) for call_id in admitted))
    told(await api.alpha.post(f"{path}/{made['window_id']}/open"))
    await looked(api, 60)
    passed = told(await api.alpha.get(own))
    assert (passed["verdict"], passed["next_opened"], passed["breach"]) == ("passed", True, None)
    assert passed["next_window_id"] == following["window_id"]
    assert [run["verdict"] for run in passed["earlier"]] == ["failed"]
    said = tell_trial(passed)
    assert "The next window is open." in said
    assert "failed, live_max 10 was 11" in said
    assert told(await api.alpha.get(f"{path}/{following['window_id']}"))["state"] == "open"
    async with api.house.pool.acquire() as conn:
        for name in (made["window_id"], "evening", str(UUID(made["window_id"][4:]))):
            assert show(report(await trials(conn, await window_named(conn, name)))) == passed


async def test_a_report_is_its_owners(api: Api, path: str) -> None:
    made = await opened(api, path, thresholds=THRESHOLDS)
    await looked(api)
    own = f"{path}/{made['window_id']}/trial"
    assert told(await api.operator.get(own))["trial_s"] is None
    problem(await api.beta.get(own), 404, "not_found")
    problem(
        await (await api.key("calls:read", partner_id=api.alpha.partner_id)).get(own), 403, "scope_missing"
    )
    other = told(
        await api.operator.post("/v1/rollouts", {"app": await _other_app(api), "name": "other"}),
    )["rollout_id"]
    problem(
        await api.operator.get(f"/v1/rollouts/{other}/windows/{made['window_id']}/trial"), 404, "not_found"
    )
    problem(await api.operator.get(f"{path}/win_{'0' * 32}/trial"), 404, "not_found")


async def _other_app(api: Api) -> str:
    await api.house.rows("INSERT INTO app (name, sip_host) VALUES ('other', '127.0.0.9')")
    return "other"
