"""What a deal may become, and its arithmetic on examples that were worked out by hand."""

from __future__ import annotations

from itertools import product
from uuid import UUID

import pytest

from bridge.partners.deal import (
    TRANSITIONS,
    Basis,
    Commitment,
    Funding,
    Mode,
    Share,
    Step,
    Terms,
    Wholesale,
    ZeroRated,
    format_percent,
    may_become,
    parse_percent,
    permits,
)

STEPS = (Step(0, 10_000), Step(100, 8_000), Step(1_000, 5_000))


def test_states_go_forward_only() -> None:
    allowed = {pair for pair in product(TRANSITIONS, repeat=2) if may_become(*pair)}
    assert allowed == {("draft", "signed"), ("draft", "ended"), ("signed", "ended")}


@pytest.mark.parametrize(
    ("billed_s", "marginal", "whole"),
    [
        (0, 0, 0),
        (1, 167, 167),  # 10 000 / 60, rounded half up
        (100 * 60, 1_000_000, 800_000),  # the 100th minute is the last of the first step
        (100 * 60 - 1, 999_833, 999_833),
        (150 * 60, 1_400_000, 1_200_000),
        (2_000 * 60, 13_200_000, 10_000_000),
    ],
)
def test_steps(billed_s: int, marginal: int, whole: int) -> None:
    assert Wholesale(STEPS).due_micro(billed_s) == marginal
    assert Wholesale(STEPS, Mode.WHOLE).due_micro(billed_s) == whole


@pytest.mark.parametrize(
    "steps",
    [(), (Step(1, 1),), (Step(0, 1), Step(0, 2)), (Step(0, 1), Step(9, 1), Step(5, 1)), (Step(0, -1),)],
)
def test_steps_that_make_no_sense(steps: tuple[Step, ...]) -> None:
    with pytest.raises(ValueError, match=r"steps|range"):
        Wholesale(steps)


def test_shares_round_once_and_mirror() -> None:
    share = Share(1_250, Basis.RETAIL_REVENUE)
    assert [share.due_micro(revenue) for revenue in (8, 4, 3, -4, 10**15)] == [1, 1, 0, -1, 125 * 10**12]


def test_a_commitment_says_what_is_missing() -> None:
    assert Commitment(500, 10).missing(300, 660) == (200, 0)
    assert Commitment(minutes=10).missing(0, 540) == (0, 60)
    with pytest.raises(ValueError, match="amount"):
        Commitment()


@pytest.mark.parametrize("text", ["", "-1", "1.234", "100.01", "1e2", "１２", "1,5", " 1"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        parse_percent(text)


def test_percentages_come_back() -> None:
    assert [parse_percent(format_percent(one)) for one in (0, 5, 1_250, 10_000)] == [0, 5, 1_250, 10_000]


def test_terms_come_back_from_the_database() -> None:
    terms = Terms(
        Wholesale(STEPS, Mode.WHOLE),
        (Share(1_250, Basis.RETAIL_REVENUE), Share(1, Basis.BUNDLE_SALES)),
        Commitment(minutes=7),
        ZeroRated(("49800",), ("sms",)),
        (Funding(UUID(int=7), "weekend", 5_000),),
    )
    assert Terms.from_json(terms.to_json()) == terms
    assert Terms.from_json(Terms().to_json()) == Terms()


def test_what_is_given_away_must_be_paid_for_by_a_deal() -> None:
    deal = Terms(zero_rated=ZeroRated(("49800", "31")))
    net = Terms(zero_rated=ZeroRated(services=("on_net",)))
    assert permits([deal], ["49800", "498001", "31"], on_net_free=False) is None
    assert permits([deal], ["4980"], on_net_free=False) == "4980"
    assert permits([], ["49"], on_net_free=False) == "49"
    assert permits([], [], on_net_free=False) is None
    assert permits([deal], [], on_net_free=True) == "on_net"
    assert permits([deal, net], ["31"], on_net_free=True) is None
