"""One call with everything that hangs on it, as an object for people: the demo prints it, the API returns it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.charge import Charge, charge
from bridge.rating.tariff import Tariff
from bridge.telephony.money import format_micro


async def story(conn: Connection, call_id: UUID) -> dict[str, Any]:
    """The whole of a call. Money as decimal strings, times in RFC 3339 UTC.

    raises   NotFound
    """
    call = await queries.calls.story_call.one(conn, call_id=call_id)
    if call is None:
        raise NotFound(f"there is no call {call_id}")
    attempts = await queries.calls.story_attempts.all(conn, call_id=call_id)
    charged = await queries.calls.story_charge.one(conn, call_id=call_id)
    hold = await queries.calls.story_hold.one(conn, call_id=call_id)
    bundles = await queries.calls.story_bundles.all(conn, call_id=call_id) if call["bundled"] else []
    covered_s = charged["covered_s"] if charged else 0
    entries = await queries.calls.story_entries.all(conn, call_id=call_id)
    plan = json.loads(call["routes"]) if call["routes"] else {"routes": [], "left_out": {}}
    return {
        "call_id": str(call_id),
        "a_number": call["a_number"],
        "b_number": call["b_number"],
        "direction": call["direction"],
        "state": call["state"],
        "refuse_reason": call["refuse_reason"],
        "refuse_detail": call["refuse_detail"],
        "routes": _routes(plan["routes"]),
        "left_out": plan["left_out"],
        "attempts": _attempts(attempts, call["admitted_at"]),
        "talk_ms": call["talk_ms"],
        "billed_s": charged["billed_s"] if charged else 0,
        "covered_s": covered_s,
        "charge": format_micro(charged["amount_micro"] - charged["written_off_micro"]) if charged else "0.00",
        "written_off": format_micro(charged["written_off_micro"]) if charged else "0.00",
        "currency": charged["currency"] if charged else (hold["currency"] if hold else None),
        "charge_steps": _steps(call, covered_s),
        "bundles": [_bundle(row, live=call["ended_at"] is None) for row in bundles],
        "without_bundles": _without(call) if bundles else {},
        "cost": format_micro(sum(row["cost_micro"] for row in attempts)),
        "hold": _hold(hold) if hold else {},
        "entries": [
            {
                "account": row["account"],
                "amount": format_micro(row["amount_micro"]),
                "currency": row["currency"],
            }
            for row in entries
        ],
        "cdr": _cdr(call),
    }


def _routes(routes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    told = []
    for place, route in enumerate(routes):
        buy = route["buy"]
        more_micro = route["cost_micro"] - routes[0]["cost_micro"]
        if place == 0:
            why = "the cheapest"
        else:
            why = f"{format_micro(more_micro)} dearer" if more_micro else "the same cost, a later priority"
        told.append(
            {
                "trunk": route["name"],
                "carrier": route["carrier"],
                "prefix": buy["prefix"],
                "rate": format_micro(buy["rate_micro"]),
                "increment": f"{buy['initial_s']}/{buy['next_s']}",
                "cost_of_180_s": format_micro(route["cost_micro"]),
                "margin_of_180_s": format_micro(route["margin_micro"]),
                "why": why,
            }
        )
    return told


def _attempts(rows: Sequence[Mapping[str, Any]], began_at: datetime) -> list[dict[str, Any]]:
    told = []
    for row in rows:
        took = row["ended_at"] - began_at
        began_at = row["ended_at"]
        told.append(
            {
                "attempt": row["attempt_no"],
                "trunk": row["trunk"],
                "carrier": row["carrier"],
                "outcome": row["outcome"],
                "fault": row["fault"],
                "sip_code": row["sip_code"],
                "q850_cause": row["q850_cause"],
                "pdd_ms": row["pdd_ms"],
                "took_ms": round(took.total_seconds() * 1000),
                "ended_at": _at(row["ended_at"]),
                "billed_s": row["billed_s"],
                "cost": format_micro(row["cost_micro"]),
                "currency": row["currency"],
            }
        )
    return told


def _steps(call: Mapping[str, Any], covered_s: int) -> list[str]:
    sold = _sold(call, covered_s)
    return [step.text for step in sold.steps] if sold else []


def _without(call: Mapping[str, Any]) -> dict[str, Any]:
    """What the talk had cost for money alone."""
    sold = _sold(call, 0)
    if sold is None:
        return {}
    return {"charge": format_micro(sold.amount_micro), "steps": [step.text for step in sold.steps]}


def _sold(call: Mapping[str, Any], covered_s: int) -> Charge | None:
    if call["sell"] is None or not call["talk_ms"]:
        return None
    sell = Tariff.from_json(json.loads(call["sell"]))
    return charge(sell, call["talk_ms"], answered_at=call["answered_at"], covered_s=covered_s)


def _bundle(row: Mapping[str, Any], *, live: bool) -> dict[str, Any]:
    """burnt and released are None while the call lasts; units and left_now where there is no limit."""
    burnt = None if live else row["used_units"]
    return {
        "bundle": row["name"],
        "unit_s": row["per"],
        "held": row["held_units"],
        "burnt": burnt,
        "released": None if burnt is None else row["held_units"] - burnt,
        "units": row["units"],
        "left_now": row["left_units"],
        "until": _at(row["until_at"]),
    }


def _hold(row: Mapping[str, Any]) -> dict[str, Any]:
    released_micro = (
        row["held_micro"] - min(row["settled_micro"], row["held_micro"]) if row["closed_at"] else 0
    )
    return {
        "state": row["state"],
        "opened": format_micro(row["opened_micro"]),
        "extensions": row["extensions"],
        "held": format_micro(row["held_micro"]),
        "settled": format_micro(row["settled_micro"]),
        "released": format_micro(released_micro),
        "currency": row["currency"],
        "opened_at": _at(row["opened_at"]),
        "closed_at": _at(row["closed_at"]),
    }


def _cdr(call: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "switch": call["switch"],
        "uniqueid": call["uniqueid"],
        "sip_call_id": call["sip_call_id"],
        "account": call["account"],
        "dialled": call["dialled"],
        "admitted_at": _at(call["admitted_at"]),
        "answered_at": _at(call["answered_at"]),
        "ended_at": _at(call["ended_at"]),
        "q850_cause": call["q850_cause"],
        "release_party": call["release_party"],
        "ended_by": call["ended_by"],
    }


def _at(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
