"""A plan: what its subscribers pay for calls, at home, abroad, and to whom for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.rating.deck import Deck
from bridge.rating.tariff import Tariff

HOME: Final = "home"
ROAMING: Final = "roaming"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscriber pays by.

    margin_floor_micro  least margin for one minute; negative allows a loss
    roaming_deck        prices calls while the caller is abroad; None: as at home
    zero_rated          destinations that cost nothing, whatever the balance
    on_net_free         so do calls to other subscribers of the same app, at home
    on_net_fallback     whom of these no phone reaches is called over a carrier
    """

    plan_id: str
    name: str
    deck: Deck
    margin_floor_micro: int
    roaming_deck: Deck | None = None
    zero_rated: tuple[str, ...] = ()
    on_net_free: bool = False
    on_net_fallback: bool = False

    def sell(
        self, digits: str, *, zone: str = HOME, on_net: bool = False, origins: Sequence[str] = ()
    ) -> Tariff | None:
        """What a call is sold for, or None where no rate is found. A call that costs nothing has a tariff, too.

        digits   the B-number without +
        on_net   it belongs to a subscriber of the caller's app
        origins  the origin sets of the A-number, the most specific first
        """
        deck = self.roaming_deck if zone == ROAMING and self.roaming_deck is not None else self.deck
        tariff = deck.tariff(digits, origins)
        if tariff is None or tariff.rate.blocked:
            return tariff
        if on_net and self.on_net_free and zone == HOME:
            return tariff.free("on-net")
        if self.zero_rated and digits.startswith(self.zero_rated):
            return tariff.free("destination")
        return tariff
