"""Decks in the database: staged, compared, applied, rolled back, and never with two prices at one time."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from bridge.database import Connection, connect
from bridge.errors import Conflict, DeckError, NotFound, StoreError
from bridge.rating.bands import Band
from bridge.rating.store import load_deck, load_decks, load_origin_sets, load_staged_deck
from bridge.rating.store.imports import DeckFile, Staged, apply, create_deck, stage
from bridge.rating.store.versions import decks, export, history, preview, rollback, set_origin_set, show
from bridge.rating.terms import Terms

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
HEAD = "prefix,destination,rate,effective_from,effective_to,change"
FIRST = "49,Germany,0.09,2026-01-01,,\n4930,Berlin,0.05,2026-01-01,,\n44,Kingdom,0.11,2026-01-01,,\n"


class Decks:
    """One deck named `a`, and short words for what is done to it."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    async def stage(self, rows: str, mode: str = "add", head: str = HEAD, **more: Any) -> Staged:
        at = more.pop("at", NOW)
        file = DeckFile(io.BytesIO(f"{head}\n{rows}".encode()), "rates.csv", "tester")
        return await stage(self.conn, "a", file, mode, at=at, **more)

    async def put(self, rows: str, mode: str = "add", **more: Any) -> tuple[Staged, int]:
        staged = await self.stage(rows, mode, **more)
        assert staged.state in ("staged", "same"), await preview(self.conn, staged.import_id)
        return staged, await apply(self.conn, staged.import_id)

    async def rates(self) -> list[tuple[str, str, int, str, str | None]]:
        rows = await self.conn.fetch(
            "SELECT prefix, origin_set, rate_micro, lower(valid) AS begin, upper(valid) AS until FROM rate"
            " ORDER BY prefix, origin_set, valid"
        )
        return [
            (
                row["prefix"],
                row["origin_set"],
                row["rate_micro"],
                f"{row['begin']:%m-%d}",
                f"{row['until']:%m-%d}" if row["until"] else None,
            )
            for row in rows
        ]

    async def content(self) -> list[Any]:
        """All of the active version but where it came from."""
        return list(
            await self.conn.fetch(
                "SELECT to_jsonb(rate) - 'added_in' FROM rate ORDER BY prefix, origin_set, valid"
            )
        )

    async def changes(self, staged: Staged) -> dict[str, str]:
        return {one["prefix"]: one["kind"] for one in (await preview(self.conn, staged.import_id))["changes"]}

    async def errors(self, staged: Staged) -> list[tuple[int, str]]:
        assert staged.state == "refused"
        found = await preview(self.conn, staged.import_id, errors_most=None)
        assert found["summary"]["errors"] == len(found["errors"])
        return [(one["row"], one["column"]) for one in found["errors"]]


@pytest.fixture
async def a(conn: Connection) -> Decks:
    await create_deck(conn, "a", "buy", "EUR")
    made = Decks(conn)
    await made.put(FIRST)
    return made


async def test_the_first_import(a: Decks) -> None:
    assert await a.rates() == [
        ("44", "", 110_000, "01-01", None), ("49", "", 90_000, "01-01", None), ("4930", "", 50_000, "01-01", None),
    ]  # fmt: skip
    (head,) = await decks(a.conn, NOW)
    assert (head["name"], head["version"], head["rates"]) == ("a", 2, 3)
    assert len({row["rate_id"] for row in await a.conn.fetch("SELECT rate_id FROM rate")}) == 3


async def test_what_happens_to_each_prefix(a: Decks) -> None:
    staged = await a.stage(
        "49,Germany,0.10,,,\n4930,Berlin,0.04,,,\n44,Kingdom,,,,blocked\n33,France,0.2,,,\n", "replace"
    )
    assert await a.changes(staged) == {"49": "increase", "4930": "decrease", "44": "blocked", "33": "new"}
    staged = await a.stage("49,Germany,0.09,,,\n4930,Old Berlin,0.05,,,\n", "replace")
    assert await a.changes(staged) == {"4930": "changed", "44": "deleted"}
    assert staged.summary == {
        "rows": 2, "prefixes": 2, "same": 1, "new": 0, "increase": 0, "decrease": 0, "changed": 1, "blocked": 0,
        "deleted": 1, "backdated": 0,
    }  # fmt: skip
    assert [row[2] for row in await a.rates()] == [110_000, 90_000, 50_000], "staging changes no rate"


