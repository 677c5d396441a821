"""Rate decks: made, read page by page, looked up, compared, brought back; and nobody else's business."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bridge import queries
from bridge.api.page import LAST
from bridge.database import Connection
from bridge.queries import Query
from tests.api.decks import FIRST, HEAD, applied, made, staged
from tests.api.scene import Api, problem

ROWS = 20_000
READ_MAX = 400


async def test_made_read_listed_and_changed(api: Api) -> None:
    mine = await made(api.alpha)
    ours = await made(api.operator, "Ours", side="sell")
    assert (await api.operator.get(mine)).json()["partner_id"] == api.alpha.id
    assert (await api.operator.get(ours)).json()["partner_id"] is None
    read = await api.alpha.get(mine)
    assert read.json() | {"created_at": "", "changed_at": "", "deck_id": "", "terms": {}} == {
        "deck_id": "", "name": "Termination", "side": "buy", "currency": "EUR", "version": 1,
        "partner_id": api.alpha.id, "notice_days": 7, "created_at": "", "changed_at": "",
        "rates": {"in_force": 0, "to_come": 0}, "terms": {}, "bands": [],
    }  # fmt: skip
    changed = await api.alpha.patch(mine, {"name": "Termination 2027"})
    assert changed.json()["name"] == "Termination 2027"
    assert changed.headers["etag"] != read.headers["etag"]
    problem(await api.alpha.patch(mine, {"name": "x"}, read.headers["etag"]), 412, "stale")
    listed = (await api.alpha.get("/v1/decks")).json()
    assert [one["name"] for one in listed["data"]] == ["Termination 2027"]
    everything = (await api.operator.get("/v1/decks", limit=2)).json()
    assert [one["name"] for one in everything["data"]] == ["Ours", "Termination 2027"]
    assert everything["next"]
    only = (await api.operator.get("/v1/decks", partner_id=api.alpha.id, side="buy")).json()
    assert [one["name"] for one in only["data"]] == ["Termination 2027"]


async def test_a_name_is_one_decks_only_and_nobody_is_told_whose(api: Api) -> None:
    await made(api.operator, "ours")
    await made(api.alpha, "Germany")
    mine = await made(api.beta, "France")
    again = {"name": "Germany", "side": "buy", "currency": "EUR"}
    asked = [
        (api.alpha, again),
        (api.beta, again),
        (api.operator, again),
        (api.beta, again | {"name": "ours"}),
    ]
    answers = [await client.post("/v1/decks", body) for client, body in asked]
    answers += [await api.beta.patch(mine, {"name": name}) for name in ("ours", "Germany")]
    told = [problem(answer, 409, "conflict")["detail"] for answer in answers]
    assert set(told) == {"The name is taken. Take another one."}
    problem(await api.alpha.post("/v1/decks", again | {"partner_id": api.beta.id}), 404, "not_found")
    problem(await api.alpha.post("/v1/decks", again | {"name": "=1+1"}), 422, "invalid_request")
    problem(await api.alpha.post("/v1/decks", again | {"currency": "XXX"}), 422, "invalid_request")


async def test_of_another_partner_there_is_nothing(api: Api) -> None:
    """Every route, with the deck and the import of somebody else, and with one's own deck and another's import."""
    theirs, own = await made(api.beta, "Theirs"), await made(api.alpha)
    one = await staged(api.beta, theirs, FIRST)
    done = await applied(api.beta, theirs, FIRST, mode="add")
    await made(api.operator, "ours")
    house = (await api.operator.get("/v1/decks", name="ours")).json()["data"][0]["deck_id"]
    for deck in (theirs, f"/v1/decks/{house}"):
        for path in (
            "", "/rates", "/lookup?number=4930123456", "/diff?from=1&to=1", "/versions", "/versions/1", "/imports",
        ):  # fmt: skip
            problem(await api.alpha.ask("GET", deck + path), 404, "not_found")
        csv_file = await api.alpha.ask("GET", f"{deck}/rates", headers={"Accept": "text/csv"})
        problem(csv_file, 404, "not_found")
        problem(await api.alpha.post(f"{deck}/rollback", {"to_version": 1}), 404, "not_found")
        problem(await api.alpha.patch(deck, {"name": "mine"}, '"1"'), 404, "not_found")
        upload = await api.alpha.ask(
            "POST", f"{deck}/imports", content=FIRST, headers={"Content-Type": "text/csv"}
        )
        problem(upload, 404, "not_found")
    for deck in (theirs, own):
        for import_id in (one["import_id"], done["import_id"]):
            where = f"{deck}/imports/{import_id}"
            for path in ("", "/errors", "/changes", "/report"):
                problem(await api.alpha.get(where + path), 404, "not_found")
            problem(await api.alpha.post(f"{where}/apply"), 404, "not_found")
    assert (await api.alpha.get("/v1/decks")).json()["data"][0]["deck_id"] == own.rpartition("/")[2]
    problem(await api.alpha.get("/v1/decks", partner_id=api.beta.id), 404, "not_found")
    assert await api.house.value("SELECT count(*) FROM deck_import") == 2


async def test_the_database_itself_keeps_them_apart(api: Api) -> None:
    """Whatever a query forgets: as a partner, no row of anybody else's deck is there, nor can one be written."""
    await applied(api.beta, await made(api.beta), FIRST)
    await staged(api.beta, await made(api.beta, "two"), f"{HEAD}\n49,,,,,\n")
    tables = (
        "deck",
        "rate",
        "rate_past",
        "deck_version",
        "deck_import",
        "deck_import_error",
        "deck_import_row",
    )
    async with api.house.pool.acquire() as conn, conn.transaction():
        for partner, some in ((api.alpha, False), (api.beta, True)):
            await queries.access.enter.run(
                conn, role="callbridge_partner", partner_id=str(partner.partner_id), for_transaction=True
            )
            for table in tables:
                seen = await conn.fetchval(f"SELECT count(*) FROM {table}")
                assert (seen > 0) is (some and table not in ("rate_past", "deck_import_row")), table
    for statement in (
        "UPDATE deck SET notice_days = 0",
        "DELETE FROM rate",
        "SELECT fingerprint FROM deck_import",
    ):
        async with api.house.pool.acquire() as conn, conn.transaction():
            await queries.access.enter.run(
                conn, role="callbridge_partner", partner_id=str(api.beta.partner_id), for_transaction=True
            )
            with pytest.raises(Exception, match="permission denied"):
                await conn.execute(statement)


