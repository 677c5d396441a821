"""Apps: operators make them; partners see their names only."""

from __future__ import annotations

from bridge.api.fields import show_id
from tests.api.scene import Api, problem

NEW = {"name": "messenger2", "sip_host": "192.0.2.9"}


async def test_made_read_listed_and_changed(api: Api) -> None:
    made = await api.operator.post("/v1/apps", NEW)
    assert made.status_code == 201, made.text
    body, path = made.json(), made.headers["location"]
    secret = body.pop("sip_secret")
    assert await api.house.value("SELECT sip_secret FROM app WHERE name = 'messenger2'") == secret
    shown = await api.operator.get(path)
    assert shown.json() == body
    assert body["has_secret"]
    changed = await api.operator.patch(path, {"sip_host": "192.0.2.10"})
    assert changed.json() == body | {"sip_host": "192.0.2.10"}
    assert await api.house.value("SELECT sip_secret FROM app WHERE name = 'messenger2'") == secret
    rotated = (await api.operator.patch(path, {"sip_secret": True})).json()["sip_secret"]
    assert rotated != secret
    assert (await api.operator.patch(path, {"sip_secret": False})).json()["has_secret"] is False
    problem(await api.operator.patch(path, {"sip_host": "192.0.2.11"}, shown.headers["etag"]), 412, "stale")
    assert (await api.operator.get("/v1/apps")).json()["data"][0]["name"] == "messenger2"


async def test_names_and_addresses_are_one_apps(api: Api) -> None:
    assert (await api.operator.post("/v1/apps", NEW)).status_code == 201
    problem(await api.operator.post("/v1/apps", NEW | {"sip_host": "192.0.2.12"}), 409, "conflict")
    problem(await api.operator.post("/v1/apps", NEW | {"name": "messenger3"}), 409, "conflict")
    trunk = await api.house.value("SELECT name FROM trunk LIMIT 1")
    problem(
        await api.operator.post("/v1/apps", NEW | {"name": trunk, "sip_host": "192.0.2.13"}), 409, "conflict"
    )
    for wrong in ({"name": "A"}, {"sip_host": "x\ny"}, {"sip_host": "x;y"}, {"name": "a b"}):
        assert (await api.operator.post("/v1/apps", NEW | wrong)).status_code == 422


async def test_a_partner_sees_names_only(api: Api) -> None:
    made = await api.operator.post("/v1/apps", NEW)
    path = made.headers["location"]
    seen = (await api.alpha.get(path)).json()
    assert seen == {
        "app_id": made.json()["app_id"],
        "name": "messenger2",
        "sip_host": None,
        "has_secret": None,
        "phones": False,
        "launched": False,
    }
    assert "192.0.2.9" not in (await api.alpha.get("/v1/apps")).text
    problem(await api.alpha.post("/v1/apps", NEW | {"name": "mine"}), 403, "not_allowed")
    problem(await api.alpha.patch(path, {"sip_host": "192.0.2.66"}), 403, "not_allowed")


async def test_whether_users_have_phones_and_whether_it_is_launched(api: Api) -> None:
    (app,) = (await api.alpha.get("/v1/apps")).json()["data"]
    assert (app["phones"], app["launched"]) == (False, False)
    path = f"/v1/apps/{app['app_id']}"
    etag = await api.alpha.etag(path)
    await api.house.subscriber()
    key = await api.house.value("SELECT subscriber_id FROM subscriber LIMIT 1")
    made = await api.operator.post(f"/v1/subscribers/{show_id('sub', key)}/sip-credentials", {})
    assert made.status_code == 201, made.text
    seen = await api.alpha.ask("GET", path, headers={"If-None-Match": etag})
    assert (seen.status_code, seen.json()["phones"], seen.json()["launched"]) == (200, True, False)
    etag = seen.headers["etag"]
    rollout = (await api.operator.post("/v1/rollouts", {"app": app["name"], "name": "spring"})).headers[
        "location"
    ]
    assert (await api.operator.post(f"{rollout}/launch")).status_code == 200
    seen = await api.alpha.ask("GET", path, headers={"If-None-Match": etag})
    assert (seen.status_code, seen.json()["phones"], seen.json()["launched"]) == (200, True, True)
    problem(await api.operator.post("/v1/apps", NEW | {"launched": True}), 422, "invalid_request")
    problem(await api.operator.patch(path, {"phones": False}), 422, "invalid_request")