async def test_a_new_price_ends_the_old_one_where_it_begins(a: Decks) -> None:
    _, version = await a.put("49,Germany,0.10,2026-06-08,,\n")
    assert version == 3
    assert (await a.rates())[1:3] == [
        ("49", "", 90_000, "01-01", "06-08"),
        ("49", "", 100_000, "06-08", None),
    ]
    ids = await a.conn.fetch("SELECT DISTINCT rate_id FROM rate WHERE rate_micro = 90000")
    past = await a.conn.fetch("SELECT rate_id, added_in, removed_in FROM rate_past")
    assert [tuple(row) for row in past] == [(ids[0]["rate_id"], 2, 3)], "the price that was cut keeps its id"


async def test_a_price_for_a_while_is_followed_by_the_one_before(a: Decks) -> None:
    await a.put("49,Germany,0.01,2026-06-08,2026-06-10,\n")
    assert [row[2:] for row in await a.rates() if row[0] == "49"] == [
        (90_000, "01-01", "06-08"), (10_000, "06-08", "06-10"), (90_000, "06-10", None),
    ]  # fmt: skip


async def test_a_replacing_file_is_all_there_is_from_its_rows_on(a: Decks) -> None:
    await a.put("49,Germany,0.01,2026-06-08,2026-06-10,\n44,Kingdom,0.11,,,\n", "replace", effective_at=LATER)
    assert await a.rates() == [
        ("44", "", 110_000, "01-01", None),
        ("49", "", 90_000, "01-01", "06-08"),
        ("49", "", 10_000, "06-08", "06-10"),
        ("4930", "", 50_000, "01-01", "06-08"),
    ]


async def test_a_replaced_future_is_gone(a: Decks) -> None:
    await a.put("49,Germany,0.10,2026-07-01,,\n")
    await a.put("49,Germany,0.09,,,\n4930,Berlin,0.05,,,\n44,Kingdom,0.11,,,\n", "replace")
    assert [row[2:] for row in await a.rates() if row[0] == "49"] == [(90_000, "01-01", None)]


async def test_deleting_in_add_mode(a: Decks) -> None:
    staged, _ = await a.put("49,,,2026-06-08,,delete\n7,,,,,delete\n")
    assert (staged.summary["deleted"], staged.summary["same"]) == (1, 1)
    assert [row[2:] for row in await a.rates() if row[0] == "49"] == [(90_000, "01-01", "06-08")]


async def test_the_same_again_makes_no_version(a: Decks) -> None:
    for mode in ("add", "replace"):
        staged, version = await a.put(FIRST, mode)
        assert (staged.state, staged.summary["same"], version) == ("same", 3, 2)
    staged, version = await a.put("49,Germany,0.09,,,\n")
    assert (staged.state, version) == ("same", 2), "the price it has already, from now on"


async def test_a_backdated_change_is_told(a: Decks) -> None:
    staged = await a.stage("49,Germany,0.10,2026-05-01,,\n44,Kingdom,0.10,,,\n")
    assert staged.summary["backdated"] == 1


async def test_errors_of_all_kinds_are_told_and_nothing_is_applied(a: Decks) -> None:
    before = await a.content()
    staged = await a.stage(
        "49,Germany,0.10,2026-06-01,2026-07-01,\n4a,X,-1,,,\n49,Germany,0.11,2026-06-30,,\n44,K,0.1,,,\n44,K,0.1,,,\n"
        "44,K,0.1,2026-07-01,2026-06-01,\n",
        "replace",
    )
    assert await a.errors(staged) == [
        (3, "prefix"), (3, "rate"), (4, "prefix"), (6, "prefix"), (7, "effective_to"),
    ]  # fmt: skip
    with pytest.raises(Conflict, match="has errors"):
        await apply(a.conn, staged.import_id)
    assert await a.content() == before


