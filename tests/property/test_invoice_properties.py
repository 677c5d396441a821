"""Whatever the lines are, the arithmetic of EN 16931 holds, and no line is over half a cent from its statement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.exports.invoice import CENT, Extra, Line, difference_micro, line_of, totals_of
from bridge.exports.invoice_rules import broken
from bridge.exports.vat import Treatment
from tests.invoices import invoice

M = 1_000_000
TAXED = (
    Treatment("S", 1900),
    Treatment("S", 700),
    Treatment("S", 1),
    Treatment("AE", 0, "intra_eu"),
)
ARITHMETIC = ("BR-CO-1", "PEPPOL-EN16931-R120", "BR-27", "BR-S-", "BR-AE-0")
amounts = st.integers(-(10**15), 10**15) | st.integers(-20_000, 20_000)


@st.composite
def any_line(draw: st.DrawFn) -> Line:
    seconds = draw(st.integers(-(10**9), 10**9) | st.just(0))
    rate = draw(st.none() | st.integers(-(10**7), 10**7))
    exact = rate is not None and draw(st.booleans())
    amount = (2 * seconds * (rate or 0) + 60) // 120 if exact else draw(amounts)
    per = draw(st.sampled_from((M, 60 * M)))
    return line_of("x", seconds * M, "SEC", rate, amount, draw(st.sampled_from(TAXED)), rate_per_micro=per)


extras = st.builds(Extra, st.just("agreed"), st.integers(0, 10**10), st.sampled_from(TAXED), st.booleans())


@given(st.lists(any_line(), min_size=1, max_size=20), st.lists(extras, max_size=4))
def test_the_arithmetic_holds(found: list[Line], more: list[Extra]) -> None:
    one = invoice(lines=tuple(found), extras=tuple(more))
    totals = totals_of(one)
    assert not [rule for rule in broken(one, totals) if rule.rule.startswith(ARITHMETIC)]
    assert sum(tax.base_cents for tax in totals.taxes) == totals.net_cents
    assert abs(difference_micro(found)) * 2 <= CENT * len(found)
    assert all(line.extended_cents == line.net_cents for line in found)


@given(any_line())
def test_half_a_cent_a_line_at_most(line: Line) -> None:
    assert 2 * abs(line.net_cents * CENT - line.amount_micro) <= CENT
    assert line.price_micro >= 0 and line.per_micro > 0
