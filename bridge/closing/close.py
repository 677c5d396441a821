"""A month closes: each step in its order, none of them twice, until all totals have been laid beside each other.

Killed anywhere, it goes on when it is asked for again: what a step has done is found done, by what the step leaves
behind and not by a note of the closing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from bridge import queries
from bridge.closing.agreement import differing
from bridge.closing.closing import Closing
from bridge.closing.invoices import issue_invoices, lay_invoices
from bridge.closing.ready import NotReady, missing, unfit
from bridge.closing.reports import lay_reports, print_reports
from bridge.closing.statements import approve_statements, lay_statements, of_month
from bridge.closing.totals import lay_records
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Conflict, Invalid
from bridge.exports import cdr_files
from bridge.exports.sequence import Progress, horizon, seal, silent
from bridge.exports.store.cdr_files import recipients as every_recipient
from bridge.ledger.store import close_period
from bridge.partners.month import month as month_of
from bridge.partners.month import zone_of
from bridge.partners.store.statement import deals_of_month

SUMMARY: Final = "close.json"
MONTHS_MAX: Final = 12  # that one job makes up for

Step = Callable[[Connection, Closing], Awaitable[str]]


async def number(conn: Connection, of: Closing) -> str:
    """All that ended in the month, stragglers of any age among them."""
    settings = of.settings
    made = await seal(
        conn, of.numbered_until, thorough=True, progress=of.progress, keeping=settings.retention,
        time_zone=settings.company.time_zone,
    )  # fmt: skip
    if lacks := await unfit(
        conn, of
    ):  # what only the records tell, and still before anything that cannot be undone
        raise NotReady(of.month, lacks)
    return f"{made} records numbered"


async def write_files(conn: Connection, of: Closing) -> str:
    """For every recipient, up to the month's end."""
    outcomes = await cdr_files.run_all(
        conn, of.settings, of.to_at, lambda *_: of.progress("writing files", 0, 0)
    )
    of.problems += [f"files of {one.recipient}: {one.problem}" for one in outcomes if one.problem]
    written, delivered = (
        sum(len(getattr(one, what)) for one in outcomes) for what in ("written", "delivered")
    )
    return f"{written} files written, {delivered} delivered, to {len(outcomes)} recipients"


async def close_books(conn: Connection, of: Closing) -> str:
    """Of the ledger."""
    closed: datetime | None = await queries.closing.closed_until.value(conn)
    if closed is None or closed < of.to_at:
        closed = await close_period(conn, of.to_at, author=of.author)
    return f"closed until {closed.isoformat()}"


async def lay_beside(conn: Connection, of: Closing) -> str:
    """Every total from every side."""
    await lay_records(conn, of)
    await lay_statements(conn, of)
    await lay_invoices(conn, of)
    await lay_reports(conn, of)
    return f"{len(of.agreements)} totals, {len(differing(of.agreements))} of them differ"


STEPS: Final[dict[str, Step]] = {
    "numbers": number,
    "files": write_files,
    "books": close_books,
    "statements": approve_statements,
    "invoices": issue_invoices,
    "reports": print_reports,
    "totals": lay_beside,
}


async def close(
    conn: Connection,
    settings: Settings,
    month: str,
    *,
    author: str,
    now: datetime,
    out: Path | None = None,
    progress: Progress = silent,
) -> Closing:
    """Close a month, or go on closing it. Not inside a transaction.

    out      None: a folder of the month's under exports.folder
    raises   Invalid: no month, or no author · Conflict: it is being closed by another process · NotReady: something is
             missing, and all that is · ConfigError: nothing can be written in the folder · what a step raises: asked
             again it goes on there
    """
    of = begun(settings, month, author=author, now=now, out=out, progress=progress)
    async with _alone(conn):
        if lacks := await missing(conn, of):
            raise NotReady(month, lacks)
        for name, step in STEPS.items():
            progress(name, 0, 0)
            of.done[name] = await step(conn, of)
    summary = json.dumps(of.to_json(), indent=1, ensure_ascii=False) + "\n"
    await asyncio.to_thread(of.lay, SUMMARY, summary.encode())
    return of


def begun(
    settings: Settings,
    month: str,
    *,
    author: str,
    now: datetime,
    out: Path | None = None,
    progress: Progress = silent,
) -> Closing:
    """What would be closed. raises   Invalid"""
    from_at, to_at = month_of(month, settings.company.time_zone)
    if not author.strip():
        raise Invalid("closing a month needs an author: give --author")
    folder = out or settings.exports.folder / "closings" / month
    return Closing(settings, month, author.strip(), folder, from_at, to_at, now, progress)


async def check(
    conn: Connection,
    settings: Settings,
    month: str,
    *,
    author: str,
    now: datetime,
    out: Path | None = None,
    progress: Progress = silent,
) -> Closing:
    """Lay the totals of a month beside each other once more, and do nothing else: nothing is written or put right."""
    of = begun(settings, month, author=author, now=now, out=out, progress=progress)
    of.done["totals"] = await lay_beside(conn, of)
    return of


async def foretold(conn: Connection, of: Closing) -> dict[str, str]:
    """What closing would do, step by step. Nothing is written."""
    reached = await horizon(conn)
    closed: datetime | None = await queries.closing.closed_until.value(conn)
    recipients = [one.code for one in await every_recipient(conn) if one.enabled]
    deals = await deals_of_month(conn, of.month, of.settings.company.time_zone)
    done = [row for row in await of_month(conn, of) if row["state"] != "draft"]
    numbered = f"numbered until {_at(reached)}" if reached else "nothing is numbered yet"
    books = f"they are until {_at(closed)}" if closed else "they never were"
    return {
        "numbers": f"of what ended before {_at(of.numbered_until)}; {numbered}",
        "files": f"until {_at(of.to_at)}, to {', '.join(recipients) or 'nobody'}",
        "books": f"closed until {_at(of.to_at)}; {books}",
        "statements": f"of {len(deals)} deals; {len(done)} are approved already",
        "invoices": f"of each statement, with documents in {of.out}",
        "reports": f"in {of.out}",
    }


def _at(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


async def due_months(conn: Connection, zone: str, now: datetime) -> list[str]:
    """The last month that is over, and those before it since the books were closed, oldest first.

    Where they never were closed, nobody has said when they began: then it is the last month alone.
    """
    closed: datetime | None = await queries.closing.closed_until.value(conn)
    local = zone_of(zone)
    due = [_before(now.astimezone(local))]
    while closed is not None and closed < month_of(due[0], zone)[0] and len(due) < MONTHS_MAX:
        due.insert(0, _before(month_of(due[0], zone)[0].astimezone(local)))
    return due


def _before(local: datetime) -> str:
    """The month before that of a day.

    >>> _before(datetime(2027, 1, 2))
    '2026-12'
    """
    return f"{local.replace(day=1) - timedelta(days=1):%Y-%m}"


@asynccontextmanager
async def _alone(conn: Connection) -> AsyncIterator[None]:
    if not await queries.closing.lock.value(conn):
        raise Conflict("a month is being closed by another process: let it finish")
    try:
        yield
    finally:
        if not conn.is_closed():
            await queries.closing.unlock.run(conn)