async def test_rates_page_by_page(api: Api) -> None:
    deck = await made(api.alpha)
    rows = "".join(f"4915{n:03},Mobile {n % 7},0.05,60,6,\n" for n in range(250))
    await applied(api.alpha, deck, FIRST + rows)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        body = (await api.alpha.get(f"{deck}/rates", limit=100, **cursor)).json()
        seen += [one["prefix"] for one in body["data"]]
        if body["next"] is None:
            break
        cursor = {"cursor": body["next"]}
    assert len(seen) == 253 and seen == sorted(seen)
    some = (await api.alpha.get(f"{deck}/rates", prefix="491524", limit=3)).json()
    assert [one["prefix"] for one in some["data"]] == ["4915240", "4915241", "4915242"]
    rest = (await api.alpha.get(f"{deck}/rates", prefix="491524", cursor=some["next"], limit=100)).json()
    assert [one["prefix"] for one in rest["data"]] == [f"491524{n}" for n in range(3, 10)]
    named = (await api.alpha.get(f"{deck}/rates", destination="Kingdom")).json()["data"]
    assert [(one["prefix"], one["rate"], one["interval_n"]) for one in named] == [("44", "0.02", 1)]
    problem(await api.alpha.get(f"{deck}/rates", cursor="49..-99999999999999999"), 400, "bad_request")
    problem(await api.alpha.get(f"{deck}/rates", cursor="%00"), 400, "bad_request")
    problem(await api.alpha.get(f"{deck}/rates", version=3), 404, "not_found")
    assert (await api.alpha.get(f"{deck}/rates", version=1)).json() == {"data": [], "next": None}


async def test_rates_as_a_file_that_can_be_sent_back(api: Api) -> None:
    deck = await made(api.alpha)
    hostile = f"{HEAD}\n49,'=HYPERLINK(1),0.01,60,6,\n44,'@SUM(A1),0.02,1,1,\n33,+33 France,0.01,1,1,\n"
    await applied(api.alpha, deck, hostile)
    await api.house.rows("UPDATE rate SET destination = E'\\t=1+1' WHERE prefix = '44'")
    response = await api.alpha.ask("GET", f"{deck}/rates", headers={"Accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"].startswith("attachment")
    found = list(csv.DictReader(io.StringIO(response.text)))
    assert [one["destination"] for one in found] == ["'+33 France", "'\t=1+1", "'=HYPERLINK(1)"]
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for one in found for cell in one.values()
    )
    await api.house.rows("UPDATE rate SET destination = '@SUM(A1)' WHERE prefix = '44'")
    response = await api.alpha.ask("GET", f"{deck}/rates", headers={"Accept": "text/csv"})
    assert (await staged(api.alpha, deck, response.content, mode="replace"))["state"] == "same"


