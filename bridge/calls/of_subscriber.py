"""Calls as their own subscriber sees them: on the phone, never another's. As ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.calls.caller import allowances_of, burns_of
from bridge.calls.running import Funds, Running, running
from bridge.config import Calls
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.tariff import Tariff

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Live:
    """A call in progress.

    number    the other side's; None: it is not shown
    talk_ms   since the answer; None: there was none yet
    running   what it costs whoever made it; None before the answer, and for who was called
    currency  of the cost
    """

    call_id: UUID
    incoming: bool
    number: str | None
    answered_at: datetime | None
    talk_ms: int | None
    currency: str | None
    free: bool
    running: Running | None


async def me(conn: Connection, subscriber_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.phone.me.one(conn, subscriber_id=subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    return row


async def bundles(conn: Connection, subscriber_id: UUID) -> Sequence[Row]:
    """What pays for talk now, in burn order."""
    return list(await queries.phone.bundles.all(conn, subscriber_id=subscriber_id))


async def calls(conn: Connection, subscriber_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(await queries.phone.calls.all(conn, subscriber_id=subscriber_id, before=before, rows=rows))


async def call_of(conn: Connection, subscriber_id: UUID, sip_call_id: str) -> Row | None:
    row: Row | None = await queries.phone.call_of.one(
        conn, subscriber_id=subscriber_id, sip_call_id=sip_call_id
    )
    return row


async def current(
    conn: Connection, subscriber_id: UUID, sip_call_id: str | None, at: datetime, rules: Calls
) -> Live | None:
    """The subscriber's newest call in progress; the one with this SIP Call-ID, where one is given."""
    row = await queries.phone.running.one(conn, subscriber_id=subscriber_id, sip_call_id=sip_call_id)
    if row is None:
        return None
    answered_at, incoming = row["answered_at"], row["incoming"]
    talk_ms = None if answered_at is None else max((at - answered_at) // timedelta(milliseconds=1), 0)
    sell = None if incoming else Tariff.from_json(json.loads(row["sell"]))
    now = None
    if answered_at is not None and sell is not None:
        now = running(
            sell,
            row["b_number"].removeprefix("+"),
            await _funds(conn, row, subscriber_id, at),
            answered_at=answered_at,
            at=at,
            talk_s_max=rules.talk_s_max,
        )
    return Live(
        row["call_id"],
        incoming,
        row["number"],
        answered_at,
        talk_ms,
        row["currency"],
        sell is None or bool(sell.zero_rated),
        now,
    )


async def _funds(conn: Connection, row: Row, subscriber_id: UUID, at: datetime) -> Funds:
    """What the call holds, and what it may still take."""
    burns, allowances = burns_of(None), allowances_of(None)
    if row["bundled"]:
        units = await queries.calls.bundled.one(
            conn, call_id=row["call_id"], subscriber_id=subscriber_id, at=at
        )
        burns, allowances = burns_of(units["burns"]), allowances_of(units["allowances"])
    budget_micro = row["available_micro"]
    if row["spend_left_micro"] is not None:
        budget_micro = min(budget_micro, row["spend_left_micro"])
    return Funds(burns, allowances, row["held_micro"] or 0, budget_micro, row["limit_ms"])
