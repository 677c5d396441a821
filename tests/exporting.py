"""Ended calls of two partners, one of which carries for us, for tests of the files of call records.

They are laid into the past by the tables' own columns, so that a test knows each instant: ten minutes apart from
2026-10-24 on, over the night in which the clocks of Berlin go back. Nobody answers every tenth call.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bridge.config import Company, Exports, Settings
from bridge.database import Connection
from bridge.exports.sequence import seal
from bridge.exports.spans import Every
from bridge.exports.store.cdr_files import Recipient, add_recipient, recipient_by_id

BEGIN: Final = datetime(2026, 10, 23, 22, tzinfo=UTC)  # midnight in Berlin
APART: Final = timedelta(minutes=10)

_SELL: Final = {
    "rate_id": "retail/49", "deck_id": "0", "prefix": "49", "destination": "Germany", "currency": "EUR",
    "rate_micro": 60_000, "connect_fee_micro": 0, "initial_s": 1, "next_s": 1, "minimum_s": 0, "version": 3,
}  # fmt: skip
_BUY: Final = _SELL | {"rate_id": "wholesale/49", "rate_micro": 30_000, "version": 7}


@dataclass(frozen=True, slots=True)
class Laid:
    """Partner `ours` has callers, partner `carrier` has the trunk `theirs`; the trunk `quiet` is nobody's."""

    ours: UUID
    carrier: UUID
    calls: int
    until: datetime


async def lay(conn: Connection, calls: int = 200, inbound: Sequence[int] = ()) -> Laid:
    """So many calls, numbered. Every fifth is nobody's; every second goes over the carrier's trunk.

    inbound   the places of those that came in over the carrier's trunk, from somebody who is not shown
    """
    ids = {}
    for name in ("Acme Voice", "Beta Carrier", "house"):
        account_id = await conn.fetchval(
            "INSERT INTO account (kind, name, currency, funding) VALUES ('partner', $1, 'EUR', 'postpaid')"
            " RETURNING account_id",
            name,
        )
        ids[name] = account_id
    ours, carrier = [
        await conn.fetchval(
            "INSERT INTO partner (name, account_id) VALUES ($1, $2) RETURNING partner_id", name, ids[name]
        )
        for name in ("Acme Voice", "Beta Carrier")
    ]
    deck_id = await conn.fetchval(
        "INSERT INTO deck (name, side, currency) VALUES ('buy', 'buy', 'EUR') RETURNING deck_id"
    )
    trunks = [
        await conn.fetchval(
            "INSERT INTO trunk (name, account_id, deck_id, host, partner_id) VALUES ($1, $2, $3, '127.0.0.1', $4)"
            " RETURNING trunk_id",
            name, ids["house"], deck_id, partner_id,
        )
        for name, partner_id in (("theirs", carrier), ("quiet", None))
    ]  # fmt: skip
    await conn.execute(
        """INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, b_number, state,
                             sell, admitted_at, answered_at, ended_at, talk_ms, q850_cause, release_party, ended_by,
                             partner_id, direction, trunk_in_id, anonymous, leg_class)
           SELECT uuidv7(), gen_random_uuid(), n.no, n.no, $4, '+4915' || (10000000 + n.no), '030 23125000',
                  '+493023125000', CASE WHEN n.no % 10 = 0 THEN 'unanswered' ELSE 'answered' END, $5::jsonb, n.at,
                  CASE WHEN n.no % 10 > 0 THEN n.at + interval '5 s' END, n.at + interval '3 min',
                  CASE WHEN n.no % 10 > 0 THEN 60000 + n.no * 17 ELSE 0 END, 16, 'caller', 'journal',
                  CASE WHEN n.no % 5 > 0 THEN $6::uuid END, CASE WHEN n.no = ANY ($7) THEN 'in' ELSE 'out' END,
                  CASE WHEN n.no = ANY ($7) THEN $8::uuid END, n.no = ANY ($7),
                  CASE WHEN n.no = ANY ($7) THEN 'pstn' ELSE 'app' END
             FROM (SELECT no, $1::timestamptz + no * $2::interval AS at
                     FROM generate_series(0, $3::integer - 1) AS no) n""",
        BEGIN, APART, calls, ids["Acme Voice"], json.dumps(_SELL), ours, list(inbound), trunks[0],
    )  # fmt: skip
    await conn.execute(
        """INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)
           SELECT c.call_id, c.account_id, (c.talk_ms + 999) / 1000, (c.talk_ms + 999) / 1000 * 1000, 'EUR'
             FROM call c WHERE c.state = 'answered'"""
    )
    await conn.execute(
        """INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at,
                                billed_s, cost_micro, currency, buy)
           SELECT c.call_id, 1, CASE WHEN c.uniqueid::integer % 2 = 0 THEN $1::uuid ELSE $2::uuid END,
                  CASE c.state WHEN 'answered' THEN 'answered' ELSE 'no_answer' END, 'unknown',
                  CASE c.state WHEN 'answered' THEN 200 ELSE 480 END, 16, 900, c.ended_at,
                  (c.talk_ms + 999) / 1000, (c.talk_ms + 999) / 1000 * 500, 'EUR', $3::jsonb
             FROM call c""",
        trunks[0], trunks[1], json.dumps(_BUY),
    )  # fmt: skip
    until = BEGIN + calls * APART + timedelta(days=1)
    await seal(conn, until)
    return Laid(ours, carrier, calls, until)


async def recipient(
    conn: Connection,
    code: str,
    partner_id: UUID | None = None,
    *,
    types: tuple[str, ...] = ("cdr",),
    form: str = "csv",
    every: Every = Every.DAILY,
    zone: str = "Europe/Berlin",
    target: dict[str, Any] | None = None,
) -> Recipient:
    """Somebody who gets files from the first call on; over the API unless a target is given."""
    made = await add_recipient(
        conn, code, partner_id, types=types, form=form, every=every, zone=zone, target=target or {"kind": "api"},
        since_at=BEGIN,
    )  # fmt: skip
    return await recipient_by_id(conn, made)


def settings(folder: Path, **exports: Any) -> Settings:
    return Settings(company=Company(code="US"), exports=Exports(folder=folder, **exports))


def read(path: Path) -> list[dict[str, str]]:
    """As any reader of CSV does."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def manifest(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name(path.name + ".json").read_text())
