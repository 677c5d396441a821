"""Disputes: who may do what when, what an outcome books, and what may be a file of evidence."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

Side = Literal["us", "them"]

KINDS: Final = ("rate", "duration", "only_ours", "only_theirs", "duplicate", "other")
UNDECIDED: Final = frozenset({"open", "answered"})
# Decided is for ever. accepted: all that was claimed; settled: a part; only these two book.
TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "open": frozenset({"answered", "accepted", "rejected", "settled", "withdrawn"}),
    "answered": frozenset({"accepted", "rejected", "settled", "withdrawn"}),
    "accepted": frozenset(),
    "rejected": frozenset(),
    "settled": frozenset(),
    "withdrawn": frozenset(),
}
EVIDENCE_BYTES_MAX: Final = 10 << 20
EVIDENCE_MAX: Final = 50  # files of one dispute
# Nothing that a browser runs. It is given back as a download, never shown, whatever it says it is.
MEDIA_TYPES: Final = (
    "application/pdf", "text/csv", "text/plain", "image/png", "image/jpeg", "application/zip",
    "application/gzip", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "message/rfc822",
)  # fmt: skip
_NAME_MAX: Final = 100
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def problem(before: str, after: str, opened_by: Side, side: Side) -> str | None:
    """Why a dispute cannot become that by that side; None: it can.

    Whoever opened it withdraws it. We decide in the books, because we keep them; a partner never does.
    """
    if after not in TRANSITIONS[before]:
        return f"a dispute that is {before} cannot become {after}"
    if after == "withdrawn" and opened_by != side:
        return "whoever opened a dispute withdraws it"
    if after != "withdrawn" and side == "them":
        return "only we decide a dispute in the books"
    return None


def agreed_micro(after: str, claimed_micro: int, agreed: int | None) -> int | None:
    """What is agreed on, as it is kept. raises ValueError: an outcome without its amount, or over the claim"""
    if after == "accepted":
        if agreed not in (None, claimed_micro):
            raise ValueError("accepted is the whole claim: settle it for a part")
        return claimed_micro
    if after == "settled":
        if agreed is None:
            raise ValueError("settled needs the amount that was agreed on")
        if not 0 <= agreed <= claimed_micro:
            raise ValueError("what is agreed on lies between 0 and the claim")
        return agreed
    if agreed is not None:
        raise ValueError(f"{after} has no agreed amount")
    return None


def owed_micro(opened_by: Side, agreed: int) -> int:
    """As statements and the ledger count: positive is what the counterparty gets from us."""
    return agreed if opened_by == "them" else -agreed


def overdue(state: str, deadline: datetime, at: datetime) -> bool:
    return state in UNDECIDED and deadline < at


def safe_name(name: str) -> str:
    """A file's name without its path, and without what no file should be named by.

    >>> safe_name("../../etc/passwd"), safe_name("C:\\\\bills\\\\oct.pdf"), safe_name(".. ")
    ('passwd', 'oct.pdf', 'evidence')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(letter for letter in last if unicodedata.category(letter) not in _UNSEEN)
    plain = "".join("_" if letter in '<>:"|?*%;' else letter for letter in seen).strip(" .")
    if len(plain) > _NAME_MAX:
        stem, dot, suffix = plain.rpartition(".")
        plain = (
            stem[: _NAME_MAX - len(suffix) - 1] + dot + suffix
            if dot and len(suffix) <= 10
            else plain[:_NAME_MAX]
        )
    return plain or "evidence"
