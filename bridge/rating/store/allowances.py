"""Bundles, allowances and reported usage in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.rating.allowance import VOICE, Allowance, Burn
from bridge.rating.usage import FairUse, RatedUsage, ServicePrice, rate_usage
from bridge.telephony.money import format_micro

RENEW_AHEAD_S: Final = 5.0  # renewed before it ends, so that no call falls into a gap
RENEW_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """A usage as it was recorded. Money in micro-units."""

    usage_id: UUID
    burns: tuple[Burn, ...]
    charged_quantity: int
    amount_micro: int
    written_off_micro: int
    currency: str
    throttled: bool


async def buy(conn: Connection, account_id: str, bundle: str, *, key: str, author: str, at: datetime) -> UUID:
    """Buy a bundle by its name, from `at` on. Returns the allowance; the same key again returns the first one.

    raises   NotFound: no such bundle or account, or not for sale to it · InsufficientFunds
             Conflict: the key was used for another purchase
    """
    found = await queries.allowance.bundle_by_name.one(conn, name=bundle)
    if found is None:
        raise NotFound(f'there is no bundle "{bundle}". `callbridge bundle list` names those that exist')
    bought: UUID = await queries.allowance.buy.value(
        conn, account_id=account_id, bundle_id=found["bundle_id"], key=key, author=author, starts_at=at
    )
    return bought


async def renew_due(conn: Connection, at: datetime) -> dict[UUID, UUID]:
    """Renew what ends, and what has ended and can be paid now. Returns the new allowance by the old one."""
    rows = await queries.allowance.renew.all(conn, at=at, ahead_s=RENEW_AHEAD_S, page=RENEW_PAGE)
    return {row["renewed_id"]: row["allowance_id"] for row in rows}


async def cancel_renewal(conn: Connection, allowance_id: UUID) -> None:
    """Let an allowance end when it ends. raises NotFound: there is none, or it has been renewed."""
    if not await queries.allowance.cancel.value(conn, allowance_id=allowance_id):
        raise NotFound(f"there is no allowance {allowance_id} that could still be cancelled")


async def set_zone(conn: Connection, subscriber_id: UUID, zone: str) -> None:
    """Note that a subscriber is abroad ("roaming") or at "home"."""
    if not await queries.allowance.set_zone.value(conn, subscriber_id=subscriber_id, zone=zone):
        raise NotFound(f"there is no subscriber {subscriber_id}")


async def bundles(conn: Connection) -> list[dict[str, Any]]:
    """Every bundle, by name; JSON-able."""
    return [bundle_json(row) for row in await queries.allowance.bundles.all(conn)]


def bundle_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle as people and programs are told of it."""
    return {
        "name": row["name"],
        "price": format_micro(row["price_micro"]),
        "currency": row["currency"],
        "units": row["units"],
        "fair_use_units": row["fair_use_units"],
        "covers": json.loads(row["covers"]),
        "zone": row["zone"],
        "prefixes": row["prefixes"],
        "days": row["days"],
        "renews": row["renews"],
        "burn_order": row["burn_order"],
        "on_sale": row["on_sale"],
    }


async def allowances(conn: Connection, account_id: str) -> list[dict[str, Any]]:
    """What an account has and had, the newest first; JSON-able."""
    return [
        {
            "allowance": str(row["allowance_id"]),
            "bundle": row["name"],
            "units": row["units"],
            "used": row["used_units"],
            "held": row["held_units"],
            "fair_use_units": row["fair_use_units"],
            "covers": json.loads(row["covers"]),
            "zone": row["zone"],
            "from": row["from_at"].isoformat(),
            "until": row["until_at"].isoformat(),
            "renews": row["renews"],
            "renewed_by": str(row["renewed_by"]) if row["renewed_by"] else None,
        }
        for row in await queries.allowance.of_account.all(conn, account_id=account_id)
    ]


