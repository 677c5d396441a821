"""The charts of a period's figures, by name. Loads matplotlib: for commands and processes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from bridge.errors import Invalid
from bridge.reports import chart
from bridge.reports.chart import Chart, Day
from bridge.reports.gathering import Gathered
from bridge.reports.measure import total
from bridge.reports.writing import NOTHING, Language
from bridge.telephony.money import MICRO

NAMES: Final = ("minutes", "quality", "hours", "margin", "money")
OURS: Final = frozenset({"margin", "money"})  # not for partners


def picture(gathered: Gathered, name: str, language: Language) -> Chart:
    """One of NAMES. raises Invalid"""
    if name not in NAMES or (gathered.partner is not None and name in OURS):
        known = [one for one in NAMES if gathered.partner is None or one not in OURS]
        raise Invalid(f"there is no chart {name[:20]!r}. Known: {', '.join(known)}")
    sums = gathered.totals()
    currency = sums[0].currency if sums else "EUR"
    days = _days(gathered, currency)
    match name:
        case "minutes":
            return chart.minutes_by_day(days, language)
        case "quality":
            return chart.quality_by_day(days, language)
        case "hours":
            return chart.hours_of_week(_hours(gathered), language)
        case "money":
            return chart.money_by_day(days, currency, language)
    margins = [
        (one.key or NOTHING, Decimal(one.margin_micro) / MICRO)
        for one in gathered.money["destination"]
        if one.currency == currency and (one.net_micro or one.cost_micro)
    ]
    return chart.margin_bars(margins, currency, language)


def pictures(gathered: Gathered, language: Language) -> Mapping[str, str]:
    """All that a report has, as texts of SVG."""
    names = [one for one in NAMES if gathered.partner is None or one not in OURS]
    return {name: chart.render(picture(gathered, name, language), "svg").decode() for name in names}


def _days(gathered: Gathered, currency: str) -> list[Day]:
    """A carrier without subscribers of its own is shown what its trunks carried."""
    money = {one.key: one for one in gathered.money["day"] if one.currency == currency}
    talk = {key: _minutes(gathered, "day", key) for key in {one.key for one in gathered.money["day"]}}
    quality = {one.key: one for one in gathered.quality["day"]}
    found = []
    for day in gathered.period.days():
        key = day.isoformat()
        seen, paid = quality.get(key), money.get(key)
        asr, ner = (seen.asr, seen.ner) if seen else (None, None)
        found.append(
            Day(
                day,
                talk.get(key, 0),
                None if asr is None else asr / 100,
                None if ner is None else ner / 100,
                paid.net_micro / MICRO if paid else 0,
                paid.cost_micro / MICRO if paid else 0,
            )
        )
    return found


def _hours(gathered: Gathered) -> dict[str, float]:
    """Mean minutes of each hour of the week; the hour that a clock change repeats counts twice."""
    often = gathered.period.hours_of_week()
    return {key: _minutes(gathered, "week_hour", key) / times for key, times in often.items()}


def _minutes(gathered: Gathered, by: str, key: str) -> float:
    sums = total((one for one in gathered.money[by] if one.key == key), "")
    talk = sum(one.talk_ms for one in sums)
    carried = sum(one.carried_s for one in sums)
    only_carries = gathered.partner is not None and not any(one.calls for one in gathered.money["day"])
    return carried / 60 if only_carries else talk / 60_000
