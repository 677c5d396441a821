"""How numbers are written for a carrier."""

import pytest

from bridge.asterisk.channel_vars import dial
from bridge.telephony.writing import AS_IS, FORMATS, Writing

BERLIN, LONDON, SERVICE = "+493023125000", "+442079460123", "+49116117"


@pytest.mark.parametrize(
    ("form", "home", "written"),
    [
        ("e164_plus", "DE", (BERLIN, LONDON, SERVICE)),
        ("e164", "DE", ("493023125000", "442079460123", "49116117")),
        ("international", "DE", ("00493023125000", "00442079460123", "0049116117")),
        ("national", "DE", ("03023125000", "00442079460123", "116117")),
        ("national", "GB", ("00493023125000", "02079460123", "0049116117")),
        ("national", "IT", ("00493023125000", "00442079460123", "0049116117")),
    ],
)
def test_each_format(form: str, home: str, written: tuple[str, str, str]) -> None:
    writing = Writing(form, form)
    assert tuple(writing.b_number(number, home) for number in (BERLIN, LONDON, SERVICE)) == written
    assert tuple(writing.a_number(number, home) for number in (BERLIN, LONDON, SERVICE)) == written


def test_italy_keeps_its_zero():
    assert Writing("national").b_number("+390612345678", "IT") == "0612345678"


def test_the_124_124_is_dialled_bare():
    assert Writing("national").b_number("+49124124", "DE") == "124124"


def test_a_tech_prefix_stands_before_the_b_number_only():
    writing = Writing("international", "e164", "7788")
    assert writing.b_number(BERLIN, "DE") == "778800493023125000"
    assert writing.a_number(BERLIN, "DE") == "493023125000"


@pytest.mark.parametrize(
    "wrong",
    [("x",), ("e164", "x"), ("e164", "e164", "1a"), ("e164", "e164", "1" * 9), ("e164_plus", "e164", "1")],
)
def test_what_no_carrier_can_read(wrong: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"format|tech_prefix"):
        Writing(*wrong)


@pytest.mark.parametrize("odd", ["anonymous", "", "+0123456", "+49 30", "112", "+4930\n"])
def test_what_is_no_number_stays_as_it_is(odd: str) -> None:
    assert {Writing(form, form).a_number(odd, "DE") for form in FORMATS} == {odd}


def test_every_writing_fits_a_dial_string():
    for form in FORMATS:
        prefix = "" if form == "e164_plus" else "123"
        number = Writing(form, form, prefix).b_number(BERLIN, "DE")
        assert dial("alpha", number, ring_s=1, limit_ms=1, cause=34, call="x.1", cli=number).text()


def test_most_carriers_want_what_we_write():
    assert (AS_IS.b_number(BERLIN, "DE"), AS_IS.a_number(LONDON, "DE")) == (BERLIN, LONDON)
