"""Statements on real books: drafted from sealed records, approved once, sent, paid; and who tries otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.calls import rerate
from bridge.calls.ended import EndRecord
from bridge.calls.selection import Criteria
from bridge.database import connection, transaction
from bridge.errors import AlreadySettled, Conflict, Invalid, NotFound
from bridge.ledger.entry import Entry
from bridge.ledger.store import book, note_fx, refund, system_account
from bridge.partners.deal import ON_NET, Basis, Commitment, Funding, Share, Terms, Wholesale, ZeroRated
from bridge.partners.month import month, month_of
from bridge.partners.store.statement_audit import audit_statements
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.money import parse_micro
from tests.command import Callbridge
from tests.seeded import Seeded, at_once
from tests.stating import FROM, MONTH, NOW, STEPS, TO, ZONE, Scene, scene_of


@pytest.fixture
async def scene(house: Seeded, dsn: str) -> AsyncIterator[Scene]:
    made = await scene_of(house, dsn)
    yield made
    await made.sound()


async def test_from_calls_to_a_settled_statement(scene: Scene) -> None:
    """180 s were sold for 0.18 and cost 0.09; the deal makes 0.072 + 0.024 of that, and a quarter of 0.18."""
    statement_id = await scene.approved()
    assert await scene.lines(statement_id) == [
        ("wholesale", 120, 72_000), ("wholesale", 60, 24_000), ("revenue_share", 0, 45_000),
    ]  # fmt: skip
    row = await scene.do("statement", statement_id)
    assert (row["state"], row["total_micro"], row["edition"]) == ("approved", 141_000, 2)
    assert (row["first_no"], row["last_no"]) == (1, 2)
    assert await scene.balances() == {
        "partner Alpha": 141_000, "carrier alpha": 0, "cost EUR": -141_000, "revenue EUR": 180_000,
        "cash EUR": -100_000_000,
    }  # fmt: skip
    sent = await scene.do("send", statement_id, channel="email", author="ben")
    assert sent["state"] == "sent"
    part = await scene.do("settle", statement_id, 41_000, key="first", author="ben")
    assert (part["state"], part["paid_micro"]) == ("sent", 41_000)
    with pytest.raises(Conflict, match=r"Only 0\.10 EUR are open"):
        await scene.do("settle", statement_id, 100_001, key="more", author="ben")
    again = await scene.do("settle", statement_id, 41_000, key="first", author="ben")
    assert again["paid_micro"] == 41_000
    with pytest.raises(Conflict, match="another payment"):
        await scene.do("settle", statement_id, 40_000, key="first", author="ben")
    last = await scene.do("settle", statement_id, key="second", author="ben")
    assert (last["state"], last["paid_micro"]) == ("settled", 141_000)
    assert (await scene.balances())["partner Alpha"] == 0
    noted = await scene.house.rows(
        "SELECT action, actor, subject, partner_id FROM audit_log ORDER BY audit_id"
    )
    assert [row["action"] for row in noted] == [
        "statement.draft", "statement.approve", "statement.send", "statement.pay", "statement.pay",
    ]  # fmt: skip
    assert {row["subject"] for row in noted} == {f"stm_{statement_id.hex}"}
    assert {row["partner_id"] for row in noted} == {scene.partner_id}


async def test_what_comes_to_nothing_is_settled_when_it_is_sent(scene: Scene) -> None:
    deal_id = await scene.deal()
    await scene.seal()
    await scene.close()
    statement_id = await scene.draft(deal_id)
    await scene.do("approve", statement_id, author="ben")
    assert (await scene.do("send", statement_id, channel="post", author="ben"))["state"] == "settled"
    assert await scene.lines(statement_id) == []


async def test_a_partner_that_owes_us_pays(scene: Scene) -> None:
    """Its subscriber called a zero-rated destination, over somebody else's trunk: 60 s cost us 0.03."""
    await scene.house.rows("UPDATE trunk SET partner_id = NULL")
    deal_id = await scene.deal(Terms(zero_rated=ZeroRated(("49",))))
    await scene.house.rows("UPDATE plan SET zero_rated = '{49}'")
    await scene.house.reload()
    await scene.talk(60)
    await scene.seal()
    await scene.close()
    statement_id = await scene.draft(deal_id)
    assert await scene.lines(statement_id) == [("zero_rated", 60, -30_000)]
    await scene.do("approve", statement_id, author="ben")
    await scene.do("send", statement_id, channel="email", author="ben")
    assert (await scene.balances())["partner Alpha"] == -30_000
    assert (await scene.do("settle", statement_id, key="all", author="ben"))["state"] == "settled"
    balances = await scene.balances()
    assert (balances["partner Alpha"], balances["bank EUR"], balances["revenue EUR"]) == (0, -30_000, 30_000)


