from __future__ import annotations

import pytest

from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.number import EMERGENCY, Number, barred, is_emergency, mask, parse_caller, parse_dialled

DRAMA = ["+493023125000", "+496990009003", "+494066969001", "+492214710999", "+498999998002"]


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("+493023125000", "+493023125000"),
        ("00493023125000", "+493023125000"),
        ("03023125000", "+493023125000"),
        ("030/23125-000", "+493023125000"),
        ("(030) 23.125.000", "+493023125000"),
        ("+49 (0)30 23125000", "+493023125000"),
        ("+390612345678", "+390612345678"),  # an Italian number keeps its 0
        ("0012125550100", "+12125550100"),
        ("+3225550100", "+3225550100"),
        ("116117", "+49116117"),
        ("116111", "+49116111"),
        ("124124", "+49124124"),
        ("032212345678", "+4932212345678"),
    ],
)
def test_what_is_dialled_becomes_e164(text: str, e164: str) -> None:
    assert parse_dialled(text) == Number(e164)


@pytest.mark.parametrize("e164", DRAMA)
def test_numbers_reserved_for_fiction_pass(e164: str) -> None:
    number = parse_dialled(e164)
    assert isinstance(number, Number)
    assert barred(number) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "++49301234567",
        "4930+1234567",
        "49301234567",
        "1234567",
        "+0301234567",
        "00",
        "0",
        "+4930",
        "+9991234567",
        "+49301234567890123",
        "+1234567890123456",
        "0" * 20,
        "0" * 10_000,
        "+49 " + " " * 100 + "30",
        "+4930abc",
        "anonymous",
        "sip:+493023125000@x",
        "+493023125000;ext=1",
        "*31#03012345",
        "030,,12",
        "030w12",
        "+493023125000\n",
        "+4930\x0023125000",
        "+4930\r\n23125000",
        "\t030231250",
        "+4930\u00a0231250",
        '+4930"23125000',
        "+4930'1",
        "+4930&SIP/1",
        "+4930|1",
        "${EXTEN}",
        "+4930$1",
        "+4930{1}",
        "+4930\\1",
        "+4930@1",
        "٠٣٠٢٣١٢٥",
        "+４９３０２３１２５０００",
        "+4900900123456",
        "00490049301234",
        "0110",
        "0112",
        "+49110",
        "+49112",
    ],
)
def test_everything_else_is_refused_and_not_repeated(text: str) -> None:
    refused = parse_dialled(text)
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.invalid_number
    assert refused.detail
    assert not any(sign in refused.detail for sign in "\r\n\0\"'$&|{}@")
    assert len(text) < 5 or text not in refused.detail


@pytest.mark.parametrize(
    ("text", "code"), [("11833", "118xy"), ("118 80", "118xy"), ("118000", "118xy"), ("01033", "010xy")]
)
def test_codes_without_e164_are_barred_as_dialled(text: str, code: str) -> None:
    refused = parse_dialled(text)
    assert isinstance(refused, Refuse)
    assert (refused.reason, refused.detail) == (RefuseReason.barred_destination, code)


def test_a_call_by_call_prefix_does_not_hide_a_number() -> None:
    refused = parse_dialled("01033 030 23125000")
    assert isinstance(refused, Refuse)
    assert refused.detail == "010xy"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0900 123 4567", "0900"),
        ("+49 (0)900 1234567", "0900"),
        ("01371 123456", "0137"),
        ("+4911833", "118xy"),
        ("0118 33", "118xy"),
        ("+491033030123456", "010xy"),
        ("0180 5 123456", "0180"),
        ("0700 12345678", "0700"),
        ("0181 1234567", "0181-0189"),
        ("0189 1234567", "0181-0189"),
        ("0191 1234567", "019x"),
        ("01212 123456", "012"),
        ("+979123456789", "+979"),
        ("+881612345678", "+881"),
        ("+882132123456", "+882"),
        ("+883510012345678", "+883"),
        ("+878101234567890", "+878"),
    ],
)
def test_barred_ranges_are_caught_however_they_are_dialled(text: str, name: str) -> None:
    number = parse_dialled(text)
    assert isinstance(number, Number)
    assert barred(number) == name


@pytest.mark.parametrize(
    "e164", ["+4932212345678", "+491771234567", "+498001234567", "+49116117", "+49124124", "+33900123456"]
)
def test_other_ranges_are_not_barred(e164: str) -> None:
    assert barred(Number(e164)) is None


def test_other_homes_have_other_habits() -> None:
    assert parse_dialled("0612345678", home="FR") == Number("+33612345678")
    assert parse_dialled("612345678", home="ES") == Number("+34612345678")
    assert parse_dialled("2125550100", home="US") == Number("+12125550100")
    assert isinstance(parse_dialled("0301234567", home="??"), Refuse)
    assert isinstance(parse_dialled("11833", home="FR"), Refuse)
    assert parse_dialled("+493023125000", home="??") == Number("+493023125000")


@pytest.mark.parametrize("dialled", ["110", "112"])
def test_emergency_numbers(dialled: str) -> None:
    assert dialled in EMERGENCY
    assert is_emergency(dialled)


@pytest.mark.parametrize(
    "dialled", ["", "11", "1121", "112345", "1103", " 112", "112 ", "0112", "+49112", "112\n", "١١٢", "911"]
)
def test_nothing_else_is_an_emergency(dialled: str) -> None:
    assert not is_emergency(dialled)


def test_a_caller_is_known_by_number() -> None:
    assert parse_caller("+491771234567") == Number("+491771234567")
    assert parse_caller("01801 123456") == Number("+491801123456")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "anonymous",
        "Alice",
        "112",
        "11833",
        "116117",
        "0900 1234567",
        "01371123456",
        "+4911833",
        "+979123456789",
    ],
)
def test_a_caller_without_a_number_of_its_own_is_unknown(text: str) -> None:
    refused = parse_caller(text)
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.unknown_caller


@pytest.mark.parametrize(
    "e164", ["", "493023125000", "+0123456", "+1234", "+1234567890123456", "+49 30", "+4930\n"]
)
def test_number_is_e164_or_nothing(e164: str) -> None:
    with pytest.raises(ValueError, match=r"not E\.164"):
        Number(e164)


def test_number_hides_itself() -> None:
    number = Number("+493023125000")
    assert number.digits == "493023125000"
    assert repr(number) == "Number(+493023xxxxxx)"
    assert "23125000" not in f"{number} {[number]}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+493023125000", "+493023xxxxxx"),
        ("+49116117", "+4911xxxx"),
        ("1234567", "xxxxxxx"),
        ("112", "xxx"),
        ("", ""),
        ("bad\r\nline 0301", "???????xxxxxxx"),
        ("٠٣٠٢٣١٢٥٠", "?????xxxx"),
        ("9" * 100, "9999999" + "x" * 13 + "…"),
    ],
)
def test_mask(text: str, shown: str) -> None:
    assert mask(text) == shown
