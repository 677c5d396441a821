"""Subscribers: made pending, proved, changed, closed; nobody gets another's number, plan, account or code."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.api.fields import show_id
from bridge.calls.admit import Admitted
from bridge.database import connection
from bridge.sandbox.seed import APP
from bridge.telephony.cause import Refuse, RefuseReason
from tests.api.scene import Api, Client, problem
from tests.seeded import GERMANY, Who, ended

A_NUMBER = "+493023125017"
OTHER = "+493023125018"


@dataclass
class Shop:
    """alpha with a plan of its own."""

    api: Api
    plan: str

    def new(self, **more: Any) -> dict[str, Any]:
        return {"app": APP, "a_number": A_NUMBER, "plan_id": self.plan} | more

    async def made(self, **more: Any) -> dict[str, Any]:
        response = await self.api.alpha.post("/v1/subscribers", self.new(**more))
        assert response.status_code == 201, response.text
        told: dict[str, Any] = response.json()
        return told

    async def proved(self, **more: Any) -> dict[str, Any]:
        told = await self.made(**more)
        proof = {"method": "attested", "reference": "contract 1"}
        assert (await self.api.alpha.post(f"{path(told)}/proofs", proof)).status_code == 201
        return told

    async def code(self, told: dict[str, Any]) -> tuple[str, str]:
        """Path and code of a new proof."""
        response = await self.api.alpha.post(f"{path(told)}/proofs", {"method": "code"})
        assert response.status_code == 201, response.text
        return response.headers["location"], response.json()["code"]

    async def call(self, a_number: str = A_NUMBER) -> Refuse | Admitted:
        return await self.api.house.call(Who(a_number, ""))


@pytest.fixture
async def shop(api: Api) -> Shop:
    await api.own("plan", api.alpha)
    return Shop(api, show_id("plan", UUID(api.house.plan_id)))


def path(told: dict[str, Any]) -> str:
    return f"/v1/subscribers/{told['subscriber_id']}"


def wrong(code: str, step: int = 1) -> str:
    return f"{(int(code) + step) % 1_000_000:06d}"


async def confirm(client: Client, proof: str, code: str) -> Any:
    return await client.post(f"{proof}/confirm", {"code": code})


async def test_made_read_proved_and_called_with(shop: Shop) -> None:
    api = shop.api
    made = await api.alpha.post("/v1/subscribers", shop.new(account={"call_cap": 2}))
    told = made.json()
    assert made.headers["location"] == path(told)
    assert (told["state"], told["zone"], told["partner_id"]) == ("pending", "home", api.alpha.id)
    assert (await api.alpha.get(path(told))).json() == told
    refused = await shop.call()
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.account_suspended
    proof = await api.alpha.post(f"{path(told)}/proofs", {"method": "attested", "reference": "contract 4711"})
    assert proof.status_code == 201
    assert (proof.json()["state"], proof.json()["reference"]) == ("proved", "contract 4711")
    assert "code" not in proof.json()
    assert (await api.alpha.get(proof.headers["location"])).json() == proof.json()
    assert (await api.alpha.get(f"{path(told)}/proofs")).json()["data"] == [proof.json()]
    assert (await api.alpha.get(path(told))).json() == told | {"state": "active"}
    funded = await api.alpha.post(
        f"/v1/accounts/{told['account_id']}/top-ups", {"amount": "1", "currency": "EUR"}
    )
    assert funded.status_code == 201
    admitted = await shop.call()
    assert isinstance(admitted, Admitted)
    assert await api.house.value("SELECT partner_id FROM call WHERE state = 'live'") == api.alpha.partner_id
    await api.house.end(*(await ended_all(api)))


async def ended_all(api: Api) -> list[Any]:
    return [ended(row["call_id"]) for row in await api.house.rows("SELECT call_id FROM lease")]


async def test_listed_with_filters(shop: Shop) -> None:
    api = shop.api
    one, two = await shop.proved(), await shop.made(a_number=OTHER)
    await api.house.subscriber()  # ours

    async def listed(client: Client, **query: Any) -> list[str]:
        response = await client.get("/v1/subscribers", **query)
        assert response.status_code == 200, response.text
        return [row["a_number"] for row in response.json()["data"]]

    assert await listed(api.alpha) == [OTHER, A_NUMBER]
    assert await listed(api.alpha, a_number=A_NUMBER) == [A_NUMBER]
    assert await listed(api.alpha, state="pending") == [OTHER]
    assert await listed(api.alpha, plan_id=shop.plan) == [OTHER, A_NUMBER]
    assert await listed(api.alpha, plan_id="plan_" + "0" * 32) == []
    assert await listed(api.beta) == await listed(api.beta, a_number=A_NUMBER) == []
    assert len(await listed(api.operator)) == 3
    first = (await api.alpha.get("/v1/subscribers", limit=1)).json()
    assert first["data"][0]["subscriber_id"] == two["subscriber_id"]
    rest = (await api.alpha.get("/v1/subscribers", limit=1, cursor=first["next"])).json()
    assert ([row["subscriber_id"] for row in rest["data"]], rest["next"]) == ([one["subscriber_id"]], None)
    problem(await api.alpha.get("/v1/subscribers", a_number="030"), 400, "bad_request")
    problem(await api.alpha.get("/v1/subscribers", state="asleep"), 400, "bad_request")


async def test_a_code_is_told_once_and_proves(shop: Shop) -> None:
    api = shop.api
    told = await shop.made()
    key = {"Idempotency-Key": "one"}
    first = await api.alpha.post(f"{path(told)}/proofs", {"method": "code"}, headers=key)
    code = first.json()["code"]
    assert len(code) == 6
    assert (first.json()["state"], first.json()["tries_left"]) == ("waiting", 5)
    again = await api.alpha.post(f"{path(told)}/proofs", {"method": "code"}, headers=key)
    assert again.json() == {name: value for name, value in first.json().items() if name != "code"}
    proof = first.headers["location"]
    problem(await confirm(api.alpha, proof, wrong(code)), 422, "wrong_code")
    assert (await api.alpha.get(proof)).json()["tries_left"] == 4
    right = await confirm(api.alpha, proof, code)
    assert (right.status_code, right.json()["state"]) == (200, "proved")
    assert (await confirm(api.alpha, proof, code)).json() == right.json()
    problem(await confirm(api.alpha, proof, wrong(code)), 409, "conflict")
    assert (await api.alpha.get(path(told))).json()["state"] == "active"
    rows = await api.house.rows("SELECT * FROM subscriber_proof_try ORDER BY try_no")
    assert [(row["correct"], row["actor"]) for row in rows] == [
        (False, rows[0]["actor"]),
        (True, rows[0]["actor"]),
    ]
    assert rows[0]["actor"].startswith("Alpha cb_")


async def test_the_code_is_kept_nowhere(shop: Shop) -> None:
    api = shop.api
    told = await shop.made()
    proof, code = await shop.code(told)
    await confirm(api.alpha, proof, wrong(code))
    await confirm(api.alpha, proof, code)
    kept = await api.house.rows("SELECT p::text FROM subscriber_proof p") + await api.house.rows(
        "SELECT detail::text FROM audit_log"
    )
    body = await api.house.rows("SELECT convert_from(body, 'UTF8') FROM idempotency")
    assert kept
    assert body
    assert not [row for row in kept + body if f'"{code}"' in row[0] or f",{code}," in row[0]]
    assert await api.house.value("SELECT count(DISTINCT salt) FROM subscriber_proof") == 1


async def test_thirty_guesses_at_once_are_five(shop: Shop) -> None:
    api = shop.api
    proof, code = await shop.code(await shop.made())
    said = await asyncio.gather(*(confirm(api.alpha, proof, wrong(code, step)) for step in range(1, 31)))
    statuses = [one.status_code for one in said]
    assert set(statuses) <= {410, 422}
    assert statuses.count(422) == 4, "the fifth says that it was the last"
    assert await api.house.value("SELECT count(*) FROM subscriber_proof_try") == 5
    problem(await confirm(api.alpha, proof, code), 410, "gone")
    assert (await api.alpha.get(proof)).json()["state"] == "failed"


async def test_a_code_is_good_for_ten_minutes_and_until_the_next(shop: Shop) -> None:
    api = shop.api
    told = await shop.made()
    old, old_code = await shop.code(told)
    new, new_code = await shop.code(told)
    problem(await confirm(api.alpha, old, old_code), 410, "gone")
    await api.house.rows("ALTER TABLE subscriber_proof DISABLE TRIGGER subscriber_proof_insert_only")
    assert await api.house.value(
        "SELECT max(expires_at - asked_at) BETWEEN '599 s' AND '601 s' FROM subscriber_proof"
    )
    await api.house.rows("UPDATE subscriber_proof SET expires_at = now()")
    problem(await confirm(api.alpha, new, new_code), 410, "gone")
    assert (await api.alpha.get(path(told))).json()["state"] == "pending"
    assert await api.house.value("SELECT count(*) FROM subscriber_proof_try") == 0


async def test_codes_of_an_hour_are_few(shop: Shop) -> None:
    told = await shop.made()
    said = await asyncio.gather(
        *(shop.api.alpha.post(f"{path(told)}/proofs", {"method": "code"}) for _ in range(8))
    )
    assert sorted(one.status_code for one in said) == [201] * 5 + [429] * 3
    assert all("retry-after" in one.headers for one in said if one.status_code == 429)
    assert await shop.api.house.value("SELECT count(*) FROM subscriber_proof") == 5


async def test_proofs_stay_as_they_are(shop: Shop) -> None:
    told = await shop.made()
    proof, code = await shop.code(told)
    await confirm(shop.api.alpha, proof, wrong(code))
    for table in ("subscriber_proof", "subscriber_proof_try"):
        for deed in (f"UPDATE {table} SET actor = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(Exception, match="insert-only"):
                await shop.api.house.rows(deed)


async def test_a_number_has_one_subscriber_in_an_app(shop: Shop) -> None:
    """Whose it is, is told to nobody, not even that it is another partner's."""
    api = shop.api
    await api.house.rows("INSERT INTO app (name, sip_host) VALUES ('other', '127.0.0.1')")
    mine = await shop.made()
    own = problem(await api.alpha.post("/v1/subscribers", shop.new()), 409, "conflict")
    await api.house.rows(
        "INSERT INTO plan (name, deck_id, partner_id) SELECT 'of beta', deck_id, $1 FROM plan",
        api.beta.partner_id,
    )
    theirs = show_id("plan", await api.house.value("SELECT plan_id FROM plan WHERE name = 'of beta'"))
    foreign = problem(await api.beta.post("/v1/subscribers", shop.new(plan_id=theirs)), 409, "conflict")
    assert {**own, "correlator": ""} == {**foreign, "correlator": ""}
    assert api.alpha.id not in json.dumps(foreign)
    assert mine["subscriber_id"] not in json.dumps(foreign)
    assert (
        await api.house.value("SELECT count(*) FROM account WHERE partner_id = $1", api.beta.partner_id) == 1
    )
    assert (await api.beta.post("/v1/subscribers", shop.new(plan_id=theirs, app="other"))).status_code == 201


