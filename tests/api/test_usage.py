"""Usage reported into bundles: once a record, all of a batch or none, and nobody for another's subscribers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bridge.api.fields import show_id
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, Partner, problem
from tests.seeded import Who

EURO = 10**6


@pytest.fixture(autouse=True)
async def priced(api: Api) -> None:
    """An SMS costs 0.003, a begun MB 0.01."""
    await api.house.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 3000, 1 FROM plan")
    await api.house.rows("INSERT INTO service_price SELECT plan_id, 'data', 'home', 10000, 1000000 FROM plan")


async def owned(api: Api, partner: Partner, balance_micro: int = EURO) -> tuple[Who, str]:
    """A subscriber of a partner, with its id."""
    who = await api.house.subscriber(balance_micro)
    account_id = UUID(who.account_id)
    await api.own("account", partner, account_id=account_id)
    await api.own("subscriber", partner, account_id=account_id)
    found = await api.house.value("SELECT subscriber_id FROM subscriber WHERE account_id = $1", account_id)
    return who, show_id("sub", found)


def record(
    subscriber: str, name: str = "r1", service: str = "sms", quantity: object = 3, **more: Any
) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "record_id": name,
        "subscriber_id": subscriber,
        "service": service,
        "quantity": quantity,
        "used_at": now,
    } | more


async def balance(api: Api, who: Who) -> int:
    found: int = (await api.house.account(who))["balance_micro"]
    return found


async def test_reported_burnt_charged_and_read(api: Api) -> None:
    who, subscriber = await owned(api, api.alpha)
    await api.house.buy(who, SeedBundle("messages", 0, 2, {"sms": 1, "data": 1_000_000}))
    made = await api.alpha.post("/v1/usage", record(subscriber))
    assert made.status_code == 201, made.text
    told = made.json()
    assert told | {"usage_id": "", "account_id": ""} == {
        "usage_id": "", "record_id": "r1", "account_id": "", "charged_quantity": 1, "amount": "0.003",
        "written_off": "0.00", "currency": "EUR", "throttled": False,
        "burnt": [{"bundle": "messages", "units": 2, "per": 1}],
    }  # fmt: skip
    assert made.headers["location"] == f"/v1/usage/{told['usage_id']}"
    read = (await api.alpha.get(made.headers["location"])).json()
    assert (read["service"], read["quantity"], read["amount"]) == ("sms", 3, "0.003")
    assert read["account_id"] == show_id("acc", UUID(who.account_id)) == told["account_id"]
    assert (await api.alpha.get("/v1/usage")).json()["data"] == [read]
    assert await balance(api, who) == EURO - 3000
    data = await api.alpha.post("/v1/usage", record(subscriber, "r2", "data.messenger", 1_000_001))
    assert data.json()["amount"] == "0.02"


async def test_the_same_record_again_is_not_booked_again(api: Api) -> None:
    """Whatever request it comes in, and with whatever Idempotency-Key."""
    who, subscriber = await owned(api, api.alpha)
    one = record(subscriber)
    first = (await api.alpha.post("/v1/usage", one)).json()
    assert (await api.alpha.post("/v1/usage", one)).json() == first
    batch = (
        await api.alpha.post("/v1/usage/batches", {"records": [one, one, record(subscriber, "r2")]})
    ).json()
    assert batch["records"][0] == batch["records"][1] == first
    assert await balance(api, who) == EURO - 2 * 9000
    body = problem(await api.alpha.post("/v1/usage", one | {"quantity": 4}), 409, "conflict")
    assert [error["pointer"] for error in body["errors"]] == ["#/record_id"]
    assert await api.house.value("SELECT count(*) FROM usage_record") == 2


async def test_record_ids_of_two_partners_do_not_meet(api: Api) -> None:
    for partner in (api.alpha, api.beta):
        who, subscriber = await owned(api, partner)
        assert (await partner.post("/v1/usage", record(subscriber))).status_code == 201
        assert await balance(api, who) == EURO - 9000


async def test_a_batch_is_all_or_nothing(api: Api) -> None:
    who, mine = await owned(api, api.alpha)
    _, foreign = await owned(api, api.beta)
    await api.alpha.post("/v1/usage", record(mine, "old"))
    before = await balance(api, who)
    good = [record(mine, f"g{n}") for n in range(3)]

    async def refused(wrong: list[dict[str, Any]], status: int, code: str) -> list[str]:
        body = problem(await api.alpha.post("/v1/usage/batches", {"records": good + wrong}), status, code)
        assert await balance(api, who) == before
        assert await api.house.value("SELECT count(*) FROM usage_record") == 1
        return [one["pointer"] for one in body["errors"]]

    assert await refused([record(foreign, "f"), record("sub_" + "0" * 32, "n")], 404, "not_found") == [
        "#/records/3/subscriber_id",
        "#/records/4/subscriber_id",
    ]
    assert await refused(
        [record(mine, "old", quantity=9), record(mine, "g0", quantity=9)], 409, "conflict"
    ) == [
        "#/records/3/record_id",
        "#/records/4/record_id",
    ]
    await api.house.rows("DELETE FROM service_price WHERE service = 'data'")
    assert await refused([record(mine, "d", "data")], 422, "invalid_request") == ["#/records/3/service"]
    assert await refused([record(mine, "z", quantity=0)], 422, "invalid_request") == ["#/records/3/quantity"]
    await api.house.rows("UPDATE account SET state = 'closed' WHERE account_id = $1", who.account_id)
    assert await refused([], 422, "invalid_request") == [f"#/records/{n}/subscriber_id" for n in range(3)]
    await api.house.rows("UPDATE account SET state = 'active' WHERE account_id = $1", who.account_id)
    done = await api.alpha.post("/v1/usage/batches", {"records": good})
    assert (done.status_code, [one["record_id"] for one in done.json()["records"]]) == (
        201,
        ["g0", "g1", "g2"],
    )


async def test_a_thousand_at_once_and_no_more(api: Api) -> None:
    who, one = await owned(api, api.alpha, 10 * EURO)
    other, two = await owned(api, api.alpha, 10 * EURO)
    records = [record((one, two)[n % 2], f"r{n}", quantity=1) for n in range(1000)]
    said = await api.alpha.post("/v1/usage/batches", {"records": records})
    assert said.status_code == 201, said.text
    assert [row["record_id"] for row in said.json()["records"]] == [f"r{n}" for n in range(1000)]
    assert await balance(api, who) == await balance(api, other) == 10 * EURO - 500 * 3000
    problem(
        await api.alpha.post("/v1/usage/batches", {"records": [*records, records[0]]}), 422, "invalid_request"
    )
    problem(await api.alpha.post("/v1/usage/batches", {"records": []}), 422, "invalid_request")
    problem(await api.alpha.get("/v1/usage/batches"), 405, "method_not_allowed")


async def test_batches_crossing_each_other(api: Api) -> None:
    """The same accounts in opposite order, and the same records: none blocks the other, each is booked once."""
    whos = [await owned(api, api.alpha) for _ in range(4)]
    records = [
        record(subscriber, f"{subscriber} {n}".replace(" ", "-")) for n in range(5) for _, subscriber in whos
    ]
    said = await asyncio.gather(
        *(api.alpha.post("/v1/usage/batches", {"records": records[::way]}) for way in (1, -1, 1, -1))
    )
    assert [one.status_code for one in said] == [201] * 4
    assert [await balance(api, who) for who, _ in whos] == [EURO - 5 * 9000] * 4


async def test_what_cannot_be_paid_is_written_off(api: Api) -> None:
    who, subscriber = await owned(api, api.alpha, 4000)
    told = (await api.alpha.post("/v1/usage", record(subscriber))).json()
    assert (told["amount"], told["written_off"]) == ("0.009", "0.005")
    assert await balance(api, who) == 0


async def test_more_than_can_be_booked(api: Api) -> None:
    _, subscriber = await owned(api, api.alpha)
    await api.house.rows("UPDATE service_price SET price_micro = 1000000000000")
    body = problem(
        await api.alpha.post("/v1/usage", record(subscriber, quantity=10**12)), 422, "invalid_request"
    )
    assert [one["pointer"] for one in body["errors"]] == ["#/service"]


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"quantity": 0}, "#/quantity"),
        ({"quantity": -1}, "#/quantity"),
        ({"quantity": 10**12 + 1}, "#/quantity"),
        ({"quantity": 1.5}, "#/quantity"),
        ({"service": "voice"}, "#/service"),
        ({"service": "sms; drop"}, "#/service"),
        ({"record_id": ""}, "#/record_id"),
        ({"record_id": "a b"}, "#/record_id"),
        ({"record_id": "x" * 81}, "#/record_id"),
        ({"record_id": "a\0"}, "#/record_id"),
        ({"used_at": "2020-01-01T00:00:00Z"}, "#/used_at"),
        ({"used_at": (datetime.now(UTC) + timedelta(hours=3)).isoformat()}, "#/used_at"),
        ({"used_at": "2026-01-01T00:00:00"}, "#/used_at"),
        ({"price": "0"}, "#/price"),
        ({"subscriber_id": "sub_1"}, "#/subscriber_id"),
    ],
)
async def test_records_that_make_no_sense(api: Api, more: dict[str, Any], pointer: str) -> None:
    _, subscriber = await owned(api, api.alpha)
    body = problem(await api.alpha.post("/v1/usage", record(subscriber, **more)), 422, "invalid_request")
    assert [one["pointer"] for one in body["errors"]] == [pointer]


async def test_listed_by_account_and_time(api: Api) -> None:
    who, one = await owned(api, api.alpha)
    _, two = await owned(api, api.alpha)
    await api.alpha.post("/v1/usage", record(one, "a"))
    await api.alpha.post("/v1/usage", record(two, "b"))
    account = show_id("acc", UUID(who.account_id))

    async def listed(**query: Any) -> int:
        response = await api.alpha.get("/v1/usage", **query)
        assert response.status_code == 200, response.text
        return len(response.json()["data"])

    now = datetime.now(UTC)
    past, future = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    assert await listed() == 2
    assert await listed(account_id=account) == 1
    assert await listed(reported_from=past, reported_to=future) == 2
    assert await listed(reported_to=past) == await listed(reported_from=future) == 0
    first = (await api.alpha.get("/v1/usage", limit=1)).json()
    rest = (await api.alpha.get("/v1/usage", limit=1, cursor=first["next"])).json()
    assert len(rest["data"]) == 1
    assert rest["next"] is None


async def test_what_is_anothers_is_not_there(api: Api) -> None:
    who, subscriber = await owned(api, api.alpha)
    made = await api.alpha.post("/v1/usage", record(subscriber))
    problem(await api.beta.get(made.headers["location"]), 404, "not_found")
    assert (await api.beta.get("/v1/usage")).json()["data"] == []
    account = show_id("acc", UUID(who.account_id))
    assert (await api.beta.get("/v1/usage", account_id=account)).json()["data"] == []
    body = problem(await api.beta.post("/v1/usage", record(subscriber, "mine")), 404, "not_found")
    assert [one["pointer"] for one in body["errors"]] == ["#/subscriber_id"]
    problem(await api.beta.post("/v1/usage/batches", {"records": [record(subscriber)]}), 404, "not_found")
    assert await balance(api, who) == EURO - 9000
    assert (await api.operator.get(made.headers["location"])).status_code == 200


async def test_scopes(api: Api) -> None:
    reader = await api.key("usage:read", partner_id=api.alpha.partner_id)
    _, subscriber = await owned(api, api.alpha)
    assert (await reader.get("/v1/usage")).status_code == 200
    problem(await reader.post("/v1/usage", record(subscriber)), 403, "scope_missing")
