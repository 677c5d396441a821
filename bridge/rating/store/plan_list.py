"""Plans as they stand, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.rating.store.allowances import bundle_json
from bridge.rating.store.imports import SHOWN_MAX
from bridge.rating.store.terms import terms_of
from bridge.rating.store.versions import show
from bridge.telephony.money import format_micro


async def plans(conn: Connection) -> list[dict[str, Any]]:
    """Every plan, by name; JSON-able."""
    return [
        _plan(row) | {"bundles": row["bundles"], "subscribers": row["subscribers"]}
        for row in await queries.plans.all_plans.all(conn)
    ]


async def plans_page(
    conn: Connection, before: UUID, rows: int, partner_id: UUID | None = None
) -> list[dict[str, Any]]:
    """Which plans there are for whoever asks, newest first: id, partner, name, edition."""
    found = await queries.plans.plans_page.all(conn, before=before, rows=rows, partner_id=partner_id)
    return [dict(row) for row in found]


async def plans_told(conn: Connection, plan_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """Some plans as `plans` tells them."""
    return {
        row["plan_id"]: _plan(row) | {"bundles": row["bundles"], "subscribers": row["subscribers"]}
        for row in await queries.plans.plans_told.all(conn, plan_ids=plan_ids)
    }


async def plan_named(conn: Connection, plan_id: UUID) -> Mapping[str, Any]:
    """Id, partner, name, edition of a plan that is there for whoever asks. raises   NotFound"""
    row: Mapping[str, Any] | None = await queries.plans.plan_named.one(conn, plan_id=plan_id)
    if row is None:
        raise NotFound("There is no such plan.")
    return row


async def show_plan(
    conn: Connection, name: str, at: datetime, most: int | None = SHOWN_MAX
) -> dict[str, Any]:
    """A plan with its decks, prices of services and bundles; JSON-able.

    most    rates told of each deck at most; None: all
    raises  NotFound
    """
    found = await queries.plans.plan_of.one(conn, name=name)
    if found is None:
        known = ", ".join(row["name"] for row in await queries.plans.all_plans.all(conn)) or "none"
        raise NotFound(f"there is no plan {name!r:.60}. Known: {known}")
    plan_id = found["plan_id"]
    decks = []
    for zone, deck in (("home", found["deck"]), ("roaming", found["roaming_deck"])):
        if deck is not None:
            terms, rates = await terms_of(conn, deck), await show(conn, deck, at, most)
            decks.append({"zone": zone, **terms, "version": rates["version"], "rates": rates["rates"]})
    services = await queries.plans.service_prices.all(conn, plan_id=plan_id)
    bundles = await queries.plans.bundles_at_hand.all(conn, plan_id=plan_id, names=[])
    return _plan({**found, "name": name}) | {
        "decks": decks,
        "services": [
            {
                "name": row["service"],
                "zone": row["zone"],
                "price": format_micro(row["price_micro"]),
                "per": row["per"],
            }
            for row in services
        ],
        "bundles": [bundle_json(row) for row in bundles],
    }


def _plan(row: Any) -> dict[str, Any]:
    return {
        "plan": row["name"],
        "currency": row["currency"],
        "deck": row["deck"],
        "roaming_deck": row["roaming_deck"],
        "margin_floor": format_micro(row["margin_floor_micro"]),
        "zero_rated": row["zero_rated"],
        "on_net_free": row["on_net_free"],
        "on_net_fallback": row["on_net_fallback"],
    }