async def test_ten_at_once_for_one_number(shop: Shop) -> None:
    said = await asyncio.gather(*(shop.api.alpha.post("/v1/subscribers", shop.new()) for _ in range(10)))
    assert sorted(one.status_code for one in said) == [201] + [409] * 9
    assert await shop.api.house.value("SELECT count(*) FROM subscriber") == 1


async def test_a_closed_number_may_come_to_another(shop: Shop) -> None:
    api = shop.api
    first = await shop.proved()
    assert (await api.alpha.delete(path(first))).status_code == 204
    closed = (await api.alpha.get(path(first))).json()
    assert closed["state"] == "closed"
    assert (await api.alpha.get(f"/v1/accounts/{first['account_id']}")).json()["state"] == "active"
    refused = await shop.call()
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.unknown_caller
    second = await shop.proved()
    assert second["subscriber_id"] != first["subscriber_id"]
    await api.alpha.post(f"/v1/accounts/{second['account_id']}/top-ups", {"amount": "1", "currency": "EUR"})
    assert isinstance(await shop.call(), Admitted)
    assert (
        show_id("sub", await api.house.value("SELECT subscriber_id FROM call WHERE state = 'live'"))
        == second["subscriber_id"]
    )
    await api.house.end(*(await ended_all(api)))
    for change in ({"state": "active"}, {"zone": "roaming"}, {"plan_id": shop.plan}):
        problem(await api.alpha.patch(path(first), change), 409, "conflict")
    problem(await api.alpha.delete(path(first)), 409, "conflict")
    problem(await api.alpha.post(f"{path(first)}/proofs", {"method": "code"}), 409, "conflict")


