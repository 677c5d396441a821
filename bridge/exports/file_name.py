"""What files are called, so that a name alone says whose file it is, which one, and of when. Pure.

A name is made of codes and digits only: whatever reads it, on whatever system, has nothing to escape and nowhere to go.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

from bridge.errors import Invalid

TYPES: Final = {"cdr": "CDR", "quality": "QUALITY", "correction": "CORRECTION"}
EXTENSIONS: Final = {"csv": ".csv.gz", "jsonl": ".jsonl.gz", "parquet": ".parquet", "tap3": ".tap3"}
PART: Final = ".part"
CODE: Final = re.compile(r"[A-Za-z0-9-]{1,20}", re.ASCII)
FILE_NO_MAX: Final = 99_999_999

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(
    r"(?:(?:CDR|QUALITY|CORRECTION)_[A-Za-z0-9-]{1,20}_[A-Za-z0-9-]{1,20}_[0-9]{8}"
    r"|EXTRACT_[A-Za-z0-9-]{1,20}_[A-Za-z0-9-]{1,20}_(?:CDR|QUALITY|CORRECTION))"
    r"_[0-9]{8}T[0-9]{6}Z_[0-9]{8}T[0-9]{6}Z\.(?:csv\.gz|jsonl\.gz|parquet|tap3)",
    re.ASCII,
)
_MONTH: Final = re.compile(r"month=[0-9]{4}-[0-9]{2}", re.ASCII)


def stamp(at: datetime) -> str:
    """UTC to the second."""
    return at.astimezone(UTC).strftime(_STAMP)


def file_name(
    sender: str, recipient: str, kind: str, file_no: int, from_at: datetime, to_at: datetime, form: str
) -> str:
    """Of a numbered file.

    kind, form   keys of TYPES and EXTENSIONS
    raises       Invalid: a code or the number does not fit
    """
    if not 0 < file_no <= FILE_NO_MAX:
        raise Invalid(f"file number {file_no} does not have eight digits")
    return checked_name(
        f"{TYPES[kind]}_{sender}_{recipient}_{file_no:08d}_{stamp(from_at)}_{stamp(to_at)}{EXTENSIONS[form]}"
    )


def extract_name(sender: str, whose: str, kind: str, from_at: datetime, to_at: datetime, form: str) -> str:
    """Of an extract, which has no number: nobody shall take it for one of the sequence."""
    return checked_name(
        f"EXTRACT_{sender}_{whose}_{TYPES[kind]}_{stamp(from_at)}_{stamp(to_at)}{EXTENSIONS[form]}"
    )


def checked_name(name: str) -> str:
    """The name itself. raises Invalid: it is none of ours"""
    if _NAME.fullmatch(name) is None:
        raise Invalid(f"{name[:80]!r} is not the name of a file of call records")
    return name


def sums_name(name: str) -> str:
    """Of the file that has the SHA-256 of another, as `sha256sum -c` reads it."""
    return f"{name}.sha256"


def manifest_name(name: str) -> str:
    return f"{name}.json"


def place(recipient: str, form: str, name: str, month: str) -> PurePosixPath:
    """Where a file lies under the folder of all. Parquet is laid out by months, as readers of data sets look for it.

    month   of the beginning of the period on the recipient's clock, 2026-11
    """
    folder = PurePosixPath(recipient)
    return folder / f"month={month}" / name if form == "parquet" else folder / name


def subfolder(path: PurePosixPath) -> str:
    """The part of a file's place that its recipient gets to see, too: `month=2026-11`, or nothing."""
    return path.parent.name if _MONTH.fullmatch(path.parent.name) else ""


def code_of(name: str) -> str:
    """A code made of a partner's name, for the names of its extracts."""
    found = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:20].rstrip("-")
    return found or "partner"
