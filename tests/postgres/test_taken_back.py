"""Refunds, reversals and corrections: once, never more than was booked, and never silently."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest

from bridge import queries
from bridge.database import transaction
from bridge.errors import (
    Conflict,
    InsufficientFunds,
    NotFound,
    StoreError,
)
from tests.bookings import (
    DOCUMENTED,
    MICRO,
    balance,
    between,
    booked,
    ours,
    purchase,
    sound,
)
from tests.seeded import Seeded, at_once, ended

# ---------------------------------------------------------------- refunds and reversals


async def test_a_refund_gives_back_no_more_than_was_paid(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    paid = await purchase(house, who, 4 * MICRO, "bundle")
    first = await booked(house, "refund", paid, 3 * MICRO, key="r1")
    assert await booked(house, "refund", paid, 3 * MICRO, key="r1") == first
    assert await balance(house, who.account_id) == 4 * MICRO
    for amount_micro in (None, MICRO + 1):
        with pytest.raises(Conflict, match="more would be refunded"):
            await booked(house, "refund", paid, amount_micro, key=f"r {amount_micro}")
    await booked(house, "refund", paid, MICRO, key="r2")
    assert await balance(house, who.account_id) == 5 * MICRO
    with pytest.raises(Conflict, match="reverse its refunds first"):
        await booked(house, "reverse", paid, **DOCUMENTED, key="v")
    await booked(house, "reverse", first, **DOCUMENTED, key="v1")
    await booked(house, "refund", paid, 2 * MICRO, key="r3")
    with pytest.raises(Conflict, match="more would be refunded"):
        await booked(house, "refund", paid, MICRO + 1, key="r4")
    assert await balance(house, who.account_id) == 4 * MICRO
    await sound(house)


async def test_refunds_at_once_are_not_more_than_was_paid(house: Seeded) -> None:
    who = await house.subscriber(10 * MICRO)
    paid = await purchase(house, who, 10 * MICRO, "bundle")

    async def one(number: int) -> None:
        with suppress(Conflict):
            await booked(house, "refund", paid, 3 * MICRO, key=f"r{number}")

    await at_once([partial(one, number) for number in range(20)])
    assert await balance(house, who.account_id) == 9 * MICRO
    await sound(house)


async def test_the_charge_of_a_call_is_refunded_and_its_cost_stays(house: Seeded) -> None:
    who = await house.subscriber(50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 6_000))
    assert await balance(house, who.account_id) == 44_000
    refunded = await booked(house, "refund", call_id, 2_000, key="r", author="anna", note="bad line")
    rows = await house.rows(
        "SELECT a.name, e.amount_micro FROM entry e JOIN account a USING (account_id) WHERE transfer_id = $1"
        " ORDER BY entry_no",
        refunded,
    )
    assert [tuple(row) for row in rows] == [(f"subscriber {who.a_number}", 2_000), ("revenue EUR", -2_000)]
    await sound(house)


async def test_a_call_is_reversed_with_its_cost(house: Seeded) -> None:
    who = await house.subscriber(50_000)
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 6_000))
    await booked(house, "reverse", call_id, **DOCUMENTED, key="v")
    assert await balance(house, who.account_id) == 50_000
    assert await house.value("SELECT sum(amount_micro)::bigint FROM entry e JOIN account a USING (account_id)"
                             " WHERE a.kind = 'carrier'") == 0  # fmt: skip
    await sound(house)


async def test_a_top_up_is_paid_out_while_it_is_there(house: Seeded) -> None:
    who = await house.subscriber()
    transfer_id = await house.top_up(who, 5 * MICRO, "voucher")
    await purchase(house, who, 2 * MICRO, "bundle")
    with pytest.raises(InsufficientFunds):
        await booked(house, "refund", transfer_id, key="all")
    await booked(house, "refund", transfer_id, 3 * MICRO, key="the rest")
    assert await balance(house, who.account_id) == 0
    await sound(house)


async def test_what_cannot_be_refunded(house: Seeded) -> None:
    who, other = await house.subscriber(5 * MICRO), await house.subscriber(5 * MICRO)
    corrected = await booked(house, "correct", who.account_id, MICRO, **DOCUMENTED, key="c")
    with pytest.raises(StoreError, match="a correction is not refunded: reverse it"):
        await booked(house, "refund", corrected, key="r")
    with pytest.raises(NotFound, match="no such transfer"):
        await booked(house, "refund", uuid4(), key="r")
    paid = await purchase(house, who, MICRO, "bundle")
    for amount_micro in (0, -1):
        with pytest.raises(StoreError, match="must be positive"):
            await booked(house, "refund", paid, amount_micro, key="r")
    revenue = await ours(house, "revenue")
    with pytest.raises(Conflict, match="more would be refunded"):  # to somebody else
        await booked(house, "book", "refund", between(revenue, other.account_id, 1), key="r", reverses=paid)
    with pytest.raises(Conflict, match="more would be refunded"):  # a second charge in disguise
        await booked(house, "book", "refund", between(who.account_id, revenue, 1), key="r", reverses=paid)
    await booked(house, "reverse", paid, **DOCUMENTED, key="v")
    with pytest.raises(Conflict, match="was reversed before"):
        await booked(house, "refund", paid, 1, key="r")
    await sound(house)


async def test_a_transfer_is_reversed_once(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    paid = await purchase(house, who, MICRO, "bundle")

    async def reverse(key: str) -> str:
        try:
            made: str = await booked(house, "reverse", paid, **DOCUMENTED, key=key)
        except Conflict as error:
            return str(error)
        return made

    results = await at_once([partial(reverse, f"v{number % 8}") for number in range(32)])
    reversals = [result for result in results if "was reversed before" not in result]
    assert len(set(reversals)) == 1
    assert len(reversals) == 4, "all with the key that came first"
    assert await balance(house, who.account_id) == 5 * MICRO
    with pytest.raises(StoreError, match="is a reversal itself"):
        await booked(house, "reverse", reversals[0], **DOCUMENTED, key="again")
    await sound(house)


async def test_a_reversal_is_the_exact_negation(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    paid = await purchase(house, who, 2 * MICRO, "bundle")
    revenue, cash = await ours(house, "revenue"), await ours(house, "cash")
    for entries in (
        between(revenue, who.account_id, MICRO),
        between(cash, who.account_id, 2 * MICRO),
        (*between(revenue, who.account_id, MICRO), *between(revenue, who.account_id, MICRO)),
        (*between(revenue, who.account_id, 2 * MICRO), *between(revenue, cash, 1)),
    ):
        with pytest.raises(Conflict, match="exact negation"):
            await booked(
                house, "book", "reversal", entries, key="v", author="anna", note="why", reverses=paid
            )
    with pytest.raises(StoreError, match="author and a reason"):
        await booked(house, "reverse", paid, author="anna", reason="", key="v")
    await booked(house, "reverse", paid, **DOCUMENTED, key="v")
    await sound(house)


async def test_a_correction_goes_both_ways_but_never_below_zero(house: Seeded) -> None:
    who = await house.subscriber(MICRO)
    await booked(house, "correct", who.account_id, MICRO, **DOCUMENTED, key="c1")
    await booked(house, "correct", who.account_id, -2 * MICRO, **DOCUMENTED, key="c2")
    with pytest.raises(InsufficientFunds):
        await booked(house, "correct", who.account_id, -1, **DOCUMENTED, key="c3")
    with pytest.raises(NotFound):
        await booked(house, "correct", str(uuid4()), 1, **DOCUMENTED, key="c4")
    row = await house.row("SELECT author, note FROM transfer WHERE idempotency_key = 'c2'")
    assert tuple(row) == ("anna", "goodwill")
    await sound(house)


# ---------------------------------------------------------------- the audit's questions

NO_TRIGGERS = "SET LOCAL session_replication_role = replica; "


@pytest.mark.parametrize(
    ("damage", "question"),
    [
        ("UPDATE entry SET amount_micro = 2 * amount_micro WHERE transfer_id = '{reversal}'", "audit_reversals"),
        ("DELETE FROM entry WHERE transfer_id = '{reversal}'", "audit_reversals"),
        ("DELETE FROM entry WHERE transfer_id = '{reversed}'; DELETE FROM transfer WHERE transfer_id = '{reversed}'",
         "audit_reversals"),
        ("DROP INDEX transfer_reversed_once; INSERT INTO transfer (kind, reverses) VALUES ('reversal', '{reversed}')",
         "audit_reversals"),
        ("UPDATE entry SET amount_micro = 5 * amount_micro WHERE transfer_id = '{refund}'", "audit_refunds"),
        ("UPDATE entry SET amount_micro = -amount_micro WHERE transfer_id = '{refund}'", "audit_refunds"),
        ("UPDATE transfer SET reverses = '{paid}' WHERE transfer_id = '{reversal}'", "audit_refunds"),
    ],
)  # fmt: skip
@pytest.mark.breaks_books
async def test_the_audit_finds_what_was_taken_back_wrongly(house: Seeded, damage: str, question: str) -> None:
    who = await house.subscriber(5 * MICRO)
    paid, wrong = [await purchase(house, who, MICRO, key) for key in ("one", "two")]
    ids = {"paid": paid, "reversed": wrong}
    ids["refund"] = await booked(house, "refund", paid, MICRO // 2, key="r")
    ids["reversal"] = await booked(house, "reverse", wrong, **DOCUMENTED, key="v")
    await sound(house)
    async with transaction(house.pool) as conn:
        await conn.execute(NO_TRIGGERS + damage.format(**ids))
        assert await getattr(queries.ledger, question).all(conn) != []
