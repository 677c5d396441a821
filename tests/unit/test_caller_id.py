"""Who calls from the network: what is shown, what is not, and what ends the call."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.telephony.caller_id import DOMESTIC, FOREIGN, CallerId, from_network
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.number import barred
from bridge.telephony.writing import FORMATS

BERLIN, MOBILE, LONDON = "+493023125000", "+4915112345678", "+442079460123"


@pytest.mark.parametrize(
    ("text", "form", "shown"),
    [
        (BERLIN, "e164_plus", BERLIN),
        ("00493023125000", "international", BERLIN),
        ("03023125000", "national", BERLIN),
        ("493023125000", "e164", BERLIN),
        (MOBILE, "e164_plus", MOBILE),
        (LONDON, "e164_plus", LONDON),
        ("00442079460123", "national", LONDON),
        ("0465112", "national", "+49465112"),  # as short as they get on an island
        # Whose numbers have no plus, and what is no number at all, is nobody rather than a guess
        ("493023125000", "e164_plus", None),
        ("3023125000", "national", None),
        ("anonymous", "", None),
        ("", "", None),
        ("+", "", None),
        (" +493023125000", "", None),
        ("+49 30 23125000", "", None),
        ("+4930/23125000", "", None),
        ("+493023125000\n", "", None),
        ("+493023125000;phone-context=evil", "", None),
        ("+4930${SHELL(id)}", "", None),
        ("\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "", None),
        ("+49" + "3" * 18, "", None),
        ("+49" + "3" * 600, "", None),
        ("+999123456789", "", None),
        ("+4903023125000", "", None),
        ("000493023125000", "", None),
        (".*", "", None),
        ("unavailable|x", "", None),
    ],
)
def test_a_number_is_shown_as_it_came_or_not_at_all(text: str, form: str, shown: str | None) -> None:
    found = from_network(text, origin=DOMESTIC, form=form)
    assert isinstance(found, CallerId)
    assert (found.shown.e164 if found.shown else None) == shown
    assert (found.withheld == "none") == (shown is None)


@pytest.mark.parametrize(
    "text",
    [
        "110", "112", "+112", "+49110", "0112", "00112", "11833", "+4911833", "0049118999", "115", "116117", "124124",
        "22833", "0900123456", "+49900123456", "0049900123456", "+4900900123456", "+490900123456", "4990012345678",
        "09001", "0137123456", "+491371234567890123", "01371", "01033", "+4910330301234567", "+97912345678",
        "0097912345678",
    ],
)  # fmt: skip
@pytest.mark.parametrize("origin", [DOMESTIC, FOREIGN])
@pytest.mark.parametrize("form", ["", *FORMATS])
@pytest.mark.parametrize("private", [False, True])
def test_what_may_not_call_ends_the_call(text: str, origin: str, form: str, private: bool) -> None:
    found = from_network(text, origin=origin, form=form, private=private)
    assert isinstance(found, Refuse)
    assert (found.reason, found.cause) == (RefuseReason.caller_id, 21)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (BERLIN, False), ("03023125000", False), ("+498001234567", False), ("+493212345678", False),
        ("+4916412345678", False), ("+49168123456", False),
        (MOBILE, True), ("+491601234567", True), ("+491621234567", True), ("+491731234567", True),
        (LONDON, True), ("+41446681800", True), ("+4312345678", True),
    ],
)  # fmt: skip
def test_a_german_number_from_abroad_is_not_shown_but_a_roamers_is(text: str, shown: bool) -> None:
    abroad = from_network(text, origin=FOREIGN)
    at_home = from_network(text, origin=DOMESTIC)
    assert isinstance(abroad, CallerId)
    assert isinstance(at_home, CallerId)
    assert (abroad.shown is not None, abroad.withheld) == (shown, "" if shown else "foreign")
    assert at_home.shown == at_home.number == abroad.number is not None


def test_who_asks_not_to_be_shown_is_not() -> None:
    found = from_network(BERLIN, origin=DOMESTIC, private=True)
    assert isinstance(found, CallerId)
    assert (found.shown, found.number is not None, found.withheld) == (None, True, "asked")


WRITTEN = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"(\+|00|0|)(49)?0?(9|1|3|5|8|2)[0-9]{0,18}", fullmatch=True),
)


@given(
    WRITTEN, st.sampled_from([DOMESTIC, FOREIGN, "elsewhere"]), st.booleans(), st.sampled_from(["", *FORMATS])
)
@example("+490900123456", DOMESTIC, False, "")
def test_whatever_comes_nothing_is_shown_that_did_not_come(
    text: str, origin: str, private: bool, form: str
) -> None:
    found = from_network(text, origin=origin, private=private, form=form)
    if isinstance(found, Refuse):
        assert found.reason is RefuseReason.caller_id
        assert text not in found.detail
        return
    shown = found.shown
    if shown is None:
        return
    assert not private
    digits = text.lstrip("+0")
    assert shown.digits.endswith(digits)
    assert shown.digits in (digits, "49" + digits)
    assert barred(shown) not in {"118xy", "0137", "0900", "010xy", "+979"}
    if origin != DOMESTIC and shown.digits.startswith("49"):
        assert shown.digits[2:4] in ("15", "16", "17")
