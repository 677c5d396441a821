"""Calls by order as requests see them: rows and orders, without a switch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from bridge import queries
from bridge.api.fields import read_id, show_id
from bridge.asterisk.orders_run import NOTICE
from bridge.calls.admit import Admitted
from bridge.config import Calls, Settings
from bridge.database import connect, connection
from tests.api.scene import Api, Client, Partner, problem
from tests.seeded import GERMANY, Who, ended

PATH = "/v1/originations"


@pytest.fixture(autouse=True)
async def switch(api: Api) -> None:
    """A worker has been here once."""
    async with connection(api.house.pool) as conn:
        await queries.switch.register.value(conn, name=api.services.settings.switch.name)


async def customer(api: Api, partner: Partner, **more: Any) -> Who:
    """A subscriber of a partner's, with money."""
    who = await api.house.subscriber(1_000_000, **more)
    await api.own("subscriber", partner, a_number=who.a_number)
    await api.own("account", partner, account_id=who.account_id)
    return who


def wanted(who: Who, b_number: str = GERMANY) -> dict[str, str]:
    return {"a_number": who.a_number, "b_number": b_number}


async def made(api: Api, client: Client, who: Who, b_number: str = GERMANY) -> dict[str, Any]:
    response = await client.post(PATH, wanted(who, b_number))
    assert response.status_code == 201, response.text
    return dict(response.json())


async def orders(api: Api) -> list[tuple[str, str]]:
    return [
        tuple(row) for row in await api.house.rows("SELECT kind, state FROM switch_order ORDER BY order_id")
    ]


async def test_made_read_and_listed(api: Api) -> None:
    who = await customer(api, api.alpha)
    response = await api.alpha.post(PATH, wanted(who))
    told = response.json()
    assert response.headers["location"] == f"{PATH}/{told['origination_id']}"
    subscriber_id = await api.house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number
    )
    assert told == {
        "origination_id": told["origination_id"],
        "subscriber_id": show_id("sub", subscriber_id),
        "a_number": who.a_number,
        "b_number": GERMANY,
        "state": "initiating",
        "created_at": told["created_at"],
        **dict.fromkeys(
            ("reason", "refuse_reason", "a_call_id", "b_call_id", "talk_ms", "connected_at", "ended_at")
        ),
    }
    assert (await api.alpha.get(response.headers["location"])).json() == told
    other = await api.alpha.post(PATH, {"subscriber_id": told["subscriber_id"], "b_number": "+493023125011"})
    assert other.status_code == 201
    listed = (await api.alpha.get(PATH)).json()["data"]
    assert listed == [other.json(), told]
    assert await orders(api) == [("originate", "queued")] * 2
    audit = await api.house.row("SELECT * FROM audit_log WHERE subject = $1", told["origination_id"])
    assert (audit["action"], audit["partner_id"]) == ("origination.create", api.alpha.partner_id)


