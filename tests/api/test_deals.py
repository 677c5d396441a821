"""Deals: agreed version by version, never two at a time, never edited once they count; each partner reads its own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from bridge.database import connection, transaction
from bridge.errors import AlreadySettled, StoreError
from bridge.partners.store.deal import terms_in_force
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, problem
from tests.seeded import at_once

TERMS = {
    "wholesale": {
        "steps": [{"from_minutes": 0, "rate": "0.0095"}, {"from_minutes": 1_000_000, "rate": "0.008"}],
        "mode": "marginal",
    },
    "revenue_share": [{"percent": "12.50", "of": "retail_revenue"}],
    "commitment": {"amount": "2500.00", "minutes": 100_000},
    "zero_rated": {"destinations": ["49800"], "services": ["on_net"]},
}
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


def at(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def draft(api: Api, **more: Any) -> dict[str, Any]:
    return {"partner_id": api.alpha.id, "name": "2027", "currency": "EUR", "terms": TERMS} | more


async def signed(api: Api, **more: Any) -> str:
    made = await api.operator.post("/v1/deals", draft(api, **more))
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    done = await api.operator.patch(path, {"state": "signed"}, made.headers["etag"])
    assert done.json()["state"] == "signed"
    return str(path)


async def agreed(api: Api, path: str, based_on: int, **more: Any) -> Any:
    return await api.operator.post(f"{path}/versions", {"based_on": based_on, "terms": {}} | more)


async def in_force(api: Api, path: str, moment: datetime) -> list[int]:
    listed = await api.operator.get(f"{path}/versions", at=at(moment))
    return [one["version"] for one in listed.json()["data"]]


async def test_drafted_read_and_signed(api: Api) -> None:
    made = await api.operator.post("/v1/deals", draft(api))
    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["state"], told["version"]["version"]) == ("draft", 1)
    assert told["version"]["terms"]["wholesale"]["steps"][1] == {"from_minutes": 1_000_000, "rate": "0.008"}
    assert told["version"]["terms"]["revenue_share"] == TERMS["revenue_share"]
    path = made.headers["location"]
    assert (await api.operator.get(path)).json() == told
    assert await in_force(api, path, datetime.now(UTC)) == [], "a draft is not in force"
    done = await api.operator.patch(path, {"state": "signed", "name": "2028"}, made.headers["etag"])
    assert (done.json()["state"], done.json()["name"]) == ("signed", "2028")
    assert done.json()["signed_at"]
    assert await in_force(api, path, datetime.now(UTC)) == [1]
    assert (await api.operator.get(f"{path}/versions/1")).json() == done.json()["version"]
    problem(await api.operator.get(f"{path}/versions/2"), 404, "not_found")
    problem(await api.operator.get(f"{path}/versions/99999999999"), 404, "not_found")


async def test_a_deal_goes_forward_only(api: Api) -> None:
    path = await signed(api)
    problem(await api.operator.patch(path, {"state": "draft"}), 422, "invalid_request")
    ended = await api.operator.patch(path, {"state": "ended"})
    assert (ended.json()["state"], bool(ended.json()["version"]["valid_to"])) == ("ended", True)
    problem(await api.operator.patch(path, {"state": "signed"}), 409, "conflict")
    problem(await agreed(api, path, 1), 409, "conflict")
    assert await in_force(api, path, datetime.now(UTC) + timedelta(days=1)) == []


async def test_a_change_is_a_version_that_follows(api: Api) -> None:
    path = await signed(api)
    later = (await agreed(api, path, 1, valid_from=at(SOON), note="cheaper")).json()
    assert (later["version"], later["valid_from"], later["note"]) == (2, at(SOON), "cheaper")
    first = (await api.operator.get(f"{path}/versions/1")).json()
    assert (first["valid_to"], first["agreed_to"]) == (at(SOON), None)
    assert first["terms"]["commitment"] == TERMS["commitment"], "what was agreed stays"
    assert await in_force(api, path, SOON - timedelta(milliseconds=1)) == [1]
    assert await in_force(api, path, SOON) == [2]
    earlier = SOON - timedelta(days=10)
    assert (await agreed(api, path, 2, valid_from=at(earlier), valid_to=at(SOON))).status_code == 201
    assert (await api.operator.get(f"{path}/versions/2")).json()["valid_from"] is None, "it never began"
    assert await in_force(api, path, earlier) == [3]
    assert await in_force(api, path, SOON) == [], "nothing was agreed for then"
    listed = (await api.operator.get(f"{path}/versions", limit=2)).json()
    assert [one["version"] for one in listed["data"]] == [3, 2]
    rest = (await api.operator.get(f"{path}/versions", cursor=listed["next"])).json()
    assert ([one["version"] for one in rest["data"]], rest["next"]) == ([1], None)


async def test_the_past_is_not_agreed_on_unless_it_is_a_draft(api: Api) -> None:
    past = datetime(2026, 1, 1, tzinfo=UTC)
    path = await signed(api, valid_from=at(past))
    assert await in_force(api, path, past) == [1]
    problem(await agreed(api, path, 1, valid_from=at(past)), 422, "invalid_request")
    problem(await agreed(api, path, 1, valid_to=at(past)), 422, "invalid_request")
    assert (await agreed(api, path, 1)).status_code == 201
    assert await in_force(api, path, past + timedelta(days=1)) == [1], "what was in force then still is"
    assert await in_force(api, path, datetime.now(UTC) + timedelta(seconds=1)) == [2]


async def test_of_a_draft_the_last_version_counts(api: Api) -> None:
    path = (await api.operator.post("/v1/deals", draft(api, valid_from=at(SOON)))).headers["location"]
    again = await agreed(api, path, 1, valid_from=at(SOON + timedelta(days=5)))
    assert again.status_code == 201
    await api.operator.patch(path, {"state": "signed"})
    assert await in_force(api, path, SOON) == []
    assert await in_force(api, path, SOON + timedelta(days=5)) == [2]


async def test_ten_writers_at_once_make_one_version(api: Api) -> None:
    path = await signed(api)
    said = await asyncio.gather(*(agreed(api, path, 1, valid_from=at(SOON)) for _ in range(10)))
    assert sorted(one.status_code for one in said) == [201, *[409] * 9]
    assert await in_force(api, path, SOON) == [2]


async def test_versions_never_overlap_whoever_writes_them(api: Api) -> None:
    """Around the function that takes turns, the table itself refuses."""
    path = await signed(api)
    deal_id = await api.house.value("SELECT deal_id FROM deal")

    async def write(number: int) -> bool:
        try:
            await api.house.rows(
                "INSERT INTO deal_version (deal_id, version, agreed, valid, terms, author) VALUES"
                " ($1, $2, tstzrange($3, NULL), tstzrange($3, NULL), '{}', 'x')",
                deal_id, number, SOON + timedelta(days=number),
            )  # fmt: skip
        except StoreError as error:
            if "deal_version_one_at_a_time" not in str(error):
                raise
            return False
        return True

    await api.house.rows("UPDATE deal_version SET valid = tstzrange(lower(valid), $1)", SOON)
    written = await at_once([partial(write, number) for number in range(2, 10)])
    assert sum(written) == 1
    assert len(await in_force(api, path, SOON + timedelta(days=30))) == 1


@pytest.mark.parametrize(
    "change",
    [
        "terms = '{}'",
        "note = 'other'",
        "agreed = tstzrange('2000-01-01', NULL)",
        "valid = 'empty'",
        "valid = tstzrange(lower(valid), lower(valid) + interval '1 hour')",
        "valid = tstzrange(lower(valid) + interval '1 hour', NULL)",
    ],
)
async def test_what_counts_is_not_edited(api: Api, change: str) -> None:
    await signed(api, valid_from="2026-01-01T00:00:00Z")
    with pytest.raises(AlreadySettled):
        await api.house.rows(f"UPDATE deal_version SET {change}")
    with pytest.raises(AlreadySettled):
        await api.house.rows("DELETE FROM deal_version")


async def test_a_partner_reads_its_own_only(api: Api) -> None:
    path = await signed(api)
    theirs = await signed(api, partner_id=api.beta.id)
    for client in (api.alpha, api.operator):
        assert (await client.get(path)).json()["version"]["terms"]["zero_rated"] == TERMS["zero_rated"]
    listed = (await api.alpha.get("/v1/deals")).json()
    assert [one["partner_id"] for one in listed["data"]] == [api.alpha.id]
    assert (await api.alpha.get("/v1/deals", partner_id=api.beta.id)).json()["data"] == []
    for foreign in (theirs, f"{theirs}/versions", f"{theirs}/versions/1", f"/v1/deals/deal_{uuid4().hex}"):
        problem(await api.alpha.get(foreign), 404, "not_found")
    problem(await api.alpha.post("/v1/deals", draft(api)), 403, "not_allowed")
    problem(await api.alpha.post(f"{path}/versions", {"based_on": 1, "terms": {}}), 403, "not_allowed")
    problem(await api.alpha.patch(path, {"state": "ended"}, '"2"'), 403, "not_allowed")
    reader = await api.key("plans:read", partner_id=api.alpha.partner_id)
    problem(await reader.get("/v1/deals"), 403, "scope_missing")
    async with connection(api.services.asking) as conn:
        await conn.execute("SELECT set_config('bridge.partner_id', $1, false)", str(api.beta.partner_id))
        assert [row["partner_id"] for row in await conn.fetch("SELECT partner_id FROM deal")] == [
            api.beta.partner_id
        ]
        assert len(await conn.fetch("SELECT version FROM deal_version")) == 1
    with pytest.raises(Exception, match="permission denied"):
        async with connection(api.services.asking) as conn:
            await conn.execute("UPDATE deal SET state = 'ended'")


async def test_lists_are_filtered(api: Api) -> None:
    await api.operator.post("/v1/deals", draft(api))
    later = await signed(api, valid_from=at(SOON), partner_id=api.beta.id)

    async def found(**query: Any) -> list[str]:
        listed = await api.operator.get("/v1/deals", **query)
        assert listed.status_code == 200, listed.text
        return [f"/v1/deals/{one['deal_id']}" for one in listed.json()["data"]]

    assert len(await found()) == 2
    assert await found(state="signed") == [later]
    assert await found(partner_id=api.beta.id) == [later]
    assert await found(at=at(SOON)) == [later]
    assert await found(at=at(datetime.now(UTC))) == []
    problem(await api.operator.get("/v1/deals", at="yesterday"), 400, "bad_request")
    problem(await api.operator.get("/v1/deals", state="x"), 400, "bad_request")


async def test_a_bundle_is_one_that_the_partner_sells(api: Api) -> None:
    await api.house.sell([SeedBundle("one", 1, 1, {"voice": 1}), SeedBundle("two", 1, 1, {"voice": 1})])
    await api.own("bundle", api.beta, name="two")
    funded = [{"bundle": "one", "percent": "50"}]
    made = await api.operator.post("/v1/deals", draft(api, terms={"bundle_funding": funded}))
    (told,) = made.json()["version"]["terms"]["bundle_funding"]
    assert (told["bundle"], told["percent"]) == ("one", "50.00")
    again = [{"bundle_id": told["bundle_id"], "percent": "40"}]
    assert (
        await agreed(api, made.headers["location"], 1, terms={"bundle_funding": again})
    ).status_code == 201
    for wrong, status in (
        ([{"bundle": "two", "percent": "50"}], 404),
        ([{"bundle_id": f"bdl_{uuid4().hex}", "percent": "50"}], 404),
        ([{"bundle": "one", "bundle_id": told["bundle_id"], "percent": "50"}], 422),
        ([*funded, *again], 422),
        ([{"bundle": "one", "percent": "100.01"}], 422),
    ):
        said = await api.operator.post("/v1/deals", draft(api, terms={"bundle_funding": wrong}))
        assert said.status_code == status, said.text
    assert await api.house.value("SELECT count(*) FROM deal") == 1, "nothing is half made"


@pytest.mark.parametrize(
    "terms",
    [
        {"wholesale": {"steps": []}},
        {"wholesale": {"steps": [{"from_minutes": 1, "rate": "0.01"}]}},
        {"wholesale": {"steps": [{"from_minutes": 0, "rate": "0.01"}, {"from_minutes": 0, "rate": "0.01"}]}},
        {"wholesale": {"steps": [{"from_minutes": 0, "rate": 0.01}]}},
        {"wholesale": {"steps": [{"from_minutes": 0, "rate": "-0.01"}]}},
        {"wholesale": {"steps": [{"from_minutes": 0, "rate": "0.0000001"}]}},
        {"wholesale": {"steps": [{"from_minutes": 0, "rate": "9" * 7}]}},
        {"wholesale": {"steps": [{"from_minutes": 10**13, "rate": "1"}]}},
        {"revenue_share": [{"percent": "12.505", "of": "retail_revenue"}]},
        {"revenue_share": [{"percent": "-1", "of": "retail_revenue"}]},
        {"revenue_share": [{"percent": "1", "of": "profit"}]},
        {"revenue_share": [{"percent": "1", "of": "bundle_sales"}] * 2},
        {"commitment": {}},
        {"commitment": {"amount": "NaN"}},
        {"zero_rated": {"destinations": ["+49"]}},
        {"zero_rated": {"services": ["a\0"]}},
        {"colour": "blue"},
    ],
)
async def test_terms_that_say_nothing_clear_are_refused(api: Api, terms: Any) -> None:
    body = problem(await api.operator.post("/v1/deals", draft(api, terms=terms)), 422, "invalid_request")
    assert body["errors"][0]["pointer"].startswith("#/terms")


async def test_other_wrong_deals(api: Api) -> None:
    for wrong, status in (
        ({"currency": "XXX"}, 422),
        ({"valid_from": at(SOON), "valid_to": at(SOON)}, 422),
        ({"valid_from": "2026-01-01T00:00:00"}, 422),
        ({"partner_id": f"prt_{uuid4().hex}"}, 404),
        ({"name": ""}, 422),
    ):
        said = await api.operator.post("/v1/deals", draft(api, **wrong))
        assert said.status_code == status, said.text
    path = await signed(api)
    problem(await api.operator.patch(path, {"name": "x"}, '"1"'), 412, "stale")
    problem(await agreed(api, path, 7), 409, "conflict")
    problem(await agreed(api, f"/v1/deals/deal_{uuid4().hex}", 1), 404, "not_found")


async def test_statements_find_the_terms_that_count(api: Api) -> None:
    await signed(api)
    await signed(api, partner_id=api.beta.id, terms={})
    async with transaction(api.house.pool) as conn:
        (terms,) = await terms_in_force(conn, api.alpha.partner_id, datetime.now(UTC))
    assert terms.wholesale is not None
    assert terms.wholesale.due_micro(1_000_001 * 60) == 9_500 * 1_000_000 + 8_000
    assert terms.revenue_share[0].due_micro(1_000_000) == 125_000


async def test_what_was_agreed_is_in_the_audit_log_of_the_partner(api: Api) -> None:
    await signed(api)
    rows = await api.house.rows("SELECT action, partner_id FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["deal.create", "deal.change"]
    assert {row["partner_id"] for row in rows} == {api.alpha.partner_id}
