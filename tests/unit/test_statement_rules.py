"""Statements on examples that were worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from bridge.errors import Conflict, Invalid
from bridge.partners.deal import (
    ON_NET,
    Basis,
    Commitment,
    Funding,
    Mode,
    Share,
    Step,
    Terms,
    Wholesale,
    ZeroRated,
)
from bridge.partners.month import month
from bridge.partners.settlement import PARTNER, Posting, postings
from bridge.partners.statement import lines_of, total_micro
from bridge.partners.statement_inputs import (
    CARRIAGE,
    LATE,
    Inputs,
    Outcome,
    Part,
    PurchaseSum,
    Rate,
    RecordSum,
)
from bridge.partners.statement_line import Kind, Line
from bridge.partners.statement_parts import Agreed, parts_of

ZONE = ZoneInfo("Europe/Berlin")
FROM, TO = month("2026-10", "Europe/Berlin")
STEPS = (Step(0, 10_000), Step(100, 8_000), Step(1_000, 5_000))
BUNDLE = UUID(int=7)


def part(terms: Terms, *, days: int = 31, version: int = 1, carries: bool = True) -> Part:
    return Part(version, FROM, TO, days, carries, terms)


def inputs(terms: Terms, *records: RecordSum, **more: Any) -> Inputs:
    given = {"parts": (part(terms),), "records": records} | more
    return Inputs("2026-10", "Europe/Berlin", FROM, TO, date(2026, 10, 31), "EUR", **given)


def carried(billed_s: int, amount_micro: int = 0, *, no: int = 0, currency: str = "EUR") -> RecordSum:
    return RecordSum("termination", no, "wholesale", currency, 0, "carrier", 1, billed_s, amount_micro)


def used(amount_micro: int, *, tax_ppm: int = 0, no: int = 0, currency: str = "EUR") -> RecordSum:
    return RecordSum("origination", no, "retail", currency, tax_ppm, "", 1, 60, amount_micro)


def bought(amount_micro: int, *, purchases: int = 1, no: int = 0, tax_ppm: int = 0) -> PurchaseSum:
    return PurchaseSum(no, BUNDLE.hex, "EUR", purchases, amount_micro, tax_ppm)


def told(lines: tuple[Line, ...]) -> list[tuple[str, int, int]]:
    return [(line.kind.value, line.quantity, line.amount_micro) for line in lines]


def test_each_step_of_a_marginal_deal_is_a_line() -> None:
    made = lines_of(inputs(Terms(Wholesale(STEPS)), carried(1_500 * 60)))
    assert [(line.quantity // 60, line.rate_micro, line.amount_micro) for line in made] == [
        (100, 10_000, 1_000_000),
        (900, 8_000, 7_200_000),
        (500, 5_000, 2_500_000),
    ]


def test_whole_is_one_line_at_the_step_reached() -> None:
    made = lines_of(inputs(Terms(Wholesale(STEPS, Mode.WHOLE)), carried(1_500 * 60)))
    assert [(line.quantity, line.rate_micro, line.amount_micro) for line in made] == [
        (90_000, 5_000, 7_500_000)
    ]


def test_steps_go_on_where_the_version_before_has_stopped() -> None:
    """150 minutes by the first version, 100 more by the second: minutes 150 to 250 of the month."""
    parts = (
        part(Terms(Wholesale(STEPS)), days=14),
        part(Terms(Wholesale((Step(0, 9_000), Step(200, 6_000)))), days=17, version=2),
    )
    made = lines_of(inputs(Terms(), carried(150 * 60), carried(100 * 60, no=1), parts=parts))
    assert [(line.quantity // 60, line.amount_micro) for line in made] == [
        (100, 1_000_000), (50, 400_000), (50, 450_000), (50, 300_000),
    ]  # fmt: skip
    assert made[0].title.endswith("days 1 to 14") and made[3].title.endswith("days 15 to 31")


def test_without_wholesale_terms_traffic_is_settled_at_cost() -> None:
    made = lines_of(inputs(Terms(), carried(600, 123_456)))
    assert told(made) == [("wholesale", 600, 123_456)]
    assert lines_of(inputs(Terms(), carried(600, 123_456), parts=(part(Terms(), carries=False),))) == ()


def test_a_share_is_of_revenue_net_of_each_tax() -> None:
    terms = Terms(revenue_share=(Share(2_500, Basis.RETAIL_REVENUE), Share(1_000, Basis.BUNDLE_SALES)))
    records = (used(1_190_000, tax_ppm=190_000), used(1_190_000, tax_ppm=190_000), used(500_000))
    made = lines_of(inputs(terms, *records, purchases=(bought(20_000_000), bought(-5_000_000, purchases=-1))))
    # bundle_sales first, as they are sorted: 10 % of 15, then 25 % of 2 + 0.5
    assert [(line.base_micro, line.amount_micro) for line in made] == [
        (15_000_000, 1_500_000),
        (2_500_000, 625_000),
    ]


def test_bundles_are_shared_and_funded_net_of_their_tax() -> None:
    """Two at 11.90 with 19 % in it, one of them given back, one at 5.00 of a plan without tax: 10 + 5 net."""
    terms = Terms(
        revenue_share=(Share(1_000, Basis.BUNDLE_SALES),), bundle_funding=(Funding(BUNDLE, "S", 4_000),)
    )
    sold = (
        bought(23_800_000, purchases=2, tax_ppm=190_000), bought(-11_900_000, purchases=-1, tax_ppm=190_000),
        bought(5_000_000),
    )  # fmt: skip
    made = lines_of(inputs(terms, purchases=sold))
    assert [(line.base_micro, line.quantity, line.amount_micro) for line in made] == [
        (15_000_000, 0, 1_500_000), (15_000_000, 2, -6_000_000),
    ]  # fmt: skip
    assert [one["net"] for one in made[1].detail["revenue"]] == ["5.00", "10.00"]


def test_net_is_rounded_once_a_tax_rate() -> None:
    """Three times 0.10 is 0.30 gross, 0.252101 net; each by itself would be 0.252102."""
    terms = Terms(revenue_share=(Share(10_000, Basis.RETAIL_REVENUE),))
    made = lines_of(inputs(terms, *[used(100_000, tax_ppm=190_000)] * 3))
    assert [line.amount_micro for line in made] == [252_101]


@pytest.mark.parametrize(
    ("commitment", "billed_s", "lines"),
    [
        (Commitment(amount_micro=1_000_000), 60 * 60, [(0, 400_000)]),
        (Commitment(amount_micro=600_000), 60 * 60, []),
        (Commitment(minutes=100), 60 * 60, [(2_400, 400_000)]),
        (Commitment(1_200_000, 100), 60 * 60, [(2_400, 400_000), (0, 200_000)]),
        (Commitment(900_000, 100), 60 * 60, [(2_400, 400_000)]),
        (Commitment(minutes=200), 0, [(12_000, 1_800_000)]),  # 100 at 0.01 and 100 at 0.008
    ],
)
def test_what_is_short_of_a_commitment(
    commitment: Commitment, billed_s: int, lines: list[tuple[int, int]]
) -> None:
    made = lines_of(inputs(Terms(Wholesale(STEPS), commitment=commitment), carried(billed_s)))
    assert [(one.quantity, one.amount_micro) for one in made if one.kind is Kind.SHORTFALL] == lines


def test_a_commitment_of_half_a_month_is_half_by_days() -> None:
    """31 000 000 for 14 of 31 days, 62 000 000 for 17: 14 + 34 = 48 million, less what the traffic came to."""
    parts = (
        part(Terms(Wholesale(STEPS), commitment=Commitment(31_000_000)), days=14),
        part(Terms(Wholesale(STEPS), commitment=Commitment(62_000_000)), days=17, version=2),
    )
    made = lines_of(inputs(Terms(), carried(60 * 60), parts=parts))
    assert made[-1].amount_micro == 48_000_000 - 600_000


def test_minutes_without_a_rate_are_short_at_the_average_cost() -> None:
    terms = Terms(commitment=Commitment(minutes=20))
    made = lines_of(inputs(terms, carried(600, 300_000)))
    assert told(made) == [("wholesale", 600, 300_000), ("shortfall", 600, 300_000)]
    assert told(lines_of(inputs(terms))) == [("shortfall", 1_200, 0)]


def test_what_the_partner_pays_is_negative() -> None:
    terms = Terms(zero_rated=ZeroRated(("49800",), (ON_NET,)), bundle_funding=(Funding(BUNDLE, "S", 5_000),))
    records = (
        RecordSum("origination", 0, "destination", "EUR", 0, "", 3, 180, 0),
        RecordSum("zero_cost", 0, "destination", "EUR", 0, "", 3, 180, 90_000),
        RecordSum("origination", 0, "on-net", "EUR", 0, "", 2, 120, 0),
    )
    made = lines_of(inputs(terms, *records, purchases=(bought(9_990_000, purchases=2),)))
    assert told(made) == [
        ("bundle_funding", 2, -4_995_000), ("zero_rated", 180, -90_000), ("zero_rated", 120, 0),
    ]  # fmt: skip
    assert [line.purpose for line in made] == ["", "destination", "on-net"]
    assert [line.detail["calls"] for line in made[1:]] == [3, 2]


def test_late_records_and_corrections_stand_apart_and_count_once() -> None:
    terms = Terms(Wholesale(STEPS), (Share(5_000, Basis.RETAIL_REVENUE),))
    late = frozenset({CARRIAGE, "share of retail_revenue"})
    records = (carried(150 * 60), carried(-60, no=LATE), used(1_000_000), used(-200_000, no=LATE))
    made = lines_of(inputs(terms, *records, late=late))
    assert told(made)[2:] == [
        ("revenue_share", 0, 500_000), ("correction", -60, -8_000), ("correction", 0, -100_000),
    ]  # fmt: skip
    assert total_micro(made) == 1_000_000 + 400_000 + 500_000 - 8_000 - 100_000
    # In another deal's statement they count.
    assert len(lines_of(inputs(terms, *records))) == 3


def test_other_currencies_come_at_the_rate_of_the_last_day() -> None:
    dollars = carried(600, 1_000_001, currency="USD")
    noted = Rate("USD", "EUR", date(2026, 10, 30), 900_000_000)
    assert told(lines_of(inputs(Terms(), dollars, fx=(noted,)))) == [("wholesale", 600, 900_001)]
    inverse = Rate("EUR", "USD", date(2026, 10, 31), 1_250_000_000)
    assert total_micro(lines_of(inputs(Terms(), dollars, fx=(inverse,)))) == 800_001
    with pytest.raises(
        Invalid, match=r"USD to EUR .*2026-10-31.*callbridge fx set USD EUR RATE --on 2026-10-31"
    ):
        lines_of(inputs(Terms(), dollars))


def test_what_is_booked_moves_what_was_accrued() -> None:
    terms = Terms(Wholesale(STEPS), zero_rated=ZeroRated(("49800",)))
    records = (
        carried(6_000, 700_000),
        carried(6_000, 1_000_000, currency="USD"),
        RecordSum("zero_cost", 0, "destination", "EUR", 0, "", 1, 60, 50_000),
    )
    frozen = inputs(
        terms, *records, fx=(Rate("USD", "EUR", date(2026, 10, 31), 900_000_000),),
        outcomes=(Outcome("dsp_1", "Rate of March", "EUR", "carrier", 25_000),),
    )  # fmt: skip
    made = lines_of(frozen)
    assert total_micro(made) == 1_000_000 + 800_000 - 50_000 + 25_000
    assert set(postings(frozen, made)) == {
        Posting(PARTNER, 1_775_000, "EUR"),
        Posting("carrier", -725_000, "EUR"),
        Posting("carrier", -1_000_000, "USD"),
        Posting("exchange", 1_000_000, "USD"),
        Posting("exchange", -900_000, "EUR"),
        Posting("cost", -200_000, "EUR"),
        Posting("revenue", 50_000, "EUR"),
    }
    assert postings(inputs(terms), ()) == ()


def test_what_a_dispute_ended_with_is_not_booked_twice() -> None:
    """On the partner's own account it stands already; elsewhere it moves there."""
    frozen = inputs(Terms(), outcomes=(Outcome("dsp_1", "Rate of March", "EUR", "", -25_000),))
    assert (total_micro(lines_of(frozen)), postings(frozen, lines_of(frozen))) == (-25_000, ())
    frozen = inputs(Terms(), outcomes=(Outcome("dsp_1", "Rate of March", "EUR", "carrier", -25_000),))
    assert set(postings(frozen, lines_of(frozen))) == {
        Posting(PARTNER, -25_000, "EUR"),
        Posting("carrier", 25_000, "EUR"),
    }


