"""What a recorded call costs on another deck. Rows and decks in, before and after out: no clock, no database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from bridge.errors import DeckError
from bridge.rating.charge import Charge, charge
from bridge.rating.deck import Deck
from bridge.rating.origin import Origins
from bridge.rating.tariff import Tariff

KNOWN_MAX: Final = 100_000  # distinct tariffs remembered before a memory begins anew


class Skip(StrEnum):
    """Why a call is left as it stands. Nothing is guessed: whoever wants it re-rated mends the reason first."""

    live = "live"  # it has not ended yet
    not_charged = "not_charged"  # refused, unanswered or an emergency call
    unreadable = "unreadable"  # what it was priced by cannot be read
    sell_no_rate = "sell_no_rate"  # no rate for its number, then
    sell_blocked = "sell_blocked"
    sell_currency = "sell_currency"  # the rate is in another currency than the call was booked in
    buy_no_rate = "buy_no_rate"
    buy_blocked = "buy_blocked"
    buy_currency = "buy_currency"
    moved = "moved"  # another run has re-rated it since the preview
    taken_back = "taken_back"  # its booking was reversed or refunded by hand
    account_closed = "account_closed"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Skip.live: "still live",
    Skip.not_charged: "nothing was charged for it",
    Skip.unreadable: "what it was priced by cannot be read",
    Skip.sell_no_rate: "the sell deck has no rate for its number at that time",
    Skip.sell_blocked: "the sell deck blocks its number at that time",
    Skip.sell_currency: "the sell deck is in another currency",
    Skip.buy_no_rate: "the buy deck has no rate for its number at that time",
    Skip.buy_blocked: "the buy deck blocks its number at that time",
    Skip.buy_currency: "the buy deck is in another currency",
    Skip.moved: "another run was quicker: preview again",
    Skip.taken_back: "its booking was reversed or refunded by hand: undo that first",
    Skip.account_closed: "its account is closed",
}
_OF_SELL: Final = (Skip.sell_no_rate, Skip.sell_blocked, Skip.sell_currency)
_OF_BUY: Final = (Skip.buy_no_rate, Skip.buy_blocked, Skip.buy_currency)


class Recorded(NamedTuple):
    """An answered call as it stands: the columns of the query `recorded`, in its order.

    covered_s   talk paid by allowances, seconds from the answer
    revision    0: as it was booked at its end
    transfer_id what stands in the ledger for it; None: nothing
    sell, buy   the frozen tariffs as JSON; buy None: no carrier took part
    """

    call_id: UUID
    account_id: UUID
    a_number: str
    b_number: str
    admitted_at: datetime
    answered_at: datetime
    talk_ms: int
    covered_s: int
    revision: int
    transfer_id: UUID | None
    sell: str
    billed_s: int
    amount_micro: int
    buy: str | None
    buy_billed_s: int
    cost_micro: int


class Repriced(NamedTuple):
    """What a call comes to now, beside what it is priced by as it stands. None: that side stays as it is."""

    call: Recorded
    sold: Tariff
    bought: Tariff | None
    sell: Charge | None
    buy: Charge | None

    @property
    def amount_micro(self) -> int:
        return self.call.amount_micro if self.sell is None else self.sell.amount_micro

    @property
    def cost_micro(self) -> int:
        return self.call.cost_micro if self.buy is None else self.buy.amount_micro

    @property
    def changed(self) -> bool:
        """Whether money moves. Another version of the same price moves none."""
        return self.amount_micro != self.call.amount_micro or self.cost_micro != self.call.cost_micro


class Differences:
    """Which columns of the tariffs are other ones now, such as "sell rate_micro, buy prefix rate_micro"."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Tariff, Tariff, str]] = {}

    def __call__(self, found: Repriced) -> str:
        sell = self._of(found.sold, found.sell.tariff) if found.sell else ""
        buy = self._of(found.bought, found.buy.tariff) if found.bought and found.buy else ""
        return ", ".join(f"{side} {columns}" for side, columns in (("sell", sell), ("buy", buy)) if columns)

    def _of(self, one: Tariff, other: Tariff) -> str:
        # By identity: comparing tariffs costs more than pricing by them. What is known keeps them alive.
        known = self._known.get((id(one), id(other)))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[id(one), id(other)] = (one, other, differing(one, other))
        return known[2]


