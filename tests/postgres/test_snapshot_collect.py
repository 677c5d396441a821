"""What the failsafe may decide on, collected from the database: only those whose calls can be billed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from time import time

import pytest

from bridge.calls import snapshot as module
from bridge.calls.snapshot import Routes, SnapshotWriter, best_routes, make_key, read_key, unseal
from bridge.config import Failsafe, Settings
from bridge.database import connection
from bridge.rating.plan import Plan
from bridge.routing.router import Router
from bridge.sandbox.seed import APP, SeedRate, SeedTrunk, seed_deck, seed_trunk
from bridge.telephony.number import Number
from tests.seeded import GERMANY, KINGDOM, Seeded, Who, ended


@pytest.fixture
def writer(tmp_path: Path) -> SnapshotWriter:
    make_key(tmp_path / "key")
    return SnapshotWriter(
        Settings(failsafe=Failsafe(snapshot=tmp_path / "snapshot", key_file=tmp_path / "key"))
    )


async def business(house: Seeded, credit_limit_micro: int = 10**6) -> Who:
    return await house.subscriber(funding="postpaid", credit_limit_micro=credit_limit_micro)


async def callers(house: Seeded, writer: SnapshotWriter) -> set[str]:
    snapshot = await writer.collect(house.pool, house.book, time())
    return set(snapshot.subscribers.get(APP, {}))


async def test_prepaid_waits_for_the_bridge(house: Seeded, writer: SnapshotWriter) -> None:
    await house.subscriber(balance_micro=10**9)
    who = await business(house)
    assert await callers(house, writer) == {who.a_number}


@pytest.mark.parametrize(
    "less",
    [
        "UPDATE subscriber SET state = 'suspended'",
        "UPDATE account SET state = 'closed'",
        "UPDATE account SET call_cap = 0",
        "UPDATE account SET credit_limit_micro = 0",
        "UPDATE account SET held_micro = credit_limit_micro",
        "UPDATE account SET currency = 'USD'",
        "DELETE FROM rollout_allow",
    ],
)
@pytest.mark.breaks_books
async def test_who_could_not_call_now_cannot_call_then(
    house: Seeded, writer: SnapshotWriter, less: str
) -> None:
    await business(house)
    assert len(await callers(house, writer)) == 1
    await house.rows(less)
    assert await callers(house, writer) == set()


async def test_used_up_credit_counts(house: Seeded, writer: SnapshotWriter) -> None:
    who = await business(house, credit_limit_micro=20_000)
    await house.end(ended((await house.admitted(who)).frozen.call_id, 20_000))
    assert await callers(house, writer) == set()


async def test_what_is_written_can_be_read_and_routes_as_the_bridge_would(
    house: Seeded, writer: SnapshotWriter, tmp_path: Path
) -> None:
    who = await business(house)
    await writer.put(await writer.collect(house.pool, house.book, time()))
    snapshot = unseal((tmp_path / "snapshot").read_bytes(), read_key(tmp_path / "key"), time())
    found = snapshot.subscriber(APP, who.a_number)
    assert found is not None
    subscriber_id, plan_id = found
    assert subscriber_id == str(await house.value("SELECT subscriber_id FROM subscriber"))
    for b_number in (GERMANY, KINGDOM):
        admitted = await house.admitted(who, b_number)
        assert snapshot.trunk(plan_id, Number(b_number)) == admitted.frozen.routes[0].name
    assert snapshot.trunk(plan_id, Number("+12025550123")) is None
    assert snapshot.ring_s == {"alpha": 30, "beta": 30}


async def test_routes_follow_the_book_and_are_kept_while_it_stands(
    house: Seeded, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await business(house)
    worked_out: list[Plan] = []

    def counted(subscribed: Plan, router: Router, at: datetime) -> Routes:
        worked_out.append(subscribed)
        return best_routes(subscribed, router, at)

    monkeypatch.setattr(module, "best_routes", counted)

    async def routes() -> Mapping[str, Mapping[str, str | None]]:
        return (await writer.collect(house.pool, house.book, time())).routes

    first = await routes()
    assert await routes() == first
    await house.rows("UPDATE origin_set SET prefix = prefix")
    await house.reload()
    assert await routes() == first
    assert len(worked_out) == 1, "another book, with nothing in it that routes depend on"
    async with connection(house.pool) as conn:
        await seed_trunk(conn, SeedTrunk("cheap", 5064, (SeedRate("49", "Germany", 1),)))
    await house.reload()
    (table,) = (await routes()).values()
    assert table["49"] == "cheap"
    await house.rows("UPDATE rate SET rate_micro = 50000 WHERE rate_micro = 1")
    await house.reload()
    (table,) = (await routes()).values()
    assert table["49"] == "alpha"
    await house.rows("UPDATE trunk SET enabled = false WHERE name = 'alpha'")
    await house.reload()
    (table,) = (await routes()).values()
    assert table["49"] == "beta"
    await house.rows("UPDATE plan SET margin_floor_micro = 1000000")
    await house.reload()
    (table,) = (await routes()).values()
    assert "49" not in table
    assert len(worked_out) == 5


async def test_prefixes_of_a_bands_deck_have_routes_of_their_own(
    house: Seeded, writer: SnapshotWriter
) -> None:
    await business(house)
    async with connection(house.pool) as conn:
        blocked = await seed_deck(conn, "never", "buy", [SeedRate("4930", "Berlin", 1)])
    await house.rows("UPDATE rate SET blocked = true WHERE deck_id = $1", blocked)
    await house.rows(
        "INSERT INTO deck_band (deck_id, position, name, days, from_minute, to_minute, band_deck_id, currency)"
        " SELECT deck_id, 0, 'always', '{0,1,2,3,4,5,6,7}', 0, 1440, $1, 'EUR' FROM deck WHERE name = 'buy alpha'",
        blocked,
    )
    await house.reload()
    (table,) = (await writer.collect(house.pool, house.book, time())).routes.values()
    assert (table["49"], table["4930"]) == ("alpha", "beta")
