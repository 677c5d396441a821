"""Calls and their records, as the API lists and tells them. What is not `ours`, a partner's connection may ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound

Row = Mapping[str, Any]

FIRST: Final = UUID(int=0)
LAST: Final = UUID(int=2**128 - 1)
_HEAD: Final = len('{"cdr_id":"cdr_')  # a line begins with it; then come the 32 digits of its key


@dataclass(frozen=True, slots=True)
class Search:
    """Whose records, of when, and which of them.

    partner_id     None: of all, for operators
    before, since  keys; they begin with the time (`key_at`)
    account_id     quick with `partner_id` only, as `subscriber_id` is with it: see `narrowed`
    """

    partner_id: UUID | None = None
    before: UUID = LAST
    since: UUID = FIRST
    account_id: UUID | None = None
    subscriber_id: UUID | None = None
    state: str | None = None
    a_number: str | None = None
    b_prefix: str | None = None
    min_talk_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Lines of JSON, newest first. following: the cursor of the page after; None where there is nothing more."""

    lines: Sequence[str]
    following: UUID | None


def key_at(at: datetime) -> UUID:
    """The smallest key of an instant (RFC 9562, 5.7: 48 bits of milliseconds first)."""
    ms = int(at.timestamp() * 1000)
    return UUID(int=min(max(ms, 0), 2**48 - 1) << 80)


async def find(conn: Connection, search: Search, limit: int) -> Found:
    """At most `limit` records. There may be fewer and still more to follow: see cdr_page_v1."""
    row = await queries.cdrs.page.one(
        conn,
        partner_id=search.partner_id,
        account_id=search.account_id,
        before=search.before,
        since=search.since,
        rows=limit + 1,
        state=search.state,
        subscriber_id=search.subscriber_id,
        a_number=search.a_number,
        b_prefix=search.b_prefix,
        min_talk_ms=search.min_talk_ms,
    )
    lines = row["lines"].split("\n") if row["lines"] else []
    if len(lines) > limit:
        lines.pop()
        return Found(lines, UUID(hex=lines[-1][_HEAD : _HEAD + 32]))
    return Found(lines, row["reach"])


async def record(conn: Connection, call_id: UUID, partner_id: UUID | None) -> str:
    """One record, as a line of JSON.

    raises   NotFound
    """
    after = UUID(int=min(call_id.int + 1, LAST.int))
    found = await find(conn, Search(partner_id, before=after, since=call_id), 1)
    if not found.lines:
        raise NotFound("There is no such call.")
    return found.lines[0]


async def narrowed(conn: Connection, search: Search) -> Search:
    """The search with the account of its subscriber and the partner of its account, which have indexes.

    Calls of accounts that are no partner's are looked for among all: there is no index for them that every call would
    have to pay for.

    raises   NotFound: what it names is not there, for whoever asks
    """
    cdrs = queries.cdrs
    if search.partner_id and await cdrs.visible_partner.one(conn, partner_id=search.partner_id) is None:
        raise NotFound("There is no such partner.")
    if search.subscriber_id:
        owner = await cdrs.visible_subscriber.one(conn, subscriber_id=search.subscriber_id)
        if owner is None:
            raise NotFound("There is no such subscriber.")
        search = replace(search, account_id=search.account_id or owner["account_id"])
    if search.account_id:
        account = await cdrs.visible_account.one(conn, account_id=search.account_id)
        if account is None:
            raise NotFound("There is no such account.")
        search = replace(search, partner_id=search.partner_id or account["partner_id"])
    return search


async def live(conn: Connection, partner_id: UUID | None, before: UUID, rows: int) -> Sequence[Row]:
    """Calls in progress, newest first."""
    return list(await queries.cdrs.live.all(conn, partner_id=partner_id, before=before, rows=rows))


@dataclass(frozen=True, slots=True)
class Whole:
    """A call with all that hangs on it. told: its record. ours: what only operators see, else None.

    trunk_in   over which it came in, for those who may know
    """

    told: dict[str, Any]
    call: Row
    attempts: Sequence[Row]
    charged: Row | None
    hold: Row | None
    bundles: Sequence[Row]
    entries: Sequence[Row]
    trunk_in: Row | None
    ours: Row | None


async def whole(conn: Connection, call_id: UUID, partner_id: UUID | None) -> Whole:
    """raises   NotFound"""
    told = json.loads(await record(conn, call_id, partner_id))
    calls, cdrs = queries.calls, queries.cdrs
    ours = partner_id is None
    call = await cdrs.call.one(conn, call_id=call_id)
    attempts = await (calls.story_attempts if ours else cdrs.attempts_own).all(conn, call_id=call_id)
    bundles = cdrs.bundles_own if not ours else calls.story_bundles
    return Whole(
        told,
        call,
        attempts,
        await calls.story_charge.one(conn, call_id=call_id),
        await calls.story_hold.one(conn, call_id=call_id),
        await bundles.all(conn, call_id=call_id) if call["bundled"] else [],
        await cdrs.entries.all(conn, call_id=call_id),
        await cdrs.trunk_in.one(conn, call_id=call_id) if told["direction"] == "in" else None,
        await cdrs.switch_side.one(conn, call_id=call_id) if ours else None,
    )


async def usage(
    conn: Connection, partner_id: UUID | None, before: UUID, since: UUID, rows: int
) -> Sequence[Row]:
    """Records of messages and data, newest first."""
    return list(
        await queries.cdrs.usage.all(conn, partner_id=partner_id, before=before, since=since, rows=rows)
    )


async def billed(conn: Connection, ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of these calls and usages that are in an approved statement, with whatever corrected them."""
    return frozenset(row["call_id"] for row in await queries.cdrs.billed.all(conn, ids=list(ids)))
