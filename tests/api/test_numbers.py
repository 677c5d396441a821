"""Numbers: brought in by operators, given and taken back once, and nobody else's business."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from bridge.api.fields import show_id
from bridge.database import connection
from tests.api.scene import Api, Client, Partner, problem

FIRST, LAST = "+493023125100", "+493023125199"


async def number(api: Api, owner: Partner | None, e164: str = FIRST) -> str:
    """The path of a new one."""
    made = await api.operator.post("/v1/numbers", {"partner_id": owner.id if owner else None, "number": e164})
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


async def subscriber(api: Api, owner: Partner | None) -> str:
    who = await api.house.subscriber()
    if owner:
        await api.own("subscriber", owner, account_id=who.account_id)
    return show_id(
        "sub", await api.house.value("SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number)
    )


async def given(client: Client, path: str, to: str, deed: str = "assign") -> Any:
    return await client.post(f"{path}/{deed}", {"subscriber_id": to})


async def test_added_given_taken_back_and_given_again(api: Api) -> None:
    path, first, second = (
        await number(api, api.alpha), await subscriber(api, api.alpha), await subscriber(api, api.alpha),
    )  # fmt: skip
    told = await api.alpha.get(path)
    assert {name: told.json()[name] for name in ("number", "country", "kind", "state")} == {
        "number": FIRST, "country": "DE", "kind": "geographic", "state": "free",
    }  # fmt: skip
    done = await given(api.alpha, path, first)
    assert (done.status_code, done.json()["state"], done.json()["subscriber_id"]) == (200, "assigned", first)
    assert (await api.alpha.get(path)).json() == done.json()
    assert (await given(api.alpha, path, first)).json() == done.json(), "again is no change"
    problem(await given(api.alpha, path, second), 409, "conflict")
    problem(await given(api.alpha, path, second, "release"), 409, "conflict")
    rests = await given(api.alpha, path, first, "release")
    assert (rests.json()["state"], rests.json()["subscriber_id"]) == ("quarantined", None)
    problem(await given(api.alpha, path, second), 409, "conflict")
    problem(await given(api.alpha, path, first, "release"), 409, "conflict")
    kept_days = "SELECT round(extract(epoch FROM quarantine_until - now()) / 86400) FROM number"
    assert await api.house.value(kept_days) == 90
    await api.house.rows("UPDATE number SET quarantine_until = now() - interval '1 second'")
    free = await api.alpha.get(path)
    assert (free.json()["state"], free.json()["quarantine_until"]) == ("free", None)
    assert free.headers["etag"] != rests.headers["etag"], "who has kept the old answer asks again"
    again = await given(api.alpha, path, second)
    assert again.json()["subscriber_id"] == second
    assert int(again.headers["etag"][1:-1]) > int(free.headers["etag"][1:-1])


async def test_two_at_once_are_two_answers(api: Api) -> None:
    path = await number(api, api.alpha)
    them = [await subscriber(api, api.alpha) for _ in range(6)]
    said = await asyncio.gather(*(given(api.alpha, path, one) for one in them))
    assert Counter(one.status_code for one in said) == {200: 1, 409: 5}
    (won,) = (one.json()["subscriber_id"] for one in said if one.status_code == 200)
    assert (await api.alpha.get(path)).json()["subscriber_id"] == won
    back = await asyncio.gather(*(given(api.alpha, path, won, "release") for _ in range(6)))
    assert Counter(one.status_code for one in back) == {200: 1, 409: 5}
    assert await api.house.value("SELECT edition FROM number") == 3


async def test_a_block_is_added_whole_or_not(api: Api) -> None:
    block = {"partner_id": api.alpha.id, "first": FIRST, "last": LAST}
    made = await api.operator.post("/v1/numbers", block)
    assert (made.status_code, made.json()["added"], made.json()["number_id"]) == (201, 100, None)
    listed = (await api.alpha.get("/v1/numbers", limit=60)).json()
    more = (await api.alpha.get("/v1/numbers", limit=60, cursor=listed["next"])).json()
    found = [one["number"] for one in listed["data"] + more["data"]]
    assert (len(found), min(found), max(found), more["next"]) == (100, FIRST, LAST, None)
    over = {"first": "+493023125190", "last": "+493023125210"}
    body = problem(await api.operator.post("/v1/numbers", over), 409, "conflict")
    assert "+493023125190" in body["detail"]
    assert await api.house.value("SELECT count(*) FROM number") == 100
    at_once = await asyncio.gather(
        *(
            api.operator.post("/v1/numbers", {"first": "+493023125200", "last": "+493023125299"})
            for _ in range(4)
        )
    )
    assert Counter(one.status_code for one in at_once) == {201: 1, 409: 3}
    assert await api.house.value("SELECT count(*) FROM number") == 200


@pytest.mark.parametrize(
    "body",
    [
        {"number": "+49900123456"},
        {"number": "+491371234567"},
        {"number": "+4911833"},
        {"number": "+491801234567"},
        {"number": "+4970012345678"},
        {"number": "+498001234567"},
        {"number": "+49116117"},
        {"number": "+4930110"},
        {"number": "+49110123"},
        {"number": "+881612345678"},
        {"number": "+80012345678"},
        {"number": "+490301234567"},
        {"number": "110"},
        {"number": "030 23125100"},
        {"number": FIRST, "first": FIRST, "last": LAST},
        {"first": FIRST},
        {},
        {"first": LAST, "last": FIRST},
        {"first": FIRST, "last": "+493023126100"},
        {"first": FIRST, "last": "+4930231251999"},
        {"first": "+493712345678", "last": "+493712346000", "number": None, "colour": "blue"},
    ],
)
async def test_what_nobody_can_be_called_by_is_refused(api: Api, body: dict[str, Any]) -> None:
    found = problem(await api.operator.post("/v1/numbers", body), 422, "invalid_request")
    assert found["errors"]
    assert await api.house.value("SELECT count(*) FROM number") == 0


async def test_each_partner_has_its_own(api: Api) -> None:
    mine, ours = await number(api, api.alpha), await number(api, None, "+4915123456789")
    theirs = await number(api, api.beta, "+493023125101")
    listed = (await api.alpha.get("/v1/numbers")).json()["data"]
    assert [one["partner_id"] for one in listed] == [api.alpha.id]
    assert (await api.alpha.get("/v1/numbers", partner_id=api.beta.id)).json()["data"] == []
    my_sub, their_sub = await subscriber(api, api.alpha), await subscriber(api, api.beta)
    our_sub = await subscriber(api, None)
    for path in (theirs, ours, f"/v1/numbers/num_{uuid4().hex}"):
        problem(await api.alpha.get(path), 404, "not_found")
        problem(await given(api.alpha, path, my_sub), 404, "not_found")
        problem(await given(api.alpha, path, their_sub, "release"), 404, "not_found")
    for sub in (their_sub, our_sub, f"sub_{uuid4().hex}"):
        problem(await given(api.alpha, mine, sub), 404, "not_found")
        problem(await given(api.alpha, mine, sub, "release"), 404, "not_found")
    problem(await given(api.operator, mine, their_sub), 422, "invalid_request")
    problem(await given(api.operator, mine, our_sub), 422, "invalid_request")
    assert (await given(api.operator, ours, our_sub)).status_code == 200
    assert (await given(api.operator, theirs, their_sub)).status_code == 200
    assert (await api.alpha.get(mine)).json()["state"] == "free"
    problem(await api.alpha.post("/v1/numbers", {"number": FIRST}), 403, "not_allowed")
    problem(await api.alpha.delete(mine), 403, "not_allowed")
    reader = await api.key("numbers:read", partner_id=api.alpha.partner_id)
    problem(await given(reader, mine, my_sub), 403, "scope_missing")
    async with connection(api.services.asking) as conn:
        await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(api.beta.partner_id))
        for source in ("number", "number_now"):
            rows = await conn.fetch(f"SELECT e164 FROM {source}")
            assert [row["e164"] for row in rows] == ["+493023125101"]


async def test_lists_are_filtered(api: Api) -> None:
    fixed, mobile = await number(api, api.alpha), await number(api, api.alpha, "+4915123456789")
    national = await number(api, api.alpha, "+4932123456789")
    sub = await subscriber(api, api.alpha)
    await given(api.alpha, fixed, sub)

    async def found(**query: Any) -> set[str]:
        listed = await api.alpha.get("/v1/numbers", **query)
        assert listed.status_code == 200, listed.text
        return {f"/v1/numbers/{one['number_id']}" for one in listed.json()["data"]}

    assert (
        await found(state="assigned")
        == await found(subscriber_id=sub)
        == await found(number=FIRST)
        == {fixed}
    )
    assert await found(state="free") == {mobile, national}
    assert (await found(kind="mobile"), await found(kind="national")) == ({mobile}, {national})
    await given(api.alpha, fixed, sub, "release")
    assert await found(state="quarantined") == {fixed}
    await api.house.rows("UPDATE number SET quarantine_until = now() WHERE quarantine_until IS NOT NULL")
    assert await found(state="quarantined") == set()
    assert await found(state="free") == {fixed, mobile, national}


async def test_an_operator_ends_a_quarantine_and_removes_a_number(api: Api) -> None:
    path, sub = await number(api, api.alpha), await subscriber(api, api.alpha)
    until = {"quarantine_until": "2026-01-01T00:00:00Z"}
    problem(await api.operator.patch(path, until), 409, "conflict")
    await given(api.alpha, path, sub)
    problem(await api.operator.delete(path), 409, "conflict")
    rests = await given(api.alpha, path, sub, "release")
    problem(await api.operator.patch(path, until, '"1"'), 412, "stale")
    assert (await api.operator.patch(path, until, rests.headers["etag"])).json()["state"] == "free"
    problem(await api.operator.delete(path, rests.headers["etag"]), 412, "stale")
    assert (await api.operator.delete(path)).status_code == 204
    problem(await api.operator.get(path), 404, "not_found")


async def test_a_closed_subscriber_gets_none(api: Api) -> None:
    path, sub = await number(api, api.alpha), await subscriber(api, api.alpha)
    await api.house.rows("UPDATE subscriber SET state = 'closed'")
    problem(await given(api.alpha, path, sub), 409, "conflict")


async def test_what_was_done_is_in_the_audit_log_of_its_partner(api: Api) -> None:
    path, sub = await number(api, api.alpha), await subscriber(api, api.alpha)
    await given(api.alpha, path, sub)
    await given(api.alpha, path, sub, "release")
    rows = await api.house.rows("SELECT action, partner_id, subject FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["number.add", "number.assign", "number.release"]
    assert {row["partner_id"] for row in rows} == {api.alpha.partner_id}
    assert {f"/v1/numbers/{row['subject']}" for row in rows} == {path}
