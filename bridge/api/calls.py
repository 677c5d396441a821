"""Calls: those in progress, and one with all that hangs on it. A partner sees what it sold and was charged; who carried
the call, and for what, is the operators' to see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Reads
from bridge.api.fields import (
    AccountId,
    CallId,
    CdrId,
    CurrencyCode,
    PartnerId,
    SubscriberId,
    Told,
    TransferId,
    TrunkId,
    show_at,
    show_id,
    show_money,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.calls import cdrs
from bridge.rating.charge import Charge, charge
from bridge.rating.tariff import Tariff

router = routes("calls")
Reader = Annotated[Desk, Depends(Reads("calls:read"), scope="function")]

State = Literal["live", "refused", "answered", "unanswered", "failed"]
DecimalText = Annotated[str, Field(examples=["0.09"])]


class CallLine(Told):
    """A call in a list. Of a live one: since when it talks, for how long the money lasts, and what is held for it."""

    call_id: CallId
    partner_id: PartnerId | None
    account_id: AccountId | None
    subscriber_id: SubscriberId | None
    a_number: str = Field(examples=["+4989999998000"])
    b_number: str | None = Field(examples=["+493023125000"])
    dialled: str
    state: State
    admitted_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    talk_ms: int | None
    limit_s: float | None = Field(description="Talk time that is paid for so far")
    held: DecimalText | None
    charge: DecimalText | None
    currency: CurrencyCode | None


class Leg(Told):
    """leg a is the caller's, leg b the one that answered or is being tried."""

    leg: Literal["a", "b"]
    number: str | None
    state: Literal["calling", "talking", "ended"]
    answered_at: datetime | None
    ended_at: datetime | None


class CallAttempt(Told):
    """One Dial on one trunk. The trunk is named where it is your own."""

    attempt: int
    outcome: str = Field(examples=["answered", "carrier_failed"])
    fault: Literal["us", "caller", "callee", "carrier", "unknown"]
    sip_code: int | None
    q850_cause: int | None
    pdd_ms: int | None = Field(description="INVITE to ringing or early media")
    ended_at: datetime
    trunk_id: TrunkId | None
    trunk: str | None
    carrier: str | None = Field(None, description="For operators only, as what follows")
    billed_s: int | None = None
    cost: DecimalText | None = None
    currency: CurrencyCode | None = None


class Step(Told):
    """A step of the arithmetic. Amounts before the last, the total, add up to it."""

    name: str = Field(examples=["minutes"])
    text: str
    amount: DecimalText | None


class Charged(Told):
    """What the call cost its account. covered_s: talk that bundles paid for."""

    billed_s: int
    covered_s: int
    amount: DecimalText
    written_off: DecimalText
    charge: DecimalText
    tax: DecimalText
    currency: CurrencyCode
    steps: list[Step]


class BundleUnits(Told):
    """burnt and released are null while the call lasts; units and left_now where there is no limit."""

    bundle: str
    unit_s: int
    held: int
    burnt: int | None
    released: int | None
    units: int | None
    left_now: int | None
    until: datetime | None


class CallHold(Told):
    """Money set aside for the call."""

    state: Literal["open", "settled", "released", "expired"]
    opened: DecimalText
    extensions: int
    held: DecimalText
    settled: DecimalText
    currency: CurrencyCode
    opened_at: datetime
    closed_at: datetime | None


class Booked(Told):
    """An entry in the ledger. Positive: the account gains."""

    transfer_id: TransferId
    account_id: AccountId
    account: str
    amount: DecimalText
    currency: CurrencyCode


class TrunkIn(Told):
    trunk_id: TrunkId
    trunk: str