async def test_a_file_keeps_to_its_version(api: Api) -> None:
    deck = await made(api.operator)
    await applied(api.operator, deck, FIRST)
    await applied(api.operator, deck, f"{HEAD}\n49,Germany,0.02,60,6,\n", mode="replace")
    old = await api.operator.ask(
        "GET", f"{deck}/rates", headers={"Accept": "text/csv"}, params={"version": 2}
    )
    assert [one["rate"] for one in csv.DictReader(io.StringIO(old.text))] == ["0.02", "0.01", "0.05"]
    paged = (await api.operator.get(f"{deck}/rates", version=2, limit=2)).json()
    more = (await api.operator.get(f"{deck}/rates", version=2, limit=2, cursor=paged["next"])).json()
    assert [one["prefix"] for one in paged["data"] + more["data"]] == ["44", "49", "4915"]


async def test_one_number_is_looked_up(api: Api) -> None:
    deck = await made(api.operator, side="sell")
    await api.house.rows("INSERT INTO origin_set VALUES ('eu', '33'), ('eu', '39')")
    rows = (
        "prefix,destination,rate,origin_set,change\n49,Germany,0.01,,\n4915,Mobile,0.09,,\n4915,Mobile EU,0.05,eu,\n"
        "881,Satellite,,,blocked\n"
    )
    await applied(api.operator, deck, rows)
    later = datetime.now(UTC) + timedelta(days=30)
    await applied(api.operator, deck, f"{HEAD}\n4915,Mobile,0.19,60,60,{later.isoformat()}\n")

    async def asked(number: str, **more: str) -> dict[str, Any]:
        response = await api.operator.get(f"{deck}/lookup", number=number, **more)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    found = await asked("+4915112345678")
    assert (found["prefix"], found["price"]["rate"], found["blocked"]) == ("4915", "0.09", False)
    assert sorted((one["prefix"], one["why"]) for one in found["matched"]) == [
        ("49", "shorter"),
        ("4915", "chosen"),
        ("4915", "for callers from eu only"),
    ]
    assert (await asked("4915112345678", origin="+33612345678"))["price"]["rate"] == "0.05"
    assert (await asked("4915112345678", origin="+12125551234"))["price"]["rate"] == "0.09"
    after = f"{later + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    assert (await asked("4915112345678", at=after))["price"]["rate"] == "0.19"
    assert (await asked("881123456"))["blocked"] is True
    nothing = await asked("+12125551234")
    assert (nothing["price"], nothing["prefix"], nothing["blocked"], nothing["matched"]) == (
        None,
        None,
        True,
        [],
    )
    problem(await api.operator.get(f"{deck}/lookup", number="0049"), 400, "bad_request")
    problem(await api.operator.get(f"{deck}/lookup"), 400, "bad_request")
    empty = await made(api.operator, "empty")
    assert (await api.operator.get(f"{empty}/lookup", number="49301234567")).json()["price"] is None


async def test_a_band_in_force_prices_a_number(api: Api) -> None:
    """The prices of a partner's band are the partner's, even where the deck they stand in is not."""
    deck, cheap = await made(api.alpha, side="sell"), await made(api.operator, "cheap", side="sell")
    await applied(api.alpha, deck, FIRST)
    await applied(api.operator, cheap, f"{HEAD}\n49,Germany,0.001,60,6,\n")
    await api.house.rows(
        "INSERT INTO deck_band SELECT a.deck_id, 0, 'late', '{0,1,2,3,4,5,6,7}', 1080, 480, b.deck_id, 'EUR'"
        " FROM deck a, deck b WHERE a.partner_id IS NOT NULL AND b.name = 'cheap'"
    )
    prices = [
        (await api.alpha.get(f"{deck}/lookup", number="4930123456", at=f"2027-01-05T{hour}:00:00Z")).json()
        for hour in ("12", "22")
    ]
    assert [(one["price"]["rate"], one["band"]) for one in prices] == [("0.01", None), ("0.001", "late")]
    assert prices[0]["matched"] == prices[1]["matched"]
    band = (await api.alpha.get(deck)).json()["bands"][0]
    assert (band["name"], band["from"], band["to"], band["deck"]) == ("late", "18:00", "08:00", None)


