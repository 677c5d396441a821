"""What a carrier's new prices make dearer, and from when on. Every way to ask more that is not called an increase."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.rating.notice import Piece, Rise, Rises, dearer
from bridge.rating.rate import Rate, Tier

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)
SOON = NOW + timedelta(days=3)
WEEK = timedelta(days=7)


def rate(prefix: str = "49", rate_micro: int = 10_000, **more: Any) -> Rate:
    return Rate("", "", prefix, "x", "EUR", rate_micro, **more)


def stands(one: Rate, begins: datetime | None = LONG_AGO, ends: datetime | None = None) -> Piece:
    return Piece(one, begins, ends, True, True)


def goes(one: Rate, begins: datetime | None = LONG_AGO, ends: datetime | None = None) -> Piece:
    return Piece(one, begins, ends, True, False)


def comes(one: Rate, begins: datetime | None = NOW, ends: datetime | None = None, row: int = 2) -> Piece:
    return Piece(one, begins, ends, False, True, row)


def found(*pieces: Piece) -> list[Rise]:
    watch, told = Rises(NOW, WEEK), []
    for piece in sorted(pieces, key=lambda one: one.rate.prefix):
        told += watch.add(piece)
    return told + watch.end()


def replaced(old: Rate, new: Rate, at: datetime = NOW) -> list[Piece]:
    """A price that ends as another begins."""
    return [goes(old), Piece(old, LONG_AGO, at, False, True), comes(new, at)]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (rate(), rate(rate_micro=10_001), "the rate rises"),
        (rate(), rate(rate_micro=9_000), ""),
        (rate(), rate(), ""),
        (rate(), rate(rate_micro=1, connect_fee_micro=1), "the connection fee rises"),
        (rate(next_s=6), rate(rate_micro=1, next_s=60), "the increment rises from 60/6 to 60/60"),
        (rate(initial_s=1), rate(rate_micro=1), "the increment rises from 1/60 to 60/60"),
        (rate(), rate(rate_micro=1, minimum_s=30), "the minimum rises from 0 to 30 s"),
        (rate(grace_s=5), rate(rate_micro=1), "the free seconds fall from 5 to 0"),
        (rate(), rate(rate_micro=9_000, tiers=(Tier(180, 20_000, 60),)), "the rate rises"),
        (rate(tiers=(Tier(180, 5_000, 60),)), rate(rate_micro=9_000), "the rate rises"),
        (rate(tiers=(Tier(180, 5_000, 60),)), rate(rate_micro=5_000), ""),
        (rate(), rate(tiers=(Tier(180, 5_000, 600),)), "the increment rises from 60/60 to 60/60/600"),
    ],
)
def test_what_rises(old: Rate, new: Rate, what: str) -> None:
    assert dearer(old, new) == what


def test_a_rise_is_told_with_its_row_and_time() -> None:
    assert found(*replaced(rate(), rate(rate_micro=20_000), SOON)) == [Rise(2, "49", SOON, "the rate rises")]
    assert found(*replaced(rate(), rate(rate_micro=9_000))) == []


def test_lower_now_and_dearer_soon_is_a_rise_then() -> None:
    low, high = rate(rate_micro=5_000), rate(rate_micro=20_000)
    pieces = [
        goes(rate()), Piece(rate(), LONG_AGO, NOW, False, True), comes(low, NOW, SOON), comes(high, SOON, row=3),
    ]  # fmt: skip
    assert found(*pieces) == [Rise(3, "49", SOON, "the rate rises")]


def test_a_longer_prefix_that_is_dearer_is_a_rise() -> None:
    assert found(stands(rate()), comes(rate("4930", 50_000))) == [Rise(2, "4930", NOW, "the rate rises")]
    assert found(stands(rate()), comes(rate("4930", 9_000))) == []
    assert found(stands(rate()), stands(rate("4930", 60_000)), comes(rate("49301", 50_000))) == []


def test_a_cheaper_prefix_that_goes_leaves_a_dearer_one() -> None:
    cheap = rate("4930", 1_000)
    gone = [goes(cheap), Piece(cheap, LONG_AGO, NOW, False, True)]
    assert found(stands(rate()), *gone) == [Rise(0, "4930", NOW, "the rate rises")]
    assert found(stands(rate(rate_micro=500)), *gone) == []
    assert found(*gone) == []  # nobody has to carry calls


def test_a_number_nobody_carried_has_no_price_to_rise_from() -> None:
    assert found(comes(rate(), LONG_AGO)) == []
    assert found(stands(rate("44")), comes(rate("49", 10**9))) == []


def test_what_ended_a_moment_ago_is_remembered() -> None:
    ended = stands(rate(), LONG_AGO, NOW - timedelta(days=6))
    assert found(ended, comes(rate(rate_micro=20_000))) == [Rise(2, "49", NOW, "the rate rises")]
    assert found(ended, comes(rate(rate_micro=10_000))) == []
    assert found(stands(rate(), LONG_AGO, NOW - timedelta(days=8)), comes(rate(rate_micro=20_000))) == []


def test_blocking_and_opening_again_is_no_way_round() -> None:
    shut = rate(blocked=True)
    assert found(*replaced(rate(), shut)) == []
    pieces = [
        stands(rate(), LONG_AGO, NOW - timedelta(days=1)),
        goes(shut, NOW - timedelta(days=1)),
        comes(rate(rate_micro=20_000)),
    ]
    assert [one.what for one in found(*pieces)] == ["the rate rises"]


def test_the_past_stays_as_it_was() -> None:
    yesterday = NOW - timedelta(days=1)
    assert found(*replaced(rate(), rate(rate_micro=20_000), yesterday))[0].at == yesterday
    assert [one.what for one in found(goes(rate()))] == ["ends in the past"]


def test_callers_of_a_set_are_looked_at_for_themselves() -> None:
    all_of, eu = rate(), rate(rate_micro=5_000, origin_set="eu")
    dearer_eu = rate(rate_micro=6_000, origin_set="eu")
    told = found(stands(all_of), goes(eu), Piece(eu, LONG_AGO, NOW, False, True), comes(dearer_eu))
    assert [one.what for one in told] == ["the rate rises"]
    # A set that is new is dearer than what held for all
    assert found(stands(all_of), comes(rate(rate_micro=20_000, origin_set="eu"))) != []
    assert found(stands(all_of), comes(rate(rate_micro=2_000, origin_set="eu"))) == []
    # One that goes leaves what holds for all
    assert found(stands(all_of), goes(eu), Piece(eu, LONG_AGO, NOW, False, True)) != []


def test_far_ahead_is_told_too_with_its_time() -> None:
    later = NOW + timedelta(days=90)
    assert [one.at for one in found(*replaced(rate(), rate(rate_micro=20_000), later))] == [later]
