"""`callbridge simulate`: one month of traffic that never was, in an empty database, for tries and tests.

Everything follows from the seed: the same one gives the same rows, ids included, save for the re-rating,
which is made
by the product when the simulation ends. What the rows say follows from the product's own rules, so that the audit of
the result is green.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from pathlib import Path
from random import Random
from typing import Any, Final

from bridge import queries
from bridge.calls import rerate
from bridge.calls.book import load_book
from bridge.calls.selection import Criteria
from bridge.database import Connection
from bridge.errors import Conflict, Invalid
from bridge.partners.month import month as month_of
from bridge.partners.month import zone_of
from bridge.sandbox.progress import Progress, silent
from bridge.sandbox.simulate_calls import Exchange
from bridge.sandbox.simulate_corrections import correct
from bridge.sandbox.simulate_purse import DAY_MS, Purses, buyers
from bridge.sandbox.simulate_rows import Ids, Rows, ms_of
from bridge.sandbox.simulate_theirs import write_theirs
from bridge.sandbox.simulate_traffic import (
    INBOUND_PART,
    ON_NET_PART,
    UNCALLABLE,
    UNCALLABLE_PART,
    Dice,
    moments,
)
from bridge.sandbox.simulate_world import CORRECTED_LATER, DAY, PEOPLE_MAX, Person, World, settle_world

CALLS: Final = 100_000
SEED: Final = 1
CALLS_MIN: Final = 100
CALLS_MAX: Final = 5_000_000
_AUTHOR: Final = "simulation"


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is asked for. month: such as 2026-10, of the time zone; all of it has passed."""

    month: str
    calls: int = CALLS
    seed: int = SEED
    zone: str = "Europe/Berlin"

    @property
    def people(self) -> int:
        return min(max(self.calls // 50, 40), PEOPLE_MAX)


async def simulate(
    conn: Connection, asked: Simulation, progress: Progress = silent, their_files: Path | None = None
) -> dict[str, Any]:
    """Fill a migrated, empty database, all of it or nothing. Returns what was made, JSON-able.

    their_files   a folder for what the carriers would send; see `write_theirs`
    raises   Conflict: something is there already · Invalid: no month, or one that has not passed, or too many calls
    """
    since, until = month_of(asked.month, asked.zone)
    if until > datetime.now(UTC):
        raise Invalid(f"{asked.month} has not passed: simulate a month that has")
    if not CALLS_MIN <= asked.calls <= CALLS_MAX:
        raise Invalid(f"simulate {CALLS_MIN} to {CALLS_MAX} calls")
    begun = time.perf_counter()
    async with conn.transaction(isolation="repeatable_read"):
        await _be_empty(conn)
        await _partitions(conn, since - timedelta(days=62), datetime.now(UTC))
        exchange, purses = await _fill(conn, asked, since, until, progress)
    counts = {**exchange.counts, **purses.counts}
    counts["re-rated later"] = await _rerate(conn, since, until)
    await conn.execute("ANALYZE")
    if their_files is not None:
        await write_theirs(conn, their_files, since, until, asked.seed)
    return {
        "month": asked.month,
        "from": since.isoformat(),
        "to": until.isoformat(),
        "calls": asked.calls,
        "seed": asked.seed,
        "subscribers": asked.people,
        **{name: counts[name] for name in sorted(counts)},
        "took_s": round(time.perf_counter() - begun, 1),
    }


async def _be_empty(conn: Connection) -> None:
    found = await queries.simulate.inhabited.value(conn)
    if found is not None:
        raise Conflict(
            f"there are {found} in this database: what never was is not mixed with what may have been. "
            "Name an empty one in CALLBRIDGE__DATABASE__DSN, and `callbridge migrate` it"
        )


async def _partitions(conn: Connection, since: datetime, until: datetime) -> None:
    for row in await queries.simulate.partitions.all(conn, since=since, until=until):
        for statement in row.values():
            if statement is not None:
                await conn.execute(statement)


async def _fill(
    conn: Connection, asked: Simulation, since: datetime, until: datetime, progress: Progress
) -> tuple[Exchange, Purses]:
    random = Random(asked.seed)  # noqa: S311 - no secret, and the same each time
    ids, rows = Ids(random), Rows(conn)
    world = await settle_world(conn, rows, ids, random, since, asked.people, asked.calls)
    await rows.write()
    book = await load_book(conn, since)
    purses = Purses(rows, ids, random, world)
    watched = "nordlicht", ms_of(since + 9 * DAY), ms_of(since + 10 * DAY)
    exchange = Exchange(world, book, purses, rows, ids, Dice(random), watched)
    month = _Month(asked, since, until, world, exchange, purses, random)
    month.before()
    for done, at_ms in enumerate(moments(since, until, zone_of(asked.zone), asked.calls, random)):
        month.beside_calls(at_ms)
        month.call(at_ms)
        if done % 1_000 == 0:
            progress("calling", done, asked.calls)
            await rows.write_full()
    month.beside_calls(ms_of(until))
    month.after()
    exchange.counts["re-rated"] = correct(
        exchange.remembered, book.decks[str(world.corrected_id)], book, world, rows, ids,
        ms_of(since + 19 * DAY),
    )  # fmt: skip
    purses.keep_allowances()
    await rows.write()
    await queries.simulate.set_balances.run(
        conn,
        account_ids=[who.account_id for who in world.people],
        balances=[who.balance for who in world.people],
        bundled=[who.bundled for who in world.people],
    )
    progress("calling", asked.calls, asked.calls)
    return exchange, purses


class _Month:
    """Who does what when."""

    def __init__(
        self,
        asked: Simulation,
        since: datetime,
        until: datetime,
        world: World,
        exchange: Exchange,
        purses: Purses,
        random: Random,
    ) -> None:
        self._since_ms, self._until_ms = ms_of(since), ms_of(until)
        self._world, self._exchange, self._purses, self._random = world, exchange, purses, random
        self._asked = asked
        self._dice = exchange.dice
        self._serial = 0
        self._waiting: list[tuple[int, int, str, Any]] = []  # (when, serial, what, of whom): a heap

    def before(self) -> None:
        """First money, and bundles that are in force when the month begins; then what will be used in it."""
        random, since_ms = self._random, self._since_ms
        for who in self._world.people:
            if who.prepaid:
                amount = random.choice((10_000_000, 20_000_000, 30_000_000))
                self._purses.top_up(who, amount, since_ms - random.randrange(31 * DAY_MS, 39 * DAY_MS))
        for who, product in buyers(self._world, random):
            at_ms = since_ms - random.randrange(1, product.days * DAY_MS)
            self._later(at_ms, "buy", (who, product))
        span = self._until_ms - since_ms
        for _ in range(self._asked.calls // 8):
            service = random.choice(("sms", "sms", "data", "data.messenger"))
            self._later(
                since_ms + random.randrange(span), "use", (random.choice(self._world.people), service)
            )
        heapify(self._waiting)

    def beside_calls(self, until_ms: int) -> None:
        """All that happens before this instant."""
        while self._waiting and self._waiting[0][0] < until_ms:
            at_ms, _, what, of = heappop(self._waiting)
            if what == "use":
                self._purses.use(of[0], of[1], at_ms)
                continue
            made = self._purses.buy(of[0], of[1], at_ms) if what == "buy" else self._renew(of, at_ms)
            if made is not None and made.product.renews:
                heappush(self._waiting, (made.until_ms, self._next(), "renew", made))

    def call(self, at_ms: int) -> None:
        """One more call, of somebody who is not calling already."""
        random, exchange = self._random, self._exchange
        draw = random.random()
        who = self._free(at_ms)
        if draw < ON_NET_PART:
            other = self._free(at_ms)
            exchange.on_net(at_ms, who, other, 120)
        elif draw < ON_NET_PART + INBOUND_PART:
            number, called = self._dice.called()
            hidden = random.random() < 0.08
            trunk = random.choice(("rheinfunk", "nordlicht", "transit"))
            exchange.incoming(at_ms, trunk, "" if hidden else number, number, who, called.talk_s)
        elif draw < ON_NET_PART + INBOUND_PART + UNCALLABLE_PART:
            exchange.out(at_ms, who, random.choice(UNCALLABLE), 60)
        elif draw > 0.9985:
            exchange.stranger(at_ms, *(self._dice.called()[0] for _ in range(2)))
        else:
            self._purses.before_calling(who, at_ms)
            number, called = self._dice.called()
            exchange.out(at_ms, who, number, called.talk_s)

    def after(self) -> None:
        """Some of those who bought something in the month are given a part back."""
        bought = [one for one in self._purses.purchases if one[3] >= self._since_ms]
        for one in self._random.sample(bought, min(3, len(bought))):
            at_ms = self._random.randrange(one[3] + 1, self._until_ms)
            self._purses.refund(one, 50, at_ms)

    def _renew(self, held: Any, at_ms: int) -> Any:
        return self._purses.buy(held.who, held.product, at_ms, held)

    def _free(self, at_ms: int) -> Person:
        """Somebody who is in no call. People differ: the first hundredth of them call most."""
        people = self._world.people
        while True:
            who = people[int(len(people) * self._random.random() ** 1.7)]
            if who.busy_until <= at_ms:
                return who

    def _later(self, at_ms: int, what: str, of: Any) -> None:
        self._waiting.append((at_ms, self._next(), what, of))

    def _next(self) -> int:
        self._serial += 1
        return self._serial


async def _rerate(conn: Connection, since: datetime, until: datetime) -> int:
    """What a carrier charged too much on the tenth is put right, by the product's re-rating. Returns the calls."""
    day = since + timedelta(days=9)
    criteria = Criteria(
        since=day, until=min(day + timedelta(days=1), until), carrier="transit", on=(CORRECTED_LATER,)
    )
    previewed = await rerate.preview(
        conn, criteria, author=_AUTHOR, reason="the carrier's price to the United Kingdom, as agreed"
    )
    run = await rerate.run(conn, previewed["run_id"])
    return int(run["progress"]["booked"])
