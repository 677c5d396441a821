from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bridge.rating.charge import affordable_ms, charge
from bridge.rating.rate import PRICE_MICRO_MAX, SPAN_S_MAX, Rate, Tier
from bridge.rating.tariff import PLAIN, Band, BandRate, Boundary, Tariff, Tax, Terms, tax_micro
from bridge.telephony.money import Rounding

DAY_MS = 86_400_000


def rate(rate_micro: int, **columns: Any) -> Tariff:
    return Tariff(Rate("r1", "d1", "49", "Germany", "EUR", rate_micro, **columns))


NINE_CENTS = rate(90_000)
BY_THE_SECOND = rate(90_000, initial_s=1, next_s=1)
THIRTY_SIX = rate(90_000, initial_s=30, next_s=6)
WITH_FEE = rate(60_000, connect_fee_micro=50_000, initial_s=1, next_s=1)
WITH_MINIMUM = rate(60_000, initial_s=6, next_s=6, minimum_s=20)
WITH_GRACE = rate(60_000, connect_fee_micro=7, initial_s=6, next_s=6, grace_s=3)
TIERED = rate(60_000, tiers=(Tier(120, 30_000, 30), Tier(200, 0, 1)))


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
        (WITH_GRACE, 3_000, 0, 0),
        (WITH_GRACE, 3_001, 6, 6_007),
        (TIERED, 60_001, 120, 120_000),
        (TIERED, 120_001, 150, 135_000),  # a block of the tier, and at its price
        (TIERED, 200_000, 210, 165_000),  # the last block began before the next tier
        (TIERED, 300_000, 300, 165_000),
        (
            rate(60_000, tiers=(Tier(61, 30_000, 1),)),
            121_000,
            121,
            120_500,
        ),  # a tier waits for the block's end
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
        (WITH_GRACE, 0, 3_000),
        (WITH_GRACE, -1, 0),
        (WITH_GRACE, 6_007, 6_000),
        (rate(60_000, initial_s=6, next_s=6, grace_s=10), 6_000, 10_000),
        (TIERED, 134_999, 120_000),
        (TIERED, 135_000, 150_000),
        (TIERED, 165_000, DAY_MS),
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


# ------------------------------------------------------------------ seconds paid by allowances


@pytest.mark.parametrize(
    ("price", "talk_ms", "covered_s", "billed_s", "amount_micro"),
    [
        (NINE_CENTS, 60_000, 60, 0, 0),
        (NINE_CENTS, 60_001, 60, 60, 90_000),
        (NINE_CENTS, 0, 60, 0, 0),
        (WITH_FEE, 61_000, 60, 1, 1_000),  # no connect fee
        (WITH_FEE, 61_000, 0, 61, 111_000),
        (WITH_MINIMUM, 4_000, 4, 0, 0),
        (WITH_MINIMUM, 5_000, 4, 18, 18_000),  # the minimum counts from the answer
        (WITH_GRACE, 3_000, 1, 0, 0),
        (TIERED, 250_000, 180, 70, 30_000),  # so do tiers
    ],
)
def test_allowances_pay_the_first_seconds(
    price: Tariff, talk_ms: int, covered_s: int, billed_s: int, amount_micro: int
) -> None:
    made = charge(price, talk_ms, covered_s=covered_s)
    assert (made.billed_s, made.amount_micro) == (billed_s, amount_micro)


def test_what_allowances_pay_is_affordable_without_money() -> None:
    assert affordable_ms(NINE_CENTS, 0, cap_ms=DAY_MS, covered_s=75) == 75_000
    assert affordable_ms(NINE_CENTS, 90_000, cap_ms=DAY_MS, covered_s=75) == 135_000
    assert affordable_ms(NINE_CENTS, 90_000, cap_ms=100_000, covered_s=75) == 100_000
    assert affordable_ms(WITH_MINIMUM, 17_999, cap_ms=DAY_MS, covered_s=4) == 4_000


def test_seconds_are_not_covered_before_the_answer() -> None:
    with pytest.raises(ValueError, match="covered_s -1"):
        charge(NINE_CENTS, 1, covered_s=-1)


# ------------------------------------------------------------------ terms


