"""The book: decks, plans and trunks as one immutable snapshot, so that an admission need not ask the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bridge import queries
from bridge.database import Connection
from bridge.ledger.store import system_account
from bridge.rating.store import Plan, load_decks, load_plans
from bridge.routing.store import TrunkPeer, load_trunks
from bridge.routing.trunk import Trunk


@dataclass(frozen=True, slots=True)
class Book:
    """One version of everything that is not a caller. Replaced whole, never changed.

    revenue, cost    our own accounts, by currency
    changes_at       when a rate comes into force or leaves it next; the book is stale from then on
    """

    plans: Mapping[str, Plan]
    peers: Mapping[str, TrunkPeer]  # by trunk_id
    revenue: Mapping[str, str]
    cost: Mapping[str, str]
    changes_at: datetime | None
    trunks: tuple[Trunk, ...] = field(init=False)
    capped: bool = field(init=False)  # some trunk has a capacity, so that live calls must be counted

    def __post_init__(self) -> None:
        trunks = tuple(peer.trunk for peer in self.peers.values())
        object.__setattr__(self, "trunks", trunks)
        object.__setattr__(self, "capped", any(trunk.capacity is not None for trunk in trunks))


async def load_book(conn: Connection, at: datetime) -> Book:
    """Read the book as it stands at `at`."""
    async with conn.transaction(isolation="repeatable_read"):
        decks = await load_decks(conn, at)
        plans = await load_plans(conn, decks)
        peers = {peer.trunk.trunk_id: peer for peer in await load_trunks(conn, decks)}
        changes_at = await queries.book.next_change.value(conn, at=at)
    currencies = {deck.currency for deck in decks.values()}
    return Book(
        plans=plans,
        peers=peers,
        revenue={unit: await system_account(conn, "revenue", unit) for unit in currencies},
        cost={unit: await system_account(conn, "cost", unit) for unit in currencies},
        changes_at=changes_at,
    )
