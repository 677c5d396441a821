from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bridge.errors import DeckError
from bridge.rating.rate import PRICE_MICRO_MAX, SPAN_S_MAX, Rate, Tier
from bridge.rating.tariff import PLAIN, Band, BandRate, Boundary, Tariff, Tax, Terms
from bridge.telephony.money import Rounding

EVERY_DAY = frozenset(range(8))
NIGHT = Band("night", EVERY_DAY, 22 * 60, 6 * 60)
BERLIN = Terms(time_zone="Europe/Berlin")


def rate(rate_micro: int = 90_000, **columns: Any) -> Rate:
    return Rate("r1", "d1", "49", "Germany", "EUR", rate_micro, **columns)


def again(tariff: Tariff) -> Tariff:
    return Tariff.from_json(json.loads(json.dumps(tariff.to_json())))


FULL = Tariff(
    rate(grace_s=3, origin_set="eea", tiers=(Tier(600, 45_000, 1), Tier(3600, 0, 60))),
    12,
    Terms(
        time_zone="Europe/Berlin",
        boundary=Boundary.ANSWER,
        rounding=Rounding.UP,
        quantum_micro=10_000,
        tax=Tax.EXCLUSIVE,
        tax_ppm=190_000,
        holidays=frozenset({date(2026, 12, 25), date(2026, 12, 26)}),
    ),
    (BandRate(NIGHT, rate(30_000)), BandRate(Band("weekend", frozenset({5, 6, 7}), 0, 1440), rate(50_000))),
)
# As calls of the first version were frozen; they are priced by it for ever.
FROZEN_FIRST = {
    "rate_id": "r1",
    "deck_id": "d1",
    "prefix": "49",
    "destination": "Germany",
    "currency": "EUR",
    "rate_micro": 90_000,
    "connect_fee_micro": 0,
    "initial_s": 60,
    "next_s": 60,
    "minimum_s": 0,
}


def test_nothing_extra_is_frozen_for_a_plain_tariff() -> None:
    assert Tariff(rate(), 7).to_json() == FROZEN_FIRST | {"version": 7}
    assert Terms().to_json() == PLAIN.to_json() == {}
    assert Terms.from_json({}) is PLAIN


def test_what_was_frozen_first_is_read_for_ever() -> None:
    assert Tariff.from_json(FROZEN_FIRST) == Tariff(rate(), 0)
    assert Tariff.from_json(FROZEN_FIRST | {"blocked": True, "version": 4}) == Tariff(rate(blocked=True), 4)


def test_a_full_tariff_is_frozen_so() -> None:
    kept = FULL.to_json()
    assert again(FULL) == FULL
    assert kept["tiers"] == [[600, 45_000, 1], [3600, 0, 60]]
    assert kept["terms"] == {
        "time_zone": "Europe/Berlin",
        "boundary": "answer",
        "rounding": "up",
        "quantum_micro": 10_000,
        "tax": "exclusive",
        "tax_ppm": 190_000,
        "holidays": ["2026-12-25", "2026-12-26"],
    }
    assert [band["name"] for band in kept["bands"]] == ["night", "weekend"]
    assert kept["bands"][0]["rate"] == FROZEN_FIRST | {"rate_micro": 30_000}


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("surprise", {"surprise": 1}),
        ("version", {"version": -1}),
        ("version", {"version": "7"}),
        ("terms", {"terms": []}),
        ("bands", {"bands": 7}),
        ("bands", {"bands": ["night"]}),
        ("bands", {"bands": [NIGHT.to_json()]}),
        ("currency", {"bands": [NIGHT.to_json() | {"rate": FROZEN_FIRST | {"currency": "USD"}}]}),
        ("rate_micro", {"bands": [NIGHT.to_json() | {"rate": FROZEN_FIRST | {"rate_micro": -1}}]}),
        ("surprise", {"bands": [NIGHT.to_json() | {"rate": FROZEN_FIRST, "surprise": 1}]}),
        ("tiers", {"tiers": [[600, 1, 1], [600, 2, 1]]}),
        ("tiers", {"tiers": [[0, 1, 1]]}),
        ("tiers", {"tiers": [[600, -1, 1]]}),
        ("tiers", {"tiers": [[600, 1, 0]]}),
        ("tiers", {"tiers": [[600, 1]]}),
        ("tiers", {"tiers": 5}),
    ],
)
def test_a_damaged_tariff_names_its_column(column: str, change: dict[str, Any]) -> None:
    with pytest.raises(DeckError) as refused:
        Tariff.from_json(FROZEN_FIRST | change)
    assert refused.value.column == column