class Call(Told):
    """A call with legs and attempts, and what it holds and costs. `charged` is as booked at its end; see `charge` and
    `revision` for what counts since."""

    call_id: CallId
    cdr_id: CdrId
    partner_id: PartnerId | None
    account_id: AccountId | None
    subscriber_id: SubscriberId | None
    a_number: str
    b_number: str | None
    dialled: str
    state: State
    refuse_reason: str | None
    rating_state: str
    admitted_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    talk_ms: int | None
    q850_cause: int | None
    release_party: str | None
    destination: str | None
    prefix: str | None
    rate: DecimalText | None
    billed_s: int | None
    covered_s: int | None
    charge: DecimalText | None
    written_off: DecimalText | None
    currency: CurrencyCode | None
    revision: int
    sip_call_id: str
    limit_s: float | None
    legs: list[Leg]
    attempts: list[CallAttempt]
    charged: Charged | None
    bundles: list[BundleUnits]
    hold: CallHold | None
    entries: list[Booked]
    trunk_in: TrunkIn | None = Field(
        description="Over which it came in from the network, for whose trunk it is"
    )
    switch: str | None = Field(None, description="For operators only, as what follows")
    uniqueid: str | None = None
    ended_by: str | None = None
    cost: DecimalText | None = None
    routes: list[dict[str, Any]] | None = None
    left_out: dict[str, Any] | None = None


def _live(row: Mapping[str, Any]) -> dict[str, Any]:
    partner_id = row["partner_id"]
    return {
        "call_id": show_id("call", row["call_id"]),
        "partner_id": show_id("prt", partner_id) if partner_id else None,
        "account_id": show_id("acc", row["account_id"]),
        "subscriber_id": show_id("sub", row["subscriber_id"]) if row["subscriber_id"] else None,
        "a_number": row["a_number"],
        "b_number": row["b_number"],
        "dialled": row["dialled"],
        "state": "live",
        "admitted_at": show_at(row["admitted_at"]),
        "answered_at": show_at(row["answered_at"]),
        "ended_at": None,
        "talk_ms": None,
        "limit_s": row["limit_ms"] / 1000,
        "held": show_money(row["held_micro"]),
        "charge": None,
        "currency": row["currency"],
    }


def _past(line: str) -> dict[str, Any]:
    told = json.loads(line) | {"limit_s": None, "held": None}
    return {name: told[name] for name in CallLine.model_fields}


