"""A database with carriers, plans and people in it, and the product's own rooms to make and end calls there.

Prices are round: to Germany a second is sold for 1 000 micro-euro and bought for 500, in increments of one second.
To the United Kingdom there are a connect fee, a minimum and increments of 60/6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from time import time_ns
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.calls.admit import Admission, Admissions, Admitted, decide
from bridge.calls.audit import audit
from bridge.calls.book import Book, load_book
from bridge.calls.end import Endings
from bridge.calls.ended import EndRecord
from bridge.calls.extend import Extensions
from bridge.calls.frozen import Frozen
from bridge.calls.store import Caller, CallStore, Session, SwitchCall, Written
from bridge.config import Calls, Database
from bridge.database import connection, open_pool, transaction
from bridge.ledger.store import top_up
from bridge.rating.store.allowances import buy
from bridge.rating.store.usage import Usage, report_usage
from bridge.sandbox.seed import (
    APP,
    CURRENCY,
    SeedBundle,
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    seed_app,
    seed_bundle,
    seed_plan,
    seed_subscriber,
    seed_trunk,
)
from bridge.telephony.cause import Refuse, classify
from bridge.telephony.number import parse_dialled

Work: TypeAlias = Callable[[], Awaitable[Any]]

GERMANY: Final = "+493023125010"
KINGDOM: Final = "+442079460123"
SECOND_MICRO: Final = 1_000  # what a second to Germany is sold for
SELL: Final = (
    SeedRate("49", "Germany", 60_000, 1, 1),
    SeedRate("44", "United Kingdom", 110_000, 60, 6, connect_fee_micro=7_000, minimum_s=90),
)
BUY: Final = (SeedRate("49", "Germany", 30_000, 1, 1), SeedRate("44", "United Kingdom", 33_333, 6, 6))


@dataclass(frozen=True, slots=True)
class Who:
    """A subscriber of the seeded app."""

    a_number: str
    account_id: str


@dataclass(slots=True)
class Seeded:
    """One switch's calls on a seeded database."""

    pool: asyncpg.Pool
    book: Book
    store: CallStore
    app_id: str
    plan_id: str
    rules: Calls = field(default_factory=lambda: Calls(slice_s=10, slice_lead_s=1, lease_grace_s=60))
    begin_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    phones: bool = False  # subscribers to be have phones of their own
    _serial: count[int] = field(default_factory=lambda: count(0))

    def __post_init__(self) -> None:
        self.admissions = Admissions(self.store, self.rules)
        self.endings = Endings(self.store)
        self.extensions = Extensions(self.store, self.rules)

    admissions: Admissions = field(init=False)
    endings: Endings = field(init=False)
    extensions: Extensions = field(init=False)

    async def have_phones(self) -> None:
        """The users of the app have phones, those to come included."""
        self.phones = True
        await self.rows("UPDATE app SET phones = true")
        await self.give_phones()
        await self.reload()

    async def give_phones(self) -> None:
        await self.rows(
            """INSERT INTO sip_credential (subscriber_id, realm, digest, media, contacts_max, expires_at)
               SELECT s.subscriber_id, 'callbridge', repeat('0', 32), 'rtp', 3, now() + interval '1 hour'
                 FROM subscriber s
                WHERE NOT EXISTS (SELECT FROM sip_credential c WHERE c.subscriber_id = s.subscriber_id)"""
        )

    async def reload(self) -> None:
        """A new book, after the decks or the trunks were changed."""
        async with connection(self.pool) as conn:
            self.book = await load_book(conn, datetime.now(UTC), self.book)

    async def subscriber(self, balance_micro: int = 0, **more: Any) -> Who:
        """Somebody new, with a number from the range reserved for fiction."""
        a_number = f"+4989999{98000 + next(self._serial)}"
        async with transaction(self.pool) as conn:
            account_id = await seed_subscriber(
                conn, self.app_id, self.plan_id, SeedSubscriber(a_number, balance_micro, **more)
            )
        if self.phones:
            await self.give_phones()
        return Who(a_number, account_id)

    def asked(self, who: Who, dialled: str = GERMANY) -> SwitchCall:
        name = f"{time_ns()}.{next(self._serial)}"
        return SwitchCall(APP, who.a_number, dialled, f"PJSIP/{APP}-{name}", name, f"{name}@seeded")

    async def call(self, who: Who, dialled: str = GERMANY, at: datetime | None = None) -> Refuse | Admitted:
        """Admission as the switch asks for it."""
        return await self.admissions.admit(self.asked(who, dialled), self.book, at or datetime.now(UTC))

    async def admitted(self, who: Who, dialled: str = GERMANY, at: datetime | None = None) -> Admitted:
        verdict = await self.call(who, dialled, at)
        assert isinstance(verdict, Admitted), verdict
        return verdict

    async def write(self, who: Who, hold_micro: int, *, trunk_cap: int | None = None) -> Written:
        """Only the atomic statement, with a hold as big as one likes."""
        async with self.store.session() as session:
            caller = await self.caller(session, who)
            return await self.write_on(session, caller, who, hold_micro, trunk_cap=trunk_cap)

    async def caller(self, session: Session, who: Who) -> Caller:
        found = await session.caller(APP, who.a_number, GERMANY, datetime.now(UTC))
        assert found is not None
        return found

    async def write_on(
        self, session: Session, caller: Caller, who: Who, hold_micro: int, *, trunk_cap: int | None = None
    ) -> Written:
        rich = Caller(
            caller.subscriber_id,
            caller.account_id,
            caller.plan_id,
            "active",
            "active",
            CURRENCY,
            10**12,
            None,
            True,
            0,
        )
        now = datetime.now(UTC)
        wanted = decide(rich, parse_dialled(GERMANY, home="DE"), self.book, {}, self.rules, now)
        assert isinstance(wanted, Admission)
        return await session.admit(
            self.asked(who), caller, who.a_number, GERMANY, wanted.sell, wanted.routes,
            trunk_cap=trunk_cap, reserved=replace(wanted.reserved, hold_micro=hold_micro), lease_s=600, at=now,
        )  # fmt: skip

    async def answer(self, *call_ids: UUID, at: datetime | None = None) -> None:
        rows = [(call_id, at or datetime.now(UTC), 100) for call_id in call_ids]
        async with transaction(self.pool) as conn:
            await self.store.answered(conn, rows, lead_s=self.rules.slice_lead_s, grace_s=60)

    async def failed(
        self, frozen: Frozen, *, next_cap: int | None = None, next_cps: int | None = None
    ) -> str:
        """The first attempt of a call fails at the carrier; the second route is next. Returns ok, full or gone."""
        first, second = frozen.routes
        return await self.store.attempt_ended(
            frozen.call_id, 1, first, classify("CHANUNAVAIL", 34, 503), sip_code=503, q850_cause=34, pdd_ms=None,
            next_no=2, next_route=second, next_cap=next_cap, next_cps=next_cps, lease_s=60,
        )  # fmt: skip

    async def end(self, *records: EndRecord) -> set[UUID]:
        """End calls in one batch, as one witness does. Returns those ended here."""
        async with self.store.batch() as conn:
            return await self.endings.end(conn, records, self.book)

    async def top_up(self, who: Who, amount_micro: int, key: str) -> str:
        async with transaction(self.pool) as conn:
            return await top_up(conn, who.account_id, amount_micro, CURRENCY, key=key)

    async def sell(self, bundles: Iterable[SeedBundle]) -> None:
        """Put bundles up for sale, those that are not yet."""
        async with transaction(self.pool) as conn:
            for bundle in bundles:
                if await conn.fetchval("SELECT 1 FROM bundle WHERE name = $1", bundle.name) is None:
                    await seed_bundle(conn, bundle)

    async def buy(self, who: Who, bundle: SeedBundle, at: datetime | None = None) -> UUID:
        """Put a bundle up for sale, if nobody has yet, and buy it."""
        await self.sell([bundle])
        async with transaction(self.pool) as conn:
            key = f"bundle {next(self._serial)}"
            return await buy(
                conn, who.account_id, bundle.name, key=key, author="test", at=at or self.begin_at
            )

    async def units(self, allowance_id: UUID) -> tuple[int, int]:
        """Used and held units."""
        row = await self.row(
            "SELECT used_units, held_units FROM allowance WHERE allowance_id = $1", allowance_id
        )
        return row["used_units"], row["held_units"]

    async def usage(
        self, who: Who, service: str, quantity: int, key: str, at: datetime | None = None
    ) -> Usage:
        async with transaction(self.pool) as conn:
            subscriber_id = await conn.fetchval(
                "SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id
            )
            return await report_usage(
                conn, subscriber_id, service, quantity, key=key, at=at or datetime.now(UTC)
            )

    async def account(self, who: Who) -> asyncpg.Record:
        return await self.row("SELECT * FROM account WHERE account_id = $1", who.account_id)

    async def row(self, sql: str, *args: object) -> asyncpg.Record:
        rows = await self.rows(sql, *args)
        assert len(rows) == 1, rows
        return rows[0]

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        async with connection(self.pool) as conn:
            return list(await conn.fetch(sql, *args))

    async def value(self, sql: str, *args: object) -> Any:
        return (await self.row(sql, *args))[0]

    async def broken(self) -> dict[str, list[dict[str, Any]]]:
        """What the audit finds."""
        async with connection(self.pool) as conn:
            return {name: rows for name, rows in (await audit(conn)).items() if rows}