async def test_nobody_sits_on_a_number_without_proving_it(shop: Shop) -> None:
    api = shop.api
    await api.house.rows("UPDATE partner SET keeps_events = true")
    first = await shop.made()
    await api.house.rows("UPDATE subscriber SET created_at = now() - interval '25 hours'")
    second = await shop.made()
    assert (await api.alpha.get(path(first))).json()["state"] == "closed"
    assert (await api.alpha.get(path(second))).json()["state"] == "pending"
    await api.alpha.post(f"{path(second)}/proofs", {"method": "attested", "reference": "r"})
    await api.house.rows("UPDATE subscriber SET created_at = now() - interval '25 hours'")
    problem(await api.alpha.post("/v1/subscribers", shop.new()), 409, "conflict")
    told = [json.loads(row["data"]) for row in await api.house.rows(
        "SELECT data FROM event WHERE kind = 'subscriber.changed' ORDER BY event_id"
    )]  # fmt: skip
    assert told == [
        {"subscriber_id": first["subscriber_id"], "state": "closed"},
        {"subscriber_id": second["subscriber_id"], "state": "active"},
    ]


async def test_changed(shop: Shop) -> None:
    api = shop.api
    told = await shop.proved()
    etag = await api.alpha.etag(path(told))
    changed = await api.alpha.patch(path(told), {"state": "suspended", "zone": "roaming"}, etag)
    assert changed.json() == told | {"state": "suspended", "zone": "roaming"}
    problem(await api.alpha.patch(path(told), {"zone": "home"}, etag), 412, "stale")
    assert isinstance(await shop.call(), Refuse)
    assert (await api.alpha.patch(path(told), {"state": "active"})).json()["state"] == "active"
    missing = await api.alpha.ask("DELETE", path(told))
    problem(missing, 428, "if_match_required")
    problem(await api.alpha.patch(path(told), {"state": "closed"}), 422, "invalid_request")
    problem(await api.alpha.patch(path(told), {"a_number": OTHER}), 422, "invalid_request")


