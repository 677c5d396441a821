"""Has done what is due: one in each worker, so many jobs at a time over all of them, each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge.config import Settings
from bridge.database import Connection, connection, listen, transaction
from bridge.errors import BridgeError
from bridge.exports.spans import zone_named
from bridge.jobs import store
from bridge.jobs.process import Outcome, run
from bridge.jobs.schedule import Rhythm, next_after, retry_s
from bridge.jobs.store import Leased, Line
from bridge.jobs.work import WORK, Work

MOST: Final = 2  # at a time in the whole house
LEASE_S: Final = 60.0  # so long after a worker died somebody else goes on
RENEW_S: Final = 15.0
LOOK_S: Final = 5.0  # what nobody said is found so soon
PLAN_S: Final = 60.0
PROBLEM_LOST: Final = "The worker that was at it died."

log = structlog.get_logger("jobs")


class Runner:
    """pool      its own, so that no caller waits for a job
    work      the kinds there are; a test has its own
    """

    def __init__(self, pool: asyncpg.Pool, settings: Settings, work: Mapping[str, Work] = WORK) -> None:
        self._pool, self._settings, self._work = pool, settings, work
        self._under_way: set[asyncio.Task[Outcome | None]] = set()
        self._wake = asyncio.Event()
        self._planned_at: datetime | None = None
        self.figures: Mapping[str, float] = {}

    async def run(self, dsn: str) -> None:
        """Until cancelled. What is under way is ended and let go then, for others to do again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(listen(dsn, store.CHANNEL, lambda _: self._wake.set(), self._wake.set))
                tasks.create_task(self._look())
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _look(self) -> NoReturn:
        while True:
            self._wake.clear()
            try:
                await self.begin_due()
            except BridgeError as error:
                log.warning("jobs not begun", error=str(error))
            except Exception:  # a fault in here must not end the worker: it has calls
                log.exception("jobs not begun")
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass  # time may have made something due

    async def begin_due(self) -> int:
        """Begin what is due, as far as there is room. Returns how many."""
        await self._plan()
        begun = 0
        async with connection(self._pool) as conn:
            for one in await store.lost(conn):
                await self._note(conn, one, Outcome({}, PROBLEM_LOST))
            while len(self._under_way) < MOST:
                claimed = await store.claim(conn, list(self._work), MOST, LEASE_S)
                if claimed is None:
                    break
                begun += 1
                task = asyncio.create_task(self.do(claimed), name=f"job {claimed.key}")
                self._under_way.add(task)
                task.add_done_callback(self._done)
            self.figures = await store.figures(conn)
        return begun

    async def do_key(self, key: str) -> Outcome | None:
        """Do this one now, whenever it is due. None: it was taken from us.

        raises   NotFound · Conflict: somebody is at it
        """
        async with connection(self._pool) as conn:
            claimed = await store.claim_key(conn, key, LEASE_S)
        return await self.do(claimed)

    async def settled(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def do(self, one: Leased) -> Outcome | None:
        """Do what was claimed, and note what became of it."""
        log.info("job begun", key=one.key, tries=one.tries)
        working = asyncio.create_task(
            run(one.kind, one.payload, self._settings, self._work[one.kind].limit_s), name=f"at {one.key}"
        )
        try:
            while not (await asyncio.wait({working}, timeout=RENEW_S))[0]:
                if not await self._renewed(one):
                    log.error("job taken over by another worker", key=one.key)
                    return None
            outcome = working.result()
        except asyncio.CancelledError:
            await _ended(working)
            await asyncio.shield(self._let_go(one))
            raise
        finally:
            await _ended(working)
        async with connection(self._pool) as conn:
            await self._note(conn, one, outcome)
        return outcome

    async def _plan(self) -> None:
        now = datetime.now(UTC)
        if self._planned_at is not None and now - self._planned_at < timedelta(seconds=PLAN_S):
            return
        async with transaction(self._pool) as conn:
            await store.ensure(conn, planned(self._work, self._settings, await self._recipients(conn), now))
        self._planned_at = now

    async def _recipients(self, conn: Connection) -> Sequence[store.Row]:
        return await store.recipients(conn) if FILES in self._work else ()

    async def _renewed(self, one: Leased) -> bool:
        try:
            async with connection(self._pool) as conn:
                return await store.renew(conn, one, LEASE_S)
        except BridgeError as error:  # the lease is longer than a moment without a database
            log.warning("lease not renewed", key=one.key, error=str(error))
            return True

    async def _note(self, conn: Connection, one: Leased, outcome: Outcome) -> None:
        now = datetime.now(UTC)
        next_at = self._next(one, now)
        if outcome.problem is None:
            log.info("job done", key=one.key, said=dict(outcome.said))
            await store.ended(conn, one, "done", due_at=next_at, tries=0, said=outcome.said)
            return
        wait_s = None if outcome.final else retry_s(one.tries)
        if wait_s is not None:
            log.warning("job failed", key=one.key, tries=one.tries, problem=outcome.problem, again_s=wait_s)
            again = now + timedelta(seconds=wait_s)
            await store.ended(
                conn,
                one,
                "queued",
                due_at=min(again, next_at or again),
                tries=one.tries,
                problem=outcome.problem,
            )
            return
        log.error("job given up", key=one.key, tries=one.tries, problem=outcome.problem)
        async with conn.transaction():
            noted = await store.ended(
                conn, one, "failed", due_at=next_at, tries=one.tries, problem=outcome.problem
            )
            given_up = self._work[one.kind].given_up if one.kind in self._work else None
            if noted and given_up is not None:
                await given_up(conn, one.payload, outcome.problem)

    def _next(self, one: Leased, now: datetime) -> datetime | None:
        if one.rhythm is None:
            return None
        return next_after(
            one.rhythm, zone_named(one.time_zone), now, _after_s(self._work, one.kind, self._settings)
        )

    async def _let_go(self, one: Leased) -> None:
        """Nothing is wrong with it: it is due at once, and this was no try."""
        try:
            async with connection(self._pool) as conn:
                await store.ended(conn, one, "queued", due_at=datetime.now(UTC), tries=one.tries - 1)
        except BridgeError as error:
            log.warning("job not let go", key=one.key, error=str(error))

    def _done(self, task: asyncio.Task[Outcome | None]) -> None:
        self._under_way.discard(task)
        self._wake.set()  # there is room for another
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job not noted", name=task.get_name(), error=repr(error))


FILES: Final = "cdr_files"
CLOSE: Final = "close"
DAY_S: Final = 86_400


def planned(
    work: Mapping[str, Work], settings: Settings, recipients: Sequence[Mapping[str, object]], now: datetime
) -> list[Line]:
    """What is to be done again and again.

    recipients   recipient_id, period, time_zone
    """
    zone = settings.company.time_zone
    lines = []
    for kind, one in work.items():
        if one.rhythm is not None and (kind != CLOSE or settings.closing.auto):
            due_at = next_after(one.rhythm, zone_named(zone), now, _after_s(work, kind, settings))
            lines.append(Line(kind, kind, one.rhythm, due_at, zone))
    for row in recipients:
        rhythm: Rhythm = row["period"]  # type: ignore[assignment]
        recipient_id, theirs = row["recipient_id"], str(row["time_zone"])
        assert isinstance(recipient_id, UUID)
        due_at = next_after(rhythm, zone_named(theirs), now, _after_s(work, FILES, settings))
        payload = {"recipient_id": str(recipient_id)}
        lines.append(Line(f"{FILES} {recipient_id}", FILES, rhythm, due_at, theirs, payload))
    return lines


def _after_s(work: Mapping[str, Work], kind: str, settings: Settings) -> float:
    """Files are made of what is numbered, and that is late. A month closes on its day, when its last calls are in."""
    after_s = work[kind].after_s if kind in work else 0
    match kind:
        case "cdr_files":
            return settings.exports.lag_s + after_s
        case "close":
            return max((settings.closing.day - 1) * DAY_S, settings.exports.lag_s + after_s)
        case _:
            return after_s


async def _ended(working: asyncio.Task[Outcome]) -> None:
    if not working.done():
        working.cancel()
        await asyncio.wait({working})
