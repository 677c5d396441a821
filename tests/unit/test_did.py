"""Numbers that can be given to somebody."""

from __future__ import annotations

import pytest

from bridge.telephony.did import BLOCK_MAX, DidKind, block, did
from bridge.telephony.number import Number


@pytest.mark.parametrize(
    ("e164", "country", "kind"),
    [
        ("+493023125000", "DE", "geographic"),
        ("+4922104710", "DE", "geographic"),
        ("+4915123456789", "DE", "mobile"),
        ("+4932123456789", "DE", "national"),
        ("+33612345678", "FR", "mobile"),
        ("+12025550123", "US", "geographic"),
    ],
)
def test_where_and_of_which_kind(e164: str, country: str, kind: str) -> None:
    found = did(Number(e164))
    assert (found.country, found.kind) == (country, DidKind(kind))


@pytest.mark.parametrize(
    "e164",
    ["+49900123456", "+491371234567", "+4911833", "+491801234", "+498001234567", "+49116117", "+4930110", "+4930112",
     "+49110", "+49112", "+80012345678", "+881612345678", "+999123456", "+490301234567"],
)  # fmt: skip
def test_nobody_is_called_by_these(e164: str) -> None:
    with pytest.raises(ValueError, match=r"range|number"):
        did(Number(e164))


def test_no_number_is_told_whole() -> None:
    with pytest.raises(ValueError, match=r"\+499001xxxx") as told:
        did(Number("+49900123456"))
    assert "123456" not in str(told.value)


def test_a_block_has_both_its_ends() -> None:
    found = block(Number("+493023125000"), Number("+493023125999"))
    assert (len(found), found[0].number.e164, found[-1].number.e164) == (
        BLOCK_MAX, "+493023125000", "+493023125999",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("+493023125001", "+493023125000"),
        ("+493023125000", "+493023126000"),
        ("+4930231250", "+49302312501"),
        ("+4989999", "+49100000"),
    ],
)
def test_what_is_no_block(first: str, last: str) -> None:
    with pytest.raises(ValueError, match=r"number|block|range"):
        block(Number(first), Number(last))