async def test_only_a_proof_makes_a_subscriber_active(shop: Shop) -> None:
    told = await shop.made()
    for state in ("active", "suspended"):
        problem(await shop.api.alpha.patch(path(told), {"state": state}), 409, "conflict")
    problem(await shop.api.alpha.patch(path(told), {"state": "pending"}), 422, "invalid_request")
    assert (await shop.api.alpha.patch(path(told), {"zone": "roaming"})).status_code == 200
    problem(await shop.api.alpha.post(f"{path(told)}/proofs", {"method": "attested"}), 422, "invalid_request")
    assert (await shop.api.alpha.get(path(told))).json()["state"] == "pending"


async def test_a_proof_does_not_lift_a_suspension(shop: Shop) -> None:
    told = await shop.proved()
    await shop.api.alpha.patch(path(told), {"state": "suspended"})
    proof, code = await shop.code(told)
    assert (await confirm(shop.api.alpha, proof, code)).status_code == 200
    assert (await shop.api.alpha.get(path(told))).json()["state"] == "suspended"


async def test_one_account_for_several(shop: Shop) -> None:
    api = shop.api
    one = await shop.made(account={"funding": "postpaid", "credit_limit": "20.00"})
    two = await shop.made(a_number=OTHER, account_id=one["account_id"])
    assert two["account_id"] == one["account_id"]
    account = (await api.alpha.get(f"/v1/accounts/{one['account_id']}")).json()
    assert (account["funding"], account["credit_limit"], account["currency"]) == ("postpaid", "20.00", "EUR")
    both = shop.new(account_id=one["account_id"], account={})
    problem(await api.alpha.post("/v1/subscribers", both), 422, "invalid_request")
    prepaid = shop.new(account={"credit_limit": "1"})
    problem(await api.alpha.post("/v1/subscribers", prepaid), 422, "invalid_request")
    partners = show_id("acc", await api.house.value("SELECT account_id FROM partner WHERE name = 'Alpha'"))
    problem(
        await api.alpha.post("/v1/subscribers", shop.new(a_number="+493023125019", account_id=partners)),
        409,
        "conflict",
    )
    await api.house.rows("UPDATE account SET state = 'closed' WHERE kind = 'subscriber'")
    closed = shop.new(a_number="+493023125019", account_id=one["account_id"])
    problem(await api.alpha.post("/v1/subscribers", closed), 409, "conflict")


