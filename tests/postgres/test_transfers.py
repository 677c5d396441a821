"""Bookings that are no calls: each is made once, and what must not be booked is refused and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge import migrate, queries
from bridge.database import connect, connection, store_errors
from bridge.errors import (
    BridgeError,
    Conflict,
    InsufficientFunds,
    Invalid,
    InvariantBroken,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from bridge.ledger import store
from bridge.ledger.entry import AMOUNT_MICRO_MAX, Entry
from bridge.ledger.listing import BEGINNING, account, accounts, statement
from bridge.sandbox.postgres import EmbeddedPostgres
from tests.bookings import (
    DOCUMENTED,
    MICRO,
    balance,
    between,
    booked,
    ours,
    purchase,
    sound,
    transfers,
)
from tests.seeded import Seeded, at_once, ended

# ---------------------------------------------------------------- once a key


async def test_fifty_at_once_with_one_key_book_once(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    ids = await at_once([partial(purchase, house, who, 4 * MICRO, "bundle 1")] * 50)
    assert len(set(ids)) == 1
    assert await balance(house, who.account_id) == MICRO
    await sound(house)


async def test_a_repeat_is_answered_though_the_money_is_gone_the_period_closed_and_the_account_too(
    house: Seeded,
) -> None:
    who = await house.subscriber(5 * MICRO)
    at = datetime.now(UTC)
    first = await purchase(house, who, 5 * MICRO, "bundle", value_at=at)
    await booked(house, "close_period", at + timedelta(microseconds=1), author="anna")
    await house.rows("UPDATE account SET state = 'closed' WHERE account_id = $1", who.account_id)
    assert await purchase(house, who, 5 * MICRO, "bundle", value_at=at) == first


async def test_a_key_with_anything_else_is_a_conflict(house: Seeded) -> None:
    who, other = await house.subscriber(9 * MICRO), await house.subscriber(9 * MICRO)
    at = datetime.now(UTC)
    await purchase(house, who, MICRO, "bundle", note="n", author="a", value_at=at)
    more: dict[str, Any] = {"note": "n", "author": "a", "value_at": at}
    before = await transfers(house)
    for changed in (
        partial(purchase, house, other, MICRO, "bundle", **more),
        partial(purchase, house, who, MICRO + 1, "bundle", **more),
        partial(purchase, house, who, MICRO, "bundle", **(more | {"note": "m"})),
        partial(purchase, house, who, MICRO, "bundle", **(more | {"author": "b"})),
        partial(purchase, house, who, MICRO, "bundle", **(more | {"value_at": at + timedelta(seconds=1)})),
        partial(house.top_up, who, MICRO, "bundle"),
    ):
        with pytest.raises(Conflict, match="bundle was used for another booking"):
            await changed()
    assert await transfers(house) == before


async def test_the_second_waits_for_the_first_and_books_itself_where_that_fails(house: Seeded) -> None:
    """The first user of a key rolls back while a second one waits for it."""
    who = await house.subscriber(5 * MICRO)
    async with connection(house.pool) as conn:
        first = conn.transaction()
        await first.start()
        lost = await store.top_up(conn, who.account_id, MICRO, "EUR", key="shared")
        second = asyncio.create_task(house.top_up(who, MICRO, "shared"))
        await waiting_for_a_lock(house, second)
        assert not second.done()
        await first.rollback()
    assert await second != lost
    assert await balance(house, who.account_id) == 6 * MICRO
    await sound(house)


async def waiting_for_a_lock(house: Seeded, task: asyncio.Task[Any]) -> None:
    async with asyncio.timeout(20):
        while not await house.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.wait({task}, timeout=0.01)


async def test_keys_used_before_the_function_came_stay_used(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of the first layout, with a top-up in it, is migrated."""
    postgres.create_database("first_layout")
    layouts = migrate.migrations()
    async with connect(postgres.dsn("first_layout")) as conn:
        monkeypatch.setattr(migrate, "migrations", lambda: layouts[:1])
        await migrate.migrate(conn)
        who, cash = [
            await queries.seed.add_account.value(
                conn,
                kind=kind,
                name=name,
                currency="EUR",
                funding="prepaid",
                credit_limit_micro=0,
                call_cap=None,
            )
            for kind, name in (("subscriber", "somebody"), ("system", "cash EUR"))
        ]
        first = await conn.fetchval("SELECT account_top_up_v1($1, 5, $2, 'old', 'note')", who, cash)
        monkeypatch.setattr(migrate, "migrations", lambda: layouts)
        await migrate.migrate(conn)
        assert await store.top_up(conn, str(who), 5, "EUR", key="old", note="note") == str(first)
        with pytest.raises(Conflict):
            async with store_errors():
                await store.top_up(conn, str(who), 6, "EUR", key="old", note="note")
    postgres.drop_database("first_layout")


