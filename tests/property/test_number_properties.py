from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.telephony.cause import Refuse, RefuseReason, classify, parse_tech_cause
from bridge.telephony.number import EMERGENCY, Number, barred, is_emergency, mask, parse_caller, parse_dialled

DIALLABLE = st.from_regex(r"(\+|00?|)[0-9]{1,17}", fullmatch=True)
ALMOST_NUMBERS = st.text("0123456789+-.()/ *#;&|,$\"'\r\n\0x", max_size=30)
ANY_TEXT = st.one_of(DIALLABLE, ALMOST_NUMBERS, st.text(max_size=60))
HARMLESS = re.compile(r"[0-9x?+*#…]*", re.ASCII)


@given(ANY_TEXT)
@example("+")
@example("00")
def test_dialling_is_total_and_its_result_canonical(text: str) -> None:
    number = parse_dialled(text)
    if isinstance(number, Refuse):
        assert number.reason in {RefuseReason.invalid_number, RefuseReason.barred_destination}
        return
    assert re.fullmatch(r"\+[1-9][0-9]{4,14}", number.e164, re.ASCII)
    assert number.digits not in EMERGENCY
    assert parse_dialled(number.e164) == number


@given(ANY_TEXT)
def test_a_caller_is_a_number_or_unknown(text: str) -> None:
    number = parse_caller(text)
    if isinstance(number, Refuse):
        assert number.reason is RefuseReason.unknown_caller
    else:
        assert barred(number) not in {"0900", "0137", "118xy"}


@given(
    st.sampled_from(["900", "137", "118", "10", "12", "180", "185", "19", "700"]),
    st.text("0123456789", max_size=10),
)
def test_no_spelling_slips_a_barred_range_through(code: str, rest: str) -> None:
    for spelling in ["+49", "0049", "0", "+490", "00490", "+49 (0)"]:
        number = parse_dialled(spelling + code + rest)
        assert isinstance(number, Refuse) or number.e164 == "+49124124" or barred(number) is not None


@given(ANY_TEXT)
def test_only_two_strings_are_an_emergency(text: str) -> None:
    assert is_emergency(text) == (text in {"110", "112"})


@given(ANY_TEXT)
def test_a_mask_hides_and_harms_nothing(text: str) -> None:
    masked = mask(text)
    assert HARMLESS.fullmatch(masked)
    assert mask(masked) == masked
    assert sum(sign in "0123456789" for sign in masked) <= min(7, max(0, len(text) - 4))


@given(DIALLABLE)
def test_no_refusal_and_no_repr_repeats_a_number(text: str) -> None:
    number = parse_dialled(text)
    told = number.detail if isinstance(number, Refuse) else repr(number)
    assert len(text) < 8 or text not in told


@given(st.text(), st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.integers()))
def test_any_end_of_an_attempt_has_an_outcome(dialstatus: str, q850: int | None, sip: int | None) -> None:
    assert classify(dialstatus, q850, sip).reason


@given(st.text())
def test_a_tech_cause_is_a_sip_status_or_none(text: str) -> None:
    status = parse_tech_cause(text)
    assert status is None or (100 <= status <= 699 and text.startswith(f"SIP {status}"))


@given(ANY_TEXT)
def test_a_number_holds_only_e164(text: str) -> None:
    if re.fullmatch(r"\+[1-9][0-9]{4,14}", text, re.ASCII):
        assert Number(text).e164 == text
        return
    with pytest.raises(ValueError, match="is not E") as refused:
        Number(text)
    assert len(text) < 8 or text not in str(refused.value)
