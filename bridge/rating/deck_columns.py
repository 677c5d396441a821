"""The columns of a rate deck's file: their names, what else they are called, and which one stands where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.errors import DeckError

# Every column there is, with the other names carriers give it. A header is read without case, and with blanks, dashes
# and dots as underscores. A column named in no line here is refused: it might hold what a price depends on.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "prefix": ("code", "dial_code", "dialcode", "country_code", "country", "number_prefix"),
    "area": ("areas", "area_code", "area_codes", "city_code"),
    "destination": ("name", "destination_name", "zone", "description"),
    "rate": ("price", "rate_per_minute", "price_per_minute", "rate_min", "price_min"),
    "currency": ("ccy",),
    "effective_from": ("effective", "effective_date", "valid_from", "start_date", "from"),
    "effective_to": ("expiry_date", "valid_to", "valid_until", "end_date", "until"),
    "interval_1": ("initial_increment", "first_interval", "initial_s", "min_time"),
    "interval_n": ("recurring_increment", "next_interval", "next_s", "interval"),
    "increment": ("increments", "billing_increment", "billing"),  # both in one: 60/6
    "connection_fee": ("connect_fee", "setup_fee", "connection_charge"),
    "minimum_s": ("minimum", "minimum_seconds"),
    "grace_s": ("grace", "grace_seconds", "grace_time"),
    "origin_set": ("origin", "origins", "origin_group"),
    "tiers": ("steps",),
    "blocked": ("barred",),
    "change": ("status", "rate_change", "change_type", "action"),
    "comment": ("comments", "note", "notes", "remark", "remarks"),  # read past, not kept
}
REQUIRED: Final = ("prefix", "destination", "rate")
# As we write it: an export, imported again, says the same.
EXPORTED: Final = (
    "prefix", "destination", "rate", "currency", "effective_from", "effective_to", "interval_1", "interval_n",
    "connection_fee", "minimum_s", "grace_s", "origin_set", "tiers", "blocked",
)  # fmt: skip
_NAMES: Final = {other: name for name, others in COLUMNS.items() for other in (name, *others)}
_SHOWN_MAX: Final = 40


def column_of(header: str) -> str | None:
    """Our name of the column that a file calls so; None: none of ours.

    >>> column_of("Effective Date"), column_of("Dial-Code"), column_of("margin")
    ('effective_from', 'prefix', None)
    """
    plain = header.strip().casefold()
    for mark in " -.":
        plain = plain.replace(mark, "_")
    return _NAMES.get(plain)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cell of a row is which column. at: index by column; width: cells a row has."""

    at: Mapping[str, int]
    width: int


def layout_of(header: Sequence[str]) -> Layout:
    """Read the header. Empty headers at its end stand over no column and are left out.

    raises  DeckError naming every column that is unknown, missing or there twice
    """
    names = list(header)
    while names and not names[-1].strip():
        names.pop()
    at: dict[str, int] = {}
    problems = []
    for index, name in enumerate(names):
        column = column_of(name)
        if column is None:
            problems.append(f"{name[:_SHOWN_MAX]!r} is no column")
        elif at.setdefault(column, index) != index:
            problems.append(f"{name[:_SHOWN_MAX]!r} is column {column} a second time")
    problems += [f"column {name} is missing" for name in REQUIRED if name not in at]
    if "increment" in at and ("interval_1" in at or "interval_n" in at):
        problems.append("increment says what interval_1 and interval_n say: keep one or the other")
    if problems:
        known = ", ".join(COLUMNS)
        problems[_SHOWN_MAX:] = (
            [f"and {len(problems) - _SHOWN_MAX} more"] if len(problems) > _SHOWN_MAX else []
        )
        raise DeckError(
            f"{'; '.join(problems)}. Rename or remove columns; known are {known}", row=1, column="header"
        )
    return Layout(at, len(names))
