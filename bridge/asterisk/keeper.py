"""The keeper of a switch: the one worker that holds its manager connection, reads its files and extends its calls.

Which worker that is, a Postgres advisory lock says. It goes with the connection that holds it, so when the worker or
its database connection dies, another takes over within a second and goes on from what the database remembers.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge import queries
from bridge.asterisk.ami import Ami
from bridge.asterisk.ami_events import Authenticated, Event, Stranger
from bridge.asterisk.applying import Applying
from bridge.asterisk.bans import Bans
from bridge.asterisk.conf import CDR_FILE, JOURNAL
from bridge.asterisk.orders_run import NOTICE, OrderRun
from bridge.asterisk.phones import GONE, Phones
from bridge.asterisk.reading import BATCH_LINES_MAX, Journal, Witness
from bridge.asterisk.resync import Resync
from bridge.calls.book import Book
from bridge.calls.book_watch import CHANNEL
from bridge.calls.end import Endings
from bridge.calls.extend import Extended, Extensions
from bridge.calls.messages import Collector
from bridge.calls.snapshot import SnapshotWriter
from bridge.calls.store import CallStore
from bridge.config import Settings
from bridge.database import connection, store_errors, transaction
from bridge.errors import BridgeError, ChannelGone, Invalid, InvariantBroken, StoreError, SwitchUnavailable
from bridge.rating.store.allowances import renew_due
from bridge.rollout import store as rollout
from bridge.rollout.store.trials import Trials

# Longer, and the batch it makes keeps callers waiting; shorter, and each costs its round trips.
JOURNAL_S: Final = 0.1
WITNESS_S: Final = 1.0
EXTEND_S: Final = 0.25
HEARTBEAT_S: Final = 1.0
RESYNC_S: Final = 5.0
RENEW_S: Final = 1.0
ROLLOUT_S: Final = 1.0
TRIAL_S: Final = 1.0
LOOK_S: Final = 1.0
COLLECT_S: Final = 0.5
HOUSEKEEPING_S: Final = 3600.0
OWN_S: Final = 1.0
FORGET_ROWS: Final = 5_000  # of a statement: its locks are short

log = structlog.get_logger("keeper")


class Keeper:
    """Tries to own the switch, and keeps it while it does."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool,
        dsn: str,
        store: CallStore,
        endings: Endings,
        book: Callable[[], Book],
        make_ami: Callable[[Callable[[], Awaitable[None]], Callable[[Event], Awaitable[None]]], Ami],
    ) -> None:
        self._settings, self._pool, self._dsn, self._store = settings, pool, dsn, store
        self._extensions = Extensions(store, settings.calls)
        record_dir = settings.switch.record_dir
        self._journal = Journal(record_dir / JOURNAL, store, endings, book, settings.calls)
        self._witness = Witness(record_dir / CDR_FILE, store, endings, book, settings.calls)
        self._resync = Resync(store, endings, book, settings.calls)
        self._snapshot, self._book = SnapshotWriter(settings), book
        self._messages = Collector(pool, settings.messages)
        self._make_ami = make_ami
        self._applying, self._trials = Applying(settings, pool), Trials(pool)
        self._phones = Phones(pool, store.switch_id)
        self._bans = Bans(settings, pool, store.switch_id)
        self._orders = OrderRun(pool, store.switch_id, settings.calls.order_s, lambda: self._ami)
        self._ami: Ami | None = None
        self._beat_at: datetime | None = None
        self._cuts: dict[UUID, Extended] = {}  # extended, but the switch has not been told yet
        self._cutting = asyncio.Lock()  # from reading a limit to telling it: an old one is never told last
        self._backlog_read = asyncio.Event()

    @property
    def ami(self) -> Ami | None:
        """The manager connection while this worker owns it."""
        return self._ami

    async def run(self) -> NoReturn:
        """Own the switch whenever nobody else does, until cancelled."""
        while True:
            try:
                async with store_errors():
                    conn = await asyncpg.connect(
                        self._dsn, timeout=5, server_settings={"search_path": "bridge, public"}
                    )
                    try:
                        await self._own(conn)
                    finally:
                        conn.terminate()
            except (StoreError, SwitchUnavailable) as error:
                log.warning("switch not kept", error=str(error))
            except Exception:  # a fault of ours here must not keep this worker from taking calls
                log.exception("keeper failed")
            await asyncio.sleep(OWN_S)

    async def _own(self, conn: asyncpg.Connection) -> None:
        name = self._settings.switch.name
        while True:
            if await queries.switch.try_own.value(conn, name=name):
                break
            await asyncio.sleep(OWN_S)  # the database has no way to wait for it that ends with our patience
        await conn.add_listener(NOTICE, self._orders.notice)
        await conn.add_listener(GONE, lambda *notice: self._phones.gone(notice[-1]))
        lost = asyncio.Event()
        conn.add_termination_listener(lambda _: lost.set())
        await conn.add_listener(CHANNEL, lambda *notice: self._applying.heard(notice[-1]))
        log.info("switch owned", switch=name, pid=os.getpid())
        work = asyncio.create_task(self._keep())
        waiting = asyncio.create_task(lost.wait())
        try:
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            for task in (work, waiting):
                task.cancel()
            await asyncio.gather(work, waiting, return_exceptions=True)
            self._ami = None
            log.warning("switch no longer owned", switch=name)

    async def _keep(self) -> None:
        await self._journal.begin()
        await self._witness.begin()
        self._backlog_read.clear()
        self._beat_at = await self._last_seen()
        self._ami = self._make_ami(self._on_up, self._on_event)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ami.run())
                tasks.create_task(self._read_journal())
                tasks.create_task(self._orders.run())
                tasks.create_task(self._every(WITNESS_S, self._hear_witness))
                tasks.create_task(self._every(EXTEND_S, self._extend))
                tasks.create_task(self._every(HEARTBEAT_S, self._heartbeat))
                tasks.create_task(self._every(RESYNC_S, self._compare))
                tasks.create_task(self._every(self._settings.failsafe.refresh_s, self._write_snapshot))
                tasks.create_task(self._every(RENEW_S, self._renew))
                tasks.create_task(self._every(ROLLOUT_S, self._roll_out))
                tasks.create_task(self._every(TRIAL_S, self._try_out))
                tasks.create_task(self._applying.run(self._ami))
                if self._settings.users.switch_dsn.get_secret_value():
                    tasks.create_task(self._phones.run(self._ami))
                    tasks.create_task(self._bans.run(self._ami))
                tasks.create_task(self._every(LOOK_S, self._look))
                tasks.create_task(self._every(COLLECT_S, self._messages.collect))
                tasks.create_task(self._every(HOUSEKEEPING_S, self._housekeeping))
        finally:
            self._journal.close()
            self._witness.close()

    async def _every(self, period_s: float, work: Callable[[], Awaitable[object]]) -> NoReturn:
        """Do `work` again and again. What goes wrong is logged and tried again."""
        while True:
            try:
                await work()
            except InvariantBroken as error:
                log.critical("the books are broken", error=str(error))
            except BridgeError as error:
                log.warning("keeper work failed", work=work.__qualname__, error=str(error))
            await asyncio.sleep(period_s)

    async def _read_journal(self) -> NoReturn:
        """Wake often, look with one stat, read only what is there."""
        while True:
            try:
                # While more than a batch waits, go on; a line that came meanwhile waits for its companions.
                while self._journal.pending() and await self._journal.read() == BATCH_LINES_MAX:
                    pass
                self._backlog_read.set()
            except InvariantBroken as error:
                log.critical("the books are broken", error=str(error))
            except BridgeError as error:
                log.warning("journal not read", error=str(error))
                await asyncio.sleep(OWN_S)
            await asyncio.sleep(JOURNAL_S)

    async def _hear_witness(self) -> None:
        await self._backlog_read.wait()  # the journal is heard first: it knows more
        while self._witness.pending() and await self._witness.read(datetime.now(UTC)) == BATCH_LINES_MAX:
            pass

    async def _extend(self) -> None:
        await self._backlog_read.wait()  # a call that ended while nobody listened needs no more money
        async with self._cutting:
            for extended in await self._extensions.due(datetime.now(UTC)):
                self._cuts[extended.call_id] = extended
            await self._move_cuts()

    async def _move_cuts(self) -> None:
        for extended in list(self._cuts.values()):
            await self._move_cut(extended)

    async def _move_cut(self, extended: Extended) -> None:
        assert self._ami is not None
        left_s = max((extended.cut_at - datetime.now(UTC)).total_seconds(), 0.05)
        try:
            await self._ami.setvar(extended.channel, "TIMEOUT(absolute)", f"{left_s:.3f}")
            log.info("cut moved", call=str(extended.call_id), limit_ms=extended.limit_ms)
        except ChannelGone:
            pass
        except SwitchUnavailable:
            return  # told when the link is back
        self._cuts.pop(extended.call_id, None)

    async def _on_up(self) -> None:
        """The link is (again) there: every running call gets the cut its hold pays for, and what ended is ended."""
        self._phones.again()
        self._bans.again()
        self._resync.alive_until = self._beat_at  # what came before may have been another life of the switch
        margin_ms = self._settings.calls.cut_margin_ms
        async with self._cutting:
            for lease in await self._store.leases():
                if lease["answered_at"] is not None:
                    cut_at = lease["answered_at"] + timedelta(milliseconds=lease["limit_ms"] - margin_ms)
                    self._cuts[lease["call_id"]] = Extended(
                        lease["call_id"], lease["channel"], lease["limit_ms"], cut_at
                    )
            await self._move_cuts()

    async def _on_event(self, event: Event) -> None:
        if isinstance(event, Authenticated):
            self._phones.proved(event.endpoint)
        elif isinstance(event, Stranger):
            self._bans.failed(event)

    async def _heartbeat(self) -> None:
        """The switch lives: so do, for all we know, the calls it has not reported as ended."""
        assert self._ami is not None
        if self._ami.state != "up":
            return
        asked_at = datetime.now(UTC)
        await self._ami.action("Ping")
        self._beat_at = asked_at
        async with connection(self._pool) as conn:
            await queries.switch.seen.run(conn, switch_id=self._store.switch_id, at=asked_at)

    async def _compare(self) -> None:
        """Calls the database believes to be live, against the channels the switch has."""
        assert self._ami is not None
        await self._backlog_read.wait()
        if self._ami.state == "up":
            await self._resync.compare(self._ami.channels)
        else:
            self._resync.alive_until = self._beat_at
            await self._resync.expire()

    async def _look(self) -> None:
        """Trunks that are asked whether they live: what they said."""
        assert self._ami is not None
        await self._applying.look(self._ami)

    async def _write_snapshot(self) -> None:
        """What the failsafe may decide on when no bridge answers."""
        snapshot = await self._snapshot.collect(self._pool, self._book(), time())
        try:
            await self._snapshot.put(snapshot)
        except OSError as error:
            log.error("failsafe snapshot not written", error=str(error))

    async def _last_seen(self) -> datetime | None:
        async with connection(self._pool) as conn:
            seen: datetime | None = await queries.switch.last_seen.value(
                conn, switch_id=self._store.switch_id
            )
            return seen

    async def _renew(self) -> None:
        """Allowances that end, and those that waited for money which has come. Any keeper may do it; each once."""
        async with transaction(self._pool) as conn:
            for ended, following in (await renew_due(conn, datetime.now(UTC))).items():
                log.info("allowance renewed", allowance=str(ended), by=str(following))

    async def _roll_out(self) -> None:
        """Windows that open and close by time. Any keeper may do it; each once."""
        async with connection(self._pool) as conn:
            for window_id, state in await rollout.tick(conn, datetime.now(UTC)):
                log.info("rollout window", window=str(window_id), state=state)

    async def _try_out(self) -> None:
        """Capacity trials: look at the calls, pause what breaks, open what comes next. Any keeper may do it."""
        for one in await self._trials.step():
            if isinstance(one, Invalid):
                log.error("trial not judged", error=str(one))
            else:
                log.log(
                    logging.WARNING if one.verdict == "failed" else logging.INFO,
                    "trial ended",
                    window=str(one.window_id),
                    verdict=one.verdict,
                    threshold=one.which,
                    value=one.value,
                    limit=one.allowed,
                )

    async def _housekeeping(self) -> None:
        if made := await self._store.ensure_partitions():
            log.info("partitions made", count=made)
        async with connection(self._pool) as conn:
            await queries.credentials.forget_users.run(conn)
            while await queries.access.forget_answers.value(conn, rows=FORGET_ROWS) == FORGET_ROWS:
                pass
        await self._messages.purge(datetime.now(UTC))