@pytest.mark.parametrize(
    ("terms", "amount_micro", "tax"),
    [
        (PLAIN, 90_000, 0),
        (Terms(tax=Tax.INCLUSIVE, tax_ppm=190_000), 90_000, 14_370),
        (Terms(tax=Tax.EXCLUSIVE, tax_ppm=190_000), 107_100, 17_100),
        (Terms(tax=Tax.EXCLUSIVE, tax_ppm=190_000, quantum_micro=10_000), 110_000, 17_563),
        (Terms(quantum_micro=20_000), 100_000, 0),  # 4.5 quanta
        (Terms(quantum_micro=20_000, rounding=Rounding.HALF_EVEN), 80_000, 0),
        (Terms(quantum_micro=20_000, rounding=Rounding.DOWN), 80_000, 0),
        (Terms(quantum_micro=70_000, rounding=Rounding.UP), 140_000, 0),
    ],
)
def test_the_terms_of_an_amount(terms: Terms, amount_micro: int, tax: int) -> None:
    made = charge(Tariff(NINE_CENTS.rate, 1, terms), 1)
    assert (made.amount_micro, made.tax_micro, tax_micro(made.amount_micro, terms)) == (
        amount_micro,
        tax,
        tax,
    )


def test_tax_and_price_are_rounded_together() -> None:
    # 0.4 + 0.4 micro-units are 0.8: rounded apart they would be nothing.
    taxed = Tariff(rate(24, initial_s=1, next_s=1).rate, 1, Terms(tax=Tax.EXCLUSIVE, tax_ppm=1_000_000))
    assert charge(taxed, 1_000).amount_micro == 1


def test_the_dearest_call_fits_a_bigint() -> None:
    dearest = rate(
        PRICE_MICRO_MAX,
        connect_fee_micro=PRICE_MICRO_MAX,
        initial_s=SPAN_S_MAX,
        next_s=SPAN_S_MAX,
        minimum_s=SPAN_S_MAX,
    )
    taxed = Tariff(dearest.rate, 1, Terms(tax=Tax.EXCLUSIVE, tax_ppm=1_000_000, quantum_micro=10**9))
    assert 5 * 10**18 < charge(taxed, DAY_MS + 1).amount_micro < 2**63
    assert charge(taxed, 2 * DAY_MS + 1).amount_micro < 2**63


# ------------------------------------------------------------------ bands, and both nights in which clocks change

EVERY_DAY = frozenset(range(8))
SUMMER_BEGINS = datetime(2026, 3, 29, tzinfo=UTC)  # in Berlin 02:00 is 03:00, at 01:00 UTC
SUMMER_ENDS = datetime(2026, 10, 25, tzinfo=UTC)  # in Berlin 03:00 is 02:00, at 01:00 UTC
HOUR_MS = 3_600_000


def by_band(from_minute: int, to_minute: int, days: frozenset[int] = EVERY_DAY, **terms: Any) -> Tariff:
    """6 cents a minute, 3 in the band, in Berlin."""
    band = Band("cheap", days, from_minute, to_minute)
    return Tariff(
        rate(60_000).rate,
        1,
        Terms(time_zone="Europe/Berlin", **terms),
        (BandRate(band, rate(30_000).rate),),
    )


SUNDAY = by_band(0, 1440, frozenset({6}))