def ended(call_id: UUID, talk_ms: int = 0, source: str = "journal", attempt_no: int | None = 1) -> EndRecord:
    """A call that ends now. talk_ms 0: nobody answered."""
    now_us = time_ns() // 1000
    if not talk_ms:
        return EndRecord(call_id, attempt_no, 0, now_us, source, "NOANSWER", 19, "caller")
    return EndRecord(
        call_id, attempt_no, now_us - talk_ms * 1000, now_us, source, "ANSWER", 16, "caller", 100
    )


async def at_once(makers: Sequence[Work]) -> list[Any]:
    """Begin all of these at the same time; their results in order."""
    gate = asyncio.Event()

    async def one(make: Work) -> Any:
        await gate.wait()
        return await make()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(make)) for make in makers]
        gate.set()
    return [task.result() for task in tasks]


@asynccontextmanager
async def seeded(dsn: str, *, capacity: int | None = None, connections: int = 24) -> AsyncIterator[Seeded]:
    """Seed a fresh database. Locks may be waited for longer than in production: the machine may be busy.

    capacity   of the cheaper trunk
    """
    pool = await open_pool(Database(pool_max=connections, statement_timeout_s=30), dsn, lock_timeout_s=20)
    try:
        async with transaction(pool) as conn:
            await seed_trunk(conn, SeedTrunk("alpha", 5060, BUY, capacity=capacity))
            dear = [SeedRate(rate.prefix, rate.destination, rate.rate_micro + 6_000, 1, 1) for rate in BUY]
            await seed_trunk(conn, SeedTrunk("beta", 5062, dear))
            plan_id = await seed_plan(conn, "standard", SELL)
            app_id = await seed_app(conn, APP, "127.0.0.1", None)
        async with connection(pool) as conn:
            book = await load_book(conn, datetime.now(UTC))
            switch_id = await queries.switch.register.value(conn, name="seeded")
        yield Seeded(pool, book, CallStore(pool, switch_id), app_id, plan_id)
    finally:
        pool.terminate()
