"""Whatever files come in whatever order, a deck costs what a plain calendar says, day by day, and its past stays."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.database import Connection, connect
from bridge.rating.deck import Deck
from bridge.rating.deck_cells import prefixes
from bridge.rating.store import load_deck, load_staged_deck
from bridge.rating.store.imports import DeckFile, Staged, apply, create_deck, stage
from bridge.rating.store.versions import export, preview, rollback
from bridge.sandbox.postgres import EmbeddedPostgres

DAYS = 8  # of the calendar; the last one stands for all after it
BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
KEYS = ("1", "12", "49", "493")
PRICES = (0, 10_000, 20_000)
Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
Calendar: TypeAlias = dict[str, tuple[int | None, ...]]  # prefix -> price of each day

EMPTY: Calendar = dict.fromkeys(KEYS, (None,) * DAYS)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_serial = count(1)


class Row(NamedTuple):
    """A row of a file. price None: the prefix is deleted; to None: for good."""

    prefix: str
    begin: int
    to: int | None
    price: int | None

    @property
    def days(self) -> range:
        return range(self.begin, DAYS if self.to is None else self.to)

    def text(self) -> str:
        until = "" if self.to is None else day(self.to).isoformat()
        rate = "" if self.price is None else f"0.{self.price:06d}"
        change = "delete" if self.price is None else ""
        return f"{self.prefix},X,{rate},{day(self.begin).isoformat()},{until},{change}\n"


class File(NamedTuple):
    mode: str
    effective: int
    rows: list[Row]

    @property
    def overlaps(self) -> bool:
        days = [(row.prefix, one) for row in self.rows for one in row.days]
        return len(days) > len(set(days))


def day(number: int) -> datetime:
    return BEGIN + timedelta(days=number)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    begin = draw(st.integers(0, DAYS - 2))
    to = draw(st.none() | st.integers(begin + 1, DAYS - 1))
    return Row(draw(st.sampled_from(KEYS)), begin, to, draw(st.sampled_from((*PRICES, *PRICES, None))))


many_rows = st.lists(rows(), max_size=6)
apart = many_rows.filter(lambda found: not File("add", 0, found).overlaps)
files = st.builds(File, st.sampled_from(("add", "replace")), st.integers(0, DAYS - 1), many_rows)


def laid_over(calendar: Calendar, file: File) -> Calendar:
    """The reference: what each day costs after a file."""
    found = {key: list(days) for key, days in calendar.items()}
    if file.mode == "replace":
        for key, days in found.items():
            first = min((row.begin for row in file.rows if row.prefix == key), default=file.effective)
            days[first:] = [None] * (DAYS - first)
    for row in file.rows:
        for one in row.days:
            found[row.prefix][one] = row.price
    return {key: tuple(days) for key, days in found.items()}


def kinds(before: Calendar, after: Calendar) -> dict[str, str]:
    """What happens to each prefix, by the first day that is different."""
    found = {}
    for key in KEYS:
        differing = [(old, new) for old, new in zip(before[key], after[key], strict=True) if old != new]
        match differing:
            case [(None, _), *_]:
                found[key] = "new"
            case [(_, None), *_]:
                found[key] = "deleted"
            case [(int(old), int(new)), *_]:
                found[key] = "increase" if new > old else "decrease"
    return found


def longest(calendar: Calendar, one: int) -> dict[str, int | None]:
    """The price of the longest prefix of each number on a day."""
    return {
        number: next(
            (
                calendar[number[:length]][one]
                for length in range(len(number), 0, -1)
                if calendar.get(number[:length], EMPTY["1"])[one] is not None
            ),
            None,
        )
        for number in KEYS
    }


def found_in(deck: Deck) -> dict[str, int | None]:
    return {number: rate.rate_micro if (rate := deck.longest(number)) else None for number in KEYS}


class Shelf:
    """A new deck for each example."""

    def __init__(self, conn: Connection) -> None:
        self.conn, self.name = conn, f"deck {next(_serial)}"

    async def create(self) -> Shelf:
        await create_deck(self.conn, self.name, "sell", "EUR")
        self.deck_id = await self.conn.fetchval("SELECT deck_id FROM deck WHERE name = $1", self.name)
        return self

    async def stage(self, file: File) -> Staged:
        text = "prefix,destination,rate,effective_from,effective_to,change\n"
        text += "".join(row.text() for row in file.rows)
        return await self.stage_text(text, file.mode, file.effective)

    async def stage_text(self, text: str, mode: str, effective: int) -> Staged:
        given = DeckFile(io.BytesIO(text.encode()), "x.csv", "tester")
        return await stage(self.conn, self.name, given, mode, at=BEGIN, effective_at=day(effective))

    async def put(self, file: File) -> int:
        return await apply(self.conn, (await self.stage(file)).import_id)

    async def rates(self) -> list[Any]:
        return list(
            await self.conn.fetch(
                "SELECT prefix, rate_micro, valid FROM rate WHERE deck_id = $1 ORDER BY prefix, valid",
                self.deck_id,
            )
        )

    async def calendar(self) -> Calendar:
        found = {key: [None] * DAYS for key in KEYS}
        for prefix, rate_micro, valid in await self.rates():
            for one in range(DAYS):
                if valid.lower <= day(one) and (valid.upper is None or day(one) < valid.upper):
                    assert found[prefix][one] is None, "two prices at one time"
                    found[prefix][one] = rate_micro
        return {key: tuple(days) for key, days in found.items()}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def conn(postgres: EmbeddedPostgres, template: str, run: Run) -> Iterator[Connection]:
    postgres.create_database("deck_import_properties", template)
    opened = connect(postgres.dsn("deck_import_properties"))
    yield run(opened.__aenter__())
    run(opened.__aexit__(None, None, None))
    postgres.drop_database("deck_import_properties")


@QUICK
@given(given_files=st.lists(files, min_size=1, max_size=5), back=st.integers(1, 5))
def test_a_deck_is_its_calendar(conn: Connection, run: Run, given_files: list[File], back: int) -> None:
    async def story() -> None:
        shelf = await Shelf(conn).create()
        versions = {1: EMPTY}
        now = 1
        for file in given_files:
            staged = await shelf.stage(file)
            if file.overlaps:
                assert staged.state == "refused"
                continue
            before, after = versions[now], laid_over(versions[now], file)
            told = await preview(conn, staged.import_id)
            assert {one["prefix"]: one["kind"] for one in told["changes"]} == kinds(before, after)
            assert staged.state == ("same" if before == after else "staged")
            for one in range(DAYS):
                deck = await load_staged_deck(conn, staged.import_id, day(one))
                assert found_in(deck) == longest(after, one)
            now = await apply(conn, staged.import_id)
            versions[now] = after
            assert await shelf.calendar() == after
        if now > 1:
            to = 1 + back % (now - 1) if now > 2 else 1
            assert await rollback(conn, shelf.name, "tester", to) == now + 1
            assert await shelf.calendar() == versions[to]
            versions[now + 1] = versions[to]
        for version, calendar in versions.items():
            for one in (0, DAYS - 1):
                deck = await load_deck(conn, shelf.deck_id, day(one), version)
                assert found_in(deck) == longest(calendar, one)

    run(story())


@QUICK
@given(base=apart, whole=apart, parts=st.data())
def test_a_file_in_parts_is_the_file(
    conn: Connection, run: Run, base: list[Row], whole: list[Row], parts: st.DataObject
) -> None:
    order = parts.draw(st.permutations(whole))
    cut = parts.draw(st.integers(0, len(whole)))

    async def story() -> None:
        one, other = await Shelf(conn).create(), await Shelf(conn).create()
        for shelf in (one, other):
            await shelf.put(File("add", 0, base))
        await one.put(File("add", 0, whole))
        await other.put(File("add", 0, order[:cut]))
        await other.put(File("add", 0, order[cut:]))
        assert await other.calendar() == await one.calendar()
        assert await other.rates() == await one.rates()

    run(story())


@QUICK
@given(base=apart, mode=st.sampled_from(("add", "replace")), at=st.integers(0, DAYS - 1))
def test_an_export_changes_nothing(conn: Connection, run: Run, base: list[Row], mode: str, at: int) -> None:
    async def story() -> None:
        shelf = await Shelf(conn).create()
        await shelf.put(File("add", 0, base))
        before = await shelf.rates()
        text = "".join([piece async for piece in export(conn, shelf.name, day(at))])
        staged = await shelf.stage_text(text, mode, at)
        assert staged.state == "same"
        assert await shelf.rates() == before

    run(story())


@given(low=st.integers(1, 99_999), high=st.integers(1, 99_999), width=st.integers(1, 5))
def test_a_range_is_its_prefixes(low: int, high: int, width: int) -> None:
    low, high = sorted(10 ** (width - 1) + n % (9 * 10 ** (width - 1)) for n in (low, high))
    found = prefixes(f"{low}-{high}")
    spans = sorted((int(p.ljust(width, "0")), int(p.ljust(width, "9"))) for p in found)
    assert spans[0][0] == low and spans[-1][1] == high
    assert all(end + 1 == begin for (_, end), (begin, _) in pairwise(spans))