async def test_prices_that_follow_each_other_in_one_file(a: Decks) -> None:
    await a.put("33,France,0.1,2026-06-01,2026-07-01,\n33,France,0.2,2026-07-01,,\n")
    assert [row[2:] for row in await a.rates() if row[0] == "33"] == [
        (100_000, "06-01", "07-01"), (200_000, "07-01", None),
    ]  # fmt: skip


async def test_errors_are_capped_in_display_and_complete_in_the_table(a: Decks) -> None:
    staged = await a.stage("".join(f"{n},X,-1,,,\n" for n in range(1000, 3000)))
    assert len((await preview(a.conn, staged.import_id))["errors"]) == 50
    assert len(await a.errors(staged)) == 2000


async def test_applying_again_says_the_same(a: Decks) -> None:
    staged, version = await a.put("49,Germany,0.10,,,\n")
    assert await apply(a.conn, staged.import_id) == version == 3
    assert len((await history(a.conn, "a"))["versions"]) == 2


async def test_a_deck_that_has_changed_since_is_not_overwritten(a: Decks) -> None:
    stale = await a.stage("49,Germany,0.10,,,\n")
    await a.put("49,Germany,0.11,,,\n")
    with pytest.raises(Conflict, match="Stage the file again"):
        await apply(a.conn, stale.import_id)
    assert (await preview(a.conn, stale.import_id))["deck_version"] == 3


async def test_of_two_that_apply_at_once_one_wins(a: Decks, dsn: str) -> None:
    imports = [(await a.stage(f"49,Germany,0.1{n},,,\n")).import_id for n in range(4)]

    async def one(import_id: UUID) -> int | str:
        async with connect(dsn) as conn:
            try:
                return await apply(conn, import_id)
            except Conflict:
                return "late"

    assert sorted(await asyncio.gather(*map(one, imports)), key=str) == [3, "late", "late", "late"]
    assert (await a.conn.fetchval("SELECT count(*) FROM rate")) == 4


async def test_one_import_applied_by_many_is_applied_once(a: Decks, dsn: str) -> None:
    staged = await a.stage("49,Germany,0.10,,,\n")

    async def one() -> int:
        async with connect(dsn) as conn:
            return await apply(conn, staged.import_id)

    assert await asyncio.gather(*(one() for _ in range(5))) == [3] * 5


async def test_staged_rows_lost_in_a_crash_are_noticed(a: Decks) -> None:
    staged = await a.stage("49,Germany,0.10,,,\n", "replace")
    await a.conn.execute("TRUNCATE deck_import_row")  # what recovery does to an unlogged table
    before = await a.content()
    with pytest.raises(Conflict, match="lost with the server"):
        await apply(a.conn, staged.import_id)
    assert await a.content() == before


async def test_rollback_restores_exactly_and_can_be_undone(a: Decks) -> None:
    contents = {2: await a.content()}
    _, version = await a.put("49,Germany,0.10,,,\n4930,,,,,delete\n33,France,0.3,,,\n")
    contents[version] = await a.content()
    _, version = await a.put("49,Germany,0.09,,,\n", "replace")
    contents[version] = await a.content()
    assert await rollback(a.conn, "a", "tester", 2) == 5
    assert await a.content() == contents[2]
    assert await rollback(a.conn, "a", "tester") == 6
    assert await a.content() == contents[4]
    assert await rollback(a.conn, "a", "tester", 3) == 7
    assert await a.content() == contents[3]
    told = await history(a.conn, "a")
    assert [(one["version"], one["origin"], one["to_version"]) for one in told["versions"]] == [
        (7, "rollback", 3), (6, "rollback", 4), (5, "rollback", 2), (4, "import", None), (3, "import", None),
        (2, "import", None),
    ]  # fmt: skip
    for nowhere in (0, 7, 99):
        with pytest.raises(NotFound, match="no version"):
            await rollback(a.conn, "a", "tester", nowhere)


