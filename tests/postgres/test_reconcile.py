"""A counterparty's file against our records: read whole or not at all, matched one to one, and told."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

import pytest

from bridge.database import Connection, store_errors
from bridge.errors import AlreadySettled, Conflict, Invalid, NotFound
from bridge.partners.store import dispute as disputes
from bridge.partners.store import reconcile as store
from tests.reconciled import FROM, TO, Scene, calls, counts, scene, written


async def store_errors_of(conn: Connection, sql: str) -> None:
    async with store_errors():
        await conn.execute(sql)


@pytest.fixture
async def books(conn: Connection) -> Scene:
    return await scene(conn)


async def test_each_class_has_its_calls(books: Scene) -> None:
    made = calls(40)
    await books.record(made)
    await books.sealed()
    theirs = [
        *(
            one.moved(answer_at=one.answer_at + timedelta(seconds=3), talk_ms=one.talk_ms + 900)
            for one in made[:30]
        ),
        *(one.moved(micro=one.micro * 2) for one in made[30:33]),
        *(one.moved(talk_ms=one.talk_ms + 60_000) for one in made[33:35]),
        made[35].moved(b=493099999999, id="never"),
    ]
    run = await books.matched(theirs)
    assert counts(run) == {"matched": 30, "rate": 3, "duration": 2, "only_ours": 5, "only_theirs": 1}
    assert run["ways"] == {"id": 0, "number": 33, "time": 2}
    rate, sums = run["classes"]["rate"], sum(one.micro for one in made[30:33])
    assert (rate["our_micro"], rate["their_micro"]) == (sums, 2 * sums)


async def test_ids_of_ours_match_whatever_else_differs(books: Scene) -> None:
    made = calls(6)
    ids = await books.record(made)
    await books.sealed()
    header = ("call_id", "b_number", "answer_at", "duration", "amount")
    lines = [header] + [
        (
            f"call_{key.hex}",
            "",
            (one.answer_at + timedelta(hours=1)).isoformat(),
            one.talk_ms / 1000,
            one.micro / 1e6,
        )
        for key, one in zip(ids, made, strict=True)
    ]
    lines.append(lines[1])  # billed twice
    said = await books.read("".join(",".join(map(str, line)) + "\n" for line in lines).encode())
    run = await store.match(books.conn, UUID(said["run_id"]))
    assert counts(run) == {"matched": 6, "only_theirs": 1}
    assert run["ways"]["id"] == 6
    assert "their clock is 3600 s ahead of ours" in run["hints"][0]


async def test_a_wrong_clock_is_told_and_can_be_put_right(books: Scene) -> None:
    made = calls(30)
    await books.record(made)
    await books.sealed()
    run = await books.matched([one.moved(answer_at=one.answer_at - timedelta(hours=1)) for one in made])
    assert counts(run) == {"only_ours": 30, "only_theirs": 30}
    assert "their clock is 3600 s behind ours in 30 of 30 calls. That is a time zone" in run["hints"][0]
    again = await store.match(books.conn, UUID(run["run_id"]), clock_ms=3_600_000)
    assert (counts(again), again["hints"]) == ({"matched": 30}, [])


async def test_the_nearest_match_and_each_only_once(books: Scene) -> None:
    """Three calls to one number within seconds, of the same length."""
    first = calls(1)[0]
    ours = [first.moved(answer_at=first.answer_at + timedelta(seconds=s)) for s in (0, 2, 4)]
    await books.record(ours)
    await books.sealed()
    theirs = [
        first.moved(answer_at=first.answer_at + timedelta(seconds=s), id=str(s)) for s in (1.9, 4.2, 4.4, 0.3)
    ]
    run = await books.matched(theirs)
    assert counts(run) == {"matched": 3, "only_theirs": 1}
    pairs = {row["row_no"]: row["cdr_no"] for row in await books.pairs(run)}
    assert pairs == {2: 4, 3: 6, 4: None, 5: 2}  # each call has a record of its leg in, too


async def test_tolerance_is_by_contract(books: Scene) -> None:
    made = calls(4)
    await books.record(made)
    await books.sealed()
    theirs = [
        made[0].moved(answer_at=made[0].answer_at + timedelta(seconds=20)),
        made[1].moved(talk_ms=made[1].talk_ms + 9_000),
        made[2].moved(micro=made[2].micro * 102 // 100),
        made[3],
    ]
    run = await books.matched(theirs)
    assert counts(run) == {"matched": 1, "rate": 1, "duration": 1, "only_ours": 1, "only_theirs": 1}
    whose = await store.counterparty(books.conn, books.carrier)
    await store.set_terms(books.conn, whose, answer_s=30, duration_s=10, amount_permyriad=200)
    assert counts(await store.match(books.conn, UUID(run["run_id"]))) == {"matched": 4}
    with pytest.raises(Invalid):
        await store.set_terms(books.conn, whose, answer_s=601)


async def test_a_call_at_the_edge_is_matched_once_and_never_only_ours(books: Scene) -> None:
    """It began in October and ended in November: ours counts it there, theirs in October."""
    over = calls(1)[0].moved(answer_at=TO - timedelta(minutes=5), talk_ms=600_000)
    early = over.moved(b=over.b + 1, answer_at=FROM - timedelta(hours=2), talk_ms=1_000)
    await books.record([over, early])
    await books.sealed()
    assert counts(await books.matched([over])) == {"matched": 1}
    november = await books.read(b"b_number,answer_at,duration\n", leg="termination")
    run = await store.match(books.conn, UUID(november["run_id"]))
    assert counts(run) == {}


async def test_a_partner_s_trunk_is_not_the_carrier_s(books: Scene) -> None:
    made = calls(4)
    await books.record(made[:2])
    await books.record(made[2:], books.partner_trunk)
    await books.sealed()
    assert counts(await books.matched(made, party="E-Plus")) == {"matched": 2, "only_theirs": 2}
    assert counts(await books.matched(made)) == {"matched": 2, "only_theirs": 2}
    with pytest.raises(Invalid, match="only a partner"):
        await books.read(b"b_number,answer_at,duration\n", leg="origination")
    with pytest.raises(NotFound):
        await store.counterparty(books.conn, "Nobody")


async def test_the_same_file_is_imported_once(books: Scene) -> None:
    await books.sealed()
    first = await books.matched([])
    with pytest.raises(Conflict, match=first["run_id"]):
        await books.read(b"id,a_number,b_number,answer_at,duration,amount\n")
    await store.remove(books.conn, UUID(first["run_id"]))
    assert (await books.read(b"id,a_number,b_number,answer_at,duration,amount\n"))["state"] == "imported"


async def test_nothing_is_half_imported(books: Scene) -> None:
    await books.sealed()
    good = calls(3000)
    lines = written(good).decode().splitlines()
    lines[2500] = lines[2500].replace("+49", "=49", 2)
    lines.append(lines[1])
    said = await books.read("\n".join(lines).encode())
    assert (said["state"], said["error_count"]) == ("refused", 2)
    assert [one["row"] for one in said["errors"]] == [2501, 2501]
    lines = written(good[:10]).decode().splitlines()
    said = await books.read("\n".join([*lines, lines[1]]).encode())
    assert said["errors"] == [{"row": 12, "column": "id", "problem": "is that of row 2, too"}]
    for table in ("recon_run", "recon_row"):
        assert await books.conn.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_numbers_in_each_other_s_column_are_found_by_ours(books: Scene) -> None:
    made = calls(20)
    await books.record(made)
    await books.sealed()
    said = await books.read(written(one.moved(a=one.b, b=one.a) for one in made))
    assert said["state"] == "refused"
    assert said["errors"][0]["column"] == "a_number, b_number"
    assert "20 of 20 rows" in said["errors"][0]["problem"]


async def test_purged_numbers_are_no_reason_to_claim(books: Scene) -> None:
    made = calls(5)
    ids = await books.record(made)
    await books.sealed()
    await books.conn.execute("DELETE FROM attempt; DELETE FROM call")
    said = await books.read(written(made))
    with pytest.raises(Conflict, match="numbers of 5 of our 5 records of the period are purged"):
        await store.match(books.conn, UUID(said["run_id"]))
    header = ("call_id", "answer_at", "duration", "amount")
    rows = [header] + [
        (key, one.answer_at.isoformat(), one.talk_ms / 1000, f"{one.micro / 1e6:.6f}")
        for key, one in zip(ids, made, strict=True)
    ]
    said = await books.read("".join(",".join(map(str, row)) + "\n" for row in rows).encode())
    assert counts(await store.match(books.conn, UUID(said["run_id"]))) == {"matched": 5}


async def test_what_is_not_numbered_yet_is_not_missing(books: Scene) -> None:
    made = calls(2)
    await books.record(made)
    await books.sealed(TO - timedelta(days=1))
    said = await books.read(written(made))
    with pytest.raises(Conflict, match="numbered until 2026-10-31"):
        await store.match(books.conn, UUID(said["run_id"]))


async def test_a_class_is_claimed_booked_and_on_the_next_statement(books: Scene) -> None:
    made = calls(10)
    await books.record(made)
    await books.sealed()
    run = await books.matched([*(one.moved(micro=one.micro + 50_000) for one in made[:4]), *made[4:]])
    whose = await store.counterparty(books.conn, books.carrier)
    async with books.conn.transaction():
        claim = disputes.Claim(
            "us", "rate", "Rates of October", "tests", run_id=UUID(run["run_id"]), class_="rate"
        )
        row = await disputes.open_dispute(books.conn, whose["account_id"], claim)
        theirs = disputes.Claim("them", "rate", "x", "tests", run_id=UUID(run["run_id"]), class_="rate")
        with pytest.raises(Invalid, match="not in favour"):
            await disputes.open_dispute(books.conn, whose["account_id"], theirs)
    assert row["claimed_micro"] == 200_000
    held = await books.conn.fetch("SELECT cdr_no FROM cdr WHERE dispute_holds_v1(cdr_no)")
    assert len(held) == 4
    with pytest.raises(Conflict, match="dispute was opened"):
        await store.match(books.conn, UUID(run["run_id"]))
    with pytest.raises(Conflict):
        await store.remove(books.conn, UUID(run["run_id"]))
    async with books.conn.transaction():
        await disputes.decide(books.conn, row["dispute_id"], "settled", "us", "tests", agreed_micro=150_000)
    now = await books.conn.fetchval("SELECT clock_timestamp()")
    outcomes = await disputes.dispute_outcomes(books.conn, whose["account_id"], now - timedelta(hours=1), now)
    assert [(one["amount_micro"], one["title"]) for one in outcomes] == [(-150_000, "Rates of October")]
    balance = await books.conn.fetchval(
        "SELECT sum(amount_micro) FROM entry WHERE account_id = $1", whose["account_id"]
    )
    assert balance == -150_000
    assert not await books.conn.fetch("SELECT cdr_no FROM cdr WHERE dispute_holds_v1(cdr_no)")
    with pytest.raises(AlreadySettled):
        await store_errors_of(books.conn, "UPDATE dispute SET state = 'rejected'")


async def test_numbers_of_files_are_forgotten_in_time_but_not_while_disputed(books: Scene) -> None:
    made = calls(5)
    await books.record(made)
    await books.sealed()
    run = await books.matched([one.moved(micro=one.micro + 900_000) for one in made])
    whose = await store.counterparty(books.conn, books.carrier)
    claim = disputes.Claim("us", "rate", "x", "tests", run_id=UUID(run["run_id"]), class_="rate")
    async with books.conn.transaction():
        row = await disputes.open_dispute(books.conn, whose["account_id"], claim)
    forget = "SELECT recon_forget_v1($1)"
    assert await books.conn.fetchval(forget, (TO + timedelta(days=400)).date()) == 0
    async with books.conn.transaction():
        await disputes.decide(books.conn, row["dispute_id"], "rejected", "us", "tests")
    assert await books.conn.fetchval(forget, TO.date()) == 0
    assert await books.conn.fetchval(forget, (TO + timedelta(days=400)).date()) == 5
    assert (
        await books.conn.fetchval(
            "SELECT count(*) FROM recon_row WHERE coalesce(a_number, b_number) IS NOT NULL"
        )
        == 0
    )


async def test_no_row_and_no_record_is_in_two_matches_and_none_is_lost(books: Scene) -> None:
    """Few numbers, many calls: most have several candidates. Any order of the file says the same."""
    chance = random.Random(7)
    ours = calls(600, seed=7, numbers=3)
    crowded = [
        one.moved(answer_at=FROM + (one.answer_at - FROM) / 4000, talk_ms=one.talk_ms % 4000 + 1)
        for one in ours
    ]
    theirs = [
        one.moved(
            answer_at=one.answer_at + timedelta(milliseconds=chance.randrange(-4000, 4000)),
            talk_ms=one.talk_ms + chance.randrange(3000),
            micro=one.micro + chance.choice((0, 0, 5000)),
        )
        for one in crowded[:500]
    ] + [one.moved(id=f"y{one.id}") for one in calls(50, seed=8, numbers=3)]
    await books.record(crowded)
    await books.sealed()
    told = []
    for turn in range(3):
        run = await books.matched(theirs)
        rows = await books.pairs(run)
        for key, there in (("row_no", len(theirs)), ("cdr_no", len(crowded))):
            seen = [row[key] for row in rows if row[key] is not None]
            assert len(seen) == len(set(seen)) == there
        assert sum(one["our_micro"] for one in run["classes"].values()) == sum(one.micro for one in crowded)
        assert sum(one["their_micro"] for one in run["classes"].values()) == sum(one.micro for one in theirs)
        for row in rows:
            if row["way"] == "number":
                assert abs(row["our_ms"] - row["their_ms"]) <= 2000
        told.append((run["classes"], run["ways"]))
        random.Random(turn).shuffle(theirs)
    assert told[0] == told[1] == told[2]
    assert told[0][1]["number"] > 300
