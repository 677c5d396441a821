from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.rating.charge import affordable_ms, charge
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff

DAY_MS = 86_400_000


def rate(rate_micro: int, **columns: Any) -> Tariff:
    return Tariff(Rate("r1", "d1", "49", "Germany", "EUR", rate_micro, **columns))


NINE_CENTS = rate(90_000)
BY_THE_SECOND = rate(90_000, initial_s=1, next_s=1)
THIRTY_SIX = rate(90_000, initial_s=30, next_s=6)
WITH_FEE = rate(60_000, connect_fee_micro=50_000, initial_s=1, next_s=1)
WITH_MINIMUM = rate(60_000, initial_s=6, next_s=6, minimum_s=20)


@pytest.mark.parametrize(
    ("price", "talk_ms", "billed_s", "amount_micro"),
    [
        (NINE_CENTS, 0, 0, 0),
        (NINE_CENTS, 1, 60, 90_000),
        (NINE_CENTS, 60_000, 60, 90_000),
        (NINE_CENTS, 60_001, 120, 180_000),
        (NINE_CENTS, DAY_MS, 86_400, 129_600_000),
        (BY_THE_SECOND, 1_000, 1, 1_500),
        (BY_THE_SECOND, 1_001, 2, 3_000),
        (THIRTY_SIX, 30_000, 30, 45_000),
        (THIRTY_SIX, 30_001, 36, 54_000),
        (THIRTY_SIX, 36_000, 36, 54_000),
        (THIRTY_SIX, 36_001, 42, 63_000),
        (WITH_FEE, 0, 0, 0),
        (WITH_FEE, 1, 1, 51_000),
        (WITH_MINIMUM, 1, 24, 24_000),
        (WITH_MINIMUM, 24_000, 24, 24_000),
        (WITH_MINIMUM, 24_001, 30, 30_000),
        (rate(0, initial_s=1, next_s=1), 5_000, 5, 0),
        (rate(29, initial_s=1, next_s=1), 1_000, 1, 0),  # 0.483 rounds down
        (rate(30, initial_s=1, next_s=1), 1_000, 1, 1),  # exactly a half rounds up
        (rate(31, initial_s=1, next_s=1, connect_fee_micro=1), 2_000, 2, 2),
    ],
)
def test_charge(price: Tariff, talk_ms: int, billed_s: int, amount_micro: int) -> None:
    made = charge(price, talk_ms)
    assert (made.billed_s, made.amount_micro, made.currency) == (billed_s, amount_micro, "EUR")


def test_a_leg_cannot_end_before_its_answer() -> None:
    with pytest.raises(ValueError, match="cannot end before"):
        charge(NINE_CENTS, -1)


def test_the_steps_tell_the_whole_arithmetic() -> None:
    price = rate(60_000, connect_fee_micro=50_000, initial_s=6, next_s=6, minimum_s=20)
    assert [step.text for step in charge(price, 4_321).steps] == [
        "4.321 s of talk, begun seconds count: 5 s",
        "at least 20 s",
        "6/6: 24 s billed",
        "connect fee 0.05",
        "24 s at 0.06 a minute",
        "0.074 EUR",
    ]


def test_steps_that_change_nothing_are_not_told() -> None:
    assert [step.name for step in charge(NINE_CENTS, 1).steps] == ["talk", "increments", "minutes", "total"]
    assert [step.name for step in charge(WITH_FEE, 0).steps] == ["unanswered"]


def test_a_charge_is_json() -> None:
    made = charge(WITH_FEE, 1_500)
    told = json.loads(json.dumps(made.to_json()))
    assert Tariff.from_json(told["rate"]) == WITH_FEE
    assert (told["talk_ms"], told["billed_s"], told["amount_micro"], told["currency"]) == (
        1_500,
        2,
        52_000,
        "EUR",
    )
    assert told["steps"][-1] == {"name": "total", "text": "0.052 EUR", "amount_micro": 52_000}
    assert "amount_micro" not in told["steps"][0]


@pytest.mark.parametrize(
    ("price", "budget_micro", "talk_ms"),
    [
        (NINE_CENTS, -1, 0),
        (NINE_CENTS, 0, 0),
        (NINE_CENTS, 89_999, 0),
        (NINE_CENTS, 90_000, 60_000),
        (NINE_CENTS, 179_999, 60_000),
        (NINE_CENTS, 180_000, 120_000),
        (NINE_CENTS, 10**15, DAY_MS),
        (THIRTY_SIX, 53_999, 30_000),
        (THIRTY_SIX, 54_000, 36_000),
        (WITH_FEE, 50_000, 0),
        (WITH_FEE, 51_000, 1_000),
        (WITH_MINIMUM, 23_999, 0),
        (WITH_MINIMUM, 24_000, 24_000),
        (rate(0), 0, DAY_MS),
        (rate(0, connect_fee_micro=1), 0, 0),
        (rate(0, connect_fee_micro=1), 1, DAY_MS),
        (
            rate(29, initial_s=1, next_s=1),
            0,
            1_000,
        ),  # a second that rounds to nothing is affordable for nothing
    ],
)
def test_affordable_ms(price: Tariff, budget_micro: int, talk_ms: int) -> None:
    assert affordable_ms(price, budget_micro, cap_ms=DAY_MS) == talk_ms


@pytest.mark.parametrize("cap_ms", [-1, 0, 1, 59_999])
def test_the_cap_holds(cap_ms: int) -> None:
    assert affordable_ms(NINE_CENTS, 10**9, cap_ms=cap_ms) == max(cap_ms, 0)
    assert affordable_ms(rate(0), 10**9, cap_ms=cap_ms) == max(cap_ms, 0)
