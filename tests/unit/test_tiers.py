"""Six-second pulses and monthly tiers, and that a deck of 6/6 does the same pulses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rating.charge import charge
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.rating.tiers import Tier, price_micro, pulses, tier_of

TIERS = (Tier(0, 10_000), Tier(6_000, 8_000), Tier(60_000, 5_000))


@pytest.mark.parametrize(
    ("used_s", "talk_ms", "costs_micro"),
    [
        (0, 0, 0),
        (0, 1, 10_000),
        (0, 6_000, 10_000),
        (0, 6_001, 20_000),
        (5_994, 6_000, 10_000),  # it fills the tier, and crosses nothing
        (5_994, 6_001, 16_000),  # wholly at the lower price
        (6_000, 1, 8_000),
        (5_000, 60_000_000, 50_000_000),  # across two tiers
        (59_990, 60_000, 50_000),
    ],
)
def test_a_call_that_crosses_is_wholly_at_the_lower_price(
    used_s: int, talk_ms: int, costs_micro: int
) -> None:
    assert price_micro(TIERS, used_s, talk_ms) == costs_micro


@given(st.integers(0, 100_000), st.integers(0, 10_000_000))
def test_a_longer_call_is_never_charged_by_a_dearer_pulse(used_s: int, talk_ms: int) -> None:
    longer = tier_of(TIERS, used_s, talk_ms + 60_000)
    assert longer.pulse_micro <= tier_of(TIERS, used_s, talk_ms).pulse_micro


@given(st.integers(0, 10_000_000))
def test_a_deck_of_six_and_six_charges_these_pulses(talk_ms: int) -> None:
    tariff = Tariff(Rate("r", "d", "49", "Germany", "EUR", 100_000, initial_s=6, next_s=6))
    assert charge(tariff, talk_ms).amount_micro == pulses(talk_ms) * 10_000


@pytest.mark.parametrize("tiers", [(), (Tier(1, 1),), (Tier(0, 1), Tier(0, 1)), (Tier(0, 1), Tier(5, 2))])
def test_tiers_that_make_no_sense(tiers: tuple[Tier, ...]) -> None:
    with pytest.raises(ValueError, match="tier"):
        tier_of(tiers, 0, 1)
