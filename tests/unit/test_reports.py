"""Rules of reports and bills: ratios of nothing, percentiles, what is hidden, widths, charts that repeat."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.errors import Invalid
from bridge.reports import chart
from bridge.reports.bill import Booking, Call, Sum, Used, bill, shown, tax_of
from bridge.reports.measure import Money, Quality, costs_apart, fold, movers, percentile_ms, share, total
from bridge.reports.period import before, of_days, of_month
from bridge.reports.report import Ask, Report, report
from bridge.telling.report import tell_report

AT = datetime(2026, 10, 5, 12, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def test_a_ratio_of_nothing_is_none() -> None:
    idle = Quality("", 0, 0, 0, 0, 0, {})
    assert (idle.asr, idle.ner, idle.acd_ms, idle.pdd_ms_p50) == (None, None, None, None)
    lost = Quality("", 4, 0, 4, 0, 0, {})
    assert (lost.asr, lost.ner, lost.acd_ms) == (0, 0, None)
    assert Money("", "EUR").margin_permyriad is None
    assert Money("", "EUR", cost_micro=5).margin_permyriad is None


@pytest.mark.parametrize(
    ("part", "whole", "said"), [(2, 3, 6667), (-1, 3, -3333), (5, 5, 10_000), (1, -3, None)]
)
def test_shares_are_rounded_half_up(part: int, whole: int, said: int | None) -> None:
    assert share(part, whole) == said


def test_percentiles_are_of_the_nearest_rank() -> None:
    steps = dict.fromkeys(range(100), 1)
    assert (percentile_ms(steps, 50), percentile_ms(steps, 95), percentile_ms({7: 3}, 95)) == (
        2475,
        4725,
        375,
    )


def test_totals_add_each_currency_and_every_step() -> None:
    rows = [
        Money("a", "EUR", calls=1, gross_micro=5),
        Money("b", "EUR", calls=2),
        Money("b", "USD", cost_micro=3),
    ]
    assert [(one.currency, one.calls, one.gross_micro, one.cost_micro) for one in total(rows, "")] == [
        ("EUR", 3, 5, 0), ("USD", 0, 0, 3),
    ]  # fmt: skip
    (both,) = total([Quality("a", 1, 1, 1, 1, 5, {2: 1}), Quality("b", 2, 0, 2, 1, 0, {2: 1, 9: 1})], "")
    assert (both.seizures, both.pdd) == (3, {2: 2, 9: 1})


def test_calls_without_a_currency_are_counted_with_the_main_one() -> None:
    rows = [Money("a", "EUR", calls=3), Money("a", "XXX", calls=2), Money("b", "XXX", calls=1)]
    assert [(one.key, one.currency, one.calls) for one in fold(rows)] == [("a", "EUR", 5), ("b", "EUR", 1)]
    assert [(one.currency, one.calls) for one in fold(rows[1:2])] == [("", 2)]


def test_movers_are_by_how_much_they_moved() -> None:
    now = [
        Money("up", "EUR", gross_micro=10),
        Money("same", "EUR", gross_micro=7),
        Money("new", "EUR", gross_micro=3),
    ]
    was = [
        Money("up", "EUR", gross_micro=2),
        Money("same", "EUR", gross_micro=7),
        Money("gone", "EUR", gross_micro=90),
    ]
    found = movers(now, was)
    assert [(one.key, one.change_micro, one.change_permyriad) for one in found] == [
        ("gone", -90, -10_000), ("up", 8, 40_000), ("new", 3, None),
    ]  # fmt: skip


def test_periods_end_where_days_do() -> None:
    week = of_days(date(2026, 10, 24), date(2026, 10, 26), BERLIN)
    assert week.until - week.since == timedelta(hours=73)
    assert before(week).label == "2026-10-21 to 2026-10-23"
    assert before(of_month("2026-01", BERLIN)).label == "2025-12"
    assert of_days(date(2026, 2, 1), date(2026, 2, 28), BERLIN) == of_month("2026-02", BERLIN)
    for first, last in (
        (date(2026, 2, 2), date(2026, 2, 1)),
        (date(1, 1, 1), date(1, 1, 2)),
        (date(2020, 1, 1), date(2026, 1, 1)),
    ):
        with pytest.raises(Invalid):
            of_days(first, last, BERLIN)


def call(
    number: str | None, gross: int, *, covered_s: int = 0, purpose: str = "retail", kept: bool = True
) -> Call:
    return Call(AT, number, "Germany", 60_000, 60, covered_s, gross, 190_000, purpose, "first", kept)


def test_what_may_not_be_recognised_is_one_sum_with_what_is_free() -> None:
    calls = [
        call("+493023125010", 119),
        call("+498001110111", 0),  # counselling
        call("+49116123", 238),  # and where it costs something, too
        call("+493023125011", 0, purpose="on-net"),
        call("+493023125012", 0, covered_s=60, purpose="bundle"),
        call(None, 50, kept=False),
        call("+493023125013", 0, purpose="destination", covered_s=60),
    ]
    made = bill(
        calls, [Used(AT, "sms", 1, 1, 9)], [Booking(AT, "top_up", 1000, None)], Sum(1, 4), numbers="short",
        protected=frozenset({"+49116123", "+498001110111"}), balance=(0, 580),
    )  # fmt: skip
    assert [one.number for one in made.lines] == ["+493023125010", "+493023125012"]
    assert (made.unlisted.calls, made.unlisted.gross_micro) == (4, 238)
    assert (made.gone.calls, made.gone.gross_micro) == (1, 50)
    assert made.calls_micro == 407 == sum(one.gross_micro for one in made.lines) + 238 + 50
    assert made.balance is not None and made.balance.shift_micro == 580 - (1000 - 407 - 9 - 4)


@pytest.mark.parametrize(
    ("number", "short"), [("+493023125010", "+493023125xxx"), ("115", "xxx"), ("11", "xx"), ("", "")]
)
def test_the_last_three_digits_are_gone(number: str, short: str) -> None:
    assert shown(number, "short") == short
    assert shown(number, "full") == number


def test_messages_and_data_say_the_tax_in_them() -> None:
    used = [
        Used(AT, "sms", 1, 1, 1_190, 190_000),
        Used(AT, "data", 1, 1, 1_071, 190_000),
        Used(AT, "data", 1, 1, 70),
    ]
    made = bill([], used, [], Sum(), numbers="short", protected=frozenset(), balance=None)
    assert (made.used_micro, dict(made.used_taxes)) == (2_331, {190_000: (2_261, 361), 0: (70, 0)})


def test_a_reversal_takes_back_the_same_tax() -> None:
    assert all(tax_of(-gross, 190_000) == -tax_of(gross, 190_000) for gross in range(0, 2000, 7))


def _report(name: str) -> Report:
    ask = Ask(of_month("2026-10", BERLIN), "destination")
    row = {"destination": name, "currency": "EUR", "revenue": "1234.567890", "percent": None, "tax": "1.00"}
    return Report("margin", ask, tuple(row), [row], [row | {"destination": "total"}])


@pytest.mark.parametrize("width", [10, 40, 60, 200])
def test_a_table_is_as_wide_as_the_terminal_and_loses_no_digit(width: int) -> None:
    told = tell_report(_report("Türkiye [bold]mobile[/] " * 4), width)
    assert "1234.57" in told and "–" in told
    table = told.splitlines()[1:-1]
    assert max(len(line.rstrip()) for line in table if "left out" not in line) <= max(width, 40)


def test_a_terminal_obeys_no_name() -> None:
    assert "\x1b" not in tell_report(_report("\x1b[2Jevil"), 100)


def test_charts_are_the_same_bytes_each_time() -> None:
    days = [chart.Day(date(2026, 10, 1), 5, None, None), chart.Day(date(2026, 10, 2), 7, 50.0, 99.0, 3, 2)]
    hostile = [("$x^{y}$ <script>\u202e\x00", Decimal(5)), ("名前" * 30, Decimal(-3))]
    for one in (
        chart.quality_by_day(days), chart.margin_bars(hostile, "EUR", "de"), chart.hours_of_week({}),
        chart.minutes_by_day([]), chart.money_by_day(days, "EUR"),
    ):  # fmt: skip
        first = chart.render(one, "svg")
        assert first == chart.render(one, "svg")
        assert b"<script" not in first and b"dc:date" not in first
    assert chart.render(chart.minutes_by_day(days), "png").startswith(b"\x89PNG")


async def test_a_report_that_is_none_asks_no_database() -> None:
    with pytest.raises(Invalid, match="by day"):
        await report(None, "traffic", Ask(of_month("2026-10", BERLIN), "'; DROP TABLE cdr"))  # type: ignore[arg-type]


def test_a_cost_in_a_currency_of_its_own_is_named() -> None:
    sums = [Money("", "EUR", gross_micro=9, cost_micro=3), Money("", "USD", cost_micro=2), Money("", "CHF")]
    assert costs_apart(sums) == ["USD"]
    assert costs_apart(sums[:1]) == []