async def test_only_a_month_that_is_over_and_numbered(scene: Scene) -> None:
    deal_id = await scene.deal()
    with pytest.raises(Conflict, match="not at all"):
        await scene.draft(deal_id)
    await scene.seal(TO - timedelta(days=1))
    with pytest.raises(Conflict, match=r"until .* only"):
        await scene.draft(deal_id)
    with pytest.raises(Invalid, match="is not over"):
        await scene.do("draft", deal_id, month_of(NOW, ZONE), ZONE)
    with pytest.raises(NotFound):
        await scene.do("draft", uuid4(), MONTH, ZONE)
    await scene.seal()
    early = month_of(FROM - timedelta(days=800), ZONE)
    with pytest.raises(Invalid, match="was not in force"):
        await scene.do("draft", deal_id, early, ZONE)


async def test_the_books_are_closed_before_it_is_approved(scene: Scene) -> None:
    deal_id = await scene.deal()
    await scene.seal()
    statement_id = await scene.draft(deal_id)
    with pytest.raises(Conflict, match=r"callbridge period close"):
        await scene.do("approve", statement_id, author="ben")


async def test_another_draft_takes_the_place_of_the_first(scene: Scene) -> None:
    deal_id = await scene.deal()
    await scene.talk(60)
    await scene.seal()
    first = await scene.draft(deal_id)
    assert await scene.draft(deal_id) == first
    row = await scene.do("statement", first)
    assert (row["edition"], row["state"]) == (2, "draft")
    assert len(await scene.lines(first)) == 2
    await scene.close()
    assert await scene.do("approve", first, 1, author="ben") is None
    await scene.do("approve", first, 2, author="ben")
    with pytest.raises(Conflict, match="next month"):
        await scene.draft(deal_id)


async def test_approving_sees_that_the_books_have_changed(scene: Scene) -> None:
    """Another deal with the partner takes the traffic over, after the draft."""
    share = Terms(revenue_share=(Share(100, Basis.RETAIL_REVENUE),))
    deal_id = await scene.deal(share)
    await scene.talk(60)
    await scene.seal()
    await scene.close()
    statement_id = await scene.draft(deal_id)
    assert [kind for kind, *_ in await scene.lines(statement_id)] == ["wholesale", "revenue_share"]
    await scene.deal(Terms(Wholesale(STEPS)), name="Steps")
    assert await scene.do("check", statement_id) != []
    with pytest.raises(Conflict, match="Draft it again"):
        await scene.do("approve", statement_id, author="ben")
    await scene.draft(deal_id)
    assert await scene.do("check", statement_id) == []
    assert [kind for kind, *_ in await scene.lines(statement_id)] == ["revenue_share"]


async def test_two_deals_with_the_same_kind_of_terms_are_named(scene: Scene) -> None:
    deal_id = await scene.deal()
    await scene.deal(Terms(Wholesale(STEPS)), name="Another")
    await scene.seal()
    with pytest.raises(Conflict, match=r"'Termination' and 'Another'"):
        await scene.draft(deal_id)


async def test_approved_by_ten_at_once_it_is_booked_once(scene: Scene) -> None:
    deal_id = await scene.deal()
    await scene.talk(60)
    await scene.seal()
    await scene.close()
    statement_id = await scene.draft(deal_id)

    async def one() -> str:
        try:
            await scene.do("approve", statement_id, author="ben")
        except Conflict:
            return "refused"
        return "approved"

    said = await at_once([one] * 10)
    assert sorted(said) == ["approved"] + ["refused"] * 9
    assert await scene.house.value("SELECT count(*) FROM transfer WHERE kind = 'settlement'") == 1


