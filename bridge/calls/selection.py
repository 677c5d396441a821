"""Which recorded calls are priced again, and on which decks. A month needs no more memory than a day."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.calls.deck_then import load_then, versioned
from bridge.calls.reprice import DeckThen, Recorded, Repriced, Skip, Thaw, reprice
from bridge.database import Connection
from bridge.errors import DeckError, Invalid, NotFound
from bridge.rating.origin import Origins
from bridge.rating.store import load_origin_sets
from bridge.rating.store.imports import head_of
from bridge.rating.tariff import Tariff

CHUNK: Final = 1_000
BOTH: Final = frozenset({"sell", "buy"})
THEN_MAX: Final = (
    3  # states of one deck that are remembered; calls come roughly in the order of their admission
)

# (what is being done, calls done, calls in all)
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """For callers nobody watches."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What calls are selected by, all together; as somebody asked for it.

    since, until   of the call's admission, aware; until is exclusive
    carrier        the carrier's name or a trunk's
    deck           calls priced by it, on either side
    on             decks to price on instead, "name" or "name@version", one a side
    """

    since: datetime | None = None
    until: datetime | None = None
    carrier: str | None = None
    deck: str | None = None
    call_ids: tuple[UUID, ...] = ()
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.since or self.until or self.carrier or self.deck or self.call_ids):
            raise Invalid("select calls by a period, a carrier, a deck or their ids")
        if self.since and self.until and self.since >= self.until:
            raise Invalid("the period ends before it begins: give --from an earlier instant than --to")

    def to_json(self) -> dict[str, Any]:
        """Only what was asked for."""
        told = {
            "from": self.since.isoformat() if self.since else None,
            "to": self.until.isoformat() if self.until else None,
            "carrier": self.carrier,
            "deck": self.deck,
            "calls": [str(call_id) for call_id in self.call_ids],
            "on": list(self.on),
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Selection:
    """Criteria with names resolved.

    sides     the sides that are priced again, "sell" and "buy"; the other one stays as it is
    instead   (deck_id, version) of a side, where not each call's own deck, in the version in force now
    """

    since: datetime | None = None
    until: datetime | None = None
    call_ids: Sequence[UUID] | None = None
    trunk_ids: Sequence[UUID] | None = None
    deck_id: str | None = None
    sides: frozenset[str] = BOTH
    instead: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)

    def asked(self) -> dict[str, Any]:
        """As the queries take it."""
        names = ("since", "until", "call_ids", "trunk_ids", "deck_id")
        return {name: getattr(self, name) for name in names}


async def select(conn: Connection, criteria: Criteria) -> Selection:
    """Find what the names mean, and which sides are priced again: a deck's own, what a carrier is paid, or both.

    raises   NotFound: no such carrier, deck, version or call · StoreError: two decks for one side
    """
    trunk_ids = deck_id = None
    sides = BOTH
    if criteria.carrier is not None:
        trunk_ids = [row[0] for row in await queries.rerating.trunks_of.all(conn, carrier=criteria.carrier)]
        if not trunk_ids:
            known = await queries.rerating.carriers.value(conn)
            raise NotFound(f"there is no carrier {criteria.carrier!r}. Known: {known or 'none'}")
        sides = frozenset({"buy"})
    if criteria.deck is not None:
        found = await head_of(conn, criteria.deck)
        deck_id, sides = str(found["deck_id"]), frozenset({found["side"]})
    instead: dict[str, tuple[str, int | None]] = {}
    for name, version in map(versioned, criteria.on):
        found = await head_of(conn, name)
        if version is not None and not 0 < version <= found["version"]:
            raise NotFound(f"deck {name} has no version {version}: it has 1 to {found['version']}")
        if found["side"] in instead:
            raise Invalid(f"{name} is a second {found['side']} deck. Name one a side")
        instead[found["side"]] = (str(found["deck_id"]), version)
    unknown = await queries.rerating.unknown.value(conn, call_ids=criteria.call_ids)
    if unknown is not None:
        raise NotFound(f"there is no call {unknown}")
    return Selection(
        criteria.since,
        criteria.until,
        criteria.call_ids or None,
        trunk_ids,
        deck_id,
        frozenset(instead) or sides,
        instead,
    )


class Prices:
    """Decks as they were in force when calls were admitted, each read once.

    fixed   decks that take the place of others at any time, by deck_id
    """

    def __init__(
        self, conn: Connection, selection: Selection, fixed: Mapping[str, DeckThen] | None = None
    ) -> None:
        self._conn, self._instead, self._fixed = conn, selection.instead, fixed or {}
        self._then: defaultdict[str, deque[DeckThen]] = defaultdict(lambda: deque(maxlen=THEN_MAX))

    def known(self, side: str, priced_by: Tariff, at: datetime) -> DeckThen | None:
        """The deck of one side of a call, if it has been loaded."""
        deck_id, _ = self._instead.get(side) or (priced_by.rate.deck_id, None)
        if (fixed := self._fixed.get(deck_id)) is not None:
            return fixed
        for known in self._then[deck_id]:
            if known.covers(at):
                return known
        return None

    async def load(self, side: str, priced_by: Tariff, at: datetime) -> DeckThen:
        """The same, read. One that is gone has no rates."""
        deck_id, version = self._instead.get(side) or (priced_by.rate.deck_id, None)
        found = await load_then(self._conn, deck_id, version, at)
        self._then[deck_id].appendleft(found)
        return found


async def price_again(
    conn: Connection,
    selection: Selection,
    prices: Prices,
    take: Callable[[Recorded, Repriced | Skip], None],
    flush: Callable[[], Awaitable[None]],
    progress: Progress = silent,
) -> None:
    """Hand each selected call to `take`, with what it comes to now. Inside a transaction only.

    flush   called now and then, when the connection is free for it
    """
    total = await queries.rerating.how_many.value(
        conn, since=selection.since, until=selection.until, call_ids=selection.call_ids
    )
    origins = Origins(await load_origin_sets(conn))
    thaw, done = Thaw(), 0
    sell, buy = "sell" in selection.sides, "buy" in selection.sides
    async for rows in queries.rerating.recorded.batches(conn, CHUNK, **selection.asked()):
        for row in rows:
            call = Recorded._make(row)
            at = call.admitted_at
            sell_deck = buy_deck = None
            try:
                sold = thaw(call.sell)
                bought = None if call.buy is None else thaw(call.buy)
            except (DeckError, ValueError):
                take(call, Skip.unreadable)
                continue
            if sell:
                sell_deck = prices.known("sell", sold, at) or await prices.load("sell", sold, at)
            if buy and bought is not None:
                buy_deck = prices.known("buy", bought, at) or await prices.load("buy", bought, at)
            take(call, reprice(call, sold, bought, sell_deck, buy_deck, origins))
        await flush()
        done += len(rows)
        progress("pricing calls", done, max(done, total))
