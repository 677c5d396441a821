"""Plans as files: what is shipped is sound, and what is wrong is refused with file, key and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.rating.bands import Band
from bridge.rating.plan_file import parse_plan
from bridge.rating.terms import PLAIN, Boundary, Tax, Terms
from bridge.rating.terms_file import band_json, parse_terms, terms_json
from bridge.sandbox.shipped import PLANS, shipped_plans
from bridge.telephony.money import Rounding

GOOD = (PLANS / "eplus.toml").read_text(encoding="utf-8")
RATE = '[[home]]\ndestination = "Germany"\nprefixes = ["49"]\na_minute = "0.09"\nincrement = "60/60"\n'
BAND = f"""[[band]]
name = "late"
days = ["sat"]
from = "18:00"
to = "08:00"
{RATE.replace("[[home]]", "[[band.home]]")}"""
TIER = '{{ from_s = {}, a_minute = "0.05", next_s = 60 }}'
BY_DECK = 'name = "own"\ncurrency = "EUR"\nhome_deck = "sell own"\n'
SMALL = f'name = "small"\ncurrency = "EUR"\n{RATE}'


def test_what_is_shipped_can_be_read() -> None:
    plans = {plan.name: plan for plan in shipped_plans()}
    assert plans.keys() == {"eplus", "standard"}
    eplus = plans["eplus"]
    assert (eplus.terms.tax, eplus.terms.tax_ppm, plans["standard"].terms) == (Tax.INCLUSIVE, 190_000, PLAIN)
    assert (eplus.home[0].a_minute_micro, *eplus.home[0].increment) == (90_000, 60, 60)
    assert {(one.name, one.zone): (one.price_micro, one.per) for one in eplus.services} == {
        ("sms", "home"): (90_000, 1),
        ("data", "home"): (240_000, 1_000_000),
        ("sms", "roaming"): (71_400, 1),
        ("data", "roaming"): (238, 1_000),
    }
    assert [one.name for one in eplus.bundles if one.included] == ["messenger"]


def test_prices_abroad_are_the_caps_with_tax() -> None:
    """19 ct, 6 ct and 20 ct without VAT, Regulation (EU) No 531/2012 from 1 July 2014."""
    eplus = parse_plan(GOOD, "eplus.toml")
    assert {rate.a_minute_micro for rate in eplus.roaming} == {190_000 * 119 // 100}
    abroad = {
        one.name: one.price_micro * 1_000_000 // one.per for one in eplus.services if one.zone == "roaming"
    }
    assert abroad == {"sms": 60_000 * 119 // 100 * 1_000_000, "data": 200_000 * 119 // 100}


def test_the_plan_in_the_guide_can_be_read() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "billing.md").read_text(encoding="utf-8")
    plan = parse_plan(guide.partition("```toml\n")[2].partition("```")[0], "billing.md")
    assert (plan.name, len(plan.home), len(plan.bands), plan.home[1].blocked) == ("evening", 2, 1, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("name =", "own.toml: is not TOML"),
        (SMALL + 'colour = "red"\n', r"own.toml: home.0.colour: is no key here. Known there: a_minute"),
        ('colour = "red"\n' + SMALL, r"own.toml: colour: is no key here. Known there: band, boundary, bundle"),
        (SMALL.replace("currency", "#"), "own.toml: currency: is missing. Add it"),
        (SMALL.replace("EUR", "XXX"), "currency: 'XXX' is not a currency. Use an active ISO 4217 code"),
        (SMALL.replace('"0.09"', "0.09"), r"home.0.a_minute: is not a text. Write money in quotes"),
        (SMALL.replace("0.09", "0,09"), r"home.0.a_minute: '0,09' is not an amount. Write digits"),
        (SMALL.replace("0.09", "-0.09"), r"home.0.a_minute: should be greater than or equal to 0"),
        (SMALL.replace("60/60", "60/0"), r'home.0.increment: is not an increment. Write .* such as "60/1"'),
        (SMALL.replace('["49"]', '["+49"]'), r"home.0.prefixes.0: .*pattern"),
        (SMALL.replace('["49"]', '"49"'), r"home.0.prefixes: should be a list"),
        (SMALL + RATE, "own.toml: prefix of home 49 is there twice. Keep one"),
        (SMALL + '[[service]]\nname = "voice"\nprice = "1.00"\n', r"service.0.name: .* Name a message or data"),
        (
            SMALL + '[[bundle]]\nname = "b"\nincluded = true\nprice = "1.00"\ndays = 1\ncovers = { sms = 1 }\n',
            r"bundle.0: what is included has no price. Write",
        ),
        (
            SMALL + '[[bundle]]\nname = "b"\nprice = "1.00"\ndays = 1\ncovers = { sms = 0 }\n',
            r"bundle.0.covers.sms: should be greater than 0",
        ),
        ('time_zone = "Berlin"\n' + SMALL, "time_zone: 'Berlin' is not a time zone. Write an IANA name"),
        ('boundary = "middle"\n' + SMALL, "own.toml: boundary: should be 'split' or 'answer'"),
        ('rounding = "bankers"\n' + SMALL, "own.toml: rounding: should be 'half_up'"),
        ("quantum = 0.01\n" + SMALL, "own.toml: quantum: is not a text"),
        ('quantum = "0"\n' + SMALL, r'own.toml: quantum: is no step .* such as "0.01"'),
        ('holidays = ["25.12.2026"]\n' + SMALL, r'holidays.0: is no date. Write it such as "2026-12-25"'),
        ('holidays = ["2026-02-30"]\n' + SMALL, "holidays.0: is no date"),
        ("holidays = [2026-12-25T10:00:00]\n" + SMALL, "holidays.0: is no date"),
        ('holidays_of = "DE-NW"\n' + SMALL, "holidays_of and years need each other. Write both"),
        ("years = [2026]\n" + SMALL, "holidays_of and years need each other"),
        ('holidays_of = "Narnia"\nyears = [2026]\n' + SMALL, "'Narnia' is no country with known holidays. Write"),
        ('holidays_of = "DE-XX"\nyears = [2026]\n' + SMALL, "'DE-XX' is no part of DE. Known: DE-BB"),
        ('holidays_of = "DE"\nyears = [1066]\n' + SMALL, "1066 is not in our time. Write a year from 2000"),
        (SMALL + 'grace_s = -1\n', "home.0.grace_s: should be greater than or equal to 0"),
        (SMALL + 'minimum_s = 86401\n', "home.0.minimum_s: should be less than or equal to 86400"),
        (SMALL + 'connect_fee = 0.05\n', "home.0.connect_fee: is not a text"),
        (SMALL + 'tiers = ["180:0.05/60"]\n', "home.0.tiers.0: should be a valid dictionary"),
        (SMALL + 'tiers = [{ from_s = 60, rate = "0.05" }]\n', r"home.0.tiers.0.\w+: "),
        (
            SMALL + f'tiers = [{TIER.format(60)}, {TIER.format(60)}]\n',
            r"home.0: tiers from \[60, 60\] do not ascend. Write",
        ),
        (SMALL.replace('a_minute = "0.09"', ""), "home.0.a_minute: is missing"),
        (SMALL.replace('["49"]', '["0049"]'), "home.0.prefixes.0: .*pattern"),
        (SMALL.replace('"Germany"', '"=1+1"'), "home.0.destination: '=1.1' is a formula. Keep only its value"),
        (SMALL + BAND.replace('"sat"', '"caturday"'), "band.0.days.0: should be 'mon'"),
        (SMALL + BAND.replace('"sat"', ""), "band.0.days: .*at least 1 item"),
        (SMALL + BAND.replace("18:00", "6 pm"), 'band.0.from: is no time of the day. Write it such as "18:00"'),
        (SMALL + BAND.replace("18:00", "25:00"), "band.0.from: is no time of the day"),
        (SMALL + BAND.replace("18:00", "24:00"), "band.0: is empty. Write from"),
        (SMALL + BAND.replace("18:00", "08:00"), r'band.0: is empty. Write from = "00:00" and to = "24:00"'),
        (SMALL + BAND + BAND, "own.toml: band late is there twice"),
        (SMALL + BAND.replace("late", "roaming"), "own.toml: band roaming is there twice"),
        (SMALL + BAND.partition("[[band.home]]")[0], r"band.0: a band is priced by rates or by a deck. Write"),
        (SMALL + BAND + RATE.replace("[[home]]", "[[band.home]]"), "band.0: prefix of band 49 is there twice"),
        (SMALL + BAND + 'colour = "red"\n', "band.0.home.0.colour: is no key here. Known there: a_minute"),
        (SMALL.replace(RATE, ""), r"own.toml: home is priced by rates or by a deck. Write \[\[home\]\], or home_deck"),
        ('home_deck = "x"\n' + SMALL, "own.toml: home is priced by rates or by a deck"),
        (BY_DECK + BAND, "deck sell own has terms and bands of its own. Set them with `callbridge deck terms`"),
        (BY_DECK + 'quantum = "0.01"\n', "deck sell own has terms and bands of its own"),
        (SMALL + '[tax]\nmode = "none"\npercent = "19"\n', "own.toml: tax.mode: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_plan(wrong, "own.toml")


def test_terms_are_read_as_they_are_written() -> None:
    text = """
