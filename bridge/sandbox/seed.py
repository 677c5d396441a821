"""The sandbox's little world: two carriers, one app, a plan, and people with money. Nothing of it is real."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.ledger.store import top_up
from bridge.partners.store import add_partner
from bridge.rating.plan_file import PlanFile
from bridge.rating.store.allowances import buy
from bridge.rating.store.plans import apply_plan, plan_id_of

CURRENCY: Final = "EUR"
APP: Final = "messenger"


@dataclass(frozen=True, slots=True)
class SeedRate:
    """A rate by prefix; money in micro-units, per minute."""

    prefix: str
    destination: str
    rate_micro: int
    initial_s: int = 60
    next_s: int = 60
    connect_fee_micro: int = 0
    minimum_s: int = 0


@dataclass(frozen=True, slots=True)
class SeedTrunk:
    """A carrier with one trunk. ring_s: how long an attempt may ring."""

    name: str
    port: int
    rates: Sequence[SeedRate]
    host: str = "127.0.0.1"
    capacity: int | None = None
    priority: int = 0
    ring_s: int = 30


@dataclass(frozen=True, slots=True)
class SeedSubscriber:
    """Somebody who may call. balance_micro is topped up at once."""

    a_number: str
    balance_micro: int
    funding: str = "prepaid"
    credit_limit_micro: int = 0
    call_cap: int | None = None
    allowed: bool = True


async def seed_trunk(conn: Connection, trunk: SeedTrunk) -> str:
    """A carrier's account, its buy deck and its trunk. Returns the trunk's id."""
    account_id = await queries.seed.add_account.value(
        conn,
        kind="carrier",
        name=f"carrier {trunk.name}",
        currency=CURRENCY,
        funding="postpaid",
        credit_limit_micro=0,
        call_cap=None,
    )
    deck_id = await seed_deck(conn, f"buy {trunk.name}", "buy", trunk.rates)
    return str(
        await queries.seed.add_trunk.value(
            conn,
            name=trunk.name,
            account_id=account_id,
            deck_id=deck_id,
            host=trunk.host,
            port=trunk.port,
            capacity=trunk.capacity,
            priority=trunk.priority,
            ring_s=trunk.ring_s,
        )
    )


async def seed_deck(conn: Connection, name: str, side: str, rates: Iterable[SeedRate]) -> str:
    """A deck with its rates. Returns its id."""
    deck_id = await queries.seed.add_deck.value(conn, name=name, side=side, currency=CURRENCY)
    for rate in rates:
        await queries.seed.add_rate.run(
            conn,
            deck_id=deck_id,
            prefix=rate.prefix,
            destination=rate.destination,
            rate_micro=rate.rate_micro,
            connect_fee_micro=rate.connect_fee_micro,
            initial_s=rate.initial_s,
            next_s=rate.next_s,
            minimum_s=rate.minimum_s,
        )
    return str(deck_id)


async def seed_plan(
    conn: Connection, name: str, rates: Sequence[SeedRate], margin_floor_micro: int = 0
) -> str:
    """A plan with a sell deck of its own. Returns the plan's id."""
    deck_id = await seed_deck(conn, f"sell {name}", "sell", rates)
    return str(
        await queries.seed.add_plan.value(
            conn,
            name=name,
            deck_id=deck_id,
            margin_floor_micro=margin_floor_micro,
        )
    )


@dataclass(frozen=True, slots=True)
class SeedBundle:
    """A bundle for sale. covers: what one unit pays for, by service: seconds, messages, bytes."""

    name: str
    price_micro: int
    units: int | None
    covers: Mapping[str, int]
    days: int = 30
    fair_use_units: int | None = None
    zone: str = "home"
    prefixes: Sequence[str] = ()
    renews: bool = False
    burn_order: int = 100


async def seed_bundle(conn: Connection, bundle: SeedBundle, currency: str = CURRENCY) -> str:
    """Returns the bundle's id."""
    return str(
        await queries.allowance.add_bundle.value(
            conn,
            name=bundle.name,
            currency=currency,
            price_micro=bundle.price_micro,
            units=bundle.units,
            fair_use_units=bundle.fair_use_units,
            covers=json.dumps(dict(bundle.covers)),
            zone=bundle.zone,
            prefixes=list(bundle.prefixes),
            days=bundle.days,
            renews=bundle.renews,
            renew_wait_days=30,
            burn_order=bundle.burn_order,
        )
    )


async def ensure_plans(conn: Connection, plans: Iterable[PlanFile]) -> dict[str, str]:
    """Create the plans that are missing, all or none. What exists stays as it is. Returns the ids by name."""
    async with conn.transaction():
        return {
            plan.name: str(await plan_id_of(conn, plan.name) or await _add_plan(conn, plan)) for plan in plans
        }


async def _add_plan(conn: Connection, plan: PlanFile) -> UUID:
    return (await apply_plan(conn, plan, author="callbridge", at=datetime.now(UTC))).plan_id


async def first_bundles(conn: Connection, account_id: str, names: Iterable[str], at: datetime) -> None:
    """Give an account its first bundles, paid from its first money."""
    for name in names:
        key = f"first {name} of {account_id}"
        await buy(conn, account_id, name, key=key, author="callbridge", at=at)


async def seed_app(conn: Connection, name: str, sip_host: str, sip_secret: str | None) -> str:
    """A messenger's gateway. Returns its id."""
    return str(await queries.seed.add_app.value(conn, name=name, sip_host=sip_host, sip_secret=sip_secret))


def account_of(a_number: str) -> str:
    """The name of a subscriber's account."""
    return f"subscriber {a_number}"


async def seed_subscriber(conn: Connection, app_id: str, plan_id: str, who: SeedSubscriber) -> str:
    """A subscriber with an account and its first money. Returns the account's id."""
    name = account_of(who.a_number)
    account_id = await queries.seed.add_account.value(
        conn,
        kind="subscriber",
        name=name,
        currency=CURRENCY,
        funding=who.funding,
        credit_limit_micro=who.credit_limit_micro,
        call_cap=who.call_cap,
    )
    subscriber_id = await queries.seed.add_subscriber.value(
        conn, app_id=app_id, a_number=who.a_number, account_id=account_id, plan_id=plan_id
    )
    if who.allowed:
        await queries.seed.allow.run(conn, subscriber_id=subscriber_id)
    if who.balance_micro:
        await top_up(conn, str(account_id), who.balance_micro, CURRENCY, key=f"first money of {name}")
    return str(account_id)


@dataclass(frozen=True, slots=True)
class SeedPartner:
    """A carrier partner, and by name what of the rest is its own."""

    name: str
    plans: Sequence[str] = ()
    trunks: Sequence[str] = ()
    a_numbers: Sequence[str] = ()


async def ensure_partner(conn: Connection, partner: SeedPartner) -> UUID:
    """Make it and give it what is its own, or find it as it is. Returns its id."""
    async with conn.transaction():
        known: UUID | None = await queries.seed.partner_of.value(conn, name=partner.name)
        if known is not None:
            return known
        partner_id: UUID = (await add_partner(conn, partner.name, CURRENCY))["partner_id"]
        for name in partner.plans:
            await queries.seed.give_plan.run(conn, partner_id=partner_id, name=name)
        for name in partner.trunks:
            await queries.seed.give_trunk.run(conn, partner_id=partner_id, name=name)
        for a_number in partner.a_numbers:
            await queries.seed.give_subscriber.run(conn, partner_id=partner_id, a_number=a_number)
        return partner_id
