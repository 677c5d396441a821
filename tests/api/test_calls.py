"""Calls in progress, and one call with all that hangs on it, as partners and operators see it."""

from __future__ import annotations

from uuid import UUID

from bridge.api.calls import Call, CallLine
from tests.api.callers import MINUTES, belongs, called, people
from tests.api.scene import Api, Client, problem
from tests.seeded import ended


async def live(client: Client, **query: object) -> list[str]:
    response = await client.get("/v1/calls", **query)
    assert response.status_code == 200, response.text
    return [one["call_id"] for one in response.json()["data"]]


def key(call_id: UUID) -> str:
    return f"call_{call_id.hex}"


async def test_live_calls_are_each_partners_own_newest_first(api: Api) -> None:
    who = await people(api)
    await called(api, who.alpha, 1_000)
    first, second, theirs, ours = [
        (await api.house.admitted(one)).frozen.call_id for one in (who.alpha, who.alpha, who.beta, who.ours)
    ]
    assert await live(api.alpha) == [key(second), key(first)]
    assert await live(api.beta) == [key(theirs)]
    assert await live(api.operator) == [key(ours), key(theirs), key(second), key(first)]
    page = (await api.operator.get("/v1/calls", limit=3)).json()
    assert await live(api.operator, limit=3, cursor=page["next"]) == [key(first)]
    await api.house.end(*(ended(one) for one in (first, second, theirs, ours)))
    assert await live(api.alpha) == []
    assert len(await live(api.alpha, state="all")) == 3
    problem(await api.alpha.get("/v1/calls", state="gone"), 400, "bad_request")


async def test_a_live_call_tells_how_long_it_may_go_on(api: Api) -> None:
    who = (await people(api)).alpha
    call_id = (await api.house.admitted(who)).frozen.call_id
    (line,) = (await api.alpha.get("/v1/calls")).json()["data"]
    assert set(line) == set(CallLine.model_fields)
    assert (line["state"], line["answered_at"], line["limit_s"], line["held"], line["talk_ms"]) == (
        "live", None, 10.0, "0.01", None,
    )  # fmt: skip
    told = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()
    assert [(leg["leg"], leg["number"], leg["state"]) for leg in told["legs"]] == [
        ("a", who.a_number, "calling"), ("b", "+493023125010", "calling"),
    ]  # fmt: skip
    assert (told["rating_state"], told["attempts"], told["charged"], told["hold"]["state"]) == (
        "received",
        [],
        None,
        "open",
    )
    await api.house.answer(call_id)
    (line,) = (await api.alpha.get("/v1/calls")).json()["data"]
    assert line["answered_at"] is not None
    told = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()
    assert [leg["state"] for leg in told["legs"]] == ["talking", "talking"]
    await api.house.end(ended(call_id, 1_000))


async def test_one_call_with_all_that_hangs_on_it(api: Api) -> None:
    who = (await people(api)).alpha
    admitted = await api.house.admitted(who)
    call_id = admitted.frozen.call_id
    assert await api.house.failed(admitted.frozen) == "ok"
    await api.house.end(ended(call_id, 61_000, attempt_no=2))
    told = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()
    Call.model_validate(told)
    columns = ("attempt", "outcome", "fault", "sip_code", "trunk")
    assert [tuple(one[name] for name in columns) for one in told["attempts"]] == [
        (1, "congested", "carrier", 503, None), (2, "answered", "unknown", 200, None),
    ]  # fmt: skip
    assert [step["amount"] for step in told["charged"]["steps"]][-1] == "0.061"
    assert (told["hold"]["state"], told["hold"]["settled"]) == ("settled", "0.061")
    account = f"acc_{UUID(str(who.account_id)).hex}"
    assert [(one["account_id"], one["amount"]) for one in told["entries"]] == [(account, "-0.061")]
    ours = (await api.operator.get(f"/v1/calls/{key(call_id)}")).json()
    Call.model_validate(ours)
    assert [one["trunk"] for one in ours["attempts"]] == ["vega", "orion"]
    assert len(ours["entries"]) == 4
    assert ours["cost"] == "0.031939"
    assert not {"cost", "routes", "left_out", "switch", "uniqueid", "ended_by"} & set(told)
    assert not {"cost", "carrier", "billed_s"} & set(told["attempts"][0])


async def test_a_partners_own_trunk_is_named_to_it(api: Api) -> None:
    who = (await people(api)).alpha
    await api.own("trunk", api.alpha, name="vega")
    call_id = await called(api, who, 1_000)
    (attempt,) = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()["attempts"]
    assert (attempt["trunk"], attempt["trunk_id"][:4]) == ("vega", "trk_")
    await api.own("trunk", api.beta, name="vega")
    (attempt,) = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()["attempts"]
    assert (attempt["trunk"], attempt["trunk_id"]) == (None, None)


async def test_units_of_bundles_are_told(api: Api) -> None:
    who = (await people(api)).alpha
    await api.house.buy(who, MINUTES)
    call_id = (await api.house.admitted(who)).frozen.call_id
    (bundle,) = (await api.alpha.get(f"/v1/calls/{key(call_id)}")).json()["bundles"]
    assert (bundle["bundle"], bundle["held"], bundle["burnt"]) == ("flat minutes", 1, None)
    await api.house.end(ended(call_id, 30_000))
    for client in (api.alpha, api.operator):
        (bundle,) = (await client.get(f"/v1/calls/{key(call_id)}")).json()["bundles"]
        assert (bundle["burnt"], bundle["released"], bundle["units"], bundle["left_now"]) == (1, 0, 10, 9)
    explained = (await api.alpha.get(f"/v1/cdrs/cdr_{call_id.hex}/explain")).json()
    assert explained["units"] == [{"bundle": "flat minutes", "unit_s": 60, "held": 1, "burnt": 1}]


async def test_a_refused_call_has_no_legs(api: Api) -> None:
    who = await api.house.subscriber(0)
    await belongs(api, who, api.alpha)
    await api.house.call(who)
    (call_id,) = await live(api.alpha, state="all")
    told = (await api.alpha.get(f"/v1/calls/{call_id}")).json()
    assert (told["state"], told["refuse_reason"], told["legs"], told["hold"], told["entries"]) == (
        "refused", "no_credit", [], None, [],
    )  # fmt: skip
    Call.model_validate(told)


async def test_only_a_key_for_calls_reads_them(api: Api) -> None:
    other = await api.key("cdrs:read", partner_id=api.alpha.partner_id)
    problem(await other.get("/v1/calls"), 403, "scope_missing")
    problem(await other.get(f"/v1/calls/call_{'0' * 32}"), 403, "scope_missing")
    problem(await api.alpha.get(f"/v1/calls/call_{'0' * 32}"), 404, "not_found")
    problem(await api.alpha.get("/v1/calls/call_7"), 404, "not_found")
