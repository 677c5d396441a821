"""VAT between companies: who owes it, at which rate, and what is missing for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from bridge.errors import Invalid
from bridge.exports.billing import Billing, checked
from bridge.exports.party import Party, clean_iban
from bridge.exports.vat import REASONS, Treatment, rate_on, standard_rates, treatment, vat_id_problem
from tests.invoices import PARTNER, US

RATES = standard_rates("DE", "19")
DAY = date(2026, 10, 31)


def taxed(seller: Party = US, buyer: Party = PARTNER, *, telecom: bool = True, day: date = DAY) -> Treatment:
    return treatment(seller, buyer, RATES, day, telecom=telecom)


def abroad(country: str, vat_id: str = "", **more: Any) -> Party:
    return replace(PARTNER, country=country, vat_id=vat_id, reseller=False, **more)


def test_at_home_tax_is_shown_unless_a_reseller_buys_telecommunication() -> None:
    assert taxed() == Treatment("AE", 0, "domestic_resale")
    assert taxed(telecom=False) == Treatment("S", 1900)
    assert taxed(buyer=replace(PARTNER, reseller=False)) == Treatment("S", 1900)
    assert taxed(PARTNER, US) == Treatment("AE", 0, "domestic_resale")


def test_rates_have_a_validity_and_the_setting_is_the_one_in_force() -> None:
    plain = replace(PARTNER, reseller=False)
    assert taxed(buyer=plain, day=date(2020, 6, 30)).hundredths == 1900
    assert taxed(buyer=plain, day=date(2020, 7, 1)).hundredths == 1600
    assert taxed(buyer=plain, day=date(2021, 1, 1)).hundredths == 1900
    assert rate_on(standard_rates("DE", "20.5"), "DE", DAY) == 2050
    assert rate_on(standard_rates("AT", "20"), "AT", DAY) == 2000
    with pytest.raises(Invalid, match=r"No VAT rate of FR.*company\.country"):
        taxed(abroad("FR", "FR40303265045"), abroad("FR", "FR40303265045"))


def test_across_the_eu_the_recipient_owes_it_and_both_need_an_id() -> None:
    assert taxed(buyer=abroad("NL", "NL004495445B01")) == Treatment("AE", 0, "intra_eu")
    assert taxed(abroad("NL", "NL004495445B01"), US).vatex == "VATEX-EU-AE"
    with pytest.raises(Invalid, match=r"needs a vat id.*partner billing prt_.* --vat-id"):
        taxed(buyer=abroad("NL"))
    with pytest.raises(Invalid, match=r"needs a vat id.*company\.vat_id"):
        taxed(replace(US, vat_id=""), abroad("NL", "NL004495445B01"))
    with pytest.raises(Invalid, match="should begin with NL"):
        taxed(buyer=abroad("NL", "DE136695976"))


def test_outside_the_eu_there_is_none_and_what_comes_from_there_is_owed_here() -> None:
    assert taxed(buyer=abroad("CH", "CHE107787577")) == Treatment("O", 0, "outside")
    assert taxed(abroad("CH", tax_number="CHE-107.787.577"), US) == Treatment("AE", 0, "from_outside")
    with pytest.raises(Invalid, match="--tax-number"):
        taxed(abroad("CH"), US)
    assert taxed(abroad("US"), abroad("CH")) == Treatment("O", 0, "outside")


@pytest.mark.parametrize(
    ("vat_id", "country"),
    [
        ("DE136695976", "DE"), ("DE811569869", "DE"), ("BE0428759497", "BE"), ("IT00743110157", "IT"),
        ("PL8567346215", "PL"),
        ("LU15027442", "LU"), ("HR33392005961", "HR"), ("ATU13585627", "AT"), ("EL094259216", "GR"),
        ("FR40303265045", "FR"),
        ("SE123456789701", "SE"), ("CHE107787577", "CH"),
    ],
)  # fmt: skip
def test_ids_that_exist(vat_id: str, country: str) -> None:
    assert vat_id_problem(vat_id, country) is None


@pytest.mark.parametrize(
    ("vat_id", "country"),
    [
        ("DE136695978", "DE"), ("DE36695976", "DE"), ("DE 136695976", "DE"), ("BE0428759498", "BE"),
        ("IT00743110158", "IT"),
        ("PL8567346216", "PL"), ("LU15027443", "LU"), ("U13585627", "AT"), ("GR094259216", "GR"), ("", "FR"),
        ("DE１３６６９５９７６", "DE"),
    ],
)  # fmt: skip
def test_ids_that_cannot_exist(vat_id: str, country: str) -> None:
    assert vat_id_problem(vat_id, country)


def test_every_reason_is_told_in_both_languages() -> None:
    assert REASONS["de"].keys() == REASONS["en"].keys()


def test_ibans() -> None:
    assert clean_iban("de89 3704 0044 0532 0130 00") == "DE89370400440532013000"
    assert clean_iban("") == ""
    for wrong in ("DE89370400440532013001", "DE8937040044", "0532013000", "DE89 3704 0044 0532 0130 ０0"):
        with pytest.raises(ValueError, match="no IBAN"):
            clean_iban(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"legal_name": " "}, {"country": "Germany"}, {"country": "de"}, {"vat_id": "DE811128136"}, {"city": "Bonn\x00"},
        {"iban": "DE02120300000000202052"}, {"language": "fr"}, {"payment_days": 366}, {"street": "x" * 101},
        {"endpoint_scheme": "e'"}, {"endpoint_scheme": ""},
    ],
)  # fmt: skip
def test_details_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "legal_name": "E-Plus",
        "country": "DE",
        "vat_id": "DE811128135",
        "iban": "DE02 1203 0000 0000 2020 51",
    }
    assert checked(right) == Billing("E-Plus", "DE", vat_id="DE811128135", iban="DE02120300000000202051")
    with pytest.raises(Invalid):
        checked(right | wrong)
