"""Call records: each partner finds its own, whatever it asks; pages are bounded; what carriers cost stays ours."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from bridge.api.cdrs import Cdr
from bridge.calls import rerate
from bridge.calls.cdrs import key_at
from bridge.calls.selection import Criteria
from bridge.database import connection, transaction
from tests.api.callers import SECRETS, called, people, strings
from tests.api.scene import Api, Client, problem
from tests.seeded import ended


async def ids(client: Client, **query: object) -> list[str]:
    response = await client.get("/v1/cdrs", **query)
    assert response.status_code == 200, response.text
    return [one["cdr_id"] for one in response.json()["data"]]


def cdr(call_id: UUID) -> str:
    return f"cdr_{call_id.hex}"


async def test_a_record_says_what_happened(api: Api) -> None:
    who = (await people(api)).alpha
    call_id = await called(api, who, 61_000)
    (found,) = (await api.alpha.get("/v1/cdrs")).json()["data"]
    assert set(found) == set(Cdr.model_fields)
    assert found == (await api.alpha.get(f"/v1/cdrs/{cdr(call_id)}")).json()
    row = await api.house.row("SELECT * FROM call WHERE call_id = $1", call_id)
    assert found | {
        "cdr_id": cdr(call_id), "call_id": f"call_{call_id.hex}", "partner_id": api.alpha.id, "a_number": who.a_number,
        "state": "answered", "rating_state": "rated", "talk_ms": 61_000, "billed_s": 61, "destination": "Germany",
        "prefix": "49", "rate": "0.06", "charge": "0.061", "written_off": "0.00", "currency": "EUR", "revision": 0,
        "release_party": "caller", "direction": "out", "refuse_reason": None,
        "answered_at": row["answered_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    } == found  # fmt: skip
    Cdr.model_validate(found)


async def test_each_partner_finds_its_own_and_operators_all(api: Api) -> None:
    who = await people(api)
    of_alpha, of_beta, ours = [await called(api, one, 1_000) for one in (who.alpha, who.beta, who.ours)]
    assert await ids(api.alpha) == [cdr(of_alpha)]
    assert await ids(api.beta) == [cdr(of_beta)]
    assert await ids(api.operator) == [cdr(ours), cdr(of_beta), cdr(of_alpha)]
    assert await ids(api.operator, partner_id=api.beta.id) == [cdr(of_beta)]
    for path in (
        f"/v1/cdrs/{cdr(of_alpha)}",
        f"/v1/cdrs/{cdr(of_alpha)}/explain",
        f"/v1/calls/call_{of_alpha.hex}",
    ):
        problem(await api.beta.get(path), 404, "not_found")
        assert (await api.operator.get(path)).status_code == 200


async def test_what_is_anothers_cannot_be_searched_for(api: Api) -> None:
    who = await people(api)
    await called(api, who.alpha, 1_000)
    subscriber_id = await api.house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.alpha.a_number
    )
    theirs = {
        "account_id": f"acc_{UUID(str(who.alpha.account_id)).hex}",
        "subscriber_id": f"sub_{subscriber_id.hex}",
        "partner_id": api.alpha.id,
    }
    for name, key in theirs.items():
        assert len(await ids(api.alpha, **{name: key})) == 1
        problem(await api.beta.get("/v1/cdrs", **{name: key}), 404, "not_found")
        problem(await api.operator.get("/v1/cdrs", **{name: key[:-32] + uuid4().hex}), 404, "not_found")


async def test_an_operator_searches_accounts_of_partners_and_of_ours(api: Api) -> None:
    who = await people(api)
    made = [await called(api, one, 1_000) for one in (who.alpha, who.ours, who.ours)]
    alphas, ours = (f"acc_{UUID(str(one.account_id)).hex}" for one in (who.alpha, who.ours))
    for account, wanted in ((alphas, made[:1]), (ours, made[:0:-1])):
        assert await ids(api.operator, account_id=account) == [cdr(call_id) for call_id in wanted]
    problem(await api.alpha.get("/v1/cdrs", account_id=ours), 404, "not_found")
    assert await ids(api.operator, account_id=alphas, partner_id=api.beta.id) == []


async def test_filters(api: Api) -> None:
    who = await people(api)
    berlin = await called(api, who.alpha, 10_000)
    london = await called(api, who.alpha, 70_000, "+442079460123")
    nobody = await called(api, who.alpha, 0)
    assert await ids(api.alpha, state="unanswered") == [cdr(nobody)]
    assert await ids(api.alpha, min_talk_s=60) == [cdr(london)]
    for prefix in ("+4420", "44"):
        assert await ids(api.alpha, b_number=prefix) == [cdr(london)]
    assert await ids(api.alpha, a_number=who.beta.a_number) == []
    assert await ids(api.alpha, a_number=who.alpha.a_number, state="answered") == [cdr(london), cdr(berlin)]
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await ids(api.alpha, since=soon.isoformat()) == []
    assert len(await ids(api.alpha, until=soon.isoformat())) == 3
    assert await ids(api.alpha, until=(soon - timedelta(days=1)).isoformat()) == []
    assert (
        await ids(api.alpha, until=(soon + timedelta(days=40)).isoformat()) == []
    )  # 31 days before: later than now


@pytest.mark.parametrize(
    "query",
    [
        {"state": "gone"}, {"b_number": "0049"}, {"b_number": "49'; --"}, {"a_number": "4930"}, {"min_talk_s": -1},
        {"min_talk_s": 10**12}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"account_id": "acc_7"},
        {"limit": 101}, {"cursor": "x"}, {"colour": "blue"},
    ],
)  # fmt: skip
async def test_what_is_no_filter_is_refused(api: Api, query: dict[str, object]) -> None:
    problem(await api.alpha.get("/v1/cdrs", **query), 400, "bad_request")


async def test_pages_hold_each_record_once_while_others_are_added(api: Api) -> None:
    who = (await people(api)).alpha
    made = [cdr(await called(api, who, 1_000)) for _ in range(5)]
    page = (await api.alpha.get("/v1/cdrs", limit=2)).json()
    seen = [one["cdr_id"] for one in page["data"]]
    while page["next"]:
        await called(api, who, 1_000)
        page = (await api.alpha.get("/v1/cdrs", limit=2, cursor=page["next"])).json()
        seen += [one["cdr_id"] for one in page["data"]]
    assert seen == made[::-1]


@pytest.mark.breaks_books
async def test_a_page_looks_at_ten_thousand_and_says_where_to_go_on(api: Api) -> None:
    who = (await people(api)).alpha
    found = await called(api, who, 120_000)
    await api.house.rows(
        """INSERT INTO call (switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, state, ended_at,
                             partner_id)
           SELECT c.switch_id, n, n, c.account_id, c.a_number, '7', 'unanswered', now(), c.partner_id
             FROM call c, generate_series(1, 10050) n WHERE c.call_id = $1""",
        found,
    )
    first = (await api.alpha.get("/v1/cdrs", min_talk_s=100)).json()
    assert first["data"] == []
    second = (await api.alpha.get("/v1/cdrs", min_talk_s=100, cursor=first["next"])).json()
    assert ([one["cdr_id"] for one in second["data"]], second["next"]) == ([cdr(found)], None)


async def test_states_of_rating(api: Api) -> None:
    who = await people(api)
    live = (await api.house.admitted(who.alpha)).frozen.call_id
    nobody, rated = await called(api, who.alpha, 0), await called(api, who.alpha, 60_000)
    await api.house.rows("UPDATE account SET state = 'suspended' WHERE account_id = $1", who.alpha.account_id)
    await api.house.call(who.alpha)
    await api.house.rows("UPDATE account SET state = 'active' WHERE account_id = $1", who.alpha.account_id)
    told = {one["cdr_id"]: one for one in (await api.alpha.get("/v1/cdrs")).json()["data"]}
    states = [told.pop(cdr(one))["rating_state"] for one in (live, nobody, rated)]
    assert states == ["received", "guided", "rated"]
    ((refused,),) = [[one] for one in told.values()]
    assert (refused["state"], refused["rating_state"], refused["refuse_reason"]) == (
        "refused", "rejected", "account_suspended",
    )  # fmt: skip
    await api.house.end(ended(live))


async def test_another_price_later_is_seen_and_explained_without_its_cost(api: Api) -> None:
    who = (await people(api)).alpha
    call_id = await called(api, who, 60_000)
    await api.house.rows(
        "UPDATE rate SET rate_micro = 30000 WHERE destination = 'Germany' AND rate_micro = 60000"
    )
    async with connection(api.house.pool) as conn:
        since = datetime.now(UTC) - timedelta(days=1)
        run = await rerate.preview(conn, Criteria(since=since), author="Ann", reason="vega was dearer")
        await rerate.run(conn, UUID(run["run_id"]))
    record = (await api.alpha.get(f"/v1/cdrs/{cdr(call_id)}")).json()
    assert (record["rating_state"], record["revision"], record["charge"], record["rate"]) == (
        "rerated", 1, "0.03", "0.03",
    )  # fmt: skip
    explained = (await api.alpha.get(f"/v1/cdrs/{cdr(call_id)}/explain")).json()
    (revision,) = explained["rerated"]
    assert (revision["revision"], revision["charge"], set(revision)) == (
        1, "0.03", {"revision", "charge", "rate", "billed_s", "at"},
    )  # fmt: skip
    assert not leaks(explained)
    booked = (await api.alpha.get(f"/v1/calls/call_{call_id.hex}")).json()["entries"]
    assert [one["amount"] for one in booked] == ["-0.06", "0.06", "-0.03"]
    ours = (await api.operator.get(f"/v1/cdrs/{cdr(call_id)}/explain")).json()
    assert (ours["rerated"][0]["author"], ours["rerated"][0]["reason"]) == ("Ann", "vega was dearer")


async def test_an_explanation_leads_from_the_number_to_the_price(api: Api) -> None:
    who = (await people(api)).alpha
    call_id = await called(api, who, 61_000, "+442079460123")
    told = (await api.alpha.get(f"/v1/cdrs/{cdr(call_id)}/explain")).json()
    assert told["sell"]["increment"] == "60/6"
    assert [one["why"] for one in told["sell"]["candidates"]] == ["applied: the longest that fits"]
    assert [one["amount"] for one in told["sell"]["steps"]][-1] == "0.172"
    assert set(told) == {"cdr_id", "number", "sell", "units", "rerated"}
    ours = (await api.operator.get(f"/v1/cdrs/{cdr(call_id)}/explain")).json()
    assert ours["sell"].pop("deck") == "sell standard"
    assert ours["sell"] == told["sell"]
    assert [one["trunk"] for one in ours["buy"]] == ["vega"]
    assert ours["margin"] is not None


def leaks(told: object) -> set[str]:
    return {text for text in strings(told) if any(secret in text for secret in SECRETS)}


async def test_carriers_and_their_prices_are_in_no_reply(api: Api) -> None:
    who = (await people(api)).alpha
    call_id = await called(api, who, 61_000)
    paths = (
        "/v1/cdrs", f"/v1/cdrs/{cdr(call_id)}", f"/v1/cdrs/{cdr(call_id)}/explain", "/v1/calls", "/v1/calls?state=all",
        f"/v1/calls/call_{call_id.hex}", "/tmf-api/usageManagement/v4/usage",
        f"/tmf-api/usageManagement/v4/usage/{cdr(call_id)}",
    )  # fmt: skip
    for path in paths:
        response = await api.alpha.ask("GET", path)
        assert response.status_code == 200, (path, response.text)
        assert not leaks(response.json()), path
    seen = {text for path in paths for text in leaks((await api.operator.ask("GET", path)).json())}
    assert {"vega", "0.031415"} <= seen  # it is there to be seen, by operators


@pytest.mark.parametrize(
    "column",
    ["call.routes", "attempt.trunk_id", "attempt.cost_micro", "attempt.buy", "attempt.billed_s", "rerating.cost_micro",
     "rerating.buy", "lease.trunk_id", "lease.channel", "rerate_run.reason", "trunk.account_id", "trunk.auth_secret"],
)  # fmt: skip
async def test_the_database_keeps_the_secrets_itself(api: Api, column: str) -> None:
    table, _, name = column.partition(".")
    allowed = await api.house.value(
        "SELECT has_column_privilege('callbridge_partner', $1, $2, 'SELECT')", f"bridge.{table}", name
    )
    assert allowed is False


async def test_of_trunks_and_prices_the_database_shows_a_partners_own(api: Api) -> None:
    """Of these it may read the columns, not the rows of others."""
    asked = "SELECT name FROM trunk", "SELECT DISTINCT name FROM rate JOIN deck USING (deck_id)"
    theirs = "vega", "buy vega"
    await people(api)
    for owner in (None, api.alpha):
        if owner is not None:
            await api.own("trunk", owner, name="vega")
            await api.own("deck", owner, name="buy vega")
        async with transaction(api.services.asking) as conn:
            await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", str(api.alpha.partner_id))
            seen = [{row[0] for row in await conn.fetch(query)} for query in asked]
        assert seen == [{name} if owner else set() for name in theirs]


async def test_functions_for_partners_answer_for_their_own_calls_only(api: Api) -> None:
    """Whoever could run SQL as a partner would learn nothing of another's call by these either."""
    who = (await people(api)).alpha
    call_id = await called(api, who, 61_000)
    await api.own("trunk", api.alpha, name="vega")
    asked = "SELECT count(*) FROM call_candidates_v1($1)", "SELECT count(*) FROM call_own_trunks_v1($1)"
    counts = []
    for partner in (api.alpha.partner_id, api.beta.partner_id, ""):
        async with transaction(api.services.asking) as conn:
            await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", str(partner))
            counts.append([await conn.fetchval(query, call_id) for query in asked])
    assert counts[1:] == [[0, 0], [0, 0]]
    assert min(counts[0]) == 1


