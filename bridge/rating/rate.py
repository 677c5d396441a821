"""A rate: the price of one prefix, in one deck."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.errors import DeckError
from bridge.rating.columns import check_known, check_whole, shown
from bridge.telephony.money import check_currency

# A thousand million units of the currency. A call of two days at this, taxed at 100 % and with its last block a day
# long, still fits a Postgres bigint of micro-units.
PRICE_MICRO_MAX: Final = 10**15
SPAN_S_MAX: Final = 86_400  # increments, minimum and grace are at most a day
TALK_S_MAX: Final = 2**31 - 1

_PREFIX: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tier:
    """From this second of talk on, counted from the answer, the call costs this a minute, in blocks of `next_s`."""

    from_s: int
    rate_micro: int
    next_s: int

    def __post_init__(self) -> None:
        check_whole(self.from_s, 1, TALK_S_MAX, "tiers")
        check_whole(self.rate_micro, 0, PRICE_MICRO_MAX, "tiers")
        check_whole(self.next_s, 1, SPAN_S_MAX, "tiers")


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one prefix. Immutable, and complete enough to re-price a call years later.

    prefix             digits without +, 1 to 15
    rate_micro         per minute, micro-units of `currency`, at most PRICE_MICRO_MAX
    connect_fee_micro  once per answered call, at most PRICE_MICRO_MAX
    initial_s, next_s  the increments of "60/6": first block, each further block; 1 to SPAN_S_MAX
    minimum_s          shorter answered calls are billed as this long
    blocked            calls to this prefix are not carried
    grace_s            talk up to this long is free; longer talk is billed whole
    origin_set         the rate is for callers of this set of A-number prefixes; "": for every caller
    tiers              later prices within a call, by ascending `from_s`
    raises             DeckError naming the column and the fix
    """

    rate_id: str
    deck_id: str
    prefix: str
    destination: str
    currency: str
    rate_micro: int
    connect_fee_micro: int = 0
    initial_s: int = 60
    next_s: int = 60
    minimum_s: int = 0
    blocked: bool = False
    grace_s: int = 0
    origin_set: str = ""
    tiers: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            raise DeckError(
                f"{self.prefix[:20]!r} is not a prefix. Write 1 to 15 digits, without +", column="prefix"
            )
        try:
            check_currency(self.currency)
        except ValueError as wrong:
            raise DeckError(str(wrong), column="currency") from None
        check_whole(self.rate_micro, 0, PRICE_MICRO_MAX, "rate_micro")
        check_whole(self.connect_fee_micro, 0, PRICE_MICRO_MAX, "connect_fee_micro")
        check_whole(self.initial_s, 1, SPAN_S_MAX, "initial_s")
        check_whole(self.next_s, 1, SPAN_S_MAX, "next_s")
        check_whole(self.minimum_s, 0, SPAN_S_MAX, "minimum_s")
        check_whole(self.grace_s, 0, SPAN_S_MAX, "grace_s")
        starts = [tier.from_s for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise DeckError(f"{starts} do not ascend. Write each later tier once, in order", column="tiers")

    def price_at(self, talk_s: int, end_s: int) -> tuple[int, int, int]:
        """What a block that begins at this second of talk costs a minute, how long it is, and until when that holds.

        returns  rate_micro, next_s, and the begin of the next tier, at most `end_s`
        """
        rate_micro, next_s = self.rate_micro, self.next_s
        for tier in self.tiers:
            if tier.from_s > talk_s:
                return rate_micro, next_s, min(tier.from_s, end_s)
            rate_micro, next_s = tier.rate_micro, tier.next_s
        return rate_micro, next_s, end_s

    def to_json(self) -> dict[str, Any]:
        """As frozen with a call: everything a charge needs, and where it came from."""
        kept: dict[str, Any] = {
            "rate_id": self.rate_id,
            "deck_id": self.deck_id,
            "prefix": self.prefix,
            "destination": self.destination,
            "currency": self.currency,
            "rate_micro": self.rate_micro,
            "connect_fee_micro": self.connect_fee_micro,
            "initial_s": self.initial_s,
            "next_s": self.next_s,
            "minimum_s": self.minimum_s,
        }
        if self.blocked:
            kept["blocked"] = True
        if self.grace_s:
            kept["grace_s"] = self.grace_s
        if self.origin_set:
            kept["origin_set"] = self.origin_set
        if self.tiers:
            kept["tiers"] = [[tier.from_s, tier.rate_micro, tier.next_s] for tier in self.tiers]
        return kept

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> Rate:
        """The inverse of `to_json`; DeckError when a column is missing, unknown or wrong."""
        try:
            if "tiers" in frozen:
                return cls(**{**frozen, "tiers": _tiers(frozen["tiers"])})
            return cls(**frozen)
        except TypeError as wrong:
            check_known(frozen, cls.__slots__)
            raise DeckError(f"not a frozen rate: {wrong}") from None


def _tiers(rows: Any) -> tuple[Tier, ...]:
    try:
        return tuple(Tier(*row) for row in rows)
    except TypeError:
        problem = f"{shown(rows)} are not tiers. Write each as [from_s, rate_micro, next_s]"
        raise DeckError(problem, column="tiers") from None
