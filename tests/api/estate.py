"""One thing of each kind for a partner, made as partners make them: what another must not find."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import Response

from bridge.api.fields import read_id, show_id
from bridge.calls.admit import Admitted
from bridge.calls.messages import SOUND, recording
from bridge.calls.wav import HEAD_BYTES
from bridge.rollout.store.trials import Trials
from bridge.sandbox.seed import APP
from tests.api.decks import FIRST, staged
from tests.api.recording import left
from tests.api.scene import Api, Partner
from tests.api.telling import Telling
from tests.seeded import GERMANY, Who, ended

PLAN: dict[str, Any] = {
    "currency": "EUR",
    "home": [{"destination": "Germany", "prefixes": ["49"], "a_minute": "0.09", "increment": "60/1"}],
    "service": [{"name": "sms", "price": "0.09"}],
}
BUNDLE = {"price": "5.00", "units": 100, "days": 30, "covers": {"voice": 60}}
B_NUMBER = "+493023125090"


def told(response: Response) -> dict[str, Any]:
    assert response.status_code in (200, 201, 202), response.text
    found: dict[str, Any] = response.json()
    return found


async def estate(house: Telling, partner: Partner, digit: int, folder: Path) -> dict[str, str]:
    """Ids by the name of their path parameter or field.

    digit    of the partner, for its names and numbers
    folder   where voice messages are left
    """
    api, name = house.api, f"own{digit}"
    found: dict[str, str] = {"partner_id": partner.id, "version": "1", "a_number": f"+49302312501{digit}"}
    terms = {"terms": {}, "partner_id": partner.id, "name": name, "currency": "EUR"}
    found["deal_id"] = told(await api.operator.post("/v1/deals", terms))["deal_id"]
    await _carrier(partner, found, name)
    await _customer(api, partner, found, name, digit)
    await _called(api, partner, found)
    message = await left(api, folder, partner, to=read_id("sub", found["subscriber_id"]))
    found["message_id"] = message.rpartition("/")[2]
    await _rolled_out(api, partner, found, name, digit)
    await _listened(house, partner, found)
    found["app_id"] = told(await partner.get("/v1/apps"))["data"][0]["app_id"]
    key = {"name": name, "scopes": ["cdrs:read"]}
    found["key_id"] = told(await partner.post("/v1/keys", key))["key_id"]
    found["audit_id"] = told(await partner.get("/v1/audit-log"))["data"][0]["audit_id"]
    return found


async def _carrier(partner: Partner, found: dict[str, str], name: str) -> None:
    deck = {"name": f"buy {name}", "side": "buy", "currency": "EUR"}
    found["deck_id"] = told(await partner.post("/v1/decks", deck))["deck_id"]
    at = f"/v1/decks/{found['deck_id']}"
    found["import_id"] = (await staged(partner, at, FIRST))["import_id"]
    told(await partner.post(f"{at}/imports/{found['import_id']}/apply"))
    trunk = {"name": name, "deck_id": found["deck_id"], "host": "sbc.example.net"}
    found["trunk_id"] = told(await partner.post("/v1/trunks", trunk))["trunk_id"]


async def _customer(api: Api, partner: Partner, found: dict[str, str], name: str, digit: int) -> None:
    plan = told(await partner.post("/v1/plans", PLAN | {"name": name, "bundle": [BUNDLE | {"name": name}]}))
    bundle_id = await api.house.value("SELECT bundle_id FROM bundle WHERE name = $1", name)
    found |= {"plan_id": plan["plan_id"], "bundle_id": show_id("bdl", bundle_id)}
    new = {"app": APP, "a_number": found["a_number"], "plan_id": found["plan_id"]}
    subscriber = told(await partner.post("/v1/subscribers", new))
    found |= {name: subscriber[name] for name in ("subscriber_id", "account_id")}
    at = f"/v1/subscribers/{found['subscriber_id']}/proofs"
    found["proof_id"] = told(await partner.post(at, {"method": "code"}))["proof_id"]
    told(await partner.post(at, {"method": "attested", "reference": "contract 1"}))
    phone = told(await partner.post(f"/v1/subscribers/{found['subscriber_id']}/sip-credentials", {}))
    found["credential_id"] = phone["credential_id"]
    money = {"amount": "50.00", "currency": "EUR"}
    told(await partner.post(f"/v1/accounts/{found['account_id']}/top-ups", money))
    number = {"partner_id": partner.id, "number": f"+49302312510{digit}"}
    found["number"] = number["number"]
    found["number_id"] = told(await api.operator.post("/v1/numbers", number))["number_id"]


async def _called(api: Api, partner: Partner, found: dict[str, str]) -> None:
    await api.house.reload()
    who = Who(found["a_number"], "")
    calls = []
    for _ in range(2):
        verdict = await api.house.call(who)
        assert isinstance(verdict, Admitted), verdict
        calls.append(verdict.frozen.call_id)
    await api.house.end(ended(calls[0], 61_000))
    found |= {"cdr_id": show_id("cdr", calls[0]), "call_id": show_id("call", calls[1])}
    order = {"a_number": found["a_number"], "b_number": B_NUMBER}
    found["origination_id"] = told(await partner.post("/v1/originations", order))["origination_id"]
    found["callId"] = found["origination_id"]
    record = {"record_id": "r1", "subscriber_id": found["subscriber_id"], "service": "sms", "quantity": 1}
    used = await partner.post("/v1/usage", record | {"used_at": datetime.now(UTC).isoformat()})
    found["usage_id"] = told(used)["usage_id"]
    found["message_id"] = show_id("msg", await _message(api, partner, calls[0], found["a_number"]))
    found["subject_id"] = found["subject"] = found["subscriber_id"]
    found["b_number"] = GERMANY


async def _rolled_out(api: Api, partner: Partner, found: dict[str, str], name: str, digit: int) -> None:
    """Of an app of its own, in which the subscriber is another one than above."""
    await api.house.rows("INSERT INTO app (name, sip_host) VALUES ($1, '127.0.0.1')", f"{name}_app")
    new = {"app": f"{name}_app", "name": name, "partner_id": partner.id}
    people = []
    for last in (3, 4):
        if last == 4:  # who is made before the rollout may call, who comes after waits
            rollout = told(await api.operator.post("/v1/rollouts", new))["rollout_id"]
            found |= {"rollout_id": rollout}
        one = {"app": new["app"], "a_number": f"+4930231250{last}{digit}", "plan_id": found["plan_id"]}
        people.append(told(await partner.post("/v1/subscribers", one))["subscriber_id"])
        proof = {"method": "attested", "reference": "contract 1"}
        told(await partner.post(f"/v1/subscribers/{people[-1]}/proofs", proof))
    at = f"/v1/rollouts/{found['rollout_id']}"
    found["window_id"] = told(
        await partner.post(f"{at}/windows", {"name": name, "thresholds": {"live_max": 100}})
    )["window_id"]
    found["next_window_id"] = told(await partner.post(f"{at}/windows", {"name": f"{name} 2"}))["window_id"]
    found["wave_id"] = told(await partner.post(f"{at}/waves", {"country": "GB"}))["wave_id"]
    told(await partner.post(f"{at}/windows/{found['window_id']}/open"))
    await Trials(api.house.pool).step()
    asked = {"inviter_id": people[0], "number": f"+493023125098{digit}"}
    found["invite_id"] = told(await partner.post(f"{at}/invites", asked))["invite_id"]
    found |= {
        "inviter_id": people[0],
        "member_id": people[1],
        "root_id": people[0],
        "of_partner_id": partner.id,
    }


async def _message(api: Api, partner: Partner, call_id: UUID, a_number: str) -> UUID:
    """A second of silence."""
    path = recording(api.services.settings.messages.folder, call_id).with_suffix(SOUND)
    path.write_bytes(b"\0" * (HEAD_BYTES + 16_000))
    message_id: UUID = await api.house.value(
        "INSERT INTO voice_message (call_id, partner_id, subscriber_id, duration_ms, left_at) "
        "SELECT $1, $2, subscriber_id, 2000, now() FROM subscriber WHERE a_number = $3 RETURNING message_id",
        call_id,
        partner.partner_id,
        a_number,
    )
    return message_id


async def _listened(house: Telling, partner: Partner, found: dict[str, str]) -> None:
    webhook = await house.endpoint(partner=partner)
    found["webhook_id"] = webhook["webhook_id"]
    told(await partner.post(f"/v1/webhooks/{found['webhook_id']}/test"))
    await (await house.deliverer()).fan_out()
    [delivery, *_] = told(await partner.get(f"/v1/webhooks/{found['webhook_id']}/deliveries"))["data"]
    found |= {"delivery_id": delivery["delivery_id"], "event_id": delivery["event_id"]}
