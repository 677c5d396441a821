"""The book: decks, plans and trunks as one immutable snapshot, so that an admission need not ask the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.ledger.store import load_fx, system_account
from bridge.rating.origin import Origins
from bridge.rating.plan import Plan
from bridge.rating.store import (
    NO_DECKS,
    Decks,
    load_decks,
    load_decks_for,
    load_origin_sets,
    load_plans,
)
from bridge.routing.plan import Exchange
from bridge.routing.router import Router
from bridge.routing.store import TrunkPeer, load_trunks
from bridge.routing.trunk import Trunk
from bridge.telephony.number import Number


@dataclass(frozen=True, slots=True)
class Book:
    """One version of everything that is not a caller. Replaced whole, never changed.

    revenue, cost    our own accounts, by currency
    changes_at       when a rate comes into force or leaves it next; the book is stale from then on
    origins          groups of callers that carriers price apart
    fx               rates of exchange of the day, for carriers that charge in another currency
    phones           apps whose users have phones that can be rung, by app_id
    before           the book that this one replaces: its router goes on where trunks, decks and fx are the same

    Making one takes long where there are many rates, unless it goes on so.
    """

    plans: Mapping[str, Plan]
    peers: Mapping[str, TrunkPeer]  # by trunk_id
    revenue: Mapping[str, str]
    cost: Mapping[str, str]
    changes_at: datetime | None
    origins: Origins = field(default_factory=lambda: Origins({}))
    fx: Exchange = field(default_factory=dict)
    decks: Decks = field(default_factory=lambda: NO_DECKS)
    phones: frozenset[UUID] = frozenset()
    before: InitVar[Book | None] = None
    router: Router = field(init=False)
    trunks: tuple[Trunk, ...] = field(init=False)
    capped: bool = field(init=False)  # some trunk has a capacity, so that live calls must be counted
    on_net: bool = field(
        init=False
    )  # some plan has free calls within the app, so that the callee is looked up

    def __post_init__(self, before: Book | None) -> None:
        trunks = tuple(peer.trunk for peer in self.peers.values())
        object.__setattr__(self, "trunks", trunks)
        router = before.router.renewed(trunks, self.fx) if before else Router(trunks, self.fx)
        object.__setattr__(self, "router", router)
        object.__setattr__(self, "capped", any(trunk.capacity is not None for trunk in trunks))
        object.__setattr__(self, "on_net", any(plan.on_net_free for plan in self.plans.values()))


def _earliest(changes_at: datetime | None, at: datetime) -> datetime:
    """When the book must be read again: when a rate changes, or with the day, for its rates of exchange."""
    tomorrow = datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    return min(changes_at, tomorrow) if changes_at else tomorrow


async def load_book(conn: Connection, at: datetime, known: Book | None = None) -> Book:
    """Read the book as it stands at `at`. Callers of the same loop are not kept waiting, however big it is.

    known   an older one, of the same database: what has not changed since is taken over, and not read again
    """
    async with conn.transaction(isolation="repeatable_read"):
        decks = await load_decks(conn, at, known.decks if known else NO_DECKS)
        plans = await load_plans(conn, decks)
        peers = {peer.trunk.trunk_id: peer for peer in await load_trunks(conn, decks)}
        origins = await asyncio.to_thread(Origins, await load_origin_sets(conn))
        fx = await load_fx(conn, at.date())
        phones = await _phones(conn)
    currencies = {deck.currency for deck in decks.values()}
    return await asyncio.to_thread(
        Book,
        plans=plans,
        peers=peers,
        revenue={unit: await system_account(conn, "revenue", unit) for unit in currencies},
        cost={unit: await system_account(conn, "cost", unit) for unit in currencies},
        changes_at=_earliest(decks.changes_at, at),
        origins=origins,
        fx=fx,
        decks=decks,
        phones=phones,
        before=known,
    )


async def load_book_for(conn: Connection, at: datetime, number: Number | None) -> Book:
    """What a call to one number needs of the book as it stands at `at`: some milliseconds, however big the decks are.

    It says what such a call would be sold and bought for, and is good for nothing else.
    """
    async with conn.transaction(isolation="repeatable_read"):
        decks = await load_decks_for(conn, at, number.digits if number else "")
        plans = await load_plans(conn, decks)
        peers = {peer.trunk.trunk_id: peer for peer in await load_trunks(conn, decks)}
        origins = await asyncio.to_thread(Origins, await load_origin_sets(conn))
        fx = await load_fx(conn, at.date())
        phones = await _phones(conn)
    return Book(plans, peers, {}, {}, None, origins, fx, decks, phones)


async def _phones(conn: Connection) -> frozenset[UUID]:
    return frozenset(row["app_id"] for row in await queries.book.apps_with_phones.all(conn))
