"""What a book takes over from the one before it, and that nobody waits while it is made."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.calls.book import Book, load_book
from bridge.database import connection
from bridge.rating import packed, prefixes
from bridge.rating.deck import Deck
from bridge.rating.packed import Packing, Row
from bridge.rating.store import decks as module
from bridge.rating.store import load_deck
from bridge.routing.router import Router
from bridge.sandbox.seed import SeedRate, seed_deck
from tests.seeded import Seeded

DEARER = (
    "UPDATE rate r SET rate_micro = rate_micro + 1 FROM deck d"
    " WHERE d.deck_id = r.deck_id AND prefix = '49' AND d.name = '{}'"
)
ALPHA, BETA, SELL = "buy alpha", "buy beta", "sell standard"
Load = Callable[..., Awaitable[tuple[Book, set[str]]]]


@pytest.fixture
def load(house: Seeded) -> Load:
    """Changes something and reads the book again, knowing the last. Returns it, and which decks are other objects."""

    async def load(*changes: str, at: datetime | None = None) -> tuple[Book, set[str]]:
        for change in changes:
            await house.rows(change)
        before = house.book
        async with connection(house.pool) as conn:
            house.book = await load_book(conn, at or datetime.now(UTC), before)
        return house.book, {
            deck.name for deck_id, deck in house.book.decks.items() if before.decks.get(deck_id) is not deck
        }

    return load


async def add(house: Seeded, name: str, *rates: SeedRate) -> str:
    async with connection(house.pool) as conn:
        return await seed_deck(conn, name, "buy", rates)


async def band(house: Seeded, deck: str, band_deck: str, name: str = "evening") -> None:
    await house.rows(
        "INSERT INTO deck_band (deck_id, position, name, days, from_minute, to_minute, band_deck_id, currency)"
        " SELECT a.deck_id, 0, $3, '{0,1,2}', 1080, 1440, b.deck_id, 'EUR' FROM deck a, deck b"
        " WHERE a.name = $1 AND b.name = $2",
        deck, band_deck, name,
    )  # fmt: skip


def named(book: Book, name: str) -> Deck:
    (found,) = (deck for deck in book.decks.values() if deck.name == name)
    return found


async def test_without_a_change_all_is_taken_over(house: Seeded, load: Load) -> None:
    before = house.book
    book, replaced = await load()
    assert book is not before
    assert replaced == set()
    assert book.router is before.router


@pytest.mark.parametrize("change", ["enabled = false", "capacity = 1", "ring_s = 7", "name = 'zeta'"])
async def test_a_changed_trunk_keeps_every_deck_and_the_prefixes(
    house: Seeded, load: Load, change: str
) -> None:
    before = house.book
    book, replaced = await load(f"UPDATE trunk SET {change} WHERE name = 'alpha'")
    assert replaced == set()
    assert book.trunks != before.trunks
    assert book.router is not before.router
    assert book.router.keys is before.router.keys


async def test_a_changed_plan_keeps_the_router_with_all_it_has_worked_out(house: Seeded, load: Load) -> None:
    before = house.book
    book, replaced = await load("UPDATE plan SET margin_floor_micro = 5")
    (plan,) = book.plans.values()
    assert plan.margin_floor_micro == 5
    assert replaced == set()
    assert book.router is before.router


@pytest.mark.parametrize("deck", [ALPHA, BETA, SELL])
async def test_a_changed_rate_replaces_its_deck_only(house: Seeded, load: Load, deck: str) -> None:
    before = named(house.book, deck).longest("49")
    book, replaced = await load(DEARER.format(deck))
    after = named(book, deck).longest("49")
    assert before is not None
    assert after is not None
    assert after.rate_micro == before.rate_micro + 1
    assert replaced == {deck}


ADDED = (
    "INSERT INTO rate (deck_id, prefix, destination, rate_micro)"
    " SELECT deck_id, '33', 'France', 1 FROM deck WHERE name = 'buy alpha'"
)


@pytest.mark.parametrize(
    "change",
    [
        ADDED,
        "DELETE FROM rate WHERE prefix = '49' AND deck_id = (SELECT deck_id FROM deck WHERE name = 'buy alpha')",
        """UPDATE deck SET terms = '{"quantum_micro": 10000}' WHERE name = 'buy alpha'""",
        "UPDATE deck SET version = version + 1 WHERE name = 'buy alpha'",
    ],
)
async def test_whatever_changes_a_deck_replaces_it(house: Seeded, load: Load, change: str) -> None:
    book, replaced = await load(change)
    assert replaced == {ALPHA}
    async with connection(house.pool) as conn:
        fresh = await load_book(conn, datetime.now(UTC))
    ours, theirs = named(book, ALPHA), named(fresh, ALPHA)
    assert (ours.version, ours.terms, ours.keys) == (theirs.version, theirs.terms, theirs.keys)
    assert book.router.keys == fresh.router.keys


async def test_a_rate_that_moves_to_another_deck_changes_both(house: Seeded, load: Load) -> None:
    _, replaced = await load(
        "UPDATE rate SET prefix = '491', deck_id = (SELECT deck_id FROM deck WHERE name = 'buy beta')"
        " WHERE prefix = '49' AND deck_id = (SELECT deck_id FROM deck WHERE name = 'buy alpha')"
    )
    assert replaced == {ALPHA, BETA}


@pytest.mark.parametrize("ends", [True, False])
async def test_a_deck_is_replaced_at_the_instant_its_rate_comes_or_goes(
    house: Seeded, load: Load, ends: bool
) -> None:
    begin = datetime.now(UTC)
    edge = begin + timedelta(minutes=1)
    until = "tstzrange('2020-01-01Z', $1)" if ends else "tstzrange($1, NULL)"
    await house.rows(
        f"UPDATE rate SET valid = {until} WHERE prefix = '49'"
        " AND deck_id = (SELECT deck_id FROM deck WHERE name = 'buy alpha')",
        edge,
    )
    book, replaced = await load(at=begin)
    assert (book.changes_at, replaced) == (edge, {ALPHA})
    assert (await load(at=edge - timedelta(microseconds=1)))[1] == set()
    book, replaced = await load(at=edge)
    assert replaced == {ALPHA}
    assert (named(book, ALPHA).longest("49") is None) == ends
    assert (await load(at=begin))[1] == {ALPHA}, "a clock that was set back"


async def test_a_rate_of_a_bands_deck_replaces_the_decks_that_have_the_band(
    house: Seeded, load: Load
) -> None:
    await add(house, "night", SeedRate("49", "Germany", 5), SeedRate("4930", "Berlin", 6))
    await band(house, ALPHA, "night")
    book, replaced = await load()
    assert replaced == {ALPHA, "night"}
    assert [deck.name for _, deck in named(book, ALPHA).bands] == ["night"]
    assert (await load())[1] == set()
    book, replaced = await load(DEARER.format("night"))
    assert replaced == {ALPHA, "night"}
    tariff = named(book, ALPHA).tariff("4989")
    assert tariff is not None
    assert [one.rate.rate_micro for one in tariff.bands] == [6]


async def test_another_band_needs_no_rate_read_again(
    house: Seeded, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(house, "night", SeedRate("49", "Germany", 5))
    await load()
    monkeypatch.setattr(module, "Packing", None)
    await band(house, ALPHA, "night")
    assert (await load())[1] == {ALPHA}
    book, replaced = await load("UPDATE deck_band SET to_minute = 60")
    assert replaced == {ALPHA}
    assert [one.to_minute for one, _ in named(book, ALPHA).bands] == [60]
    book, replaced = await load("DELETE FROM deck_band")
    assert replaced == {ALPHA}
    assert named(book, ALPHA).bands == ()


async def test_new_decks_come_beside_those_that_stay(house: Seeded, load: Load) -> None:
    await add(house, "new", SeedRate("49", "Germany", 5))
    assert (await load())[1] == {"new"}


async def test_nothing_long_is_done_where_callers_are_answered(
    house: Seeded, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int, threading.Thread]] = []

    def watched(what: str, work: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            done.append((what, size(*given), threading.current_thread()))
            return work(*given)

        return noted

    def add_rows(packing: Packing, rows: Iterable[Row]) -> Packing:
        kept = list(rows)
        done.append(("packing", len(kept), threading.current_thread()))
        return packing_add(packing, kept)

    packing_add = Packing.add
    monkeypatch.setattr(Packing, "add", add_rows)
    monkeypatch.setattr(prefixes, "_enclosing", watched("prefixes", prefixes._enclosing, len))
    monkeypatch.setattr(packed.Packed, "__init__", watched("packed", packed.Packed.__init__, lambda *_: 1))
    monkeypatch.setattr(Router, "__init__", watched("router", Router.__init__, lambda *_: 1))
    rates = 2 * module.BATCH_ROWS + 1
    await house.rows(
        "INSERT INTO rate (deck_id, prefix, destination, rate_micro, valid)"
        " SELECT deck_id, (500000 + n)::text, 'Peru', n, tstzrange('2020-01-01Z', NULL)"
        " FROM deck, generate_series(1, $1::int) AS n WHERE name = 'buy alpha'",
        rates - 2,
    )
    book, replaced = await load()
    assert replaced == {ALPHA}
    assert len(named(book, ALPHA)) == rates
    assert {what for what, _, _ in done} == {"packing", "packed", "prefixes", "router"}
    assert threading.main_thread() not in {thread for _, _, thread in done}
    assert [rows for what, rows, _ in done if what == "packing"] == [module.BATCH_ROWS, module.BATCH_ROWS, 1]


async def test_one_deck_is_read_in_batches_too(house: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 1)
    deck_id = named(house.book, ALPHA).deck_id
    async with connection(house.pool) as conn:
        deck = await load_deck(conn, deck_id, datetime.now(UTC))
    assert deck.keys == named(house.book, ALPHA).keys
