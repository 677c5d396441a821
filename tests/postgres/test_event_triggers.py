"""Events are written where things happen, in their transaction, for partners that listen and nobody else."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bridge.database import connection, transaction
from bridge.events import store
from bridge.partners.store import add_partner
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.money import format_micro
from tests.seeded import Seeded, Who, ended


async def partner_of(house: Seeded, who: Who, *, listens: bool = True) -> UUID:
    """A partner whose subscriber `who` is."""
    async with transaction(house.pool) as conn:
        row = await add_partner(conn, f"partner of {who.a_number}", "EUR")
    partner_id: UUID = row["partner_id"]
    await house.rows(
        "UPDATE partner SET keeps_events = $2 WHERE partner_id = $1 RETURNING 1", partner_id, listens
    )
    for table in ("account", "subscriber"):
        await house.rows(
            f"UPDATE {table} SET partner_id = $1 WHERE account_id = $2", partner_id, UUID(who.account_id)
        )
    return partner_id


async def happened(house: Seeded, subject_id: Any = None) -> list[tuple[str, int, dict[str, Any]]]:
    rows = await house.rows(
        "SELECT kind, seq, data FROM event WHERE $1::uuid IS NULL OR subject_id = $1 ORDER BY event_id",
        subject_id,
    )
    return [(row["kind"], row["seq"], json.loads(row["data"])) for row in rows]


async def test_a_call_from_admission_to_its_charge(house: Seeded) -> None:
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    frozen = (await house.admitted(who)).frozen
    await house.answer(frozen.call_id)
    await house.end(ended(frozen.call_id, talk_ms=61_500))
    told = await happened(house, frozen.call_id)
    assert [(kind, seq) for kind, seq, _ in told] == [
        ("call.admitted", 1),
        ("call.ringing", 2),
        ("call.answered", 3),
        ("call.ended", 9),
    ]
    last = told[-1][2]
    assert last["charge"] == {"billed_s": 62, "covered_s": 0, "amount": "0.062", "currency": "EUR"}
    assert (last["state"], last["talk_ms"], last["release_party"]) == ("answered", 61_500, "caller")
    assert last["call_id"] == f"call_{frozen.call_id.hex}"
    assert last["a_number"] == who.a_number
    assert told[1][2]["pdd_ms"] == 100
    assert datetime.fromisoformat(told[1][2]["ringing_at"]) >= datetime.fromisoformat(last["admitted_at"])
    # What carriers cost, and which they are, is nobody's business.
    assert set().union(*(data for _, _, data in told)) == {
        "call_id", "subscriber_id", "account_id", "a_number", "b_number", "dialled", "direction", "admitted_at",
        "ringing_at", "pdd_ms", "answered_at", "ended_at", "state", "talk_ms", "q850_cause", "release_party", "charge",
    }  # fmt: skip


async def test_a_call_that_ends_before_its_answer_was_told(house: Seeded) -> None:
    """Answer and end come in one reading of the journal: all is told, in order, once."""
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    frozen = (await house.admitted(who)).frozen
    await house.end(ended(frozen.call_id, talk_ms=1_000))
    assert [seq for _, seq, _ in await happened(house, frozen.call_id)] == [1, 2, 3, 9]
    assert await house.end(ended(frozen.call_id, talk_ms=1_000, source="cdr")) == set()
    assert len(await happened(house, frozen.call_id)) == 4


async def test_an_unanswered_call_costs_nothing_and_says_so(house: Seeded) -> None:
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    frozen = (await house.admitted(who)).frozen
    await house.end(ended(frozen.call_id))
    told = await happened(house, frozen.call_id)
    assert [kind for kind, _, _ in told] == ["call.admitted", "call.ended"]
    assert (told[-1][2]["state"], told[-1][2]["charge"]) == ("unanswered", None)


async def test_refused_and_blocked(house: Seeded) -> None:
    who = await house.subscriber(0)
    await partner_of(house, who)
    await house.call(who)
    assert [(kind, data["reason"]) for kind, _, data in await happened(house)] == [
        ("call.refused", "no_credit")
    ]
    capped = await house.subscriber(1_000_000, call_cap=0)
    await partner_of(house, capped)
    await house.call(capped)
    assert [(kind, seq, data["reason"]) for kind, seq, data in (await happened(house))[1:]] == [
        ("call.refused", 1, "too_many_calls"),
        ("fraud.blocked", 2, "too_many_calls"),
    ]


async def test_nothing_for_those_who_do_not_listen(house: Seeded) -> None:
    silent, nobodys = await house.subscriber(1_000_000), await house.subscriber(1_000_000)
    await partner_of(house, silent, listens=False)
    for who in (silent, nobodys):
        frozen = (await house.admitted(who)).frozen
        await house.answer(frozen.call_id)
        await house.end(ended(frozen.call_id, talk_ms=2_000))
    assert await happened(house) == []


async def test_what_is_rolled_back_has_not_happened(house: Seeded) -> None:
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    frozen = (await house.admitted(who)).frozen

    async def die() -> None:
        async with house.store.batch() as conn:
            await house.endings.end(conn, [ended(frozen.call_id, talk_ms=2_000)], house.book)
            raise RuntimeError("dies")

    with pytest.raises(RuntimeError, match="dies"):
        await die()
    assert [kind for kind, _, _ in await happened(house)] == ["call.admitted"]
    await house.end(ended(frozen.call_id, talk_ms=2_000))
    assert [seq for _, seq, _ in await happened(house)] == [1, 2, 3, 9]


async def test_a_month_that_is_made_later_has_the_triggers(house: Seeded) -> None:
    await house.rows("SELECT partition_ensure_v1(14)")
    parts = await house.value(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'call'::regclass AND "
        "(SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = inhrelid AND g.tgname IN ('call_begun', 'call_ended')) "
        "= 2"
    )
    assert parts == await house.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'call'::regclass")
    assert parts == 15
    who = await house.subscriber(1_000_000)
    partner_id = await partner_of(house, who)
    later = await house.value("SELECT uuid_floor_v1(now() + interval '400 days')")
    switch_id = await house.value("SELECT switch_id FROM switch")
    await house.rows(
        "INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, a_number, dialled, state, partner_id) "
        "VALUES ($1, $2, 'x', '', $3, '1', 'live', $4)",
        later, switch_id, who.a_number, partner_id,
    )  # fmt: skip
    await house.rows("UPDATE call SET state = 'failed', ended_at = now() WHERE call_id = $1", later)
    assert [kind for kind, _, _ in await happened(house, later)] == ["call.admitted", "call.ended"]
    await house.rows("DELETE FROM call WHERE call_id = $1", later)


async def test_a_low_balance_is_told_once_when_it_is_crossed(house: Seeded) -> None:
    who = await house.subscriber(100_000)
    await partner_of(house, who)
    await house.rows(
        "UPDATE account SET low_balance_micro = 50000 WHERE account_id = $1", UUID(who.account_id)
    )
    told = []
    for talk_ms in (40_000, 20_000, 5_000):
        frozen = (await house.admitted(who)).frozen
        await house.end(ended(frozen.call_id, talk_ms=talk_ms))
        told.append([data for kind, _, data in await happened(house) if kind == "balance.low"])
    assert [len(one) for one in told] == [0, 1, 1]
    assert told[-1][0] == {
        "account_id": f"acc_{UUID(who.account_id).hex}",
        "balance": "0.04",
        "low_balance": "0.05",
        "currency": "EUR",
    }
    await house.top_up(who, 100_000, "more")
    frozen = (await house.admitted(who)).frozen
    await house.end(ended(frozen.call_id, talk_ms=90_000))
    assert [kind for kind, _, _ in await happened(house)].count("balance.low") == 2


async def test_an_allowance_at_four_fifths_and_at_its_end(house: Seeded) -> None:
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    bundle = SeedBundle("ten messages", 0, units=10, covers={"sms": 1})
    allowance_id = await house.buy(who, bundle)
    levels = []
    for number, quantity in enumerate((7, 1, 1, 1)):
        await house.usage(who, "sms", quantity, f"usage {number}")
        levels.append([data["percent"] for _, _, data in await happened(house, allowance_id)])
    assert levels == [[], [80], [80], [80, 100]]


@pytest.mark.breaks_books
async def test_units_as_large_as_they_can_be_do_not_break_the_end_of_a_call(house: Seeded) -> None:
    who = await house.subscriber(1_000_000)
    await partner_of(house, who)
    allowance_id = await house.buy(who, SeedBundle("much", 0, units=2**63 - 1, covers={"sms": 1}))
    for used in (2**62, 2**63 - 1):
        await house.rows("UPDATE allowance SET used_units = $2 WHERE allowance_id = $1", allowance_id, used)
    assert [data["percent"] for _, _, data in await happened(house, allowance_id)] == [100]


@pytest.mark.parametrize("micro", [0, 1, -1, 70_000, 7_000, -1_500_000, 3_000_000, 123_456_789_012_345_678])
async def test_money_is_told_as_the_api_tells_it(conn: asyncpg.Connection, micro: int) -> None:
    assert await conn.fetchval("SELECT told_money_v1($1)", micro) == format_micro(micro)


async def add(conn: Any, partner_id: UUID, subject_id: UUID, seq: int) -> None:
    await conn.execute("SELECT event_add_v1($1, 'trunk.up', $2, $3, '{}')", partner_id, subject_id, seq)


async def test_who_has_read_a_number_has_read_all_below_it(house: Seeded) -> None:
    """Transactions that commit out of order, two that number, one that reads: nothing is passed over."""
    who = await house.subscriber()
    partner_id = await partner_of(house, who)
    begun, done = 0, asyncio.Event()
    seen: list[UUID] = []

    async def writer(place: int) -> None:
        nonlocal begun
        for turn in range(25):
            async with transaction(house.pool) as conn:
                await add(conn, partner_id, UUID(int=place), turn + 1)
                begun += 1
                # Others commit while this one waits, in another order each time.
                await conn.execute("SELECT pg_sleep($1)", ((place * 7 + turn * 3) % 5) / 500)

    async def number() -> None:
        while True:
            over = done.is_set()
            async with transaction(house.pool) as conn:
                made = await store.fan_out(conn)
            if over and made == 0:
                return

    async def reader() -> None:
        after = 0
        while len(seen) < 200:
            async with connection(house.pool) as conn:
                upto = await store.last_no(conn, partner_id)
                rows = await store.stream(conn, partner_id, after, upto, (), 7)
            assert [row["stream_no"] for row in rows] == list(range(after + 1, after + 1 + len(rows)))
            after += len(rows)
            seen.extend(row["event_id"] for row in rows)

    async def writers() -> None:
        await asyncio.gather(*map(writer, range(8)))
        done.set()

    async with asyncio.timeout(60):
        await asyncio.gather(writers(), number(), number(), reader())
    assert begun == 200
    assert len(set(seen)) == 200


async def test_two_that_number_make_one_number_and_one_delivery(house: Seeded) -> None:
    who = await house.subscriber()
    partner_id = await partner_of(house, who)
    async with transaction(house.pool) as conn:
        urls = ("https://a.example/1", "https://a.example/2")
        made = [(await store.add_endpoint(conn, partner_id, url, (), "", enabled=True))[0] for url in urls]
        deaf, _ = await store.add_endpoint(conn, partner_id, urls[0], ("call.ended",), "", enabled=True)
        for place in range(1200):
            await add(conn, partner_id, UUID(int=place), 1)

    async def number() -> None:
        idle = 0
        while idle < 3:
            async with transaction(house.pool) as conn:
                idle = idle + 1 if await store.fan_out(conn) == 0 else 0

    await asyncio.gather(*(number() for _ in range(4)))
    numbers = [row["stream_no"] for row in await house.rows("SELECT stream_no FROM event")]
    assert sorted(numbers) == list(range(1, 1201))
    told = await house.rows("SELECT target_id, count(*) AS n FROM delivery GROUP BY target_id")
    assert {row["target_id"]: row["n"] for row in told} == {one["endpoint_id"]: 1200 for one in made}
    assert deaf["endpoint_id"] not in {row["target_id"] for row in told}


async def test_numbers_are_each_partners_own(house: Seeded) -> None:
    """How much others telephone cannot be told from the gaps."""
    whose = [await partner_of(house, await house.subscriber()) for _ in range(2)]
    async with transaction(house.pool) as conn:
        for place in range(6):
            await add(conn, whose[place % 2], UUID(int=place), 1)
        await store.fan_out(conn)
    for partner_id in whose:
        rows = await house.rows(
            "SELECT stream_no FROM event WHERE partner_id = $1 ORDER BY event_id", partner_id
        )
        assert [row["stream_no"] for row in rows] == [1, 2, 3]


async def test_claims_never_overlap_and_keep_the_order(house: Seeded) -> None:
    """Four workers claim at once: no delivery twice, and of one call only the first that is not done."""
    partner_id = await partner_of(house, await house.subscriber())
    async with transaction(house.pool) as conn:
        await store.add_endpoint(conn, partner_id, "https://a.example/1", (), "", enabled=True)
        for seq in (1, 2, 3):
            for place in range(40):
                await add(conn, partner_id, UUID(int=place), seq)
        await store.fan_out(conn)

    async def claim() -> list[store.Claim]:
        async with transaction(house.pool) as conn:
            return await store.claim(conn, failing=False, rows=20, each=100, lease_s=60)

    claimed = [one for some in await asyncio.gather(*(claim() for _ in range(8))) for one in some]
    assert len({one.delivery_id for one in claimed}) == len(claimed) > 0
    assert {one.event.seq for one in claimed} == {1}
    assert len(await claim() + claimed) <= 40


async def test_what_is_old_is_forgotten_and_the_numbers_go_on(house: Seeded) -> None:
    partner_id = await partner_of(house, await house.subscriber())
    async with transaction(house.pool) as conn:
        await store.add_endpoint(conn, partner_id, "https://a.example/1", (), "", enabled=True)
        for place in range(3):
            await add(conn, partner_id, UUID(int=place), 1)
        await store.fan_out(conn)
        assert await store.purge(conn, datetime.now(UTC) - timedelta(days=1)) == 0
        assert await store.purge(conn, datetime.now(UTC) + timedelta(seconds=1)) == 3
        await add(conn, partner_id, UUID(int=9), 1)
        await store.fan_out(conn)
        assert await store.first_no(conn, partner_id) == 4
    assert await house.value("SELECT count(*) FROM delivery") == 1


async def test_what_nobody_can_be_told_any_more_is_given_up(house: Seeded) -> None:
    """An endpoint that was deleted, a sink whose token has expired."""
    partner_id = await partner_of(house, await house.subscriber())
    now, data = datetime.now(UTC), '{"click_to_dial": {"callId": "x"}}'
    async with transaction(house.pool) as conn:
        row, _ = await store.add_endpoint(conn, partner_id, "https://a.example/1", (), "", enabled=True)
        await conn.execute(
            "SELECT sink_add_v1($1, $2, 'https://a.example/2', 'token', $3)",
            partner_id, UUID(int=1), now + timedelta(hours=1),
        )  # fmt: skip
        await conn.execute(
            "SELECT event_add_v1($1, 'origination.changed', $2, 1, $3)", partner_id, UUID(int=1), data
        )
        await store.fan_out(conn)
    states = "SELECT state, count(*)::integer AS n FROM delivery GROUP BY state"
    async with transaction(house.pool) as conn:
        await store.purge(conn, now - timedelta(days=1))
        assert [tuple(one) for one in await conn.fetch(states)] == [("pending", 2)]
        await store.delete_endpoint(conn, row["endpoint_id"], row["edition"])
        await conn.execute("UPDATE sink SET valid_until = now() - interval '1 second'")
        await store.purge(conn, now - timedelta(days=1))
        assert [tuple(one) for one in await conn.fetch(states)] == [("failed", 2)]


async def test_a_sink_is_told_although_its_partner_does_not_listen(house: Seeded) -> None:
    partner_id = await partner_of(house, await house.subscriber(), listens=False)
    async with transaction(house.pool) as conn:
        await conn.execute(
            "SELECT sink_add_v1($1, $2, 'https://a.example/2', NULL, now() + interval '1 hour')",
            partner_id,
            UUID(int=1),
        )
        for subject in (1, 2):
            await conn.execute(
                "SELECT event_add_v1($1, 'origination.changed', $2, 1, '{\"camara\": {}}')",
                partner_id,
                UUID(int=subject),
            )
        assert await store.fan_out(conn) == 1
        [claim] = await store.claim(conn, failing=False, rows=9, each=9, lease_s=9)
    assert (claim.to_sink, claim.url, claim.bearer, claim.keys) == (True, "https://a.example/2", None, ())
