"""Rollouts over the API: made by operators, steered by whose they are, and nothing of another's is found."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.api.fields import show_id
from bridge.sandbox.seed import APP
from tests.api.estate import PLAN, told
from tests.api.scene import Api, Client, Partner, problem

NEW = {"app": APP, "name": "spring", "invite_limit": 2}


class Rollout:
    """Alpha's rollout of the seeded app, with an enabled subscriber of its own."""

    def __init__(self, api: Api, path: str, plan_id: str, ada: str) -> None:
        self.api, self.path, self.plan_id, self.ada = api, path, plan_id, ada
        self.made = 0

    async def person(self) -> tuple[str, str]:
        """A new subscriber of alpha's, proved, and the number."""
        self.made += 1
        return await subscriber(self.api.alpha, self.plan_id, f"+4930231250{40 + self.made}")

    async def post(self, path: str, body: Any = None, by: Client | None = None) -> Any:
        return await (by or self.api.alpha).post(f"{self.path}{path}", body)

    async def get(self, path: str = "", by: Client | None = None, **query: Any) -> Any:
        return await (by or self.api.alpha).get(f"{self.path}{path}", **query)

    async def window(self, **more: Any) -> dict[str, Any]:
        return told(await self.post("/windows", {"name": "evening", **more}))

    async def opened(self, **more: Any) -> dict[str, Any]:
        made = await self.window(**more)
        return told(await self.post(f"/windows/{made['window_id']}/open"))

    async def member(self, subscriber_id: str) -> dict[str, Any]:
        return told(await self.get(f"/members/{subscriber_id}"))


async def subscriber(partner: Partner, plan_id: str, number: str) -> tuple[str, str]:
    new = {"app": APP, "a_number": number, "plan_id": plan_id}
    made = told(await partner.post("/v1/subscribers", new))["subscriber_id"]
    told(
        await partner.post(
            f"/v1/subscribers/{made}/proofs", {"method": "attested", "reference": "contract 1"}
        )
    )
    return made, number


@pytest.fixture
async def rollout(api: Api) -> Rollout:
    plan_id = told(await api.alpha.post("/v1/plans", PLAN | {"name": "own"}))["plan_id"]
    ada, _ = await subscriber(api.alpha, plan_id, "+493023125039")  # before the rollout: may call
    made = await api.operator.post("/v1/rollouts", NEW | {"partner_id": api.alpha.id})
    assert made.status_code == 201, made.text
    return Rollout(api, made.headers["location"], plan_id, ada)


async def test_operators_make_and_owners_steer(rollout: Rollout) -> None:
    api = rollout.api
    row = told(await rollout.get())
    assert (row["state"], row["app"], row["partner_id"]) == ("closed", APP, api.alpha.id)
    problem(await api.alpha.post("/v1/rollouts", NEW), 403, "not_allowed")
    problem(await api.operator.post("/v1/rollouts", NEW), 409, "conflict")  # one of an app
    problem(await api.operator.post("/v1/rollouts", NEW | {"app": "nobodys"}), 404, "not_found")
    assert told(await api.alpha.get("/v1/rollouts"))["data"] == [row]
    assert told(await api.beta.get("/v1/rollouts"))["data"] == []
    for path in ("", "/windows", "/waves", "/members", "/invites", "/events", "/tree", "/forecast"):
        assert (await rollout.get(path)).status_code == 200, path
        assert (await rollout.get(path, api.operator)).status_code == 200, path
        problem(await rollout.get(path, api.beta), 404, "not_found")
    for deed in ("launch", "kill"):
        problem(await rollout.post(f"/{deed}", by=api.beta), 404, "not_found")
    etag = await api.alpha.etag(rollout.path)
    changed = await api.alpha.patch(rollout.path, {"invite_limit": None, "depth_max": 3}, etag)
    assert told(changed)["invite_limit"] is None
    problem(await api.alpha.patch(rollout.path, {"name": "x"}, etag), 412, "stale")
    kinds = [one["kind"] for one in told(await rollout.get("/events"))["data"]]
    assert kinds == ["rollout.changed", "rollout.made"]