async def test_a_deck_as_of_each_version(a: Decks) -> None:
    deck_id = await a.conn.fetchval("SELECT deck_id FROM deck")
    await a.put("49,Germany,0.10,,,\n")
    await a.put("49,Germany,0.12,2026-06-08,,\n")
    await rollback(a.conn, "a", "tester", 2)

    async def price(version: int | None, at: datetime = LATER) -> int | None:
        deck = await load_deck(a.conn, deck_id, at, version)
        assert deck.version == version or version is None
        rate = deck.longest("4989")
        return rate.rate_micro if rate else None

    assert [await price(version) for version in (1, 2, 3, 4, 5, None)] == [
        None, 90_000, 100_000, 120_000, 90_000, 90_000,
    ]  # fmt: skip
    assert await price(4, NOW) == 100_000
    with pytest.raises(NotFound, match="no version 6"):
        await load_deck(a.conn, deck_id, NOW, 6)
    with pytest.raises(NotFound, match="no deck"):
        await load_deck(a.conn, uuid4(), NOW)


@pytest.mark.parametrize("at", [NOW - timedelta(days=1), NOW, LATER])
async def test_the_deck_as_an_import_will_leave_it(a: Decks, at: datetime) -> None:
    staged = await a.stage("49,Germany,0.10,2026-06-05,,\n4930,,,,,delete\n33,France,0.3,,,\n", "replace")
    numbers = ("4989", "4930", "44", "33")
    before = await load_staged_deck(a.conn, staged.import_id, at)
    await apply(a.conn, staged.import_id)
    after = await load_staged_deck(a.conn, staged.import_id, at)
    deck_id = await a.conn.fetchval("SELECT deck_id FROM deck")
    assert before.version == after.version == 3

    def prices(deck: Any) -> list[Any]:
        return [rate and (rate.prefix, rate.rate_micro) for rate in map(deck.longest, numbers)]

    assert prices(before) == prices(after) == prices(await load_deck(a.conn, deck_id, at))


async def test_terms_bands_origins_and_tiers_are_loaded(a: Decks) -> None:
    await create_deck(a.conn, "cheap", "buy", "EUR")
    file = DeckFile(io.BytesIO(b"prefix,destination,rate\n49,Germany,0.01\n"), "cheap.csv", "tester")
    staged = await stage(a.conn, "cheap", file, "add", at=NOW)
    await apply(a.conn, staged.import_id)
    await a.conn.execute("UPDATE deck SET terms = $1 WHERE name = 'a'", '{"time_zone": "Europe/Berlin"}')
    await a.conn.execute(
        "INSERT INTO deck_band SELECT a.deck_id, 0, 'evening', '{0,1,2,3,4}', 1080, 480, b.deck_id, 'EUR'"
        " FROM deck a, deck b WHERE a.name = 'a' AND b.name = 'cheap'"
    )
    await set_origin_set(a.conn, "eu", ["33", "43"])
    head = "prefix,destination,rate,origin_set,tiers"
    await a.put("49,Germany,0.03,eu,180:0.02/60\n", head=head)
    found = {deck.name: deck for deck in (await load_decks(a.conn, NOW)).values()}
    deck = found["a"]
    assert deck.terms == Terms(time_zone="Europe/Berlin")
    ((band, band_deck),) = deck.bands
    assert band == Band("evening", frozenset(range(5)), 1080, 480)
    assert band_deck is found["cheap"]
    everyones, europes = deck.longest("4989"), deck.longest("4989", ("eu",))
    assert everyones is not None and europes is not None
    assert (everyones.rate_micro, europes.rate_micro) == (90_000, 30_000)
    assert [(tier.from_s, tier.rate_micro, tier.next_s) for tier in europes.tiers] == [(180, 20_000, 60)]
    assert await load_origin_sets(a.conn) == {"eu": ("33", "43")}
    await set_origin_set(a.conn, "eu", ["33", "44"])
    assert await load_origin_sets(a.conn) == {"eu": ("33", "44")}


async def test_times_without_an_offset_are_of_the_decks_time_zone(a: Decks) -> None:
    await a.conn.execute('UPDATE deck SET terms = \'{"time_zone": "Asia/Tokyo"}\'')
    await a.put("33,France,0.1,2026-07-01,,\n")
    begin = await a.conn.fetchval("SELECT lower(valid) FROM rate WHERE prefix = '33'")
    assert begin == datetime(2026, 6, 30, 15, tzinfo=UTC)