async def test_a_plan_of_another_currency(shop: Shop) -> None:
    api = shop.api
    told = await shop.made()
    await api.house.rows("INSERT INTO deck (name, side, currency) VALUES ('usd', 'sell', 'USD')")
    await api.house.rows(
        "INSERT INTO plan (name, deck_id, partner_id) SELECT 'usd', deck_id, $1 FROM deck WHERE name = 'usd'",
        api.alpha.partner_id,
    )
    usd = show_id("plan", await api.house.value("SELECT plan_id FROM plan WHERE name = 'usd'"))
    problem(await api.alpha.patch(path(told), {"plan_id": usd}), 409, "conflict")
    other = shop.new(a_number=OTHER, plan_id=usd)
    problem(
        await api.alpha.post("/v1/subscribers", other | {"account_id": told["account_id"]}), 409, "conflict"
    )
    made = (await api.alpha.post("/v1/subscribers", other)).json()
    assert (await api.alpha.get(f"/v1/accounts/{made['account_id']}")).json()["currency"] == "USD"


async def test_credit_beyond_a_partners_is_an_operators(shop: Shop) -> None:
    api = shop.api
    rich = shop.new(account={"funding": "postpaid", "credit_limit": "500.000001"})
    problem(await api.alpha.post("/v1/subscribers", rich), 403, "not_allowed")
    made = await api.operator.post("/v1/subscribers", rich | {"partner_id": api.alpha.id})
    assert (made.status_code, made.json()["partner_id"]) == (201, api.alpha.id)


@pytest.mark.parametrize(
    "a_number",
    ["+4911833", "+491371234567", "+49900123456", "+49110", "493023125017", "+49302312501x"],
)
async def test_numbers_that_no_caller_may_show(shop: Shop, a_number: str) -> None:
    body = problem(
        await shop.api.alpha.post("/v1/subscribers", shop.new(a_number=a_number)), 422, "invalid_request"
    )
    assert [one["pointer"] for one in body["errors"]] == ["#/a_number"]


async def test_what_is_anothers_is_not_there(shop: Shop) -> None:
    """Another partner's ids, in path and body, for each route; and ours, which are nobody's either."""
    api, beta = shop.api, shop.api.beta
    told = await shop.made()
    proof, code = await shop.code(told)
    etag = await api.alpha.etag(path(told))
    problem(await beta.get(path(told)), 404, "not_found")
    problem(await beta.patch(path(told), {"state": "active"}, etag), 404, "not_found")
    problem(await beta.delete(path(told), etag), 404, "not_found")
    problem(await beta.get(f"{path(told)}/proofs"), 404, "not_found")
    problem(await beta.post(f"{path(told)}/proofs", {"method": "code"}), 404, "not_found")
    problem(await beta.get(proof), 404, "not_found")
    problem(await confirm(beta, proof, code), 404, "not_found")
    assert await api.house.value("SELECT count(*) FROM subscriber_proof_try") == 0
    other = shop.new(a_number=OTHER)
    problem(await beta.post("/v1/subscribers", other), 404, "not_found")
    problem(await api.alpha.post("/v1/subscribers", other | {"partner_id": beta.id}), 404, "not_found")
    problem(await api.alpha.post("/v1/subscribers", other | {"app": "unknown"}), 404, "not_found")
    ours = await api.house.subscriber()
    foreign = other | {"account_id": show_id("acc", UUID(ours.account_id))}
    problem(await api.alpha.post("/v1/subscribers", foreign), 404, "not_found")
    problem(
        await api.operator.post("/v1/subscribers", foreign | {"partner_id": api.alpha.id}), 404, "not_found"
    )
    problem(await api.operator.post("/v1/subscribers", other | {"partner_id": beta.id}), 404, "not_found")
    problem(await api.operator.post("/v1/subscribers", other), 404, "not_found")
    nobody = other | {"partner_id": "prt_" + "0" * 32}
    problem(await api.operator.post("/v1/subscribers", nobody), 404, "not_found")
    second = await shop.made(a_number=OTHER)
    problem(
        await api.alpha.get(proof.replace(told["subscriber_id"], second["subscriber_id"])), 404, "not_found"
    )
    crossed = proof.replace(told["subscriber_id"], second["subscriber_id"])
    problem(await confirm(api.alpha, crossed, code), 404, "not_found")
    await api.house.rows(
        "INSERT INTO plan (name, deck_id, partner_id) SELECT 'of beta', deck_id, $1 FROM plan",
        beta.partner_id,
    )
    theirs = show_id("plan", await api.house.value("SELECT plan_id FROM plan WHERE name = 'of beta'"))
    problem(await api.alpha.patch(path(told), {"plan_id": theirs}), 404, "not_found")