async def test_one_window_is_open_at_a_time(rollout: Rollout) -> None:
    first, second = await rollout.opened(quota=3), await rollout.window()
    path = f"/windows/{second['window_id']}"
    problem(await rollout.post(f"{path}/open"), 409, "conflict")
    problem(await rollout.post(f"/windows/{first['window_id']}/open"), 409, "conflict")  # twice
    assert told(await rollout.post(f"/windows/{first['window_id']}/pause"))["state"] == "paused"
    assert told(await rollout.post(f"{path}/open"))["state"] == "open"
    problem(await rollout.post(f"/windows/{first['window_id']}/open"), 409, "conflict")
    assert told(await rollout.post(f"{path}/close"))["cause"] == "operator"
    problem(await rollout.post(f"{path}/open"), 409, "conflict")  # closed is closed
    assert told(await rollout.get())["state"] == "running"
    at = f"{rollout.path}{path}"
    problem(await rollout.api.alpha.patch(at, {"quota": 9}), 409, "conflict")
    open_one = f"{rollout.path}/windows/{first['window_id']}"
    assert told(await rollout.api.alpha.patch(open_one, {"quota": None}))["quota"] is None
    problem(await rollout.api.beta.patch(open_one, {"quota": 9}, '"1"'), 404, "not_found")


async def test_windows_that_make_no_sense(rollout: Rollout) -> None:
    for wrong in (
        {"quota": 0},
        {"quota": -1},
        {"opens_at": "2026-12-02T00:00:00Z", "closes_at": "2026-12-01T00:00:00Z"},
        {"opens_at": "2026-12-02T00:00:00Z", "closes_at": "2026-12-02T00:00:00Z"},
        {"name": ""},
        {"trial_s": 0},
    ):
        problem(await rollout.post("/windows", {"name": "w"} | wrong), 422, "invalid_request")
    made = await rollout.window(opens_at="2030-01-01T00:00:00Z")
    after = await rollout.window(next_window_id=made["window_id"], trial_s=60, thresholds={"cps_max": 5})
    assert after["next_window_id"] == made["window_id"]
    itself = {"next_window_id": made["window_id"]}
    at = f"{rollout.path}/windows/{made['window_id']}"
    problem(await rollout.api.alpha.patch(at, itself), 422, "invalid_request")
    late = await rollout.api.alpha.patch(
        f"{rollout.path}/windows/{made['window_id']}", {"closes_at": "2029-01-01T00:00:00Z"}
    )
    problem(late, 422, "invalid_request")
    problem(await rollout.post("/waves", {"quota": 0}), 422, "invalid_request")


async def test_new_subscribers_wait_and_are_brought_in_by_invitation(rollout: Rollout) -> None:
    api = rollout.api
    bob, number = await rollout.person()
    assert (await rollout.member(bob))["state"] == "waiting"
    assert (await rollout.member(bob))["country"] == "DE"
    asked = {"inviter_id": rollout.ada, "number": number}
    problem(await rollout.post("/invites", asked), 409, "no_window")
    window = await rollout.opened()
    made = await rollout.post("/invites", asked)
    assert made.status_code == 201, made.text
    invite = made.json()
    assert invite["code"] not in str(await api.house.rows("SELECT to_jsonb(i) FROM rollout_invite i"))
    assert "code" not in told(await api.alpha.get(made.headers["location"]))
    accept = {"subscriber_id": bob, "code": invite["code"]}
    problem(await rollout.post("/invites/accept", accept | {"code": "A" * 22}), 409, "unknown")
    problem(await rollout.post("/invites/accept", accept | {"subscriber_id": rollout.ada}), 409, "unknown")
    problem(await rollout.post("/invites/accept", accept, api.beta), 404, "not_found")
    done = told(await rollout.post("/invites/accept", accept))
    assert (done["state"], done["inviter_id"], done["depth"]) == ("activated", rollout.ada, 1)
    problem(await rollout.post("/invites/accept", accept), 409, "used")
    assert told(await api.alpha.get(made.headers["location"]))["state"] == "used"
    assert told(await rollout.get(f"/windows/{window['window_id']}"))["activated"] == 1
    chain = told(await rollout.get("/tree"))["data"]
    assert [(one["subscriber_id"], one["below"]) for one in chain] == [(rollout.ada, 1), (bob, 0)]
    foreseen = told(await rollout.get("/forecast", hours=6))
    assert foreseen["active"] == 2 and foreseen["assumptions"]