async def report_usage(
    conn: Connection, subscriber_id: UUID, service: str, quantity: int, *, key: str, at: datetime
) -> Usage:
    """Record messages ("sms") or bytes ("data", "data.messenger") that were used: burn units, book the rest.

    Inside the caller's transaction. It was used already, so what the account cannot pay is written off. The same
    key again returns the first result.
    raises   ValueError: no quantity, or a service that is no usage · Conflict: the key was used for another usage
             NotFound: no such subscriber, or no price
    """
    if quantity <= 0 or service == VOICE:
        raise ValueError("report messages or bytes, more than none of them; talk is charged by its calls")
    payer = await queries.allowance.payer.one(conn, subscriber_id=subscriber_id)
    if payer is None:
        raise NotFound(f"there is no subscriber {subscriber_id}")
    first = await queries.allowance.usage_by_key.one(conn, key=key)
    if first is not None:
        if (first["account_id"], first["service"], first["quantity"]) != (
            payer["account_id"],
            service,
            quantity,
        ):
            raise Conflict(f"key {key} was used for another usage")
        return await _recorded(conn, first)
    zone = payer["zone"]
    found = await queries.allowance.service_price.one(
        conn, plan_id=payer["plan_id"], service=service, zone=zone
    )
    price = ServicePrice(found["price_micro"], found["per"]) if found else None
    rows = await queries.allowance.for_service.all(
        conn, account_id=payer["account_id"], service=service, zone=zone, at=at
    )
    having = [
        FairUse(
            Allowance(str(row["allowance_id"]), row["name"], row["per"], row["units_left"]), row["fair_left"]
        )
        for row in rows
    ]
    try:
        rated = rate_usage(quantity, having, price)
    except ValueError as error:
        raise NotFound(f"{service}: {error}") from None
    return await _record(conn, payer, rated, price or ServicePrice(0, 1), service, quantity, key, at)


async def _record(
    conn: Connection,
    payer: Mapping[str, Any],
    rated: RatedUsage,
    price: ServicePrice,
    service: str,
    quantity: int,
    key: str,
    at: datetime,
) -> Usage:
    payable_micro = min(rated.amount_micro, max(payer["available_micro"], 0))
    usage_id: UUID = await queries.allowance.new_id.value(conn)
    if rated.burns:
        await queries.allowance.burn_now.run(
            conn,
            usage_id=usage_id,
            allowance_ids=[burn.allowance_id for burn in rated.burns],
            units=[burn.units for burn in rated.burns],
            pers=[burn.per for burn in rated.burns],
        )
    transfer_id = None
    if payable_micro:
        transfer_id = await queries.allowance.book_usage.value(
            conn,
            account_id=payer["account_id"],
            amount_micro=payable_micro,
            currency=payer["currency"],
            key=f"usage {key}",
            note=service,
        )
    await queries.allowance.record_usage.run(
        conn,
        usage_id=usage_id,
        account_id=payer["account_id"],
        key=key,
        service=service,
        zone=payer["zone"],
        quantity=quantity,
        charged_quantity=rated.charged_quantity,
        price_micro=price.price_micro,
        per=price.per,
        amount_micro=rated.amount_micro,
        written_off_micro=rated.amount_micro - payable_micro,
        currency=payer["currency"],
        transfer_id=transfer_id,
        throttled=rated.throttled,
        used_at=at,
    )
    return Usage(
        usage_id,
        rated.burns,
        rated.charged_quantity,
        rated.amount_micro,
        rated.amount_micro - payable_micro,
        payer["currency"],
        rated.throttled,
    )


async def _recorded(conn: Connection, row: Mapping[str, Any]) -> Usage:
    burns = await queries.allowance.usage_burns.all(conn, usage_id=row["usage_id"])
    return Usage(
        row["usage_id"],
        tuple(Burn(str(one["allowance_id"]), one["name"], one["per"], one["units"]) for one in burns),
        row["charged_quantity"],
        row["amount_micro"],
        row["written_off_micro"],
        row["currency"],
        row["throttled"],
    )
