"""What a carrier's new prices would cost us more, and from when on.

A carrier may lower a price at once; what rises has to be announced. A price rises where any part of it does, and also
where calls fall to a dearer prefix: a longer one that is new, or a shorter one that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from bridge.errors import DeckError
from bridge.rating.rate import Rate

_EVER: Final = datetime(1, 1, 1, tzinfo=UTC)
PIECES_MAX: Final = (
    1_000  # of a prefix and all shorter ones; each time of one is compared with each of the others
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One rate of a deck for some time, as it stands before an import, after it, or both.

    begins, ends   aware; None: ever, and for ever
    row            of the file, where the import adds it; 0: it was there
    """

    rate: Rate
    begins: datetime | None
    ends: datetime | None
    before: bool
    after: bool
    row: int = 0

    def holds(self, at: datetime) -> bool:
        return (self.begins is None or self.begins <= at) and (self.ends is None or at < self.ends)


@dataclass(frozen=True, slots=True)
class Rise:
    """Something gets dearer. row: of the file; 0: a row that is not in it does it, by its absence."""

    row: int
    prefix: str
    at: datetime
    what: str


Chain: TypeAlias = "Sequence[_Node]"


@dataclass(slots=True)
class _Node:
    """The pieces of one prefix by origin set."""

    prefix: str
    pieces: dict[str, list[Piece]] = field(default_factory=dict)


@dataclass(slots=True)
class Rises:
    """Finds every rise, the first of each prefix and kind of caller, while pieces come in.

    memory   a price that ended no longer ago still counts: ending it first, and then asking more, is a rise, too
    """

    now: datetime
    memory: timedelta
    _chain: list[_Node] = field(default_factory=list)

    def add(self, piece: Piece) -> list[Rise]:
        """One more: all of each prefix that changes and of all shorter ones of it, in the order of their prefixes."""
        found: list[Rise] = []
        prefix = piece.rate.prefix
        if not self._chain or self._chain[-1].prefix != prefix:
            found = self.end()
            while self._chain and not prefix.startswith(self._chain[-1].prefix):
                self._chain.pop()
            self._chain.append(_Node(prefix))
        self._chain[-1].pieces.setdefault(piece.rate.origin_set, []).append(piece)
        return found

    def end(self) -> list[Rise]:
        """What the prefix that came last makes dearer."""
        if not self._chain:
            return []
        changed = {
            origin_set
            for origin_set, own in self._chain[-1].pieces.items()
            if any(piece.before != piece.after for piece in own)
        }
        callers = {name for one in self._chain for name in one.pieces} | {""} if "" in changed else changed
        found = (_first_rise(self._chain, name, self.now, self.memory) for name in sorted(callers))
        return [rise for rise in found if rise is not None]


def _first_rise(chain: Chain, origin_set: str, now: datetime, memory: timedelta) -> Rise | None:
    names = [origin_set, ""] if origin_set else [""]
    own = [piece for node in chain for name in names for piece in node.pieces.get(name, ())]
    if len(own) > PIECES_MAX:
        problem = (
            f"{chain[-1].prefix} has more than {PIECES_MAX:,} times with a price of their own. Write fewer"
        )
        raise DeckError(problem, column="prefix")
    for at in sorted(
        {edge for piece in own for edge in (piece.begins or _EVER, piece.ends) if edge is not None}
    ):
        old, new = _in_force(chain, names, at, "before"), _in_force(chain, names, at, "after")
        if old is new:
            continue
        was = old.rate if old and not old.rate.blocked else _remembered(own, at, memory)
        if was is None:
            continue
        row = new.row if new else 0
        if new is None or new.rate.blocked:
            if at < now and old is not None and not old.rate.blocked:
                return Rise(row, chain[-1].prefix, at, "ends in the past")
            continue
        if what := dearer(was, new.rate):
            return Rise(row, chain[-1].prefix, at, what)
    return None


def _in_force(chain: Chain, names: Sequence[str], at: datetime, side: str) -> Piece | None:
    """What prices a call to the chain's last prefix at this instant."""
    for node in reversed(chain):
        for name in names:
            for piece in node.pieces.get(name, ()):
                if getattr(piece, side) and piece.holds(at):
                    return piece
    return None


def _remembered(own: Iterable[Piece], at: datetime, memory: timedelta) -> Rate | None:
    """The price that was in force last, unless that is long ago."""
    ended = [
        (piece.ends, len(piece.rate.prefix), piece.rate)
        for piece in own
        if piece.before and not piece.rate.blocked and piece.ends and at - memory < piece.ends <= at
    ]
    return max(ended, key=lambda one: one[:2])[2] if ended else None


def dearer(was: Rate, now: Rate) -> str:
    """Which part of a price rises; empty: none.

    >>> rate = Rate("", "", "49", "Germany", "EUR", 90_000, initial_s=60, next_s=6)
    >>> dearer(rate, Rate("", "", "49", "Germany", "EUR", 80_000, initial_s=60, next_s=60))
    'the increment rises from 60/6 to 60/60'
    """
    starts = sorted({0, *(tier.from_s for tier in (*was.tiers, *now.tiers))})
    costs = [(was.price_at(at, at + 1)[:2], now.price_at(at, at + 1)[:2]) for at in starts]
    told = (
        (any(new[0] > old[0] for old, new in costs), "the rate rises"),
        (now.connect_fee_micro > was.connect_fee_micro, "the connection fee rises"),
        (
            now.initial_s > was.initial_s or any(new[1] > old[1] for old, new in costs),
            f"the increment rises from {increments(was)} to {increments(now)}",
        ),
        (now.minimum_s > was.minimum_s, f"the minimum rises from {was.minimum_s} to {now.minimum_s} s"),
        (now.grace_s < was.grace_s, f"the free seconds fall from {was.grace_s} to {now.grace_s}"),
    )
    return next((what for is_so, what in told if is_so), "")


def increments(rate: Rate) -> str:
    """
    >>> from bridge.rating.rate import Tier
    >>> increments(Rate("", "", "49", "Germany", "EUR", 9, initial_s=60, next_s=6, tiers=(Tier(180, 9, 1),)))
    '60/6/1'
    """
    return "/".join(map(str, (rate.initial_s, rate.next_s, *(tier.next_s for tier in rate.tiers))))
