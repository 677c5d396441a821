"""The dry run of a deck on recorded calls, and re-rating at the command line."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import pytest
from typer.testing import CliRunner

from bridge.calls.replay import replay
from bridge.cli.main import app
from bridge.database import Connection, connection, transaction
from bridge.errors import Conflict, NotFound, StoreError
from bridge.observe import log
from bridge.rating.store.imports import DeckFile, apply, stage
from tests.postgres.test_rerate import a_call
from tests.seeded import KINGDOM, Seeded, ended, seeded

HEAD = "prefix,destination,rate,initial_s,next_s,effective_from"


async def staged(house: Seeded, deck: str, rows: str, mode: str = "replace") -> UUID:
    file = DeckFile(io.BytesIO(f"{HEAD}\n{rows}".encode()), "rates.csv", "tester")
    async with connection(house.pool) as conn:
        found = await stage(conn, deck, file, mode, at=datetime.now(UTC))
    assert found.state == "staged", found
    return found.import_id


async def replayed(house: Seeded, import_id: UUID) -> dict[str, Any]:
    now = datetime.now(UTC)
    async with connection(house.pool) as conn:
        return await replay(conn, import_id, now - timedelta(days=7), now + timedelta(minutes=1))


async def books(conn: Connection) -> list[Any]:
    return [
        await conn.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in ("account", "transfer", "entry", "rate", "call", "charge", "rerate_run", "rerate_item")
    ]


async def test_a_sell_deck(house: Seeded) -> None:
    """German calls cost half as much, British ones cannot be made any more."""
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(2):
        await a_call(house, who)
    british = await a_call(house, who, 91, KINGDOM)
    await house.end(ended((await house.admitted(who)).frozen.call_id))
    import_id = await staged(house, "sell standard", "49,Germany,0.03,1,1,\n")
    async with connection(house.pool) as conn:
        before = await books(conn)
        told = await replayed(house, import_id)
        assert await books(conn) == before, "nothing is written"
    assert (told["deck"], told["side"]) == ("sell standard", "sell")
    assert told["impact"]["calls"] == 3
    assert told["impact"]["skipped"] == {"sell_no_rate": 1}
    (skip,) = told["skips"]
    assert (skip["reason"], skip["calls"], skip["call_ids"]) == ("sell_no_rate", 1, [str(british)])
    (germany,) = told["impact"]["destinations"]
    (in_all,) = told["impact"]["totals"]
    money = ("charge_before", "charge_after", "cost_before", "cost_after", "margin_before", "margin_after")
    assert [germany[name] for name in money] == ["0.04", "0.02", "0.02", "0.02", "0.02", "0.00"]
    assert [in_all[name] for name in money] == [germany[name] for name in money]
    assert "refused" in told["note"]


async def test_a_buy_deck_and_prices_to_come(house: Seeded) -> None:
    """Only calls over its trunk; priced as when all of it is in force."""
    who = await house.subscriber(balance_micro=10**6)
    await a_call(house, who)
    over = (await house.admitted(who)).frozen
    await house.failed(over)
    await house.end(ended(over.call_id, 1_000, attempt_no=2))
    later = (datetime.now(UTC) + timedelta(days=30)).date()
    import_id = await staged(house, "buy alpha", f"49,Germany,0.06,1,1,{later}\n", "add")
    told = await replayed(house, import_id)
    assert told["impact"]["calls"] == 1
    (germany,) = told["impact"]["destinations"]
    assert (germany["charge_before"], germany["charge_after"]) == ("0.02", "0.02")
    assert (germany["cost_before"], germany["cost_after"]) == ("0.01", "0.02")
    assert told["at"][:10] == later.isoformat()
    assert "another carrier is not computed" in told["note"]
    async with connection(house.pool) as conn:
        await apply(conn, import_id)
    assert (await replayed(house, import_id))["impact"]["changed"] == 0, "of an applied one, what is in force"


async def test_what_cannot_be_replayed(house: Seeded) -> None:
    now = datetime.now(UTC)
    async with connection(house.pool) as conn:
        with pytest.raises(NotFound):
            await replay(conn, UUID(int=1), now - timedelta(days=1), now)
        with pytest.raises(StoreError, match="ends before it begins"):
            await replay(conn, UUID(int=1), now, now)


class Callbridge(Protocol):
    def __call__(self, *words: str, code: int = 0, text: bool = False) -> Any: ...


@pytest.fixture
def callbridge(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callbridge:
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)

    def run(*words: str, code: int = 0, text: bool = False) -> Any:
        ran = CliRunner().invoke(app, [*words, *([] if text else ["--json"])], prog_name="callbridge")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == code, ran.output
        if code:
            return ran.stderr
        return ran.stdout if text else json.loads(ran.stdout)

    return run


def in_house(dsn: str, work: Callable[[Seeded], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with seeded(dsn, connections=2) as house:
            return await work(house)

    return asyncio.run(run())


def test_the_command_line(dsn: str, callbridge: Callbridge) -> None:
    async def made(house: Seeded) -> tuple[UUID, UUID]:
        call_id = await a_call(house, await house.subscriber(balance_micro=10**6))
        import_id = await staged(house, "sell standard", "49,Germany,0.09,1,1,2020-01-01\n", "add")
        async with transaction(house.pool) as conn:
            await conn.fetchval("SELECT period_close_v1(clock_timestamp(), 'the auditor')")
        return call_id, import_id

    call_id, import_id = in_house(dsn, made)
    told = callbridge("deck", "replay", str(import_id), "--days", "1")
    assert told["impact"]["totals"][0]["charge_after"] == "0.03"
    assert "1 calls: 1 change" in callbridge("deck", "replay", str(import_id), text=True)
    callbridge("deck", "apply", str(import_id))
    by = ("--author", "eve", "--reason", "[bold]wrong[/bold] file")
    run = callbridge("rerate", "preview", "--deck", "sell standard", "--call", str(call_id), *by)
    assert run["state"] == "previewed"
    assert run["preview"]["changed"] == 1
    with pytest.raises(Conflict, match="--into-open"):
        callbridge("rerate", "run", run["run_id"])
    said = callbridge("rerate", "run", run["run_id"], "--into-open", text=True)
    assert "[bold]wrong[/bold] file (eve)" in said
    assert f"{call_id}" in said
    assert "Booked 1 calls, 0 are waiting. Moved: subscriber accounts -0.01 EUR." in said
    assert callbridge("rerate", "show", run["run_id"])["state"] == "done"
    other = callbridge("rerate", "preview", "--from", "2026-01-01", "--carrier", "alpha", *by)
    assert "callbridge rerate run" in callbridge("rerate", "show", other["run_id"], text=True)
    callbridge("rerate", "cancel", other["run_id"])
    assert [one["state"] for one in callbridge("rerate", "list")] == ["cancelled", "done"]
    assert other["run_id"] in callbridge("rerate", "list", text=True)
    with pytest.raises(StoreError, match="select calls by"):
        callbridge("rerate", "preview", *by)
    assert "2026-11-20" in callbridge("rerate", "preview", "--from", "yesterday", *by, code=2)