async def test_paid_by_ten_at_once_it_is_paid_once(scene: Scene) -> None:
    statement_id = await scene.approved()
    await scene.do("send", statement_id, channel="email", author="ben")

    async def one() -> str:
        try:
            row = await scene.do("settle", statement_id, 100_000, key="one", author="ben")
        except Conflict:
            return "refused"
        return str(row["paid_micro"])

    assert await at_once([one] * 10) == ["100000"] * 10

    async def other() -> str:
        try:
            await scene.do("settle", statement_id, 30_000, key=str(uuid4()), author="ben")
        except Conflict:
            return "refused"
        return "paid"

    assert sorted(await at_once([other] * 5)) == ["paid"] + ["refused"] * 4
    assert await scene.house.value("SELECT count(*) FROM transfer WHERE kind = 'payment'") == 2


async def test_what_was_approved_stays(scene: Scene) -> None:
    statement_id = await scene.approved()
    for sql in (
        "UPDATE statement SET total_micro = 1",
        "UPDATE statement SET inputs = '{}'",
        "UPDATE statement SET state = 'draft', approved_at = NULL, approved_by = NULL",
        "UPDATE statement SET state = 'settled', settled_at = now()",
        "DELETE FROM statement",
        "UPDATE statement_line SET amount_micro = 1",
        "DELETE FROM statement_line",
        """INSERT INTO statement_line SELECT statement_id, 9, kind, title, 0, '', NULL, NULL, 1, '', ''
             FROM statement_line""",
    ):
        with pytest.raises(AlreadySettled):
            await scene.house.rows(sql)
    with pytest.raises(Conflict, match="sent"):
        await scene.do("settle", statement_id, key="early", author="ben")


async def test_what_is_learnt_late_stands_apart_and_counts_once(scene: Scene) -> None:
    """A call of the month before that is numbered in this one, and a later price of a call of the month before."""
    deal_id = await scene.deal()
    await scene.talk(60, FROM - timedelta(days=2))
    await scene.seal(FROM + timedelta(hours=1))
    await scene.talk(60, FROM - timedelta(days=3))
    await scene.talk(60)
    await scene.seal()
    assert await scene.lines(await scene.draft(deal_id)) == [
        ("wholesale", 60, 36_000), ("revenue_share", 0, 15_000), ("correction", 60, 36_000),
        ("correction", 0, 15_000),
    ]  # fmt: skip
    before = month_of(FROM - timedelta(days=1), ZONE)
    earlier = await scene.do("draft", deal_id, before, ZONE)
    assert await scene.lines(earlier) == [("wholesale", 60, 36_000), ("revenue_share", 0, 15_000)]


async def test_dollars_need_a_rate(scene: Scene) -> None:
    deal_id = await scene.deal(Terms(revenue_share=(Share(2_500, Basis.RETAIL_REVENUE),)), currency="USD")
    await scene.talk(60)
    await scene.seal()
    await scene.close()
    with pytest.raises(Invalid, match=r"EUR to USD .*callbridge fx set EUR USD RATE --on"):
        await scene.draft(deal_id)
    async with transaction(scene.house.pool) as conn:
        last_day = (TO - timedelta(hours=6)).date()
        await note_fx(conn, "EUR", "USD", 1_200_000_000, last_day, source="test")
    statement_id = await scene.draft(deal_id)
    assert await scene.lines(statement_id) == [("wholesale", 60, 36_000), ("revenue_share", 0, 18_000)]
    await scene.do("approve", statement_id, author="ben")
    name = f"partner {scene.partner_id.hex} USD"
    balances = await scene.balances()
    assert (balances[name], balances["carrier alpha"]) == (54_000, 0)
    assert (balances["exchange EUR"], balances["exchange USD"], balances["cost USD"]) == (
        30_000,
        -36_000,
        -18_000,
    )


@pytest.mark.breaks_books
async def test_the_audit_finds_a_statement_that_does_not_follow(house: Seeded, dsn: str) -> None:
    made = await scene_of(house, dsn)
    await made.approved()
    await house.rows("ALTER TABLE statement DISABLE TRIGGER statement_stays")
    await house.rows("ALTER TABLE cdr DISABLE TRIGGER cdr_insert_only")
    await house.rows("UPDATE statement SET total_micro = total_micro + 1")
    await house.rows("UPDATE cdr SET billed_s = billed_s + 1 WHERE leg = 'termination'")
    async with connection(house.pool) as conn:
        found = await audit_statements(conn)
    assert found["statements_follow_from_their_inputs"] and found["statements_count_every_record"]
    assert not found["settlements_are_booked_as_stated"]
    assert "statements_equal_their_lines" in await house.broken()


