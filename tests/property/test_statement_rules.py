"""Statements of any month: lines add up, their order and their way through JSON change nothing, bookings balance."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

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
from bridge.partners.settlement import PARTNER, accrued, postings
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
from bridge.partners.statement_line import Kind

FROM, TO = month("2026-10", "Europe/Berlin")
BUNDLES = (UUID(int=1), UUID(int=2))
AMOUNTS = st.integers(-(10**12), 10**12)
CURRENCIES = st.sampled_from(["EUR", "USD", "GBP"])
FX = (
    Rate("USD", "EUR", date(2026, 10, 31), 917_000_001),
    Rate("EUR", "GBP", date(2026, 10, 29), 861_234_567),
)
LATE_KINDS = frozenset(
    {CARRIAGE, "destination", "on-net", *(f"share of {one.value}" for one in Basis),
     *(f"funding of {one.hex}" for one in BUNDLES)}
)  # fmt: skip


@st.composite
def wholesale(draw: st.DrawFn) -> Wholesale:
    starts = sorted({0, *draw(st.lists(st.integers(1, 500), max_size=4))})
    return Wholesale(
        tuple(Step(start, draw(st.integers(0, 10**6))) for start in starts), draw(st.sampled_from(Mode))
    )


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    return Terms(
        draw(st.none() | wholesale()),
        tuple(Share(draw(st.integers(0, 10_000)), of) for of in draw(st.sets(st.sampled_from(Basis)))),
        draw(st.none() | st.builds(Commitment, st.integers(0, 10**12), st.integers(0, 10**5))),
        ZeroRated(("49800",) if draw(st.booleans()) else (), (ON_NET,) if draw(st.booleans()) else ()),
        tuple(
            Funding(one, "S", draw(st.integers(0, 10_000))) for one in draw(st.sets(st.sampled_from(BUNDLES)))
        ),
    )


@st.composite
def records(draw: st.DrawFn, parts: int) -> RecordSum:
    leg = draw(st.sampled_from(["termination", "origination", "usage", "zero_cost"]))
    no = draw(st.integers(LATE, parts - 1))
    signed = st.integers(-(10**6), 10**6) if no == LATE else st.integers(0, 10**6)
    return RecordSum(
        leg,
        no,
        draw(st.sampled_from(["retail", "destination", "on-net", "bundle"])),
        draw(CURRENCIES),
        draw(st.sampled_from([0, 70_000, 190_000])),
        draw(st.sampled_from(["x", "y"])) if leg == "termination" else "",
        draw(signed),
        draw(signed),
        draw(AMOUNTS),
    )


@st.composite
def months(draw: st.DrawFn) -> Inputs:
    days = draw(st.sampled_from([(31,), (14, 17), (0, 31), (10, 11, 10)]))
    parts = tuple(Part(no, FROM, TO, of, draw(st.booleans()), draw(terms())) for no, of in enumerate(days))
    bought = st.builds(
        PurchaseSum, st.integers(LATE, len(days) - 1), st.sampled_from([one.hex for one in BUNDLES]), CURRENCIES,
        st.integers(-9, 9), AMOUNTS,
    )  # fmt: skip
    outcome = st.builds(
        Outcome, st.just("dsp_1"), st.text(max_size=5), CURRENCIES, st.sampled_from(["x", "z"]), AMOUNTS
    )
    return Inputs(
        month="2026-10",
        time_zone="Europe/Berlin",
        from_at=FROM,
        to_at=TO,
        last_day=date(2026, 10, 31),
        currency="EUR",
        parts=parts,
        late=draw(st.sampled_from([LATE_KINDS, frozenset()])),
        records=tuple(draw(st.lists(records(len(days)), max_size=8))),
        purchases=tuple(draw(st.lists(bought, max_size=4))),
        fx=FX,
        outcomes=tuple(draw(st.lists(outcome, max_size=2))),
    )


def one_part(deal: Wholesale, billed_s: int) -> Inputs:
    """A month in which so much was carried under one version."""
    carried = RecordSum("termination", 0, "wholesale", "EUR", 0, "x", 1, billed_s, 0)
    parts = (Part(1, FROM, TO, 31, True, Terms(deal)),)
    return Inputs("2026-10", "Europe/Berlin", FROM, TO, date(2026, 10, 31), "EUR", parts, records=(carried,))


def whole_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        return all(whole_numbers(one) for one in value.values())
    if isinstance(value, list):
        return all(whole_numbers(one) for one in value)
    return not isinstance(value, float)


@given(months())
def test_what_is_booked_balances_and_is_the_statement(inputs: Inputs) -> None:
    lines = lines_of(inputs)
    sums: Counter[str] = Counter()
    for one in (booked := postings(inputs, lines)):
        sums[one.currency] += one.amount_micro
    assert not any(sums.values())
    assert sum(one.amount_micro for one in booked if one.account == PARTNER) == total_micro(lines)
    assert total_micro(lines) == sum(line.amount_micro for line in lines)
    for (account, currency), amount in accrued(inputs).items():
        assert [one.amount_micro for one in booked if (one.account, one.currency) == (account, currency)] == [
            -amount
        ]


@given(months(), st.randoms())
def test_neither_order_nor_json_changes_a_line(inputs: Inputs, chance: Any) -> None:
    kept = json.loads(json.dumps(inputs.to_json()))
    assert whole_numbers(kept)
    assert lines_of(Inputs.from_json(kept)) == lines_of(inputs)
    for name in ("records", "purchases", "fx", "outcomes"):
        chance.shuffle(kept[name])
    shuffled = Inputs.from_json(kept)
    assert lines_of(shuffled) == lines_of(inputs)
    assert shuffled.to_json() == inputs.to_json()
    assert all(whole_numbers(dict(line.detail)) for line in lines_of(inputs))


@given(months())
def test_a_sum_in_two_halves_is_the_same_sum(inputs: Inputs) -> None:
    """However the records were grouped, the lines are the same."""
    halves = []
    for one in inputs.records:
        first, second = one.amount_micro // 3, one.billed_s // 2
        fields = (one.leg, one.part, one.purpose, one.currency, one.tax_ppm, one.account_id)
        halves.append(RecordSum(*fields, one.calls, second, first))
        halves.append(RecordSum(*fields, 0, one.billed_s - second, one.amount_micro - first))
    split = replace(inputs, records=tuple(halves))
    assert lines_of(split) == lines_of(inputs)


@given(st.integers(0, 10**6), st.integers(0, 10**9))
def test_one_step_is_the_same_in_both_ways(rate_micro: int, billed_s: int) -> None:
    steps = (Step(0, rate_micro),)
    totals = {total_micro(lines_of(one_part(Wholesale(steps, mode), billed_s))) for mode in Mode}
    assert totals == {Wholesale(steps).due_micro(billed_s)}


@given(wholesale(), st.integers(0, 10**6))
def test_lines_of_steps_come_to_what_is_due(deal: Wholesale, billed_s: int) -> None:
    lines = lines_of(one_part(deal, billed_s))
    assert total_micro(lines) == deal.due_micro(billed_s)
    assert sum(line.quantity for line in lines) == billed_s
    assert all(line.kind is Kind.WHOLESALE for line in lines)