async def test_the_keeper_is_told_at_once(api: Api, dsn: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    who = await customer(api, api.alpha)
    async with connect(dsn) as conn:
        await conn.add_listener(NOTICE, lambda *given: heard.put_nowait(given[-1]))
        await made(api, api.alpha, who)
        async with asyncio.timeout(5):
            assert UUID(await heard.get()) == await api.house.value("SELECT switch_id FROM origination")


async def test_each_sees_its_own_and_names_its_own(api: Api) -> None:
    mine, theirs = await customer(api, api.alpha), await customer(api, api.beta)
    told = await made(api, api.beta, theirs)
    path = f"{PATH}/{told['origination_id']}"
    problem(await api.alpha.get(path), 404, "not_found")
    problem(await api.alpha.ask("DELETE", path), 404, "not_found")
    problem(await api.alpha.post(PATH, wanted(theirs, "+493023125011")), 404, "not_found")
    by_id = {"subscriber_id": told["subscriber_id"], "b_number": "+493023125011"}
    problem(await api.alpha.post(PATH, by_id), 404, "not_found")
    assert (await api.alpha.get(PATH)).json()["data"] == []
    assert (await api.operator.get(path)).json() == told
    await made(api, api.operator, mine)
    assert [one["a_number"] for one in (await api.alpha.get(PATH)).json()["data"]] == [mine.a_number]
    assert not await api.house.value("SELECT bool_or(cancelled) FROM origination")


async def test_what_cannot_be_connected(api: Api) -> None:
    who = await customer(api, api.alpha)
    problem(await api.alpha.post(PATH, wanted(who, who.a_number)), 422, "same_number")
    problem(await api.alpha.post(PATH, wanted(who, "+999999999999")), 422, "invalid_number")
    for body in (
        {"b_number": GERMANY},
        {"a_number": who.a_number, "subscriber_id": show_id("sub", uuid4()), "b_number": GERMANY},
        wanted(who, "112"),
        wanted(who, "+49112"),
        wanted(who, "030/23125010"),
        wanted(who, GERMANY + "\r\nChannel: x"),
        wanted(who) | {"sink": "http://127.0.0.1/"},
    ):
        problem(await api.alpha.post(PATH, body), 422, "invalid_request")
    problem(await api.alpha.post(PATH, {"a_number": "+4989999989999", "b_number": GERMANY}), 404, "not_found")
    assert await orders(api) == []


async def test_ten_at_once_with_one_key_are_one(api: Api) -> None:
    who = await customer(api, api.alpha)
    key = {"Idempotency-Key": str(uuid4())}
    said = await asyncio.gather(*(api.alpha.post(PATH, wanted(who), headers=key) for _ in range(10)))
    assert {one.status_code for one in said} <= {201, 409}
    assert len({one.content for one in said if one.status_code == 201}) == 1
    assert await orders(api) == [("originate", "queued")]


async def test_two_who_are_being_connected_are_not_connected_again(api: Api) -> None:
    who = await customer(api, api.alpha)
    said = await asyncio.gather(*(api.alpha.post(PATH, wanted(who)) for _ in range(5)))
    assert sorted(one.status_code for one in said) == [201, 409, 409, 409, 409]
    assert await orders(api) == [("originate", "queued")]


async def test_a_partner_has_only_so_many_in_flight(api: Api) -> None:
    few = replace(api.services, settings=Settings(calls=Calls(originations_max=3)))
    api.app.state.services = few
    who, theirs = await customer(api, api.alpha), await customer(api, api.beta)
    said = await asyncio.gather(
        *(api.alpha.post(PATH, wanted(who, f"+4930231250{place}")) for place in range(20, 28))
    )
    assert sorted(one.status_code for one in said) == [201] * 3 + [429] * 5
    full = next(one for one in said if one.status_code == 429)
    problem(full, 429, "too_many_originations")
    assert full.headers["retry-after"] == "5"
    await made(api, api.beta, theirs)


async def test_taken_back_before_the_switch_was_told(api: Api) -> None:
    who = await customer(api, api.alpha)
    told = await made(api, api.alpha, who)
    path = f"{PATH}/{told['origination_id']}"
    said = [await api.alpha.ask("DELETE", path) for _ in range(2)]
    assert [one.status_code for one in said] == [202, 202]
    assert said[0].json() == said[1].json()
    assert (said[0].json()["state"], said[0].json()["reason"]) == ("failed", "cancelled")
    assert await orders(api) == [("originate", "failed")]
    assert (await made(api, api.alpha, who))["state"] == "initiating"


async def test_hanging_up_when_the_switch_was_told_already_is_an_order(api: Api) -> None:
    who = await customer(api, api.alpha)
    told = await made(api, api.alpha, who)
    await api.house.rows("UPDATE switch_order SET state = 'sent'")
    for _ in range(3):
        said = await api.alpha.ask("DELETE", f"{PATH}/{told['origination_id']}")
        assert (said.status_code, said.json()["state"]) == (202, "initiating")
    assert await orders(api) == [("originate", "sent"), ("hangup", "queued")]


async def test_a_call_is_hung_up_by_its_owner(api: Api) -> None:
    who = await customer(api, api.alpha)
    call = await api.house.call(who)
    assert isinstance(call, Admitted)
    path = f"/v1/calls/{show_id('call', call.frozen.call_id)}"
    problem(await api.beta.ask("DELETE", path), 404, "not_found")
    assert await orders(api) == []
    for _ in range(3):
        said = await api.alpha.ask("DELETE", path)
        assert (said.status_code, said.json()) == (
            202,
            {"call_id": show_id("call", call.frozen.call_id), "state": "live"},
        )
    assert await orders(api) == [("hangup", "queued")]
    await api.house.end(ended(call.frozen.call_id))
    said = await api.alpha.ask("DELETE", path)
    assert (said.status_code, said.json()["state"]) == (202, "unanswered")
    assert await orders(api) == [("hangup", "queued")]
    problem(await api.alpha.ask("DELETE", f"/v1/calls/{show_id('call', uuid4())}"), 404, "not_found")
    problem(await api.alpha.ask("DELETE", "/v1/calls/7"), 404, "not_found")


async def test_scopes(api: Api) -> None:
    who = await customer(api, api.alpha)
    told = await made(api, api.alpha, who)
    reader = await api.key("calls:read", partner_id=api.alpha.partner_id)
    path = f"{PATH}/{told['origination_id']}"
    assert (await reader.get(path)).status_code == 200
    problem(await reader.post(PATH, wanted(who)), 403, "scope_missing")
    problem(await reader.ask("DELETE", path), 403, "scope_missing")
    problem(await reader.ask("DELETE", f"/v1/calls/{show_id('call', uuid4())}"), 403, "scope_missing")


async def test_without_a_switch_nothing_is_ordered(api: Api) -> None:
    who = await customer(api, api.alpha)
    await api.house.rows("DELETE FROM switch WHERE name = $1", api.services.settings.switch.name)
    problem(await api.alpha.post(PATH, wanted(who)), 503, "unavailable")
    assert await api.house.value("SELECT count(*) FROM origination") == 0


async def test_a_partners_role_reads_no_token_and_writes_nothing(api: Api) -> None:
    who = await customer(api, api.alpha)
    await made(api, api.alpha, who)
    for statement in (
        "SELECT bearer FROM bridge.sink",
        "SELECT * FROM bridge.switch_order",
        "UPDATE bridge.origination SET cancelled = true",
        "INSERT INTO bridge.switch_order (switch_id, kind, subject_id) VALUES (uuidv7(), 'hangup', uuidv7())",
        "SELECT bridge.origination_cancel_v1(uuidv7())",
        "SELECT bridge.call_hangup_v1(uuidv7())",
    ):
        async with api.services.asking.acquire() as conn:
            await conn.execute("SET ROLE callbridge_partner")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(statement)


async def test_every_change_is_an_event_in_order(api: Api) -> None:
    who = await customer(api, api.alpha)
    await api.house.rows("UPDATE partner SET keeps_events = true WHERE partner_id = $1", api.alpha.partner_id)
    told = await made(api, api.alpha, who)
    await api.alpha.ask("DELETE", f"{PATH}/{told['origination_id']}")
    rows = await api.house.rows("SELECT *, data->>'state' AS state FROM event ORDER BY seq")
    assert [(row["kind"], row["seq"], row["state"]) for row in rows] == [
        ("origination.changed", 1, "initiating"),
        ("origination.changed", 2, "failed"),
    ]
    assert {row["subject_id"] for row in rows} == {read_id("org", told["origination_id"])}
