"""WhatsApp Business numbers: an operator sets one up, everything that does not fit is named with its fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge import config
from tests.api.scene import Api, problem
from tests.api.test_trunks import buy_deck, new_trunk

PASSWORD = "sipPass/word=1"
GIVEN: dict[str, Any] = {
    "kind": "whatsapp",
    "name": "business",
    "host": "wa.meta.vc",
    "business_number": "+493012345678",
    "auth": {"username": "493012345678", "secret": PASSWORD},
    "allowed_ips": ["69.171.224.0/19"],
}


def ready(api: Api) -> None:
    """The settings that such a trunk needs."""
    given = config.Whatsapp(domain="voip.example.com", cert_file="/etc/c.pem", key_file="/etc/c.key")
    settings = api.services.settings.model_copy(update={"whatsapp": given})
    api.services = api.app.state.services = replace(api.services, settings=settings)


async def of_alpha(api: Api, **given: Any) -> dict[str, Any]:
    """The body of a trunk of Alpha's, for an operator to make."""
    return await new_trunk(api, **{"partner_id": api.alpha.id, **given})


async def test_an_operator_sets_up_a_number_and_its_owner_sees_it(api: Api) -> None:
    ready(api)
    body = await new_trunk(api, **GIVEN, partner_id=api.alpha.id)
    response = await api.operator.post("/v1/trunks", body)
    assert response.status_code == 201, response.text
    told = response.json()
    for name, value in {
        "kind": "whatsapp", "business_number": "+493012345678", "policy_class": "voip_only", "transport": "tls",
        "port": 5061, "codecs": ["opus"], "auth": {"username": "493012345678"},
    }.items():  # fmt: skip
        assert told[name] == value
    assert PASSWORD not in response.text
    path = response.headers["location"]
    assert (await api.alpha.get(path)).json() == told
    plain = await api.operator.post("/v1/trunks", await of_alpha(api))
    assert (plain.json()["kind"], plain.json()["business_number"]) == ("carrier", None)


async def test_only_operators_set_one_up(api: Api) -> None:
    ready(api)
    for field in ({"kind": "whatsapp"}, {"business_number": "+493012345678"}, GIVEN):
        said = problem(await api.alpha.post("/v1/trunks", await new_trunk(api, **field)), 403, "not_allowed")
        assert said["errors"]


async def test_without_the_settings_it_is_said_which_is_missing(api: Api) -> None:
    said = problem(
        await api.operator.post("/v1/trunks", await new_trunk(api, **GIVEN)), 422, "invalid_request"
    )
    assert "whatsapp.domain" in said["detail"]


@pytest.mark.parametrize(
    ("wrong", "named", "fix"),
    [
        ({"policy_class": "pstn"}, "policy_class", "voip_only"),
        ({"transport": "udp"}, "transport", "tls"),
        ({"codecs": ["alaw"]}, "codecs", "opus"),
        ({"auth": {"username": "someone", "secret": PASSWORD}}, "auth", "493012345678"),
        ({"auth": None}, "auth", "493012345678"),
        ({"allowed_ips": []}, "allowed_ips", "Meta"),
        ({"numbers": {"b_format": "e164"}}, "numbers", "e164_plus"),
        ({"business_number": None}, "business_number", "+49"),
        ({"kind": "carrier"}, "business_number", "leave it out"),
    ],
)
async def test_what_does_not_fit_is_named_with_its_fix(
    api: Api, wrong: dict[str, Any], named: str, fix: str
) -> None:
    ready(api)
    body = await new_trunk(api, **{**GIVEN, **wrong})
    said = problem(await api.operator.post("/v1/trunks", body), 422, "invalid_request")
    assert named in said["detail"]
    assert fix in said["detail"]
    assert await api.house.value("SELECT count(*) FROM trunk WHERE name = 'business'") == 0


@pytest.mark.parametrize("carriers", [{"transport": "tls"}, {"codecs": ["opus"]}])
async def test_a_carrier_has_nothing_of_it(api: Api, carriers: dict[str, Any]) -> None:
    body = await new_trunk(api, **carriers)
    problem(await api.operator.post("/v1/trunks", body), 422, "invalid_request")


async def test_nothing_passes_between_the_phone_network_and_whatsapp(api: Api) -> None:
    ready(api)
    number = (await api.operator.post("/v1/trunks", await of_alpha(api, **GIVEN))).headers["location"]
    carrier = (await api.operator.post("/v1/trunks", await of_alpha(api))).headers["location"]
    problem(await api.operator.patch(number, {"policy_class": "pstn"}), 422, "invalid_request")
    said = problem(await api.operator.patch(carrier, {"policy_class": "voip_only"}), 409, "conflict")
    assert "another trunk" in said["detail"]
    problem(await api.operator.patch(number, {"codecs": ["alaw"]}), 422, "invalid_request")
    assert (await api.operator.patch(number, {"enabled": True})).status_code == 200


async def test_numbers_are_called_from_the_same_addresses_and_carriers_from_none_of_them(api: Api) -> None:
    ready(api)
    assert (await api.operator.post("/v1/trunks", await of_alpha(api, **GIVEN))).status_code == 201
    second = {
        "name": "second",
        "business_number": "+493087654321",
        "auth": {"username": "493087654321", "secret": PASSWORD},
    }
    twice = await of_alpha(api, **{**GIVEN, "name": "twice"})
    problem(await api.operator.post("/v1/trunks", twice), 409, "conflict")
    assert (
        await api.operator.post("/v1/trunks", await of_alpha(api, **{**GIVEN, **second}))
    ).status_code == 201
    carrier = await of_alpha(api, allowed_ips=["69.171.224.0/28"])
    problem(await api.operator.post("/v1/trunks", carrier), 409, "conflict")


async def test_another_partners_number_is_nobodys(api: Api) -> None:
    ready(api)
    await buy_deck(api, api.alpha)
    body = await new_trunk(api, **GIVEN, partner_id=api.alpha.id)
    path = (await api.operator.post("/v1/trunks", body)).headers["location"]
    problem(await api.beta.get(path), 404, "not_found")