def agreed(deal: str, terms: Terms, begin: datetime, end: datetime | None = None, version: int = 1) -> Agreed:
    return Agreed(deal, f"deal {deal}", version, begin, end, terms)


LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
WHOLESALE = Terms(Wholesale(STEPS))


def test_a_version_in_the_middle_parts_the_month_by_local_days() -> None:
    """From midnight UTC on, which is two in the morning: the day counts for the new terms."""
    cut = datetime(2026, 10, 15, tzinfo=UTC)
    both = [agreed("a", WHOLESALE, LONG_AGO, cut), agreed("a", Terms(), cut, version=2)]
    parts, late = parts_of("a", both, FROM, TO, ZONE)
    assert [(one.version, one.days, one.carries) for one in parts] == [(1, 14, True), (2, 17, True)]
    assert (parts[0].from_at, parts[0].until_at, parts[1].until_at) == (FROM, cut, TO)
    assert CARRIAGE in late


def test_before_a_deal_began_its_partners_traffic_is_at_cost() -> None:
    parts, _ = parts_of("a", [agreed("a", WHOLESALE, FROM + timedelta(days=9))], FROM, TO, ZONE)
    assert [(one.version, one.days, one.carries) for one in parts] == [(0, 9, True), (1, 22, True)]
    assert parts[0].terms == Terms()