async def test_a_later_price_is_on_the_statement_of_the_month_it_was_found_in(scene: Scene) -> None:
    """60 s were sold for 0.06 and cost 0.03: they should have been 0.09 and 0.024."""
    deal_id = await scene.deal(Terms(revenue_share=(Share(2_500, Basis.RETAIL_REVENUE),)))
    await scene.talk(60)
    await scene.seal()
    await scene.house.rows("UPDATE rate SET rate_micro = 90000 WHERE rate_micro = 60000 AND prefix = '49'")
    await scene.house.rows("UPDATE rate SET rate_micro = 24000 WHERE rate_micro = 30000 AND prefix = '49'")
    async with connection(scene.house.pool) as conn:
        asked = Criteria(since=NOW - timedelta(days=1))
        told = await rerate.preview(conn, asked, author="anna", reason="a wrong deck")
        await rerate.run(conn, UUID(told["run_id"]))
    this_month, (_, over) = month_of(NOW, ZONE), month(month_of(NOW, ZONE), ZONE)
    await scene.seal(over)
    first = await scene.draft(deal_id)
    assert await scene.lines(first) == [("wholesale", 60, 30_000), ("revenue_share", 0, 15_000)]
    second = await scene.do("draft", deal_id, this_month, ZONE, at=over)
    assert await scene.lines(second) == [("correction", 0, -6_000), ("correction", 0, 7_500)]


@pytest.mark.parametrize("on", ["partner", "carrier"])
async def test_what_a_dispute_ended_with_is_paid_and_booked_once(scene: Scene, on: str) -> None:
    """0.30 in the partner's favour, booked when it was decided, on its own account or on its carrier's."""
    deal_id = await scene.deal(Terms())
    await scene.seal()
    name = "partner Alpha" if on == "partner" else "carrier alpha"
    account_id = await scene.house.value("SELECT account_id FROM account WHERE name = $1", name)
    async with transaction(scene.house.pool) as conn:
        ours = await system_account(conn, "correction", "EUR")
        entries = (Entry(str(account_id), 300_000, "EUR"), Entry(ours, -300_000, "EUR"))
        booked = await book(conn, "correction", entries, key="dispute", author="anna", note="agreed")
    await scene.house.rows(
        """INSERT INTO dispute (account_id, partner_id, opened_by, kind, title, claimed_micro, currency, state,
                                deadline, agreed_micro, transfer_id, decided_at, author)
           VALUES ($1, $2, 'them', 'rate', 'March', 400000, 'EUR', 'settled', now(), 300000, $3, $4, 'anna')""",
        account_id, scene.partner_id, UUID(booked), FROM + timedelta(days=5),
    )  # fmt: skip
    await scene.close()
    statement_id = await scene.draft(deal_id)
    assert await scene.lines(statement_id) == [("dispute", 0, 300_000)]
    await scene.do("approve", statement_id, author="ben")
    balances = await scene.balances()
    assert (balances["partner Alpha"], balances.get("carrier alpha", 0)) == (300_000, 0)
    await scene.do("send", statement_id, channel="email", author="ben")
    await scene.do("settle", statement_id, key="all", author="ben")
    assert (await scene.balances())["partner Alpha"] == 0


async def bought(scene: Scene, *when: datetime) -> UUID:
    """A bundle at 4.99, bought then. Returns its id."""
    for at in when:
        allowance_id = await scene.house.buy(scene.who, SeedBundle("S", 4_990_000, 100, {"sms": 1}))
        await _booked_then(
            scene, at, "SELECT transfer_id FROM allowance WHERE allowance_id = $1", allowance_id
        )
    bundle_id: UUID = await scene.house.value("SELECT bundle_id FROM bundle WHERE name = 'S'")
    return bundle_id


async def _booked_then(scene: Scene, at: datetime, sql: str, *args: object) -> UUID:
    """As if the transfer that the query names had been booked then."""
    transfer_id: UUID = await scene.house.value(sql, *args)
    await scene.house.rows("ALTER TABLE transfer DISABLE TRIGGER transfer_insert_only")
    await scene.house.rows("UPDATE transfer SET booked_at = $1 WHERE transfer_id = $2", at, transfer_id)
    await scene.house.rows("ALTER TABLE transfer ENABLE TRIGGER transfer_insert_only")
    return transfer_id


