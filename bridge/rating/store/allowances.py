"""Bundles and allowances in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.telephony.money import format_micro

RENEW_AHEAD_S: Final = 5.0  # renewed before it ends, so that no call falls into a gap
RENEW_PAGE: Final = 200


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