async def test_a_refused_creation_leaves_nothing(shop: Shop) -> None:
    api = shop.api
    accounts = await api.house.value("SELECT count(*) FROM account")
    await shop.made()
    problem(await api.alpha.post("/v1/subscribers", shop.new()), 409, "conflict")
    problem(
        await api.alpha.post("/v1/subscribers", shop.new(a_number=OTHER, plan_id="plan_" + "0" * 32)),
        404,
        "not_found",
    )
    assert await api.house.value("SELECT count(*) FROM account") == accounts + 1
    assert await api.house.value("SELECT count(*) FROM audit_log") == 1


async def test_scopes(shop: Shop) -> None:
    reader = await shop.api.key("subscribers:read", partner_id=shop.api.alpha.partner_id)
    told = await shop.made()
    assert (await reader.get(path(told))).status_code == 200
    problem(await reader.post("/v1/subscribers", shop.new(a_number=OTHER)), 403, "scope_missing")
    problem(await reader.post(f"{path(told)}/proofs", {"method": "code"}), 403, "scope_missing")


async def test_the_open_subscriber_of_a_number_is_one_look_up(shop: Shop) -> None:
    """However many had the number before. As the calls' own pool plans it: once, for all."""
    api = shop.api
    await shop.made()
    account_id = await api.house.value("SELECT account_id FROM subscriber")
    await api.house.rows(
        "INSERT INTO subscriber (app_id, a_number, account_id, plan_id, state)"
        " SELECT $1, $2, $3, $4, 'closed' FROM generate_series(1, 300)",
        api.house.app_id, A_NUMBER, account_id, api.house.plan_id,
    )  # fmt: skip
    await api.house.rows(
        "INSERT INTO subscriber (app_id, a_number, account_id, plan_id)"
        " SELECT $1, '+4915' || n, $2, $3 FROM generate_series(10000000, 10003000) n",
        api.house.app_id, account_id, api.house.plan_id,
    )  # fmt: skip
    async with connection(api.house.pool) as conn:
        await conn.execute("ANALYZE subscriber; ANALYZE app; ANALYZE account")
        row = await queries.calls.caller.one(
            conn, app=APP, a_number=A_NUMBER, b_number=GERMANY, at=api.house.begin_at
        )
        assert row["subscriber_state"] == "pending"
        await conn.execute(f"PREPARE caller AS {queries.calls.caller.sql}")
        lines = await conn.fetch(
            f"EXPLAIN EXECUTE caller({', '.join(literal(name) for name in queries.calls.caller.names)})"
        )
    plan = "\n".join(line[0] for line in lines)
    assert plan.count("using subscriber_open on subscriber") == 2, plan
    assert "Seq Scan on subscriber" not in plan


def literal(name: str) -> str:
    return {"app": f"'{APP}'", "a_number": f"'{A_NUMBER}'", "b_number": f"'{GERMANY}'", "at": "now()"}[name]
