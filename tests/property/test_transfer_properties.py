"""Exchange never gains, however often one goes there and back, and a refund mirrors what was booked."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import NotFound, StoreError
from bridge.ledger.entry import AMOUNT_MICRO_MAX, Entry
from bridge.ledger.exchange import NANO, FxRate, convert, format_rate, known, parse_rate, with_inverses
from bridge.ledger.refund import mirrored, refund_entries

DAY = date(2026, 11, 20)
amounts = st.integers(1, AMOUNT_MICRO_MAX)
nanos = st.integers(1, 10**18 - 1)
currencies = st.sampled_from(("EUR", "USD", "GBP", "CHF"))
rates = st.builds(
    FxRate, currencies, currencies, st.integers(0, 3).map(lambda days: DAY - timedelta(days=days)), nanos
).filter(lambda rate: rate.base != rate.quote)


def consistent(found: list[FxRate]) -> list[FxRate]:
    """What the database lets in: one rate a direction and day, and no gain between the two of a day."""
    kept: dict[tuple[str, str, date], FxRate] = {}
    for rate in found:
        opposite = kept.get((rate.quote, rate.base, rate.valid_on))
        if opposite is None or opposite.rate_nano * rate.rate_nano <= NANO * NANO:
            kept.setdefault((rate.base, rate.quote, rate.valid_on), rate)
    return list(kept.values())


@given(st.lists(rates, max_size=12), amounts)
def test_there_and_back_never_gains(found: list[FxRate], amount_micro: int) -> None:
    table = known(consistent(found))
    for base, quote in table:
        there, _ = convert(amount_micro, base, quote, table)
        back, _ = convert(there, quote, base, table)
        assert back <= amount_micro


@given(st.lists(rates, max_size=12), amounts)
def test_there_and_back_by_the_table_with_inverses_never_gains(
    found: list[FxRate], amount_micro: int
) -> None:
    table = with_inverses(known(consistent(found)))
    for (base, quote), rate_nano in table.items():
        assert rate_nano > 0
        assert amount_micro * rate_nano // NANO * table[quote, base] // NANO <= amount_micro


@given(nanos, amounts, st.booleans())
def test_less_than_a_micro_unit_is_lost(rate_nano: int, amount_micro: int, inverse: bool) -> None:
    rate = FxRate("USD", "EUR", DAY, rate_nano) if inverse else FxRate("EUR", "USD", DAY, rate_nano)
    exact = amount_micro * (Fraction(NANO, rate_nano) if inverse else Fraction(rate_nano, NANO))
    got, used = convert(amount_micro, "EUR", "USD", known([rate]))
    assert used is rate
    assert 0 <= exact - got < 1


@given(st.lists(rates, max_size=12))
def test_the_newest_rate_of_two_currencies_counts(found: list[FxRate]) -> None:
    table = known(consistent(found))
    for rate in found:
        pair = [table[one] for one in ((rate.base, rate.quote), (rate.quote, rate.base)) if one in table]
        assert pair
        assert all(one.valid_on >= rate.valid_on for one in pair)
        assert len({one.valid_on for one in pair}) == 1


def test_rates_are_not_chained() -> None:
    table = known([FxRate("EUR", "USD", DAY, NANO), FxRate("EUR", "GBP", DAY, NANO)])
    with pytest.raises(NotFound, match="callbridge fx set"):
        convert(1, "USD", "GBP", table)
    assert ("USD", "GBP") not in with_inverses(table)


@given(nanos)
def test_a_rate_is_read_as_it_is_written(rate_nano: int) -> None:
    assert parse_rate(format_rate(rate_nano)) == rate_nano


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "+1",
        "1e3",
        "1,08",
        "NaN",
        "inf",
        " 1",
        "1.",
        ".5",
        "1.0000000001",
        "1" * 10,
        "١",
        "1\n",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 1\.0873"):
        parse_rate(text)


signed = st.integers(-AMOUNT_MICRO_MAX, AMOUNT_MICRO_MAX).filter(bool)


@given(signed, amounts | st.none())
def test_a_refund_goes_back_the_way_it_came(booked_micro: int, amount_micro: int | None) -> None:
    cost = (Entry("cost", -abs(booked_micro), "EUR"), Entry("carrier", abs(booked_micro), "EUR"))
    booked = (Entry("who", booked_micro, "EUR"), Entry("revenue", -booked_micro, "EUR"), *cost)
    own, other = refund_entries(booked, frozenset({"who"}), amount_micro)
    assert (own.account_id, other.account_id) == ("who", "revenue")
    assert own.amount_micro == -other.amount_micro
    assert (own.amount_micro > 0) == (booked_micro < 0)
    assert abs(own.amount_micro) == (abs(booked_micro) if amount_micro is None else amount_micro)
    assert [-entry for entry in mirrored(booked)] == list(booked)


@pytest.mark.parametrize(
    ("booked", "says"),
    [
        ((Entry("cost", -5, "EUR"), Entry("carrier", 5, "EUR")), "this transfer has 0"),
        ((Entry("who", -5, "EUR"), Entry("whom", 5, "EUR")), "this transfer has 2"),
        ((Entry("who", -5, "EUR"), Entry("revenue", 4, "EUR"), Entry("tax", 1, "EUR")), "several entries"),
    ],
)
def test_what_has_no_two_sides_is_not_refunded(booked: tuple[Entry, ...], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        refund_entries(booked, frozenset({"who", "whom"}), None)