async def test_as_csv(api: Api) -> None:
    who = (await people(api)).alpha
    made = [await called(api, who, 1_000) for _ in range(3)]
    response = await api.alpha.ask("GET", "/v1/cdrs?limit=2", headers={"Accept": "text/csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["cdr_id"] for row in rows] == [cdr(made[2]), cdr(made[1])]
    assert (rows[0]["a_number"], rows[0]["charge"]) == (f"'{who.a_number}", "0.001")
    link = response.headers["link"]
    assert link.endswith('; rel="next"')
    after = await api.alpha.ask("GET", link[1 : link.index(">")], headers={"Accept": "text/csv"})
    assert [row["cdr_id"] for row in csv.DictReader(io.StringIO(after.text))] == [cdr(made[0])]
    assert "link" not in after.headers
    refused = await api.alpha.ask("GET", "/v1/cdrs", headers={"Accept": "application/xml"})
    problem(refused, 406, "not_acceptable")


@pytest.mark.parametrize("said", ["=1+1", "+SUM(A1)", "-2", "@x", "\t=1", 'a"b\\c', "line\nbreak", "ü\u2028"])
async def test_a_number_as_received_can_be_anything(api: Api, said: str) -> None:
    """It comes from outside: JSON stays JSON, and no spreadsheet runs it."""
    who = (await people(api)).alpha
    call_id = await called(api, who, 1_000)
    other = await called(api, who, 1_000)
    await api.house.rows("UPDATE call SET a_number = $1, dialled = $1 WHERE call_id = $2", said, call_id)
    newest, oldest = (await api.alpha.get("/v1/cdrs")).json()["data"]
    assert (newest["cdr_id"], oldest["cdr_id"]) == (cdr(other), cdr(call_id))
    assert (oldest["a_number"], oldest["dialled"]) == (said, said)
    response = await api.alpha.ask("GET", "/v1/cdrs", headers={"Accept": "text/csv"})
    row = list(csv.DictReader(io.StringIO(response.text, newline="")))[1]
    assert row["dialled"].removeprefix("'") == said
    assert row["dialled"][0] not in "=+-@\t\r"


async def test_only_a_key_for_records_reads_them(api: Api) -> None:
    other = await api.key("calls:read", partner_id=api.alpha.partner_id)
    for path in ("/v1/cdrs", f"/v1/cdrs/{cdr(uuid4())}", "/tmf-api/usageManagement/v4/usage"):
        problem(await other.get(path), 403, "scope_missing")
        problem(await api.client.get(path), 401, "not_authenticated")


@pytest.mark.parametrize("path", ["/v1/cdrs/cdr_7", "/v1/cdrs/call_" + "0" * 32, "/v1/cdrs/cdr_" + "f" * 32])
async def test_what_is_no_record_is_not_found(api: Api, path: str) -> None:
    problem(await api.alpha.get(path), 404, "not_found")


async def test_a_key_of_an_instant_is_the_databases(api: Api) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    assert key_at(at) == await api.house.value("SELECT uuid_floor_v1($1)", at)
