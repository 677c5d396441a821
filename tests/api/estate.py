"""One thing of each kind for a partner, made as partners make them: what another must not find."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import Response

from bridge.api.fields import read_id, show_id
from bridge.calls.admit import Admitted
from bridge.calls.messages import SOUND, recording
from bridge.calls.wav import HEAD_BYTES
from bridge.database import connection
from bridge.exports.sequence import seal
from bridge.partners.deal import Terms
from bridge.partners.statement_inputs import Inputs, Part
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
_JANUARY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
NOTHING = Inputs(
    "2026-01", "UTC", *_JANUARY, date(2026, 1, 31), "EUR", (Part(1, *_JANUARY, 31, False, Terms()),)
)


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
    await _numbered(api, partner, found)
    message = await left(api, folder, partner, to=read_id("sub", found["subscriber_id"]))
    found["message_id"] = message.rpartition("/")[2]
    await _rolled_out(api, partner, found, name, digit)
    await _listened(house, partner, found)
    await _filed(api, partner, found, name)
    await _disputed(partner, found)
    await _stated(api, partner, found)
    await _invoiced(api, partner, found)
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


async def _numbered(api: Api, partner: Partner, found: dict[str, str]) -> None:
    """The call as a record, a day of the chain on which nothing happened, and how numbers stand on the bill."""
    async with connection(api.house.pool) as conn:
        await seal(conn, datetime.now(UTC) + timedelta(seconds=1))
    await api.house.rows(
        """INSERT INTO cdr_day (partner_id, day, first_no, last_no, records, previous, hash)
           VALUES ($1, '2026-01-31', 1, 0, 0, sha256(''), sha256('x'))""",
        partner.partner_id,
    )
    path = f"/v1/subscribers/{found['subscriber_id']}/bill-choice"
    told(await partner.ask("PUT", path, json={"numbers": "full"}, headers={"If-Match": '"0"'}))


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


async def _stated(api: Api, partner: Partner, found: dict[str, str]) -> None:
    """A month in which nothing happened, approved."""
    statement_id = await api.house.value(
        """INSERT INTO statement (deal_id, partner_id, month, from_at, to_at, currency, total_micro, inputs, first_no,
                                  last_no, chain_day, drafted_by)
           VALUES ($1, $2, '2026-01', '2026-01-01', '2026-02-01', 'EUR', 0, $3, 0, 0, '2026-01-31', 'x')
           RETURNING statement_id""",
        read_id("deal", found["deal_id"]),
        partner.partner_id,
        json.dumps(NOTHING.to_json()),
    )
    await api.house.rows(
        """UPDATE statement SET state = 'approved', approved_at = now(), approved_by = 'x'
            WHERE state = 'draft'"""
    )
    found["statement_id"] = show_id("stm", statement_id)


async def _invoiced(api: Api, partner: Partner, found: dict[str, str]) -> None:
    """Of that month: over nothing, and settled with that."""
    details = {"legal_name": found["a_number"], "country": "DE"}
    path = f"/v1/partners/{partner.id}/billing"
    told(await api.operator.ask("PUT", path, json=details, headers={"If-Match": '"0"'}))
    invoice_id = await api.house.value(
        """INSERT INTO invoice (partner_id, statement_id, type, self_billed, from_on, until_on, currency, net_cents,
                                tax_cents, gross_cents, rounding_micro, content, author)
           VALUES ($1, $2, '380', false, '2026-01-01', '2026-01-31', 'EUR', 0, 0, 0, 0, '{}', 'x')
           RETURNING invoice_id""",
        partner.partner_id,
        read_id("stm", found["statement_id"]),
    )
    await api.house.rows(
        "INSERT INTO invoice_line VALUES ($1, 1, 'wholesale', 'nothing', 0, 'C62', 0, 1, 0, 0, 'S', 1900)",
        invoice_id,
    )
    await api.house.rows(
        """UPDATE invoice SET state = 'settled', prefix = 'T-', year = 2026, series_no = n.no, issued_on = '2026-02-01',
                  number = 'T-2026-' || lpad(n.no::text, 6, '0'), due_on = '2026-02-15', validated_at = now()
             FROM invoice_next_v1('T-', 2026) n (no) WHERE invoice_id = $1""",
        invoice_id,
    )
    for kind in ("pdf", "xml"):
        await api.house.rows(
            "INSERT INTO invoice_document VALUES ($1, $2, 'x'::bytea, sha256('x'::bytea))", invoice_id, kind
        )
    found["invoice_id"] = show_id("inv", invoice_id)


async def _disputed(partner: Partner, found: dict[str, str]) -> None:
    found["run_id"] = "rcn_" + "0" * 32
    claim = {"kind": "rate", "title": "Rates", "claimed_amount": "1.00"}
    found["dispute_id"] = told(await partner.post("/v1/disputes", claim))["dispute_id"]
    at, kind = f"/v1/disputes/{found['dispute_id']}/evidence", {"Content-Type": "text/plain"}
    file = await partner.ask("POST", at, headers=kind, content=f"Rates of {partner.id}".encode())
    found["evidence_id"] = told(file)["evidence_id"]
    told(await partner.post(f"/v1/disputes/{found['dispute_id']}/notes", {"text": f"Rates of {partner.id}"}))


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


async def _filed(api: Api, partner: Partner, found: dict[str, str], name: str) -> None:
    """An export that is done, and a recipient with a written file, without what is in them."""
    a_day = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    found["export_id"] = told(await partner.post("/v1/exports", {"type": "cdr", **a_day}))["export_id"]
    to = {"code": name, "partner_id": partner.id, "types": ["cdr"], "target": {"kind": "api"}}
    found["recipient_id"] = told(await api.operator.post("/v1/cdr-recipients", to))["recipient_id"]
    content, folder = b"{}", api.services.settings.exports.folder
    written = f"CDR_us_{name}_00000001_20260101T000000Z_20260102T000000Z.csv.gz"
    home = folder / "extracts" / read_id("exp", found["export_id"]).hex
    for path in (home / written, folder / name / written, folder / name / f"{written}.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    sha256 = hashlib.sha256(content).digest()
    await api.house.rows(
        "UPDATE export SET state = 'done', name = $2, rows = 0, bytes = 2, totals = '{}', sha256 = $3, done_at = now(),"
        " expires_at = now() + interval '1 day' WHERE export_id = $1",
        read_id("exp", found["export_id"]), written, sha256,
    )  # fmt: skip
    file_id = await api.house.value(
        "INSERT INTO cdr_file (recipient_id, partner_id, type, file_no, first_no, last_no, from_at, to_at, period,"
        " time_zone, format, sender, name, names_id, state, totals, rows, bytes, sha256, written_at)"
        " SELECT recipient_id, partner_id, 'cdr', 1, 0, 0, '2026-01-01Z', '2026-01-02Z', 'daily', 'UTC', 'csv', 'us',"
        " $2, cdr_names_v1(), 'written', '{}', 0, 2, $3, now() FROM cdr_recipient WHERE recipient_id = $1"
        " RETURNING file_id",
        read_id("rcp", found["recipient_id"]), written, sha256,
    )  # fmt: skip
    found["file_id"] = show_id("file", file_id)


async def _listened(house: Telling, partner: Partner, found: dict[str, str]) -> None:
    webhook = await house.endpoint(partner=partner)
    found["webhook_id"] = webhook["webhook_id"]
    told(await partner.post(f"/v1/webhooks/{found['webhook_id']}/test"))
    await (await house.deliverer()).fan_out()
    [delivery, *_] = told(await partner.get(f"/v1/webhooks/{found['webhook_id']}/deliveries"))["data"]
    found |= {"delivery_id": delivery["delivery_id"], "event_id": delivery["event_id"]}