async def test_an_export_imports_again_unchanged(a: Decks) -> None:
    await set_origin_set(a.conn, "eu", ["33"])
    head = "prefix,destination,rate,origin_set,tiers,increment,connection_fee,minimum_s,grace_s,blocked,effective_from"
    await a.put(
        "33,'=evil(),0.123456,eu,180:0.02/60;600:0/1,30/6,0.01,10,3,,2026-07-01\n"
        '34,"Spain, ""mobile""",0,,,1/1,,,,yes,\n35,\'@home,999999999.999999,,,,,,,,\n',
        head=head,
    )
    text = "".join([piece async for piece in export(a.conn, "a", NOW)])
    assert "\n33,'=evil()," in text and ",'@home," in text
    before = await a.content()
    for mode in ("add", "replace"):
        staged = await stage(
            a.conn, "a", DeckFile(io.BytesIO(text.encode()), "a.csv", "tester"), mode, at=LATER
        )
        assert staged.state == "same", (await preview(a.conn, staged.import_id))["changes"]
    assert await a.content() == before
    shown = await show(a.conn, "a", NOW)
    assert [one["prefix"] for one in shown["rates"]] == ["33", "34", "35", "44", "49", "4930"]


async def test_workers_are_told_of_each_change(a: Decks, dsn: str) -> None:
    told: list[str] = []
    heard = asyncio.Event()

    def hear(*words: Any) -> None:
        told.append(words[-1])
        heard.set()

    async with connect(dsn) as listener:
        await listener.add_listener("callbridge_config", hear)
        staged = await a.stage("49,Germany,0.10,,,\n")
        await listener.execute("SELECT 1")
        assert told == [], "staging is nobody's business"
        await apply(a.conn, staged.import_id)
        async with asyncio.timeout(5):
            await heard.wait()
        assert {"deck", "rate"} <= set(told)
        heard.clear()
        await set_origin_set(a.conn, "eu", ["33"])
        async with asyncio.timeout(5):
            await heard.wait()
        assert "origin_set" in told


async def test_what_is_not_there_is_named(conn: Connection) -> None:
    file = DeckFile(io.BytesIO(b"prefix,destination,rate\n"), "a.csv", "tester")
    with pytest.raises(NotFound, match="no deck 'a'"):
        await stage(conn, "a", file, "add", at=NOW)
    for ask in (apply, preview):
        with pytest.raises(NotFound, match="no import"):
            await ask(conn, uuid4())
    await create_deck(conn, "a", "buy", "EUR")
    await create_deck(conn, "a", "buy", "EUR")
    with pytest.raises(Conflict, match="a buy deck in EUR"):
        await create_deck(conn, "a", "sell", "EUR")
    with pytest.raises(DeckError, match="is no mode"):
        await stage(conn, "a", file, "append", at=NOW)
    with pytest.raises(DeckError, match="Write 2026-01-31"):
        await stage(conn, "a", file, "add", at=NOW, effective_at="tomorrow")


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_two_writers_at_once_cannot_overlap(a: Decks, dsn: str, isolation: Any) -> None:
    insert = (
        "INSERT INTO rate (deck_id, prefix, destination, rate_micro, valid)"
        " SELECT deck_id, '55', 'Brazil', 1, tstzrange($1, NULL) FROM deck"
    )
    async with connect(dsn) as other:
        first, second = a.conn.transaction(isolation=isolation), other.transaction(isolation=isolation)
        await first.start()
        await second.start()
        await other.fetch("SELECT FROM rate")  # its snapshot is older than what the first commits
        await a.conn.execute(insert, NOW)
        waiting = asyncio.create_task(other.execute(insert, LATER))
        await _is_waiting(a.conn)
        await first.commit()
        with pytest.raises((asyncpg.ExclusionViolationError, asyncpg.SerializationError)):
            await waiting
        await second.rollback()


async def _is_waiting(conn: Connection) -> None:
    async with asyncio.timeout(5):
        while not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            pass


async def test_a_rate_belongs_to_a_deck_and_a_deck_stays(conn: Connection, dsn: str) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await conn.execute(
            "INSERT INTO rate (deck_id, prefix, destination, rate_micro) VALUES ($1, '49', 'X', 1)", uuid4()
        )
    await create_deck(conn, "a", "buy", "EUR")
    with pytest.raises(StoreError, match="never deleted"):
        async with connect(dsn) as other:
            await other.execute("DELETE FROM deck")
