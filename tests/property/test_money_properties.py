from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Context, Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from bridge.telephony.money import Money, Rounding, divide, format_micro, parse_micro

AMOUNTS = st.integers(-(10**18) + 1, 10**18 - 1)
DECIMAL_RULES = {
    Rounding.HALF_UP: ROUND_HALF_UP,
    Rounding.HALF_EVEN: ROUND_HALF_EVEN,
    Rounding.UP: ROUND_UP,
    Rounding.DOWN: ROUND_DOWN,
}


@given(st.integers(-(10**24), 10**24), st.integers(1, 10**9), st.sampled_from(Rounding))
def test_divide_agrees_with_decimal(numerator: int, denominator: int, rounding: Rounding) -> None:
    with localcontext(Context(prec=200)):
        # 200 digits hold so much of the fraction that no near-half is mistaken for a half.
        expected = (Decimal(numerator) / Decimal(denominator)).to_integral_value(DECIMAL_RULES[rounding])
    assert divide(numerator, denominator, rounding) == int(expected)


@given(st.integers(), st.integers(1), st.sampled_from(Rounding))
def test_a_reversal_mirrors_its_booking(numerator: int, denominator: int, rounding: Rounding) -> None:
    quotient = divide(numerator, denominator, rounding)
    assert divide(-numerator, denominator, rounding) == -quotient
    assert abs(quotient * denominator - numerator) < denominator


@given(AMOUNTS, st.integers(0, 6))
def test_format_and_parse_are_inverse(amount_micro: int, places_min: int) -> None:
    text = format_micro(amount_micro, places_min)
    assert parse_micro(text) == amount_micro
    assert Decimal(text) * 10**6 == amount_micro


@given(st.text())
def test_parse_never_guesses(text: str) -> None:
    try:
        amount_micro = parse_micro(text)
    except ValueError:
        return
    assert amount_micro == Decimal(text) * 10**6


@given(AMOUNTS, AMOUNTS)
def test_what_is_added_can_be_taken_away(first: int, second: int) -> None:
    one, other = Money(first, "EUR"), Money(second, "EUR")
    assert one + other - other == one
    assert one - other == -(other - one)