async def test_versions_and_what_differs(api: Api) -> None:
    deck = await made(api.operator)
    await applied(api.operator, deck, FIRST)
    await applied(api.operator, deck, f"{HEAD}\n49,Germany,0.02,60,6,\n39,Italy,0.01,1,1,\n", mode="replace")
    back = await api.operator.post(f"{deck}/rollback", {"to_version": 2})
    assert back.status_code == 201, back.text
    assert (back.json()["version"], back.json()["origin"], back.json()["to_version"]) == (4, "rollback", 2)
    assert (await api.operator.get(back.headers["location"])).json() == back.json()
    listed = (await api.operator.get(f"{deck}/versions", limit=3)).json()
    assert [(one["version"], one["origin"]) for one in listed["data"]] == [
        (4, "rollback"),
        (3, "import"),
        (2, "import"),
    ]
    rest = (await api.operator.get(f"{deck}/versions", limit=3, cursor=listed["next"])).json()
    assert [(one["version"], one["origin"]) for one in rest["data"]] == [(1, "new")] and rest["next"] is None

    async def differs(old: int, new: int) -> dict[str, str]:
        found: dict[str, str] = {}
        cursor: dict[str, str] = {}
        while True:
            query = {"from": old, "to": new, "limit": 1, **cursor}
            body = (await api.operator.ask("GET", f"{deck}/diff", params=query)).json()
            found |= {one["prefix"]: one["kind"] for one in body["data"]}
            if body["next"] is None:
                return found
            cursor = {"cursor": body["next"]}

    all_new = {"44": "new", "49": "new", "4915": "new"}
    assert await differs(1, 2) == all_new
    assert await differs(2, 1) == dict.fromkeys(all_new, "deleted")
    assert await differs(2, 3) == {"39": "new", "44": "changed", "49": "changed", "4915": "changed"}
    assert await differs(2, 4) == {}
    assert await differs(3, 3) == {}
    problem(await api.operator.ask("GET", f"{deck}/diff", params={"from": 1, "to": 5}), 404, "not_found")
    problem(await api.operator.post(f"{deck}/rollback", {"to_version": 4}), 404, "not_found")
    problem(await api.operator.post(f"{deck}/rollback", {"to_version": 2**31}), 422, "invalid_request")


async def test_a_new_version_is_told_to_whoever_listens(api: Api) -> None:
    await api.house.rows("UPDATE partner SET keeps_events = true")
    await applied(api.operator, await made(api.operator, "ours"), FIRST)
    deck = await made(api.alpha)
    one = await applied(api.alpha, deck, FIRST)
    event = await api.house.row("SELECT * FROM event WHERE kind = 'deck.applied'")
    assert (event["partner_id"], event["seq"], event["subject_id"]) == (
        api.alpha.partner_id, 2, UUID(hex=one["deck_id"].removeprefix("deck_")),
    )  # fmt: skip
    assert json.loads(event["data"]) == {
        "deck_id": one["deck_id"], "name": "Termination", "side": "buy", "version": 2, "origin": "import",
        "to_version": None, "import_id": one["import_id"], "added": 3, "removed": 0,
    }  # fmt: skip


async def test_scopes_and_who_says_how_much_notice(api: Api) -> None:
    deck = await made(api.alpha)
    reader = await api.key("decks:read", partner_id=api.alpha.partner_id)
    assert (await reader.get(deck)).status_code == 200
    problem(
        await reader.post("/v1/decks", {"name": "x", "side": "buy", "currency": "EUR"}), 403, "scope_missing"
    )
    problem(await reader.post(f"{deck}/rollback", {"to_version": 1}), 403, "scope_missing")
    problem(await api.alpha.patch(deck, {"notice_days": 0}), 403, "not_allowed")
    assert (await api.operator.patch(deck, {"notice_days": 30})).json()["notice_days"] == 30
    problem(await api.operator.patch(deck, {"notice_days": 366}), 422, "invalid_request")


# ---------------------------------------------------------------- however long the deck is