def legs(call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The two ends of a call. A refused one has no leg b, nor one that was given up while nobody was tried yet."""
    if call["state"] == "refused":
        return []
    live = call["state"] == "live"
    answered_at = show_at(call["live_answered_at"] if live else call["answered_at"])
    state = ("talking" if answered_at else "calling") if live else "ended"
    ends = {"state": state, "answered_at": answered_at, "ended_at": show_at(call["ended_at"])}
    return [
        {"leg": leg, "number": number} | ends
        for leg, number in (("a", call["a_number"]), ("b", call["b_number"] or call["dialled"]))
    ]


def _attempt(row: Mapping[str, Any], *, ours: bool) -> dict[str, Any]:
    told = {name: row[name] for name in ("outcome", "fault", "sip_code", "q850_cause", "pdd_ms")}
    told |= {
        "attempt": row["attempt_no"],
        "ended_at": show_at(row["ended_at"]),
        "trunk_id": show_id("trk", row["trunk_id"]) if row["trunk_id"] else None,
        "trunk": row["trunk"],
    }
    if ours:
        told |= {
            "carrier": row["carrier"],
            "billed_s": row["billed_s"],
            "cost": show_money(row["cost_micro"]),
            "currency": row["currency"],
        }
    return told


def show_steps(priced: Charge | None) -> list[dict[str, Any]]:
    steps = priced.steps if priced else ()
    return [{"name": one.name, "text": one.text, "amount": show_money(one.amount_micro)} for one in steps]


def _charged(row: Mapping[str, Any] | None, call: Mapping[str, Any]) -> dict[str, Any] | None:
    if row is None:
        return None
    priced = None
    if call["sell"] is not None and call["talk_ms"]:
        sell = Tariff.from_json(json.loads(call["sell"]))
        priced = charge(sell, call["talk_ms"], answered_at=call["answered_at"], covered_s=row["covered_s"])
    return {
        "billed_s": row["billed_s"],
        "covered_s": row["covered_s"],
        "amount": show_money(row["amount_micro"]),
        "written_off": show_money(row["written_off_micro"]),
        "charge": show_money(row["amount_micro"] - row["written_off_micro"]),
        "tax": show_money(priced.tax_micro if priced else 0),
        "currency": row["currency"],
        "steps": show_steps(priced),
    }


def _bundle(row: Mapping[str, Any], *, live: bool) -> dict[str, Any]:
    burnt = None if live else row["used_units"]
    return {
        "bundle": row["name"],
        "unit_s": row["per"],
        "held": row["held_units"],
        "burnt": burnt,
        "released": None if burnt is None else row["held_units"] - burnt,
        "units": row["units"],
        "left_now": row["left_units"],
        "until": show_at(row["until_at"]),
    }


def _hold(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "state": row["state"],
        "opened": show_money(row["opened_micro"]),
        "extensions": row["extensions"],
        "held": show_money(row["held_micro"]),
        "settled": show_money(row["settled_micro"]),
        "currency": row["currency"],
        "opened_at": show_at(row["opened_at"]),
        "closed_at": show_at(row["closed_at"]),
    }


def _entries(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "transfer_id": show_id("tr", row["transfer_id"]),
            "account_id": show_id("acc", row["account_id"]),
            "account": row["account"],
            "amount": show_money(row["amount_micro"]),
            "currency": row["currency"],
        }
        for row in rows
    ]


def _trunk_in(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {"trunk_id": show_id("trk", row["trunk_id"]), "trunk": row["trunk"]}


def show(found: cdrs.Whole) -> dict[str, Any]:
    """A whole call, for whoever it was looked up for."""
    call, ours = found.call, found.ours
    told = found.told | {
        "sip_call_id": call["sip_call_id"],
        "limit_s": None if call["limit_ms"] is None else call["limit_ms"] / 1000,
        "legs": legs(call),
        "attempts": [_attempt(row, ours=ours is not None) for row in found.attempts],
        "charged": _charged(found.charged, call),
        "bundles": [_bundle(row, live=call["ended_at"] is None) for row in found.bundles],
        "hold": _hold(found.hold),
        "entries": _entries(found.entries),
        "trunk_in": _trunk_in(found.trunk_in),
    }
    if ours is not None:
        plan = json.loads(ours["routes"]) if ours["routes"] else {"routes": [], "left_out": {}}
        told |= {name: ours[name] for name in ("switch", "uniqueid", "ended_by")}
        told["cost"] = show_money(sum(row["cost_micro"] for row in found.attempts))
        told["routes"] = [_route(one) for one in plan["routes"]]
        told["left_out"] = plan["left_out"]
    return told


def _route(route: Mapping[str, Any]) -> dict[str, Any]:
    """A way the call could go, as it was seen at admission. Cost and margin are of 180 s."""
    buy = route["buy"]
    return {
        "trunk": route["name"],
        "carrier": route["carrier"],
        "prefix": buy["prefix"],
        "rate": show_money(buy["rate_micro"]),
        "increment": f"{buy['initial_s']}/{buy['next_s']}",
        "cost": show_money(route["cost_micro"]),
        "margin": show_money(route["margin_micro"]),
    }


@router.get("", response_model=Page[CallLine], summary="Calls, newest first")
async def list_calls(
    desk: Reader,
    paging: Asked,
    state: Annotated[
        Literal["live", "all"], Query(description="Those in progress, or all; CDRs have more filters")
    ] = "live",
) -> Response:
    partner_id = desk.principal.partner_id
    async with desk.reading() as conn:
        if state == "live":
            rows = await cdrs.live(conn, partner_id, paging.before, paging.rows)
            return desk.shown(page(rows, paging, "call_id", _live))
        found = await cdrs.find(conn, cdrs.Search(partner_id, before=paging.before), paging.limit)
    following = found.following.hex if found.following else None
    return desk.shown({"data": [_past(line) for line in found.lines], "next": following})


@router.get(
    "/{call_id}", response_model=Call, responses=responses(404), summary="One call, with legs and attempts"
)
async def read_call(desk: Reader, call_id: CallId) -> Response:
    async with desk.reading() as conn:
        found = await cdrs.whole(conn, call_id, desk.principal.partner_id)
    return desk.shown(show(found))