@pytest.mark.parametrize(
    ("column", "value", "fix"),
    [
        ("time_zone", "Berlin", "IANA"),
        ("time_zone", "Europe", "IANA"),
        ("time_zone", "../../etc/passwd", "IANA"),
        ("time_zone", "", "IANA"),
        ("time_zone", "Europe/Berlin\0", "IANA"),
        ("time_zone", "x" * 5000, "IANA"),
        ("time_zone", 1, "IANA"),
        ("boundary", "middle", "split or answer"),
        ("boundary", [], "split or answer"),
        ("rounding", "nearest", "half_up or half_even or up or down"),
        ("quantum_micro", 0, "from 1 to"),
        ("quantum_micro", 10**12, "from 1 to"),
        ("quantum_micro", 0.01, "from 1 to"),
        ("tax", "vat", "none or inclusive or exclusive"),
        ("tax_ppm", -1, "from 0 to"),
        ("tax_ppm", 1_000_001, "from 0 to"),
        ("tax_ppm", 190_000, "inclusive or exclusive"),
        ("holidays", "2026-12-25", "2026-12-25"),
        ("holidays", ["25.12.2026"], "2026-12-25"),
        ("holidays", ["20261225"], "2026-12-25"),
        ("holidays", ["2026-02-30"], "2026-12-25"),
        ("holidays", [20261225], "2026-12-25"),
        ("holidays", [["2026-12-25"]], "2026-12-25"),
        ("zone", "UTC", "time_zone"),
    ],
)
def test_wrong_terms_name_column_and_fix(column: str, value: object, fix: str) -> None:
    with pytest.raises(DeckError) as refused:
        Terms.from_json({column: value})
    assert refused.value.column == column
    assert fix in refused.value.problem
    assert len(refused.value.problem) < 200


def test_a_holiday_is_a_date() -> None:
    with pytest.raises(DeckError, match="2026-12-25"):
        Terms(holidays=frozenset({datetime(2026, 12, 25, tzinfo=UTC)}))


@pytest.mark.parametrize(
    ("column", "value", "fix"),
    [
        ("name", "", "characters"),
        ("name", "a\nb", "characters"),
        ("name", "x" * 41, "characters"),
        ("days", [], "Monday"),
        ("days", [8], "Monday"),
        ("days", [-1], "Monday"),
        ("days", [True], "Monday"),
        ("days", ["0"], "Monday"),
        ("days", 7, "list of days"),
        ("from_minute", -1, "from 0 to 1439"),
        ("from_minute", 1440, "from 0 to 1439"),
        ("from_minute", 7.5, "from 0 to 1439"),
        ("to_minute", 0, "from 1 to 1440"),
        ("to_minute", 1441, "from 1 to 1440"),
        ("to_minute", NIGHT.from_minute, "0 to 1440"),
        ("rate", 1, "from_minute"),
    ],
)
def test_a_wrong_band_names_column_and_fix(column: str, value: object, fix: str) -> None:
    with pytest.raises(DeckError) as refused:
        Band.from_json(NIGHT.to_json() | {column: value})
    assert refused.value.column == column
    assert fix in refused.value.problem


@pytest.mark.parametrize("change", [{"days": [[]]}, {"name": 5}, {"days": None}])
def test_a_band_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DeckError):
        Band.from_json(NIGHT.to_json() | change)
    with pytest.raises(DeckError):
        Band.from_json({"name": "night", "days": [1], "from_minute": 5})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("rate_micro", PRICE_MICRO_MAX + 1),
        ("connect_fee_micro", PRICE_MICRO_MAX + 1),
        ("initial_s", SPAN_S_MAX + 1),
        ("next_s", SPAN_S_MAX + 1),
        ("minimum_s", SPAN_S_MAX + 1),
        ("grace_s", SPAN_S_MAX + 1),
        ("grace_s", -1),
    ],
)
def test_what_would_not_fit_is_refused(column: str, value: int) -> None:
    with pytest.raises(DeckError) as refused:
        rate(**({"rate_micro": 1} | {column: value}))
    assert refused.value.column == column
    assert "Write a whole number from" in refused.value.problem