async def test_launch_and_kill_are_final(rollout: Rollout) -> None:
    bob, _ = await rollout.person()
    window = await rollout.opened()
    assert told(await rollout.post("/launch"))["state"] == "launched"
    assert told(await rollout.post("/launch"))["state"] == "launched"
    problem(await rollout.post("/kill"), 409, "conflict")
    assert told(await rollout.get(f"/windows/{window['window_id']}"))["cause"] == "launch"
    house = rollout.api.house
    async with house.store.session() as session:
        caller = await session.caller(APP, "+493023125041", "+493023125010", house.begin_at)
    assert caller is not None and caller.allowed
    problem(await rollout.post("/windows", {"name": "late"}), 409, "conflict")
    problem(await rollout.api.operator.post("/v1/rollouts", NEW), 409, "conflict")
    assert (await rollout.member(bob))["state"] == "waiting"


async def test_a_killed_rollout_keeps_who_is_enabled(rollout: Rollout) -> None:
    (bob, _), (eve, _) = await rollout.person(), await rollout.person()
    await rollout.opened()
    assert told(await rollout.post(f"/members/{bob}/activate"))["state"] == "activated"
    assert told(await rollout.post("/kill"))["state"] == "killed"
    problem(await rollout.post(f"/members/{eve}/activate"), 409, "conflict")
    problem(await rollout.post("/launch"), 409, "conflict")
    late, _ = await rollout.person()
    assert (await rollout.member(late))["state"] == "waiting"
    allowed = await rollout.api.house.rows(
        "SELECT 'sub_' || replace(subscriber_id::text, '-', '') FROM rollout_allow"
    )
    assert {row[0] for row in allowed} >= {bob, rollout.ada}
    assert not {row[0] for row in allowed} & {eve, late}
    again = told(await rollout.api.operator.post("/v1/rollouts", NEW | {"partner_id": rollout.api.alpha.id}))
    waiting = told(await rollout.api.alpha.get(f"/v1/rollouts/{again['rollout_id']}/members"))["data"]
    assert {one["subscriber_id"] for one in waiting} == {eve, late}


async def test_the_server_key_is_given(rollout: Rollout) -> None:
    bob, number = await rollout.person()
    wave = told(await rollout.post("/waves", {"country": "DE", "server_key": False}))
    problem(await rollout.post("/waves", {"country": "DE"}), 409, "conflict")
    problem(await rollout.post("/waves", {"of_partner_id": rollout.api.beta.id}), 404, "not_found")
    told(await rollout.post("/waves", {"of_partner_id": rollout.api.alpha.id}))
    await rollout.opened()
    code = told(await rollout.post("/invites", {"inviter_id": rollout.ada, "number": number}))["code"]
    keyed = told(await rollout.post("/invites/accept", {"subscriber_id": bob, "code": code}))
    assert keyed["state"] == "keyed"
    at = f"/waves/{wave['wave_id']}"
    problem(await rollout.post(f"{at}/give-key", by=rollout.api.beta), 404, "not_found")
    assert told(await rollout.post(f"{at}/give-key"))["activated"] == 1
    assert (await rollout.member(bob))["state"] == "activated"
    assert told(await rollout.post(f"{at}/withhold-key"))["server_key"] is False
    assert (await rollout.member(bob))["state"] == "activated"


async def test_anothers_members_stay_hidden(rollout: Rollout) -> None:
    """Beta's subscribers wait in alpha's rollout of the app they share; alpha counts them and does not see them."""
    api = rollout.api
    plan_id = told(await api.beta.post("/v1/plans", PLAN | {"name": "betas"}))["plan_id"]
    eve, _ = await subscriber(api.beta, plan_id, "+493023125090")
    problem(await rollout.get(f"/members/{eve}"), 404, "not_found")
    assert told(await rollout.get("/members"))["data"] == []
    assert eve not in (await rollout.get("/events")).text
    problem(await rollout.post("/members", {"subscriber_id": eve}), 404, "not_found")
    problem(await rollout.post("/invites", {"inviter_id": eve, "number": "+493023125091"}), 404, "not_found")
    assert [one["subscriber_id"] for one in told(await rollout.get("/members", api.operator))["data"]] == [
        eve
    ]
    assert told(await rollout.get("/forecast"))["at_most"] == 1  # no window is open
    assert show_id("rol", await api.house.value("SELECT rollout_id FROM rollout")) in rollout.path


async def test_a_key_may_do_what_it_is_for(rollout: Rollout) -> None:
    reader = await rollout.api.key("rollouts:read", partner_id=rollout.api.alpha.partner_id)
    assert (await rollout.get(by=reader)).status_code == 200
    problem(await rollout.post("/kill", by=reader), 403, "scope_missing")
    problem(await rollout.post("/windows", {"name": "w"}, reader), 403, "scope_missing")
