"""Tariffs of every kind, calls near the nights in which clocks change, and a charge worked out block by block."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from math import ceil, floor
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from bridge.rating.rate import Rate, Tier
from bridge.rating.tariff import PLAIN, Band, BandRate, Boundary, Tariff, Tax, Terms
from bridge.telephony.money import Rounding

MICRO_PRICES = st.one_of(st.integers(0, 200), st.integers(0, 5_000_000))
LENGTHS_S = st.one_of(st.sampled_from([1, 6, 30, 60]), st.integers(1, 120))
TIERS = st.lists(
    st.builds(Tier, from_s=st.integers(1, 3_000), rate_micro=MICRO_PRICES, next_s=LENGTHS_S),
    max_size=3,
    unique_by=lambda tier: tier.from_s,
).map(lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.from_s)))
NO_TIERS: st.SearchStrategy[tuple[Tier, ...]] = st.just(())


def rates(tiers: st.SearchStrategy[tuple[Tier, ...]] = TIERS) -> st.SearchStrategy[Rate]:
    return st.builds(
        Rate,
        rate_id=st.just("r"),
        deck_id=st.just("d"),
        prefix=st.just("49"),
        destination=st.just("Germany"),
        currency=st.just("EUR"),
        rate_micro=MICRO_PRICES,
        connect_fee_micro=st.one_of(st.just(0), MICRO_PRICES),
        initial_s=LENGTHS_S,
        next_s=LENGTHS_S,
        minimum_s=st.one_of(st.just(0), st.integers(0, 300)),
        grace_s=st.one_of(st.just(0), st.integers(0, 100)),
        tiers=tiers,
    )


# Priced by one formula, without laying blocks
PLAIN_TARIFFS = st.builds(Tariff, rates(NO_TIERS))

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"]
)
# Clocks change in Berlin, New York and on Lord Howe Island (by half an hour); in Morocco around Ramadan
CHANGES = st.sampled_from(
    [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
        datetime(2026, 2, 15, 2, tzinfo=UTC),
        datetime(2026, 3, 22, 2, tzinfo=UTC),
    ]
)
INSTANTS = st.one_of(
    st.builds(
        lambda change, before: change - before,
        CHANGES,
        st.timedeltas(timedelta(hours=-2), timedelta(hours=4)),
    ),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
)
HOLIDAYS = st.frozensets(
    st.one_of(
        st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.builds(lambda change: change.date(), CHANGES)
    ),
    max_size=4,
)
TERMS = st.one_of(
    st.just(PLAIN),
    st.builds(
        lambda taxed, **columns: Terms(tax=taxed[0], tax_ppm=taxed[1], **columns),
        st.one_of(
            st.just((Tax.NONE, 0)),
            st.tuples(st.sampled_from([Tax.INCLUSIVE, Tax.EXCLUSIVE]), st.integers(0, 1_000_000)),
        ),
        time_zone=ZONES,
        boundary=st.sampled_from(Boundary),
        rounding=st.sampled_from(Rounding),
        quantum_micro=st.sampled_from([1, 7, 10_000, 1_000_000]),
        holidays=HOLIDAYS,
    ),
)
MINUTES = st.one_of(st.integers(0, 240), st.integers(0, 1_439))
BANDS = st.builds(
    lambda days, minutes: Band("band", days, *minutes),
    st.frozensets(st.integers(0, 7), min_size=1),
    st.one_of(
        st.just((0, 1_440)),
        st.tuples(MINUTES, MINUTES.map(lambda minute: minute + 1)).filter(lambda pair: pair[0] != pair[1]),
    ),
)
TARIFFS = st.builds(
    Tariff,
    rates(),
    st.integers(0, 9),
    TERMS,
    st.lists(st.builds(BandRate, BANDS, rates()), max_size=3).map(tuple),
)
TALK_MS = st.one_of(st.integers(0, 300_000), st.integers(0, 7_200_000))
COVERED_S = st.one_of(st.just(0), st.integers(0, 4_000))


def charge_by_counting(tariff: Tariff, talk_ms: int, answered_at: datetime, covered_s: int = 0) -> int:
    """The tariff read aloud: blocks are laid end to end until they cover the talk. Slow, no formula."""
    at_answer = rate_by_looking(tariff, answered_at)
    if talk_ms <= at_answer.grace_s * 1000 or talk_ms <= covered_s * 1000:
        return 0
    net = Fraction(0 if covered_s else at_answer.connect_fee_micro)
    at_s, rate = covered_s, at_answer
    while at_s * 1000 < talk_ms or at_s < at_answer.minimum_s:
        if tariff.terms.boundary is Boundary.SPLIT:
            rate = rate_by_looking(tariff, answered_at + timedelta(seconds=at_s))
        price_micro, block_s = rate.rate_micro, rate.next_s
        for tier in rate.tiers:
            if at_s >= tier.from_s:
                price_micro, block_s = tier.rate_micro, tier.next_s
        if at_s == covered_s:
            block_s = rate.initial_s
        net += Fraction(price_micro * block_s, 60)
        at_s += block_s
    return rounded_by_name(net, tariff.terms)


def rate_by_looking(tariff: Tariff, instant: datetime) -> Rate:
    """Is the wall clock between the begin and the end of a band, today's or yesterday's?"""
    zone = ZoneInfo(tariff.terms.time_zone)
    wall = instant.astimezone(zone).replace(tzinfo=None)
    for one in tariff.bands:
        for began_on in (wall.date(), wall.date() - timedelta(days=1)):
            kind = 7 if began_on in tariff.terms.holidays else began_on.weekday()
            midnight = datetime.combine(began_on, time())
            length = (one.band.to_minute - one.band.from_minute) % 1_440 or 1_440
            begin = midnight + timedelta(minutes=one.band.from_minute)
            if kind in one.band.days and begin <= wall < begin + timedelta(minutes=length):
                return one.rate
    return tariff.rate


def rounded_by_name(net_micro: Fraction, terms: Terms) -> int:
    added_ppm = terms.tax_ppm if terms.tax is Tax.EXCLUSIVE else 0
    quanta = net_micro * (1 + Fraction(added_ppm, 1_000_000)) / terms.quantum_micro
    whole = {
        Rounding.HALF_UP: floor(quanta + Fraction(1, 2)),
        Rounding.HALF_EVEN: round(quanta),
        Rounding.UP: ceil(quanta),
        Rounding.DOWN: floor(quanta),
    }
    return whole[terms.rounding] * terms.quantum_micro