WEEK = Tariff(
    rate(60_000),
    1,
    Terms(time_zone="Europe/Berlin", holidays=frozenset({date(2026, 12, 25)})),
    (
        BandRate(Band("holiday", frozenset({7}), 0, 1440), rate(10_000)),
        BandRate(Band("friday night", frozenset({4}), 22 * 60, 6 * 60), rate(20_000)),
        BandRate(Band("day", frozenset(range(5)), 8 * 60, 18 * 60), rate(90_000)),
    ),
)


@pytest.mark.parametrize(
    ("local", "band"),
    [
        ("2026-11-20 07:59:59.999999", ""),
        ("2026-11-20 08:00:00", "day"),  # a Friday
        ("2026-11-20 17:59:59", "day"),
        ("2026-11-20 18:00:00", ""),
        ("2026-11-20 22:00:00", "friday night"),
        ("2026-11-21 05:59:59", "friday night"),  # it belongs to the day on which it begins
        ("2026-11-21 06:00:00", ""),
        ("2026-11-21 23:00:00", ""),
        ("2026-11-20 05:00:00", ""),  # Thursday's night is none
        ("2026-12-25 09:00:00", "holiday"),  # a Friday, but a holiday counts as that only
        ("2026-12-25 23:00:00", "holiday"),
        ("2026-12-26 03:00:00", ""),
        ("2026-12-24 23:59:59", ""),
    ],
)
def test_the_band_in_force(local: str, band: str) -> None:
    instant = datetime.fromisoformat(local).replace(tzinfo=BERLIN.zone)
    force = WEEK.at(instant)
    assert force.band == band
    assert force.until is not None and force.until > instant
    assert WEEK.at(force.until - timedelta(microseconds=1)).band == band


def test_an_instant_has_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        WEEK.at(datetime(2026, 11, 20, 8))  # noqa: DTZ001


def test_only_holidays_near_the_call_are_frozen_with_it() -> None:
    year = frozenset(date(2026, 1, 1) + timedelta(days=n) for n in range(365))
    many = Tariff(WEEK.rate, 1, Terms(time_zone="Europe/Berlin", holidays=year), WEEK.bands)
    at = datetime(2026, 5, 7, 22, 30, tzinfo=UTC)  # the 8th in Berlin
    assert many.frozen(at).terms.holidays == {date(2026, 5, day) for day in (7, 8, 9, 10)}
    assert many.frozen(at).bands == many.bands
    assert Tariff(rate(), 1, many.terms).frozen(at).terms == BERLIN
    assert FULL.frozen(at).terms.holidays == frozenset()
    plain = Tariff(rate())
    assert plain.frozen(at) is plain


def test_the_dearest_rate_of_a_window() -> None:
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)  # day until 17:00 UTC, no band until 21:00
    assert WEEK.dearest(at, at + timedelta(hours=2)) == Tariff(rate(90_000), 1, WEEK.terms)
    assert WEEK.dearest(at, at + timedelta(hours=7)) == Tariff(rate(90_000), 1, WEEK.terms)
    later = at + timedelta(hours=6)
    assert WEEK.dearest(later, later + timedelta(hours=2)) == Tariff(rate(60_000), 1, WEEK.terms)
    plain = Tariff(rate())
    assert plain.dearest(at, later) is plain


def test_the_dearest_rate_takes_the_dearest_of_each() -> None:
    cheap_first = rate(10_000, connect_fee_micro=5, tiers=(Tier(60, 80_000, 60),))
    dear_first = rate(50_000, minimum_s=120, grace_s=4, tiers=(Tier(120, 20_000, 60),))
    night = Band("night", EVERY_DAY, 0, 300)
    tariff = Tariff(dear_first, 1, PLAIN, (BandRate(night, cheap_first),))
    at = datetime(2026, 1, 1, 4, tzinfo=UTC)
    assert tariff.dearest(at, at + timedelta(hours=2)).rate == rate(
        50_000,
        connect_fee_micro=5,
        minimum_s=120,
        tiers=(Tier(60, 80_000, 60), Tier(120, 80_000, 60)),
    )


def test_a_minimum_can_reach_into_the_next_band() -> None:
    night = Band("night", EVERY_DAY, 0, 300)
    tariff = Tariff(rate(90_000), 1, PLAIN, (BandRate(night, rate(10_000, minimum_s=600)),))
    at = datetime(2026, 1, 1, 4, 55, tzinfo=UTC)
    assert tariff.dearest(at, at + timedelta(minutes=1)).rate.rate_micro == 90_000
