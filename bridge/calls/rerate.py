"""Re-rating: a preview that moves nothing, then a run that reverses and books again, batch by batch, never twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.calls.impact import Impact
from bridge.calls.reprice import Differences, Recorded, Repriced, Skip
from bridge.calls.selection import Criteria, Prices, Progress, Selection, price_again, select, silent
from bridge.calls.store import compact
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.rating.charge import Charge
from bridge.rating.tariff import Tariff
from bridge.telephony.money import format_micro

# Accounts of a batch are locked while it is booked, and calls of theirs wait so long: some hundredths of a second.
BATCH: Final = 1_000
LISTED_MAX: Final = 20  # calls of a list for people; counts are always of all

# Columns of rerate_item
_ITEM: Final = (
    "run_id", "call_id", "skipped", "account_id", "revision", "sell_no", "billed_before_s", "billed_s",
    "amount_before_micro", "amount_micro", "buy_no", "buy_billed_s", "cost_before_micro", "cost_micro", "differs",
)  # fmt: skip


class Items:
    """The rows of one preview: calls that change, calls that are left out, and the tariffs they are priced by."""

    def __init__(self, conn: Connection, run_id: UUID) -> None:
        self._conn, self._run_id = conn, run_id
        self._rows: list[tuple[Any, ...]] = []
        self._tariff_nos: dict[Tariff, int] = {}
        self._known: dict[int, tuple[Tariff, int]] = {}  # by identity, which is quicker
        self._differs = Differences()
        self._new_tariffs: list[tuple[UUID, int, str]] = []

    def skip(self, call_id: UUID, why: Skip) -> None:
        self._rows.append((self._run_id, call_id, why.value, *(None,) * (len(_ITEM) - 3)))

    def change(self, found: Repriced) -> None:
        call, sold, bought, sell, buy = found
        self._rows.append(
            (
                self._run_id, call.call_id, None, call.account_id, call.revision + 1,
                self._no(sold, sell, call.admitted_at), call.billed_s, sell.billed_s if sell else call.billed_s,
                call.amount_micro, found.amount_micro,
                self._no(bought, buy, call.admitted_at), buy.billed_s if buy else call.buy_billed_s,
                call.cost_micro, found.cost_micro,
                self._differs(found),
            )
        )  # fmt: skip

    async def write(self) -> None:
        """What has come together since."""
        if not self._rows:
            return
        await self._conn.copy_records_to_table(
            "rerate_tariff", records=self._new_tariffs, columns=("run_id", "tariff_no", "tariff")
        )
        await self._conn.copy_records_to_table("rerate_item", records=self._rows, columns=_ITEM)
        self._new_tariffs, self._rows = [], []

    def _no(self, before: Tariff | None, after: Charge | None, at: datetime) -> int | None:
        """Which tariff of the run it is; None: the one the call had."""
        if after is None or after.tariff is before:
            return None
        tariff = after.tariff.frozen(at)
        if (seen := self._known.get(id(tariff))) is not None:
            return seen[1]
        no = self._tariff_nos.get(tariff)
        if no is None:
            no = self._tariff_nos[tariff] = len(self._tariff_nos)
            self._new_tariffs.append((self._run_id, no, compact(tariff.to_json())))
        if tariff is after.tariff:
            self._known[id(tariff)] = (tariff, no)
        return no


async def preview(
    conn: Connection, criteria: Criteria, *, author: str, reason: str, progress: Progress = silent
) -> dict[str, Any]:
    """Price the selected calls again and write down what a run would change. No money moves.

    returns  the run, as `show` tells it
    raises   NotFound: no such carrier, deck or call · StoreError: nothing selects, no author, no reason
    """
    if not author.strip() or not reason.strip():
        raise Invalid("a re-rating needs an author and a reason: give --author and --reason")
    async with conn.transaction(isolation="repeatable_read"):
        await queries.rerating.plan_each_time.run(conn)
        selection = await select(conn, criteria)
        run_id: UUID = await queries.rerating.add_run.value(
            conn, criteria=compact(criteria.to_json()), author=author.strip(), reason=reason.strip()
        )
        impact = await _price(conn, selection, Items(conn, run_id), progress)
        await queries.rerating.set_totals.run(conn, run_id=run_id, totals=compact(impact.to_json()))
    return await show(conn, run_id)


async def _price(conn: Connection, selection: Selection, items: Items, progress: Progress) -> Impact:
    impact = Impact()

    def skip(call_id: UUID, why: Skip) -> None:
        items.skip(call_id, why)
        impact.skipped[why] += 1

    taken_back = {row[0] for row in await queries.rerating.taken_back.all(conn)}
    closed_accounts = {row[0] for row in await queries.rerating.closed_accounts.all(conn)}

    def take(call: Recorded, found: Repriced | Skip) -> None:
        if isinstance(found, Skip):
            skip(call.call_id, found)
        elif not found.changed:
            impact.add(found)
        elif call.transfer_id in taken_back:
            skip(call.call_id, Skip.taken_back)
        elif call.account_id in closed_accounts:
            skip(call.call_id, Skip.account_closed)
        else:
            impact.add(found)
            items.change(found)

    await price_again(conn, selection, Prices(conn, selection), take, items.write, progress)
    for row in await queries.rerating.still_live.all(conn, **selection.asked()):
        skip(row["call_id"], Skip.live)
    for row in await queries.rerating.not_charged.all(conn, call_ids=selection.call_ids or ()):
        skip(row["call_id"], Skip.not_charged)
    await items.write()
    return impact


async def run(
    conn: Connection, run_id: UUID, *, into_open: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Book what was previewed, or what is left of it: killed at any point, the same command goes on from there.

    into_open   calls that ended in a closed period are booked now; else they are refused, and the whole run with them
    returns     the run, as `show` tells it; of a run that is done already, too
    raises      NotFound · Conflict: it was cancelled, or touches a closed period
    """
    async with conn.transaction():
        await queries.rerating.plan_each_time.run(conn)
        state = await queries.rerating.lock_run.value(conn, run_id=run_id)
        if state is None:
            raise NotFound(f"there is no re-rating run {run_id}")
        if state == "cancelled":
            raise Conflict(f"run {run_id} was cancelled: preview again")
        if state != "done":
            if not into_open:
                await _refuse_closed(conn, run_id)
            await queries.rerating.start.run(conn, run_id=run_id, into_open=into_open)
        told = await queries.rerating.progress.one(conn, run_id=run_id)
    done, total = told["booked"], told["booked"] + told["waiting"]
    while True:
        async with conn.transaction():
            batch = await queries.rerating.book.one(conn, run_id=run_id, calls_max=BATCH)
        if batch["run_state"] != "running":
            return await show(conn, run_id)
        done += batch["booked"] + batch["not_booked"]
        progress("booking calls", min(done, total), total)


