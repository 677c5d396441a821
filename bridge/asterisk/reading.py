"""Reading what the switch wrote down: the journal ends calls, the CDR file is the second witness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from bridge import queries
from bridge.asterisk.records import NOT_ADMITTED, AnsweredLine, CdrLine, EndedLine, parse_cdr, parse_journal
from bridge.asterisk.tail import Line, Position, Tail
from bridge.calls.book import Book
from bridge.calls.end import Endings, differences
from bridge.calls.ended import EndRecord, instant, talk_ms
from bridge.calls.store import CallStore
from bridge.config import Calls
from bridge.database import Connection
from bridge.errors import InvariantBroken, StoreError, StoreUnavailable

BATCH_LINES_MAX: Final = 500

log = structlog.get_logger("switch")


class _Reader(ABC):
    """A followed file whose position moves in the transaction that uses its lines."""

    def __init__(self, path: Path, store: CallStore, endings: Endings, book: Callable[[], Book]) -> None:
        self._tail, self._store, self._endings, self._book = Tail(path), store, endings, book

    async def begin(self) -> None:
        """Go on where the last owner stopped."""
        async with self._store.batch() as conn:
            row = await queries.switch.file_position.one(
                conn, switch_id=self._store.switch_id, name=self._tail.path.name
            )
        self._tail.close()
        self._tail.position = Position(row["inode"], row["position"]) if row else Position()

    def pending(self) -> bool:
        return self._tail.pending()

    def close(self) -> None:
        self._tail.close()

    async def _commit(self, lines: Sequence[Line]) -> None:
        """Use the lines, all or none; a line that cannot be used alone is passed over, loudly."""
        try:
            await self._commit_once(lines)
        except StoreUnavailable:
            raise
        except (StoreError, InvariantBroken) as error:
            if len(lines) == 1:
                log.critical("record cannot be used", file=self._tail.path.name, error=str(error))
                async with self._store.batch() as conn:
                    await self._move(conn, lines[-1].behind)
            else:
                for line in lines:
                    await self._commit([line])
        self._tail.position = lines[-1].behind

    async def _commit_once(self, lines: Sequence[Line]) -> None:
        async with self._store.batch() as conn:
            await self._use(conn, [line.text for line in lines])
            await self._move(conn, lines[-1].behind)

    async def _move(self, conn: Connection, to: Position) -> None:
        await queries.switch.move_file.run(
            conn,
            switch_id=self._store.switch_id,
            name=self._tail.path.name,
            inode=to.inode,
            position=to.offset,
        )

    @abstractmethod
    async def _use(self, conn: Connection, lines: Sequence[str]) -> None:
        """Do what the lines say, inside the transaction that moves the position."""


class Journal(_Reader):
    """Answers and ends as the dialplan wrote them, within milliseconds."""

    def __init__(
        self, path: Path, store: CallStore, endings: Endings, book: Callable[[], Book], rules: Calls
    ) -> None:
        super().__init__(path, store, endings, book)
        self._rules = rules

    async def read(self) -> int:
        """Use what is new. Returns how many lines that was."""
        lines = self._tail.read()[:BATCH_LINES_MAX]
        if lines:
            await self._commit(lines)
        return len(lines)

    async def _use(self, conn: Connection, lines: Sequence[str]) -> None:
        parsed = [parse_journal(line) for line in lines if not line.startswith(NOT_ADMITTED)]
        if (bad := parsed.count(None)) > 0:
            log.error("journal lines not understood", lines=bad)
        ended = {line.token.call_id: line for line in parsed if isinstance(line, EndedLine)}
        answered = {
            line.token.call_id: line
            for line in parsed
            if isinstance(line, AnsweredLine) and line.token.call_id not in ended
        }
        if answered:
            rules = self._rules
            rows = [(call_id, instant(line.answered_us), line.pdd_ms) for call_id, line in answered.items()]
            await self._store.answered(conn, rows, lead_s=rules.slice_lead_s, grace_s=rules.lease_grace_s)
            elsewhere = {call_id: line.channel for call_id, line in answered.items() if line.channel}
            if elsewhere:
                await self._store.cut_elsewhere(conn, elsewhere)
        for line in ended.values():
            if line.token.orphan is not None:
                started_at = instant(line.record.answered_us or line.record.ended_us)
                await self._endings.adopt(
                    conn, line.token, line.token.orphan, str(line.token.call_id), started_at, self._book()
                )
        if ended:
            await self._endings.end(conn, [line.record for line in ended.values()], self._book())


class Witness(_Reader):
    """The switch's own CDR file, heard after a pause: bills what the journal missed, reports what it contradicts."""

    def __init__(
        self, path: Path, store: CallStore, endings: Endings, book: Callable[[], Book], rules: Calls
    ) -> None:
        super().__init__(path, store, endings, book)
        self._pause_us = int(rules.witness_s * 1_000_000)

    async def read(self, now: datetime) -> int:
        """Use the lines that are old enough. Returns how many that was."""
        youngest_us = int(now.timestamp() * 1_000_000) - self._pause_us
        ripe: list[Line] = []
        for line in self._tail.read()[:BATCH_LINES_MAX]:
            cdr = parse_cdr(line.text)
            if cdr is not None and cdr.ended_us > youngest_us:
                break
            ripe.append(line)
        if ripe:
            await self._commit(ripe)
        return len(ripe)

    async def _use(self, conn: Connection, lines: Sequence[str]) -> None:
        by_call: dict[UUID, CdrLine] = {}
        for cdr in (parse_cdr(line) for line in lines):
            if cdr is None:
                log.error("CDR line not understood")
            elif cdr.emergency is not None:
                await self._emergency(conn, cdr, *cdr.emergency)
            elif cdr.token is not None:
                known = by_call.get(cdr.token.call_id)
                if known is None or not known.answered_us:
                    by_call[cdr.token.call_id] = cdr  # of several legs the answered one counts, else the last
        if not by_call:
            return
        endings = await self._store.endings(conn, list(by_call))
        missed: list[EndRecord] = []
        for call_id, cdr in by_call.items():
            assert cdr.token is not None
            record = EndRecord(
                call_id,
                cdr.token.attempt_no,
                cdr.answered_us,
                cdr.ended_us,
                "cdr",
                "" if cdr.answered_us else "CANCEL",
            )
            row = endings.get(call_id)
            if row is None and cdr.token.orphan is not None:
                await self._endings.adopt(
                    conn, cdr.token, cdr.token.orphan, cdr.uniqueid, instant(cdr.started_us), self._book()
                )
                missed.append(record)
            elif row is not None and row["state"] == "live":
                if cdr.answered_us or cdr.token.attempt_no == row["attempt_no"]:
                    missed.append(record)
            elif (
                row is not None and cdr.answered_us
            ):  # an unanswered leg of an answered call is but an attempt
                unlike = differences(
                    record, row["state"], row["answered_at"], row["ended_at"], row["direction"]
                )
                if unlike:
                    log.warning("witnesses disagree", call=str(call_id), **unlike)
                    await self._store.disagree(conn, call_id, "cdr_differs", unlike)
        if missed:
            done = await self._endings.end(conn, missed, self._book())
            log.warning("calls ended by the CDR file", calls=len(done))

    async def _emergency(self, conn: Connection, cdr: CdrLine, dialled: str, a_number: str) -> None:
        log.warning("emergency call", dialled=dialled, uniqueid=cdr.uniqueid, answered=cdr.answered_us > 0)
        await queries.calls.emergency.run(
            conn,
            switch_id=self._store.switch_id,
            uniqueid=cdr.uniqueid,
            a_number=a_number,
            dialled=dialled,
            state="answered" if cdr.answered_us else "unanswered",
            admitted_at=instant(cdr.started_us),
            answered_at=instant(cdr.answered_us) if cdr.answered_us else None,
            ended_at=instant(cdr.ended_us),
            talk_ms=talk_ms(cdr.answered_us, cdr.ended_us),
        )
