"""SIP credentials of subscribers: told once, few at a time, and nobody else's."""

from __future__ import annotations

import hashlib
from datetime import datetime

import pytest
from pydantic import SecretStr

from bridge.config import Users
from tests.api.estate import told
from tests.api.scene import Api, Partner, problem


async def subscriber(api: Api, partner: Partner, *, proved: bool = True) -> str:
    """The path of a new one's credentials."""
    home = [{"destination": "Germany", "prefixes": ["49"], "a_minute": "0.09", "increment": "60/1"}]
    plan = {"name": f"plan {partner.id[-4:]}", "currency": "EUR", "home": home}
    plan_id = told(await partner.post("/v1/plans", plan))["plan_id"]
    a_number = "+493023125017" if partner is api.alpha else "+493023125018"
    new = {"app": "messenger", "a_number": a_number, "plan_id": plan_id}
    path = f"/v1/subscribers/{told(await partner.post('/v1/subscribers', new))['subscriber_id']}"
    if proved:
        told(await partner.post(f"{path}/proofs", {"method": "attested", "reference": "contract 1"}))
    return f"{path}/sip-credentials"


async def test_made_told_once_read_listed_and_ended(api: Api) -> None:
    at = await subscriber(api, api.alpha)
    key = {"Idempotency-Key": "phone-1"}
    made = await api.alpha.post(at, {}, headers=key)
    assert made.status_code == 201, made.text
    body = made.json()
    assert body["username"] == "u" + body["subscriber_id"].removeprefix("sub_")
    assert (body["realm"], body["media"], body["url"]) == ("callbridge", "webrtc", "ws://127.0.0.1:8088/ws")
    lasts = datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["created_at"])
    assert round(lasts.total_seconds()) == 3600
    password = body.pop("password")
    digest = hashlib.md5(
        f"{body['username']}:callbridge:{password}".encode(), usedforsecurity=False
    ).hexdigest()
    assert await api.house.value("SELECT digest FROM sip_credential") == digest
    assert (await api.alpha.post(at, {}, headers=key)).json() == body
    assert (
        await api.house.value(
            "SELECT count(*) FROM idempotency WHERE convert_from(body, 'utf8') ~ $1", password
        )
        == 0
    )
    path = made.headers["location"]
    shown = (await api.alpha.get(path)).json()
    assert shown == {name: value for name, value in body.items() if name != "url"}
    assert (await api.alpha.get(at)).json()["data"] == [shown]
    for _ in range(2):
        assert (await api.alpha.ask("DELETE", path)).status_code == 204
    assert (await api.alpha.get(path)).json()["state"] == "ended"
    assert await api.house.value("SELECT count(*) FROM asterisk.ps_endpoints") == 0


async def test_so_many_at_a_time_and_not_longer_than_the_operator_allows(api: Api) -> None:
    at = await subscriber(api, api.alpha)
    for lasts_s in (60, 86_400, None, None):
        told(await api.alpha.post(at, {"lasts_s": lasts_s, "media": "rtp"}))
    listed = (await api.alpha.get(at)).json()["data"]
    assert [one["state"] for one in listed] == ["valid", "valid", "valid", "ended"]
    assert await api.house.value(
        "SELECT max(expires_at - created_at) <= interval '1 hour 1 s' FROM sip_credential"
    )
    endpoint = await api.house.rows("SELECT * FROM asterisk.ps_endpoints")
    assert [(one["webrtc"], one["auth"].count(",")) for one in endpoint] == [("no", 2)]
    problem(await api.alpha.post(at, {"lasts_s": 59}), 422, "invalid_request")


async def test_only_an_active_subscriber_has_one(api: Api) -> None:
    at = await subscriber(api, api.alpha, proved=False)
    problem(await api.alpha.post(at, {}), 409, "conflict")


async def test_others_do_not_find_it(api: Api) -> None:
    at = await subscriber(api, api.alpha)
    path = (await api.alpha.post(at, {})).headers["location"]
    for wrong in (api.beta.get(at), api.beta.post(at, {}), api.beta.get(path), api.beta.ask("DELETE", path)):
        problem(await wrong, 404, "not_found")
    other = await subscriber(api, api.beta)
    problem(await api.beta.get(f"{other}/{path.rpartition('/')[2]}"), 404, "not_found")
    assert (await api.operator.get(path)).json()["state"] == "valid"
    reader = await api.key("subscribers:read", partner_id=api.alpha.partner_id)
    problem(await reader.post(at, {}), 403, "scope_missing")


async def test_without_a_login_of_the_switch_no_phones_register(api: Api) -> None:
    at = await subscriber(api, api.alpha)
    settings = api.services.settings.model_copy(update={"users": Users(switch_dsn=SecretStr(""))})
    object.__setattr__(api.services, "settings", settings)
    problem(await api.alpha.post(at, {}), 409, "conflict")


@pytest.mark.parametrize("table", ["subscriber", "account"])
async def test_a_suspended_user_is_not_there_for_the_switch(api: Api, table: str) -> None:
    at = await subscriber(api, api.alpha)
    told(await api.alpha.post(at, {}))
    sees = "SELECT (SELECT count(*) FROM asterisk.{}) = {}"
    for view in ("ps_endpoints", "ps_auths", "ps_aors"):
        assert await api.house.value(sees.format(view, 1))
    await api.house.rows(
        f"UPDATE {table} SET state = 'suspended' WHERE account_id ="
        " (SELECT account_id FROM subscriber WHERE a_number = '+493023125017')"
    )
    for view in ("ps_endpoints", "ps_auths", "ps_aors"):
        assert await api.house.value(sees.format(view, 0))
