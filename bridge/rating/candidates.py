"""Why one prefix of a number priced a call, and the others did not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.rating.rate import Rate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rate that is or was in the deck, for a prefix of the number.

    from_at, until_at     when it is in force; None is without end
    added_in, removed_in  versions of the deck; None: it is in the latest one
    """

    prefix: str
    origin_set: str
    from_at: datetime | None
    until_at: datetime | None
    added_in: int
    removed_in: int | None


def prefixes_of(digits: str) -> list[str]:
    """Every prefix of a number, the longest first."""
    return [digits[:length] for length in range(len(digits), 0, -1)]


def told(
    candidates: Iterable[Candidate], chosen: Rate, version: int, at: datetime, origins: Sequence[str]
) -> list[dict[str, str]]:
    """Each candidate with what became of it, the longest prefix first. JSON-able.

    version   of the deck when the call was admitted, at `at`
    origins   the origin sets of the caller's number
    """
    ordered = sorted(candidates, key=lambda one: (-len(one.prefix), one.origin_set, one.added_in))
    return [
        {
            "prefix": one.prefix,
            "origin_set": one.origin_set,
            "why": _why(one, chosen, version, at, origins),
        }
        for one in ordered
    ]


def _why(one: Candidate, chosen: Rate, version: int, at: datetime, origins: Sequence[str]) -> str:
    if one.added_in > version:
        return f"came later, with version {one.added_in}"
    if one.removed_in is not None and one.removed_in <= version:
        return f"was gone since version {one.removed_in}"
    if one.from_at is not None and at < one.from_at:
        return f"in force from {one.from_at.isoformat()} only"
    if one.until_at is not None and at >= one.until_at:
        return f"in force until {one.until_at.isoformat()} only"
    if one.origin_set and one.origin_set not in origins:
        return f"for callers from {one.origin_set} only"
    if (one.prefix, one.origin_set) == (chosen.prefix, chosen.origin_set):
        return "applied: the longest that fits"
    if len(one.prefix) < len(chosen.prefix):
        return "shorter"
    if one.prefix == chosen.prefix:
        return f"the rate for callers from {chosen.origin_set} is the closer one"
    return "fits better: the call was priced by a shorter one"