async def _refuse_closed(conn: Connection, run_id: UUID) -> None:
    closed = await queries.rerating.closed_calls.one(conn, run_id=run_id, page=LISTED_MAX)
    if closed["calls"]:
        ids = ", ".join(map(str, closed["call_ids"])) + (", …" if closed["calls"] > LISTED_MAX else "")
        raise Conflict(
            f"{closed['calls']} calls ended before {closed['closed_until'].isoformat()}, in a period that is closed: "
            f"{ids}. Book them into the open period with --into-open, or preview the others alone"
        )


async def cancel(conn: Connection, run_id: UUID) -> dict[str, Any]:
    """Book no more of a run. What it has booked stays; another run takes it back.

    raises   NotFound · Conflict: it is done
    """
    async with conn.transaction():
        state = await queries.rerating.lock_run.value(conn, run_id=run_id)
        if state is None:
            raise NotFound(f"there is no re-rating run {run_id}")
        if state == "done":
            raise Conflict(f"run {run_id} is done: take it back with another run")
        if state != "cancelled":
            await queries.rerating.cancel.run(conn, run_id=run_id)
    return await show(conn, run_id)


async def runs(conn: Connection, limit: int = 50) -> list[dict[str, Any]]:
    """The latest runs, newest first."""
    return [_run(row) for row in await queries.rerating.runs.all(conn, page=limit)]


async def show(conn: Connection, run_id: UUID) -> dict[str, Any]:
    """A run: what was asked for, what it changes, how far it is, and what it has moved. Money as decimal strings.

    booked   by kind of account: what these have gained, negative what they have paid
    calls    the first that change, LISTED_MAX at most; `skips` likewise for each reason
    raises   NotFound
    """
    async with conn.transaction():
        await queries.rerating.plan_each_time.run(conn)
        row = await queries.rerating.run.one(conn, run_id=run_id)
        if row is None:
            raise NotFound(f"there is no re-rating run {run_id}")
        progress = await queries.rerating.progress.one(conn, run_id=run_id)
        booked = await queries.rerating.booked.all(conn, run_id=run_id)
        skips = await queries.rerating.skips.all(conn, run_id=run_id, page=LISTED_MAX)
        changes = await queries.rerating.changes.all(conn, run_id=run_id, page=LISTED_MAX)
    return _run(row) | {
        "progress": dict(progress),
        "booked": [
            {
                "accounts": one["kind"],
                "amount": format_micro(one["amount_micro"]),
                "currency": one["currency"],
            }
            for one in booked
        ],
        "skips": [
            {
                "reason": one["skipped"],
                "why": Skip(one["skipped"]).words,
                "calls": one["calls"],
                "call_ids": [str(call_id) for call_id in one["call_ids"]],
            }
            for one in skips
        ],
        "calls": [_change(one) for one in changes],
    }


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": str(row["run_id"]),
        "state": row["state"],
        "author": row["author"],
        "reason": row["reason"],
        "criteria": json.loads(row["criteria"]),
        "into_open": row["into_open"],
        "created_at": row["created_at"].isoformat(),
        "closed_at": row["closed_at"].isoformat() if row["closed_at"] else None,
        "preview": json.loads(row["totals"]),
    }


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "call_id": str(row["call_id"]),
        "revision": row["revision"],
        "destination": row["destination"],
        "billed_before_s": row["billed_before_s"],
        "billed_s": row["billed_s"],
        "charge_before": format_micro(row["amount_before_micro"]),
        "charge_after": format_micro(row["amount_micro"]),
        "cost_before": format_micro(row["cost_before_micro"]),
        "cost_after": format_micro(row["cost_micro"]),
        "currency": row["currency"],
        "differs": row["differs"],
        "booked": row["booked"],
        "written_off": format_micro(row["written_off_micro"] or 0),
    }