@pytest.mark.parametrize(
    ("price", "answered_at", "talk_ms", "amount_micro"),
    [
        # 01:30 to 02:00 cheap, then it is 03:00
        (by_band(0, 150), SUMMER_BEGINS + timedelta(minutes=30), HOUR_MS, 30 * 30_000 + 30 * 60_000),
        # begins at 02:30, which that night skips: at 03:00
        (by_band(150, 240), SUMMER_BEGINS + timedelta(minutes=30), 2 * HOUR_MS, 60 * 60_000 + 60 * 30_000),
        # wholly in the skipped hour: never
        (by_band(125, 175), SUMMER_BEGINS, 4 * HOUR_MS, 240 * 60_000),
        # 02:00 to 02:30 comes twice
        (by_band(0, 150), SUMMER_ENDS, 2 * HOUR_MS, 60 * 30_000 + 60 * 60_000),
        # begins at 02:30, ends half an hour later with the clock's change, begins again
        (by_band(150, 240), SUMMER_ENDS, 2 * HOUR_MS, 60 * 60_000 + 60 * 30_000),
        # wholly in the doubled hour: twice
        (by_band(125, 175), SUMMER_ENDS - timedelta(hours=1), 4 * HOUR_MS, 140 * 60_000 + 100 * 30_000),
        # a Sunday of 23 hours, and one of 25
        (SUNDAY, SUMMER_BEGINS - timedelta(hours=1), 30 * HOUR_MS, 23 * 1_800_000 + 7 * 3_600_000),
        (SUNDAY, SUMMER_ENDS - timedelta(hours=2), 30 * HOUR_MS, 25 * 1_800_000 + 5 * 3_600_000),
        # the band at the answer stays, whatever the clock does
        (by_band(0, 150, boundary=Boundary.ANSWER), SUMMER_BEGINS + timedelta(minutes=30), HOUR_MS, 60 * 30_000),
        (by_band(0, 150, boundary=Boundary.ANSWER), SUMMER_ENDS + timedelta(minutes=45), HOUR_MS, 60 * 60_000),
    ],
)  # fmt: skip
def test_bands_follow_the_wall_clock_and_blocks_real_time(
    price: Tariff, answered_at: datetime, talk_ms: int, amount_micro: int
) -> None:
    made = charge(price, talk_ms, answered_at=answered_at)
    assert (made.billed_s, made.amount_micro) == (talk_ms // 1000, amount_micro)
    local = answered_at.astimezone(price.terms.zone)
    assert charge(price, talk_ms, answered_at=local).amount_micro == amount_micro, "the same instant"


@pytest.mark.parametrize(
    ("answered", "amount_micro"),
    [
        ("2026-11-18 17:58:00", 2 * 60_000 + 30_000),  # the third block begins at 18:00
        ("2026-11-18 17:57:59.999999", 3 * 60_000),  # a microsecond before
        ("2026-11-18 17:59:30", 60_000 + 2 * 30_000),  # a block that has begun keeps its price
    ],
)
def test_a_block_is_priced_where_it_begins(answered: str, amount_micro: int) -> None:
    price = by_band(18 * 60, 1440)
    answered_at = datetime.fromisoformat(answered).replace(tzinfo=price.terms.zone)
    assert charge(price, 180_000, answered_at=answered_at).amount_micro == amount_micro


def test_a_band_has_increments_and_a_fee_of_its_own() -> None:
    base = rate(60_000, connect_fee_micro=1, initial_s=60, next_s=60, minimum_s=90)
    night = rate(30_000, connect_fee_micro=2, initial_s=30, next_s=10, grace_s=5)
    band = Band("night", EVERY_DAY, 20 * 60, 6 * 60)
    price = Tariff(base.rate, 1, PLAIN, (BandRate(band, night.rate),))
    before = datetime(2026, 11, 18, 19, 59, 30, tzinfo=UTC)
    # 60 s from the base; what follows begins at 20:00:30 and is laid in tens
    assert charge(price, 75_000, answered_at=before).billed_s == 60 + 30
    assert charge(price, 75_000, answered_at=before).amount_micro == 1 + 60_000 + 30 * 500
    assert charge(price, 4_000, answered_at=before).amount_micro == 1 + 60_000 + 30 * 500
    within = before + timedelta(minutes=1)
    assert charge(price, 5_000, answered_at=within).amount_micro == 0
    assert charge(price, 31_000, answered_at=within).amount_micro == 2 + 40 * 500


def test_a_holiday_is_no_working_day() -> None:
    price = by_band(0, 1440, frozenset({7}), holidays=frozenset({date(2026, 12, 25)}))
    eve = datetime(2026, 12, 24, 22, 30, tzinfo=UTC)  # 23:30 in Berlin
    assert charge(price, HOUR_MS, answered_at=eve).amount_micro == 30 * 60_000 + 30 * 30_000


@pytest.mark.parametrize("answered_at", [None, datetime(2026, 1, 1)])  # noqa: DTZ001
def test_bands_need_to_know_when_the_call_was_answered(answered_at: datetime | None) -> None:
    price = by_band(0, 300)
    with pytest.raises(ValueError, match="when the call was answered"):
        charge(price, 1, answered_at=answered_at)
    with pytest.raises(ValueError, match="when the call was answered"):
        affordable_ms(price, 1, cap_ms=1, answered_at=answered_at)
    assert charge(price, 0).amount_micro == 0, "never answered"


# ------------------------------------------------------------------ the explanation


def test_bands_tiers_tax_and_rounding_are_told() -> None:
    night = rate(30_000, tiers=(Tier(7_200, 10_000, 1),))
    price = Tariff(
        rate(61_000, connect_fee_micro=50_000).rate,
        1,
        Terms(time_zone="Europe/Berlin", tax=Tax.EXCLUSIVE, tax_ppm=190_000, quantum_micro=10_000),
        (BandRate(Band("night", EVERY_DAY, 0, 360), night.rate),),
    )
    answered_at = SUMMER_ENDS - timedelta(hours=2, minutes=10)  # 23:50
    made = charge(price, 2 * HOUR_MS + 15_500, answered_at=answered_at)
    assert [(step.name, step.text, step.amount_micro) for step in made.steps] == [
        ("talk", "7215.5 s of talk, begun seconds count: 7216 s", None),
        ("increments", "60/60/1: 7216 s billed", None),
        ("connect", "connect fee 0.05", 50_000),
        ("minutes", "600 s at 0.061 a minute, seconds 1 to 600, outside the bands 23:50:00 CEST to 00:00:00 CEST",
         610_000),
        ("minutes", "6600 s at 0.03 a minute, seconds 601 to 7200, night 00:00:00 CEST to 01:50:00 CEST", 3_300_000),
        ("minutes", "16 s at 0.01 a minute, seconds 7201 to 7216, night 01:50:00 CEST to 01:50:16 CEST", 2_666),
        ("tax", "plus 19 % tax: 0.753613", 753_613),
        ("rounding", "rounded half up to 0.01", 3_721),
        ("total", "4.72 EUR", 4_720_000),
    ]  # fmt: skip


def test_free_and_covered_talk_is_told() -> None:
    assert [step.text for step in charge(WITH_GRACE, 2_000).steps][1:] == ["up to 3 s are free"]
    covered = charge(WITH_FEE, 61_000, covered_s=60)
    assert [step.text for step in covered.steps][1:] == [
        "paid by allowances: 60 s",
        "1: 1 s billed",
        "1 s at 0.06 a minute",
        "0.001 EUR",
    ]
    assert [step.text for step in charge(WITH_FEE, 5_000, covered_s=60).steps][1:] == [
        "paid by allowances: 5 s",
        "0.00 EUR",
    ]


def test_a_fraction_that_is_rounded_away_is_told() -> None:
    steps = charge(rate(31, initial_s=1, next_s=1), 1_000).steps
    assert [(step.text, step.amount_micro) for step in steps][2:] == [
        ("1 s at 0.000031 a minute", 0),
        ("rounded half up to 0.000001", 1),
        ("0.000001 EUR", 1),
    ]


def test_a_fraction_is_carried_from_step_to_step() -> None:
    steps = charge(rate(30, initial_s=1, next_s=1, tiers=(Tier(1, 90, 1),)), 2_000).steps
    assert [(step.text, step.amount_micro) for step in steps][2:] == [
        ("1 s at 0.00003 a minute, seconds 1 to 1", 0),  # a half
        ("1 s at 0.00009 a minute, seconds 2 to 2", 2),  # one and a half
        ("0.000002 EUR", 2),
    ]


def test_contained_tax_is_told_and_not_added() -> None:
    price = Tariff(NINE_CENTS.rate, 1, Terms(tax=Tax.INCLUSIVE, tax_ppm=190_000))
    assert [(step.text, step.amount_micro) for step in charge(price, 1).steps][-2:] == [
        ("contains 19 % tax: 0.01437", None),
        ("0.09 EUR", 90_000),
    ]


def test_the_json_of_a_charge_is_enough_to_price_it_again() -> None:
    price = by_band(0, 150, tax=Tax.INCLUSIVE, tax_ppm=70_000)
    made = charge(price, HOUR_MS, answered_at=SUMMER_ENDS, covered_s=600)
    told = json.loads(json.dumps(made.to_json()))
    again = charge(
        Tariff.from_json(told["rate"]),
        told["talk_ms"],
        answered_at=datetime.fromisoformat(told["answered_at"]),
        covered_s=told["covered_s"],
    )
    assert again == made
    assert told["tax_micro"] == made.tax_micro > 0
    assert charge(NINE_CENTS, 1).to_json()["answered_at"] is None