FILL = f"""
    INSERT INTO partner (name, account_id) SELECT 'p' || n, account_id FROM (
        SELECT row_number() OVER () AS n, account_id FROM account
         WHERE account_id NOT IN (SELECT account_id FROM partner)) a;
    INSERT INTO deck (name, side, currency, partner_id)
    SELECT 'd' || n, 'buy', 'EUR', (SELECT partner_id FROM partner WHERE name = 'p1') FROM generate_series(1, 3000) n;
    INSERT INTO rate (deck_id, prefix, destination, rate_micro, added_in)
    SELECT $1, (100000 + n)::text, 'x', 1, 2 FROM generate_series(1, {ROWS}) n;
    INSERT INTO deck_version SELECT $1, n, 'rollback', NULL, 1, '', 0, 0 FROM generate_series(2, 3000) n;
"""


def nodes(plan: Any) -> Any:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def rows_read(conn: Connection, query: Query, **given: object) -> int:
    """Rows of the big tables that the server looks at to answer as a partner."""
    row = await conn.fetchrow(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {query.sql.rstrip().rstrip(';')}",
        *[given[name] for name in query.names],
    )
    assert row is not None
    return sum(
        (node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)) * node.get("Actual Loops", 1)
        for node in nodes(json.loads(row[0])[0]["Plan"])
        if node.get("Relation Name") in ("deck", "rate", "rate_past", "deck_version", "deck_import_row", "deck_import",
                                         "deck_import_error")
    )  # fmt: skip


@pytest.mark.breaks_books
async def test_lists_are_read_from_indexes(api: Api) -> None:
    """As a partner with row-level security; alpha has few decks, and a long one."""
    deck = await made(api.alpha)
    deck_id = UUID(hex=deck.rpartition("_")[2])
    for statement in FILL.split(";"):
        if statement.strip():
            await api.house.rows(statement, *([deck_id] if "$1" in statement else []))
    rows = "".join(f"5{n:05},x,1,,,\n" for n in range(5_000))
    one = await staged(api.operator, deck, f"{HEAD}\n{rows}")
    wrong = await staged(api.operator, deck, f"{HEAD}\n" + "x,y,z,,,\n" * 3_000)
    assert (one["state"], wrong["state"]) == ("staged", "refused")
    await api.house.rows("ANALYZE")
    import_id, wrong_id = (UUID(hex=item["import_id"].removeprefix("imp_")) for item in (one, wrong))
    pages = queries.deck_pages
    place = {
        "deck_id": deck_id, "first": "110000", "last": "9" * 16, "prefix": "110000", "origin_set": "",
        "begins": datetime(1, 1, 1, tzinfo=UTC), "destination": None, "at": None, "rows": 21,
    }  # fmt: skip
    asked: list[tuple[Query, dict[str, Any]]] = [
        (pages.decks, {"before": LAST, "rows": 21, "partner_id": api.alpha.partner_id, "side": None, "name": None}),
        (pages.deck, {"deck_id": deck_id}),
        (pages.rates, place),
        (pages.rates_of_version, place | {"version": 2}),
        (pages.rates_at, {"deck_id": deck_id, "prefixes": ["1", "11", "110001"], "at": datetime.now(UTC)}),
        (pages.touched, {"deck_id": deck_id, "prefix": "110000", "older": 1, "newer": 2, "rows": 21}),
        (pages.rates_of_prefixes, {"deck_id": deck_id, "prefixes": ["110001", "110002"], "version": 2}),
        (pages.versions, {"deck_id": deck_id, "before": 2000, "rows": 21}),
        (pages.imports, {"deck_id": deck_id, "before": LAST, "rows": 21}),
        (pages.errors, {"import_id": wrong_id, "after": 0, "rows": 21}),
        (pages.changes, {"import_id": import_id, "prefix": "501000", "origin_set": "", "kind": None, "rows": 21}),
    ]  # fmt: skip
    read = {}
    async with api.services.asking.acquire() as conn, conn.transaction():
        await queries.access.enter.run(
            conn, role="callbridge_partner", partner_id=str(api.alpha.partner_id), for_transaction=True
        )
        for query, given in asked:
            name = next(key for key, value in vars(pages).items() if value is query)
            read[name] = await rows_read(conn, query, **given)
    assert {name: count for name, count in read.items() if count > READ_MAX} == {}
