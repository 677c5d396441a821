"""Each step from number to price: which rate and why no other, units, increments, rounding, tax, cost, margin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.calls.story import story
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.candidates import Candidate, prefixes_of, told
from bridge.rating.charge import Charge, charge
from bridge.rating.origin import Origins
from bridge.rating.store import load_origin_sets
from bridge.rating.tariff import Tariff
from bridge.telephony.money import format_micro


async def explain(conn: Connection, call_id: UUID) -> dict[str, Any]:
    """A call's story with the way to its price. Money as decimal strings, times in RFC 3339 UTC. JSON-able.

    raises   NotFound
    """
    whole = await story(conn, call_id)
    return whole | await reasons(conn, call_id)


async def reasons(conn: Connection, call_id: UUID, *, ours: bool = True) -> dict[str, Any]:
    """The way to a price alone.

    ours     False: as a partner may see it, and on its connection: the sell side only
    raises   NotFound
    """
    row = await queries.explain.explained.one(conn, call_id=call_id)
    if row is None:
        raise NotFound(f"there is no call {call_id}")
    if row["sell"] is None:
        return {"sell": None, "units": [], "rerated": []} | ({"buy": [], "margin": None} if ours else {})
    sell = Tariff.from_json(json.loads(row["sell"]))
    origins = Origins(await load_origin_sets(conn)).of(row["a_number"].removeprefix("+"))
    sold = _sold(sell, row)
    if not ours:
        found = await queries.cdrs.candidates_own.all(conn, call_id=call_id)
        return {
            "number": _number(row, origins),
            "sell": _priced(sell, row, origins, sold, found),
            "units": _units(await queries.cdrs.bundles_own.all(conn, call_id=call_id)),
            "rerated": [
                _revision(one) for one in await queries.cdrs.revisions_own.all(conn, call_id=call_id)
            ],
        }
    attempts = await queries.explain.attempts.all(conn, call_id=call_id)
    return {
        "number": _number(row, origins),
        "sell": await _side(conn, sell, row, origins, sold),
        "units": _units(await queries.explain.units.all(conn, call_id=call_id)),
        "buy": [await _bought(conn, one, row, origins) for one in attempts],
        "rerated": [
            _revision(one)
            | {"cost": format_micro(one["cost_micro"]), "author": one["author"], "reason": one["reason"]}
            for one in await queries.explain.revisions.all(conn, call_id=call_id)
        ],
        "margin": _margin(row, attempts, sold.tax_micro if sold else 0),
    }


def _units(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"bundle": one["name"], "unit_s": one["per"], "held": one["held_units"], "burnt": one["used_units"]}
        for one in rows
    ]


def _sold(sell: Tariff, row: Mapping[str, Any]) -> Charge | None:
    """The charge worked out again; the audit proves that it is the one that was booked."""
    if not row["talk_ms"] or row["covered_s"] is None:
        return None
    return charge(sell, row["talk_ms"], answered_at=row["answered_at"], covered_s=row["covered_s"])


def _number(row: Mapping[str, Any], origins: Sequence[str]) -> dict[str, Any]:
    return {
        "dialled": row["dialled"],
        "e164": row["b_number"],
        "origin_sets": [one for one in origins if one],
    }


async def _side(
    conn: Connection, tariff: Tariff, row: Mapping[str, Any], origins: Sequence[str], priced: Charge | None
) -> dict[str, Any]:
    """One side of the price, with the name of its deck."""
    rate = tariff.rate
    deck = await queries.explain.deck.one(conn, deck_id=rate.deck_id)
    digits = row["b_number"].removeprefix("+")
    found = await queries.explain.candidates.all(conn, deck_id=rate.deck_id, prefixes=prefixes_of(digits))
    return {"deck": deck["name"] if deck else None} | _priced(tariff, row, origins, priced, found)


def _priced(
    tariff: Tariff,
    row: Mapping[str, Any],
    origins: Sequence[str],
    priced: Charge | None,
    found: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The prefix that counted and why no other did, and the arithmetic."""
    rate = tariff.rate
    candidates = [
        Candidate(
            one["prefix"],
            one["origin_set"],
            one["from_at"],
            one["until_at"],
            one["added_in"],
            one["removed_in"],
        )
        for one in found
    ]
    return {
        "version": tariff.version,
        "prefix": rate.prefix,
        "destination": rate.destination,
        "origin_set": rate.origin_set,
        "candidates": told(candidates, rate, tariff.version, row["admitted_at"], origins),
        "rate": format_micro(rate.rate_micro),
        "currency": rate.currency,
        "increment": f"{rate.initial_s}/{rate.next_s}",
        "free": tariff.zero_rated,
        "steps": [step.to_json() for step in priced.steps] if priced else [],
        "tax": format_micro(priced.tax_micro) if priced else "0.00",
    }


async def _bought(
    conn: Connection, attempt: Mapping[str, Any], row: Mapping[str, Any], origins: Sequence[str]
) -> dict[str, Any]:
    buy = Tariff.from_json(json.loads(attempt["buy"]))
    priced = None
    if attempt["outcome"] == "answered" and row["talk_ms"]:
        priced = charge(buy, row["talk_ms"], answered_at=row["answered_at"])
    side = await _side(conn, buy, row, origins, priced)
    return {
        "attempt": attempt["attempt_no"],
        "trunk": attempt["trunk"],
        "outcome": attempt["outcome"],
        "cost": format_micro(attempt["cost_micro"]),
    } | side


def _revision(row: Mapping[str, Any]) -> dict[str, Any]:
    """A price that the call was given later. The latest one counts."""
    rate = Tariff.from_json(json.loads(row["sell"])).rate
    return {
        "revision": row["revision"],
        "charge": format_micro(row["amount_micro"] - row["written_off_micro"]),
        "rate": format_micro(rate.rate_micro),
        "billed_s": row["billed_s"],
        "at": row["created_at"].isoformat(),
    }


def _margin(row: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], tax_micro: int) -> str | None:
    """What was paid, less its tax and what the carriers get; None where these are in different currencies."""
    if row["amount_micro"] is None or any(one["currency"] != row["currency"] for one in attempts):
        return None
    paid_micro: int = row["amount_micro"] - row["written_off_micro"] - tax_micro
    return format_micro(paid_micro - sum(one["cost_micro"] for one in attempts))