async def test_bundles_sold_less_those_given_back(scene: Scene) -> None:
    """Two of the month, one of them refunded; one of the month before, refunded in part in this one."""
    bundle_id = await bought(
        scene, FROM - timedelta(days=9), FROM + timedelta(days=1), FROM + timedelta(days=2)
    )
    deal_id = await scene.deal(
        Terms(
            revenue_share=(Share(1_000, Basis.BUNDLE_SALES),),
            bundle_funding=(Funding(bundle_id, "S", 5_000),),
        )
    )
    paid = await scene.house.rows("SELECT transfer_id FROM allowance ORDER BY bought_at, allowance_id")
    for purchase, amount in ((paid[0], 1_000_000), (paid[1], None)):
        async with transaction(scene.house.pool) as conn:
            given = await refund(
                conn, purchase["transfer_id"], amount, key=str(uuid4()), author="anna", note="x"
            )
        await _booked_then(scene, FROM + timedelta(days=3), "SELECT $1::uuid", UUID(given))
    await scene.seal()
    assert await scene.lines(await scene.draft(deal_id)) == [
        ("revenue_share", 0, 499_000), ("bundle_funding", 1, -2_495_000), ("correction", 0, -100_000),
        ("correction", 0, 500_000),
    ]  # fmt: skip


async def rich_month(scene: Scene) -> UUID:
    """One of each kind of line. Returns the deal."""
    await scene.house.rows("UPDATE plan SET zero_rated = '{49800}'")
    await scene.house.reload()
    bundle_id = await bought(scene, FROM + timedelta(days=1), FROM + timedelta(days=2))
    terms = Terms(
        Wholesale(STEPS), (Share(2_500, Basis.RETAIL_REVENUE),), Commitment(1_000_000, 10),
        ZeroRated(("49800",), (ON_NET,)), (Funding(bundle_id, "S", 5_000),),
    )  # fmt: skip
    deal_id = await scene.deal(terms)
    await scene.seal(FROM + timedelta(hours=1))
    await scene.talk(60, FROM - timedelta(days=3))
    await scene.talk(200)
    verdict = await scene.house.admitted(scene.who, "+498001234567")
    end_us = int((FROM + timedelta(days=8)).timestamp() * 1_000_000)
    await scene.house.end(
        EndRecord(
            verdict.frozen.call_id, 1, end_us - 75_000_000, end_us, "journal", "ANSWER", 16, "caller", 100
        )
    )
    await scene.seal()
    return deal_id


async def test_the_command_line_goes_the_whole_way(scene: Scene, callbridge: Callbridge) -> None:
    await rich_month(scene)

    def ask(*words: str, text: bool = False) -> Any:
        return asyncio.to_thread(callbridge, "statement", *words, text=text)

    [drafted] = await ask("draft", MONTH, "--author", "anna")
    told = drafted["statement_id"]
    assert (drafted["state"], drafted["partner"], drafted["deal"]) == ("draft", "Alpha", "Termination")
    kinds = [one["kind"] for one in (await ask("show", told))["lines"]]
    assert kinds == [
        "wholesale", "wholesale", "revenue_share", "shortfall", "shortfall", "bundle_funding", "zero_rated",
        "correction", "correction",
    ]  # fmt: skip
    assert (await ask("check", told))["differs"] == []
    [again] = await ask("draft", MONTH, "--author", "anna", "--deal", "Termination")
    assert again["total"] == drafted["total"]
    await scene.close()
    approved = await ask("approve", told, "--author", "ben")
    assert approved["state"] == "approved"
    assert sum(parse_micro(one["amount"]) for one in approved["lines"]) == parse_micro(approved["total"])
    await ask("send", told, "--author", "ben", "--by", "email")
    await ask("pay", told, "0.5", "--author", "ben", "--key", "k1")
    paid = await ask("pay", told, "--author", "ben", "--key", "k2")
    assert (paid["state"], paid["open"], len(paid["payments"])) == ("settled", "0.00", 2)
    text = await ask("show", told, text=True)
    for said in (
        "Alpha owes us",
        "Zero-rated traffic",
        "(1 call)",
        "4.416667 min",
        "paid 0.50 EUR",
        "Settled.",
    ):
        assert said in text, text
    listed = await ask("list", "--month", MONTH, text=True)
    assert told in listed and "positive: we owe it" in listed