time_zone = "Europe/Berlin"
boundary = "answer"
rounding = "half_even"
quantum = "0.01"
holidays_of = "DE-NW"
years = [2026, 2027]
holidays = ["2026-11-11", 2026-12-24]
tax = { mode = "exclusive", percent = "7.5" }
[[band]]
name = "late"
days = ["sat", "holiday"]
from = "18:00"
to = "00:00"
deck = "sell late"
"""
    file = parse_terms(text, "terms.toml")
    days = {
        "2026-06-04",
        "2027-05-27",
        "2026-11-11",
        "2026-12-24",
    }  # Corpus Christi is one in DE-NW, not in all of DE
    terms = file.terms
    assert days <= {day.isoformat() for day in terms.holidays} and len(terms.holidays) == 24
    assert terms == Terms(
        "Europe/Berlin", Boundary.ANSWER, Rounding.HALF_EVEN, 10_000, Tax.EXCLUSIVE, 75_000, terms.holidays
    )
    (late,) = file.bands
    assert late.band == Band("late", frozenset({5, 7}), 1080, 1440)
    told = terms_json(terms)
    assert (told["quantum"], told["tax"]) == ("0.01", {"mode": "exclusive", "percent": "7.5"})
    assert band_json(late.band, late.deck)["to"] == "24:00"
    assert parse_terms("", "terms.toml").terms == PLAIN


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('[[band]]\nname = "late"\ndays = ["sat"]\nfrom = "18:00"\nto = "20:00"\n', "band.0.deck: is missing"),
        ('currency = "EUR"\n', "currency: is no key here. Known there: band, boundary, holidays"),
    ],
)  # fmt: skip
def test_wrong_terms_are_refused(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_terms(wrong, "terms.toml")