class DeckThen:
    """A deck with the rates in force from `since` to `until` (exclusive; None: without end on that side).

    deck   None: it is gone, and prices nothing
    """

    __slots__ = ("_deck", "_known", "_length", "origin_sets", "since", "until")

    def __init__(
        self, deck: Deck | None, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        self._deck, self.since, self.until = deck, since, until
        decks = () if deck is None else (deck, *(band_deck for _, band_deck in deck.bands))
        self.origin_sets = frozenset().union(*(one.origin_sets for one in decks))
        # Digits after the longest prefix cannot matter, so what is found holds for many numbers. The last four bits
        # of an encoded prefix are its length.
        self._length = max((key & 15 for one in decks for key in one.keys), default=0)
        self._known: dict[tuple[str, tuple[str, ...]], Tariff | None] = {}

    def covers(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)

    def tariff(self, b_number: str, origins: tuple[str, ...]) -> Tariff | None:
        """What a call to a number (with +) is priced by."""
        key = (b_number[1 : self._length + 1], origins)
        if key not in self._known:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[key] = None if self._deck is None else self._deck.tariff(*key)
        return self._known[key]


class Thaw:
    """Frozen tariffs by their text: each distinct one is read once."""

    def __init__(self) -> None:
        self._known: dict[str, Tariff] = {}

    def __call__(self, frozen: str) -> Tariff:
        """raises   DeckError, ValueError: it cannot be read"""
        try:
            return self._known[frozen]
        except KeyError:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            kept = json.loads(frozen)
            if not isinstance(kept, dict):
                raise DeckError("not a frozen tariff") from None
            tariff = self._known[frozen] = Tariff.from_json(kept)
            return tariff


def reprice(
    call: Recorded,
    sold: Tariff,
    bought: Tariff | None,
    sell_deck: DeckThen | None,
    buy_deck: DeckThen | None,
    origins: Origins,
) -> Repriced | Skip:
    """Charge and cost of one call on other decks.

    sold, bought          what it stands priced by
    sell_deck, buy_deck   as they were in force when the call was admitted; None: that side stays as it is. So does
                          the sell side of a call that was free, on-net or to a zero-rated destination
    origins               every origin set
    """
    sell = buy = None
    if sell_deck is not None and not sold.zero_rated:
        priced = _price(sell_deck, sold, call, origins, call.covered_s, _OF_SELL)
        if isinstance(priced, Skip):
            return priced
        sell = priced
    if buy_deck is not None and bought is not None:
        priced = _price(buy_deck, bought, call, origins, 0, _OF_BUY)
        if isinstance(priced, Skip):
            return priced
        buy = priced
    return Repriced(call, sold, bought, sell, buy)


def _price(
    deck: DeckThen,
    before: Tariff,
    call: Recorded,
    origins: Origins,
    covered_s: int,
    why_not: Sequence[Skip],
) -> Charge | Skip:
    callers = origins.of(call.a_number[1:]) if deck.origin_sets else ()
    tariff = deck.tariff(call.b_number, callers)
    no_rate, blocked, other_currency = why_not
    if tariff is None:
        return no_rate
    if tariff.rate.blocked:
        return blocked
    if tariff.rate.currency != before.rate.currency:
        return other_currency
    return charge(tariff, call.talk_ms, answered_at=call.answered_at, covered_s=covered_s)


def differing(before: Tariff, after: Tariff) -> str:
    """Columns that price, by name; the rate's id and the version of the deck price nothing."""
    one, other = before.to_json(), after.to_json()
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return " ".join(name for name in names if name not in _ORIGIN)


_ORIGIN: Final = frozenset({"rate_id", "version"})
