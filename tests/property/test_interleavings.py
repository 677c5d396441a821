"""Whatever happens at the same time on a few accounts, nobody is overdrawn, nothing is lost, nothing is booked twice.

Several actors, each with its own connection, admit, answer, extend, fail over and end calls, top up, buy bundles,
report messages and renew, on real Postgres, at once; some die while they admit, and leases run out. Then every call
still running is ended, and the books are audited.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.calls.admit import Admitted
from bridge.calls.audit import audit
from bridge.calls.frozen import Frozen
from bridge.database import connection, transaction
from bridge.errors import Conflict, InsufficientFunds, StoreUnavailable
from bridge.partners.store import SpendCap, set_spend_cap
from bridge.rating.store.allowances import renew_due
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.seed import SeedBundle
from tests.seeded import GERMANY, KINGDOM, Seeded, Who, at_once, ended, seeded

T = TypeVar("T")
Run: TypeAlias = Callable[[Coroutine[Any, Any, T]], T]

ACCOUNTS = 3
BUNDLES = (
    SeedBundle("few", 5_000, 2, {"voice": 10, "sms": 1}, renews=True),
    SeedBundle("many", 10_000, 9, {"voice": 7, "sms": 2}, burn_order=1),
)
FIRST_MICRO = 30_000  # three slices to Germany, none to the United Kingdom

who = st.integers(0, ACCOUNTS - 1)
call = st.integers(0, 30)
OPS = st.one_of(
    st.tuples(st.just("admit"), who, st.sampled_from((GERMANY, GERMANY, KINGDOM))),
    st.tuples(st.just("answer"), call),
    st.tuples(st.just("extend"), call),
    st.tuples(st.just("fail"), call),
    st.tuples(st.just("end"), st.lists(call, min_size=1, max_size=4), st.sampled_from((0, 1, 4_000, 15_000, 95_000)),
              st.sampled_from(("journal", "cdr", "resync", "agi")), st.sampled_from((1, 1, 2, None))),
    st.tuples(st.just("top_up"), who, st.integers(1, 2), st.sampled_from((20_000, 200_000))),
    st.tuples(st.just("buy"), who, st.booleans()),
    st.tuples(st.just("usage"), who, st.integers(1, 2), st.integers(1, 5)),
    st.tuples(st.just("renew"), st.sampled_from((0, 30, 61))),
    st.tuples(st.just("cap"), who, st.sampled_from((None, 0, 15_000, 40_000)), st.sampled_from(("day", "month"))),
    st.tuples(st.just("kill"), who, st.integers(0, 40)),
    st.tuples(st.just("expire"), call),
)  # fmt: skip


@dataclass
class Scene:
    """What the actors of one example share. A key belongs to one account of one example."""

    house: Seeded
    whos: list[Who]
    calls: list[Frozen] = field(default_factory=list)
    ended: Counter[UUID] = field(default_factory=Counter)
    paid_in: dict[str, int] = field(default_factory=dict)

    async def act(self, ops: list[tuple[Any, ...]]) -> None:
        for name, *arguments in ops:
            await getattr(self, name)(*arguments)

    def chosen(self, place: int) -> Frozen | None:
        return self.calls[place % len(self.calls)] if self.calls else None

    async def admit(self, place: int, dialled: str) -> None:
        try:
            verdict = await self.house.call(self.whos[place], dialled)
        except StoreUnavailable as error:
            if "came first" not in str(error):  # a deadlock, or a lock that came too late
                raise
            return
        if isinstance(verdict, Admitted):
            self.calls.append(verdict.frozen)

    async def answer(self, place: int) -> None:
        if frozen := self.chosen(place):
            await self.house.answer(frozen.call_id)

    async def extend(self, place: int) -> None:
        if frozen := self.chosen(place):
            await self.house.rows(
                "UPDATE lease SET extend_at = now() WHERE answered_at IS NOT NULL AND call_id = $1",
                frozen.call_id,
            )
            await self.house.extensions.due(datetime.now(UTC))

    async def fail(self, place: int) -> None:
        if frozen := self.chosen(place):
            await self.house.failed(frozen, next_cap=8)

    async def end(self, places: list[int], talk_ms: int, source: str, attempt_no: int | None) -> None:
        """The witness may be wrong about the attempt; what it costs is booked and kept all the same."""
        frozen = {one.call_id for one in map(self.chosen, places) if one}
        records = [ended(call_id, talk_ms, source, attempt_no) for call_id in frozen]
        self.ended.update(await self.house.end(*records))

    async def top_up(self, place: int, key: int, amount_micro: int) -> None:
        account = self.whos[place]
        with suppress(Conflict):
            transfer_id = await self.house.top_up(account, amount_micro, f"{account.a_number} {key}")
            self.paid_in[transfer_id] = amount_micro

    async def buy(self, place: int, many: bool) -> None:
        with suppress(InsufficientFunds):
            await self.house.buy(self.whos[place], BUNDLES[many])

    async def usage(self, place: int, key: int, messages: int) -> None:
        account = self.whos[place]
        with suppress(Conflict):
            await self.house.usage(account, "sms", messages, f"sms {account.a_number} {key}")

    async def renew(self, days: int) -> None:
        async with transaction(self.house.pool) as conn:
            await renew_due(conn, self.house.begin_at + timedelta(days=days))

    async def cap(self, place: int, cap_micro: int | None, period: str) -> None:
        given = None if cap_micro is None else SpendCap(cap_micro, period)
        async with transaction(self.house.pool) as conn:
            await set_spend_cap(conn, UUID(self.whos[place].account_id), given)

    async def kill(self, place: int, turns: int) -> None:
        """A worker dies while it admits a call: nobody learns whether it was written."""
        admission = asyncio.create_task(self.admit(place, GERMANY))
        for _ in range(turns):
            await asyncio.sleep(0)
        admission.cancel()
        with suppress(asyncio.CancelledError):
            await admission

    async def expire(self, place: int) -> None:
        """A lease runs out, and the call ends at its last proof of life."""
        if frozen := self.chosen(place):
            await self.house.rows("UPDATE lease SET expires_at = now() WHERE call_id = $1", frozen.call_id)
            self.ended.update(await self.house.end(ended(frozen.call_id, 0, "resync")))

    async def finish(self) -> None:
        """End what still runs, all in one batch, and as the keeper does, what nobody knows of."""
        rest = [one.call_id for one in self.calls if not self.ended[one.call_id]]
        lost = await self.house.rows(
            "SELECT call_id FROM lease WHERE account_id = ANY ($1) AND call_id <> ALL ($2)",
            [one.account_id for one in self.whos],
            rest,
        )
        assert await self.house.end(*[ended(row["call_id"], 0, "resync") for row in lost]) == {
            row["call_id"] for row in lost
        }
        self.ended.update(await self.house.end(*[ended(call_id, 7_000) for call_id in rest]))


@pytest.fixture(scope="module")
def run() -> Iterator[Run[Any]]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def house(run: Run[Any], postgres: EmbeddedPostgres, template: str) -> Iterator[Seeded]:
    """One database for all examples: the books of the earlier ones must stay sound, too."""
    postgres.create_database("interleavings", template)
    context = seeded(postgres.dsn("interleavings"))
    made = run(context.__aenter__())
    run(made.rows("INSERT INTO service_price SELECT plan_id, 'sms', 'home', 3000, 1 FROM plan"))
    run(made.sell(BUNDLES))
    yield made
    run(context.__aexit__(None, None, None))
    postgres.drop_database("interleavings")


async def play(house: Seeded, actors: list[list[tuple[Any, ...]]]) -> None:
    whos = [await house.subscriber(FIRST_MICRO, call_cap=4) for _ in range(ACCOUNTS - 1)]
    whos.append(await house.subscriber(funding="postpaid", credit_limit_micro=FIRST_MICRO))
    scene = Scene(house, whos)
    await at_once([partial(scene.act, ops) for ops in actors])
    await scene.finish()

    assert scene.ended == Counter(one.call_id for one in scene.calls), "each call ended once"
    accounts = [await house.account(one) for one in whos]
    assert [row["held_micro"] for row in accounts] == [0] * ACCOUNTS
    assert all(row["balance_micro"] >= 0 for row in accounts if row["funding"] == "prepaid")
    paid = await house.value(
        "SELECT coalesce(sum(amount_micro - written_off_micro), 0)::bigint FROM charge WHERE account_id = ANY ($1)",
        [one.account_id for one in whos],
    )
    bought = await house.value(
        "SELECT coalesce(sum(-amount_micro), 0)::bigint FROM entry JOIN transfer USING (transfer_id)"
        " WHERE kind IN ('purchase', 'usage') AND account_id = ANY ($1)",
        [one.account_id for one in whos],
    )
    put_in = FIRST_MICRO * (ACCOUNTS - 1) + sum(scene.paid_in.values())
    assert sum(row["balance_micro"] for row in accounts) == put_in - paid - bought, "money goes nowhere else"
    assert await house.value("SELECT count(*) FROM allowance WHERE held_units <> 0") == 0
    async with connection(house.pool) as conn:
        assert {name: rows for name, rows in (await audit(conn)).items() if rows} == {}


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(actors=st.lists(st.lists(OPS, min_size=3, max_size=12), min_size=2, max_size=6))
def test_any_interleaving_leaves_the_books_sound(
    run: Run[Any], house: Seeded, actors: list[list[tuple[Any, ...]]]
) -> None:
    run(play(house, actors))
