"""Cells of counterparties' files and rules of disputes, whatever comes. Matching: tests/postgres/test_reconcile.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.partners.dispute import TRANSITIONS, UNDECIDED, agreed_micro, owed_micro, problem, safe_name
from bridge.partners.recon_cells import amount_micro, duration_ms, number


@given(st.text(max_size=300))
def test_no_name_of_a_file_leaves_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert 1 <= len(safe) <= 100
    assert not set(safe) & set('/\\<>:"|?*\0\n\r')
    assert safe not in (".", "..")
    assert safe_name(safe) == safe


@given(
    st.sampled_from(sorted(TRANSITIONS)),
    st.sampled_from(sorted(TRANSITIONS)),
    st.sampled_from(["us", "them"]),
)
def test_what_is_decided_stays_and_partners_decide_nothing(before: str, after: str, opened_by: str) -> None:
    if before not in UNDECIDED:
        assert problem(before, after, opened_by, "us") and problem(before, after, opened_by, "them")  # type: ignore[arg-type]
    if problem(before, after, opened_by, "them") is None:  # type: ignore[arg-type]
        assert (after, opened_by) == ("withdrawn", "them")


@given(st.integers(1, 10**15), st.integers(0, 10**15), st.sampled_from(["us", "them"]))
def test_no_more_is_booked_than_was_claimed(claimed: int, agreed: int, opened_by: str) -> None:
    if agreed <= claimed:
        kept = agreed_micro("settled", claimed, agreed)
        assert kept is not None
        assert abs(owed_micro(opened_by, kept)) <= claimed  # type: ignore[arg-type]


@given(st.integers(0, 10**12))
def test_amounts_are_read_as_they_are_written(micro: int) -> None:
    whole, part = divmod(micro, 1_000_000)
    for mark, thousands in ((".", ","), (",", ".")):
        assert amount_micro(f"{whole:,}".replace(",", thousands) + f"{mark}{part:06d}", mark) == micro


@given(st.integers(0, 7 * 86_400 - 1))
def test_durations_are_read_as_they_are_written(seconds: int) -> None:
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    assert {
        duration_ms(clock, 1_000),
        duration_ms(str(seconds), 1_000),
        duration_ms(str(seconds * 1000), 1),
    } == {seconds * 1000}


@given(st.integers(10**9, 10**14), st.sampled_from(["+{}", "00{}", "{}", "+ {}", "'+{}", "99#{}"]))
def test_numbers_are_read_in_every_form(digits: int, form: str) -> None:
    if not str(digits).startswith("99"):
        assert number(form.format(digits), strip="99#" if "#" in form else "") == digits