# ---------------------------------------------------------------- refusals

RAW = "SELECT transfer_book_v1($1, $2, $3, $4, $5, $6::uuid[], $7::bigint[], $8::text[], $9)"


async def raw(house: Seeded, **changed: Any) -> Any:
    """transfer_book_v1 as anybody may call it, right but for what is changed."""
    who = await house.subscriber(5 * MICRO)
    cash = await ours(house, "cash")
    given: dict[str, Any] = {
        "kind": "purchase", "key": "k", "author": "", "note": "", "reverses": None,
        "accounts": [who.account_id, cash], "amounts": [-MICRO, MICRO], "currencies": ["EUR", "EUR"], "at": None,
    }  # fmt: skip
    before = await transfers(house)
    try:
        async with connection(house.pool) as conn:
            return await conn.fetchval(RAW, *(given | changed).values())
    except BridgeError:
        assert await transfers(house) == before
        assert await balance(house, who.account_id) == 5 * MICRO
        raise


async def test_what_is_right_is_booked(house: Seeded) -> None:
    assert isinstance(await raw(house), UUID)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"key": None}, StoreError, "needs a key"),
        ({"key": ""}, StoreError, "needs a key"),
        ({"key": "k" * 201}, StoreError, "1 to 200 characters"),
        ({"key": "a\nb"}, StoreError, "control characters"),
        ({"key": "a\x00b"}, Invalid, "invalid byte sequence"),
        ({"key": "\ud800"}, StoreError, "invalid input"),
        ({"note": "\x1b[2J"}, StoreError, "control characters"),
        ({"author": "\x7f"}, StoreError, "control characters"),
        ({"note": "n" * 1001}, StoreError, "1000 characters"),
        ({"author": None}, StoreError, "author and note are text"),
        ({"kind": "call"}, StoreError, "not made here"),
        ({"kind": None}, StoreError, "not made here"),
        ({"kind": "gift"}, StoreError, "'gift' is not made here"),
        ({"kind": "correction", "author": "anna", "note": " "}, StoreError, "author and a reason"),
        ({"kind": "correction", "author": "", "note": "why"}, StoreError, "author and a reason"),
        ({"kind": "reversal", "author": "anna", "note": "why"}, StoreError, "name the transfer they take back"),
        ({"kind": "refund"}, StoreError, "name the transfer they take back"),
        ({"reverses": uuid4()}, StoreError, "name the transfer they take back"),
        ({"kind": "refund", "reverses": uuid4()}, NotFound, "no such transfer"),
        ({"accounts": []}, StoreError, "2 to 1000 entries"),
        ({"accounts": None}, StoreError, "2 to 1000 entries"),
        ({"amounts": [MICRO]}, StoreError, "2 to 1000 entries"),
        ({"currencies": ["EUR"] * 3}, StoreError, "2 to 1000 entries"),
        ({"amounts": [0, 0]}, StoreError, "not zero"),
        ({"amounts": [None, None]}, StoreError, "not zero"),
        ({"amounts": [-(2**63), 2**63 - 1]}, StoreError, r"at most 10\^12"),
        ({"amounts": [2**70, -(2**70)]}, StoreError, "invalid input"),
        ({"amounts": [float("nan"), 1]}, StoreError, "invalid input"),
        ({"amounts": [-MICRO, MICRO + 1]}, InvariantBroken, "does not sum to zero: 1 micro EUR"),
        ({"currencies": ["EUR", "USD"]}, InvariantBroken, "does not sum to zero"),
        ({"currencies": ["USD", "USD"]}, NotFound, "is kept in EUR, not in USD"),
        ({"currencies": [None, None]}, NotFound, "is kept in EUR"),
        ({"currencies": ["eur'; --", "eur'; --"]}, NotFound, "is kept in EUR"),
        ({"accounts": [uuid4(), uuid4()]}, NotFound, "no such account"),
        ({"accounts": [None, None]}, NotFound, "no such account"),
        ({"accounts": ["x", "y"]}, StoreError, "invalid input"),
        ({"amounts": [-5 * MICRO - 1, 5 * MICRO + 1]}, InsufficientFunds, r"5 EUR available, and 5\.000001 are needed"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, StoreError, "has an instant"),
    ],
)  # fmt: skip
async def test_refusals(house: Seeded, changed: dict[str, Any], error: type[BridgeError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        await raw(house, **changed)
    assert not isinstance(caught.value, StoreUnavailable), "repeating it would not help"


@pytest.mark.parametrize("amount", [0, True, 1.5, float("nan"), AMOUNT_MICRO_MAX + 1, -(2**63), "5"])
def test_an_entry_has_a_whole_amount_that_fits(amount: Any) -> None:
    with pytest.raises(StoreError, match="the amount of an entry"):
        Entry(str(uuid4()), amount, "EUR")


async def test_a_balance_stays_within_what_is_kept(house: Seeded) -> None:
    who = await house.subscriber()
    await house.top_up(who, AMOUNT_MICRO_MAX, "all the money there is")
    with pytest.raises(StoreError, match=r"would be over 10\^12 EUR"):
        await house.top_up(who, 1, "and one more")


async def test_a_closed_account_takes_and_pays_nothing(house: Seeded) -> None:
    who = await house.subscriber(MICRO)
    await house.rows("UPDATE account SET state = 'closed' WHERE account_id = $1", who.account_id)
    for sign in (1, -1):
        with pytest.raises(StoreError, match="is closed"):
            await booked(house, "correct", who.account_id, sign, **DOCUMENTED, key=f"k{sign}")
    await house.rows("UPDATE account SET state = 'suspended' WHERE account_id = $1", who.account_id)
    await house.top_up(who, MICRO, "a suspended one may pay")


async def test_what_is_held_for_a_call_is_not_spent(house: Seeded) -> None:
    who = await house.subscriber(20_000)
    frozen = (await house.admitted(who)).frozen
    held = (await house.account(who))["held_micro"]
    assert 0 < held < 20_000
    with pytest.raises(InsufficientFunds):
        await purchase(house, who, 20_000 - held + 1, "too much")
    await purchase(house, who, 20_000 - held, "just enough")
    await house.end(ended(frozen.call_id))
    assert (await house.account(who))["balance_micro"] == held
    await sound(house)


async def test_postpaid_pays_up_to_its_limit_and_may_always_be_given(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=MICRO)
    await purchase(house, who, MICRO, "to the limit")
    with pytest.raises(InsufficientFunds):
        await purchase(house, who, 1, "beyond")
    await house.rows("UPDATE account SET credit_limit_micro = 0 WHERE account_id = $1", who.account_id)
    await house.top_up(who, MICRO // 2, "half, still below the new limit")
    assert await balance(house, who.account_id) == -MICRO // 2
    await sound(house)


async def test_an_account_twice_in_one_booking_counts_with_what_is_left(house: Seeded) -> None:
    who = await house.subscriber(MICRO)
    revenue, promotion = await ours(house, "revenue"), await ours(house, "promotion")
    entries = (*between(who.account_id, revenue, 3 * MICRO), *between(promotion, who.account_id, 2 * MICRO))
    await booked(house, "book", "purchase", entries, key="k")
    assert await balance(house, who.account_id) == 0
    await sound(house)


async def test_an_account_with_the_name_of_ours_is_not_used(house: Seeded) -> None:
    await house.rows("INSERT INTO account (kind, name, currency) VALUES ('partner', 'revenue CHF', 'CHF')")
    with pytest.raises(Conflict, match="rename it"):
        await ours(house, "revenue", "CHF")


# ---------------------------------------------------------------- lists


async def test_a_statement_runs_from_its_opening_to_its_closing_balance(house: Seeded) -> None:
    who = await house.subscriber(5 * MICRO)
    await purchase(house, who, 2 * MICRO, "bundle", note="600 units")
    since = await house.value("SELECT clock_timestamp()")
    call_id = (await house.admitted(who)).frozen.call_id
    await house.end(ended(call_id, 6_000))
    await booked(house, "correct", who.account_id, -MICRO, **DOCUMENTED, key="c")
    name = f"subscriber {who.a_number}"
    async with connection(house.pool) as conn:
        now = await conn.fetchval("SELECT clock_timestamp()")
        whole = await statement(conn, name, BEGINNING, now)
        late = await statement(conn, name, since, now)
        shown = await account(conn, name, now)
        listed = {one["name"]: one for one in await accounts(conn)}
        revenue = await account(conn, "revenue EUR", now)
        with pytest.raises(NotFound, match="account list"):
            await statement(conn, "nobody", BEGINNING, now)
    assert [(one["kind"], one["amount"], one["balance"]) for one in whole["entries"]] == [
        ("top_up", "5.00", "5.00"),
        ("purchase", "-2.00", "3.00"),
        ("call", "-0.006", "2.994"),
        ("correction", "-1.00", "1.994"),
    ]
    assert (whole["opening"], whole["closing"], whole["more"]) == ("0.00", "1.994", False)
    assert (late["opening"], late["closing"], late["entries"]) == ("3.00", "1.994", whole["entries"][2:])
    assert (shown["balance"], shown["available"]) == ("1.994", "1.994")
    assert listed[name] == shown
    assert listed["revenue EUR"]["balance"] is None
    assert revenue["balance"] == "2.006"


# ---------------------------------------------------------------- many at once


@pytest.mark.parametrize("seed", range(3))
async def test_random_bookings_at_once_never_deadlock_and_leave_sound_books(house: Seeded, seed: int) -> None:
    """Forty actors book, refund and reverse over five accounts, in any order of accounts, and repeat some keys."""
    chance = random.Random(seed)
    prepaid = [(await house.subscriber(3 * MICRO)).account_id for _ in range(4)]
    postpaid = (await house.subscriber(funding="postpaid", credit_limit_micro=2 * MICRO)).account_id
    everyone = [*prepaid, postpaid]
    system = [await ours(house, role) for role in ("revenue", "cash")]
    made: list[str] = []
    refused: list[str] = []

    async def actor(orders: Sequence[tuple[str, list[str], int, str]]) -> None:
        for what, chosen, amount_micro, key in orders:
            try:
                if what == "purchase" or not made:
                    entries = [
                        Entry(one, -amount_micro * sign, "EUR")
                        for one, sign in zip(chosen, (2, -1, -1), strict=True)
                    ]
                    made.append(await booked(house, "book", "purchase", entries, key=key))
                elif what == "reverse":
                    await booked(house, "reverse", made[amount_micro % len(made)], **DOCUMENTED, key=key)
                elif what == "top_up":
                    await booked(house, "top_up", chosen[0], amount_micro, "EUR", key=key)
                else:
                    await booked(house, "correct", chosen[0], -amount_micro, **DOCUMENTED, key=key)
            except (InsufficientFunds, Conflict, NotFound) as error:
                refused.append(type(error).__name__)

    def order() -> tuple[str, list[str], int, str]:
        what = chance.choice(("purchase", "purchase", "purchase", "reverse", "correct", "top_up"))
        chosen = [*chance.sample(everyone, 2), chance.choice(system)]
        if what == "purchase":
            chance.shuffle(chosen)
        return what, chosen, chance.randint(1, 2 * MICRO), f"key {chance.randint(1, 300)}"

    await at_once([partial(actor, [order() for _ in range(8)]) for _ in range(40)])
    assert {"InsufficientFunds", "Conflict"} <= set(refused)
    assert len(made) > 40
    for account_id in prepaid:
        assert await balance(house, account_id) >= 0
    assert await house.value("SELECT sum(amount_micro)::bigint FROM entry") == 0
    await sound(house)