def test_traffic_is_settled_by_one_deal() -> None:
    share = Terms(revenue_share=(Share(100, Basis.RETAIL_REVENUE),))
    cut = FROM + timedelta(days=10)
    deals = [agreed("a", share, LONG_AGO), agreed("b", WHOLESALE, cut)]
    first, late_a = parts_of("a", deals, FROM, TO, ZONE)
    second, late_b = parts_of("b", deals, FROM, TO, ZONE)
    assert [one.carries for one in first] == [True, False]
    assert [one.carries for one in second] == [False, True]
    assert late_a == frozenset({"share of retail_revenue"}) and late_b == frozenset({CARRIAGE})


def test_two_deals_do_not_say_two_things_at_a_time() -> None:
    cut = FROM + timedelta(days=10)
    with pytest.raises(Conflict, match=r"'deal a' and 'deal b'.*carriage"):
        parts_of("a", [agreed("a", WHOLESALE, LONG_AGO), agreed("b", WHOLESALE, cut)], FROM, TO, ZONE)
    parts, _ = parts_of(
        "a", [agreed("a", WHOLESALE, LONG_AGO, cut), agreed("b", WHOLESALE, cut)], FROM, TO, ZONE
    )
    assert [one.carries for one in parts] == [True, False]


def test_inputs_come_back_from_their_json() -> None:
    frozen = inputs(
        WHOLESALE, carried(1), purchases=(bought(5),), fx=(Rate("USD", "EUR", date(2026, 10, 31), 5),),
        outcomes=(Outcome("dsp_1", "x", "EUR", "", 1),), late=frozenset({CARRIAGE}),
    )  # fmt: skip
    assert Inputs.from_json(frozen.to_json()) == frozen
    with pytest.raises(ValueError, match="format"):
        Inputs.from_json(frozen.to_json() | {"format": 2})
    assert replace(frozen, records=()) != frozen
