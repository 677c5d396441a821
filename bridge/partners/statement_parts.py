"""Which terms are in force when, in a month that deals may begin, change and end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from bridge.errors import Conflict
from bridge.partners.deal import Terms
from bridge.partners.statement_inputs import CARRIAGE, Part, kinds_of

_NOTHING: Final = Terms()
_HALF_A_DAY: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Agreed:
    """A version of a deal that was signed, and when it is in force. until_at None: without end.

    deal   grows with the age of the deals: the smallest is the oldest
    """

    deal: str
    name: str
    version: int
    from_at: datetime
    until_at: datetime | None
    terms: Terms

    def at(self, instant: datetime) -> bool:
        return self.from_at <= instant and (self.until_at is None or instant < self.until_at)


def parts_of(
    deal: str, agreed: Sequence[Agreed], from_at: datetime, to_at: datetime, zone: ZoneInfo
) -> tuple[tuple[Part, ...], frozenset[str]]:
    """The month in parts, each with this deal's terms, and of what late records this deal's statement counts.

    agreed   all versions of all deals with the partner, this one's included
    raises   Conflict: two deals say something of the same kind at the same time
    """
    agreed = sorted(agreed, key=lambda one: (one.deal, one.version))
    edges = {from_at, to_at}
    for one in agreed:
        edges |= {at for at in (one.from_at, one.until_at) if at is not None and from_at < at < to_at}
    noons = _noons(from_at, to_at, zone)
    parts: list[Part] = []
    last: dict[str, str] = {}
    for begin, end in pairwise(sorted(edges)):
        present = [one for one in agreed if one.at(begin)]
        _check_one_of_a_kind(present)
        for one in present:
            last |= dict.fromkeys(kinds_of(one.terms), one.deal)
        carrier = _who_carries(present, agreed, from_at, to_at)
        last[CARRIAGE] = carrier
        ours = next((one for one in present if one.deal == deal), None)
        parts.append(
            Part(
                version=ours.version if ours else 0,
                from_at=begin,
                until_at=end,
                days=sum(begin <= noon < end for noon in noons),
                carries=carrier == deal,
                terms=ours.terms if ours else _NOTHING,
            )
        )
    return _joined(parts), frozenset(kind for kind, owner in last.items() if owner == deal)


def _who_carries(
    present: Sequence[Agreed], agreed: Sequence[Agreed], from_at: datetime, to_at: datetime
) -> str:
    """The deal with wholesale terms settles the traffic, else the oldest in force, else the oldest of the month."""
    for one in present:
        if one.terms.wholesale:
            return one.deal
    touching = [
        one for one in agreed if one.from_at < to_at and (one.until_at is None or one.until_at > from_at)
    ]
    return next((one.deal for one in [*present, *touching]), "")


def _check_one_of_a_kind(present: Sequence[Agreed]) -> None:
    said: dict[str, Agreed] = {}
    for one in present:
        for kind in sorted(kinds_of(one.terms)):
            other = said.setdefault(kind, one)
            if other is not one:
                raise Conflict(
                    f"Two deals with this partner, {other.name!r} and {one.name!r}, have terms of the same kind "
                    f"({kind}) at the same time. End one of them, or agree on a version without them."
                )


def _noons(from_at: datetime, to_at: datetime, zone: ZoneInfo) -> list[datetime]:
    """A day counts for the terms that are in force at its noon, by the local clock."""
    noon = (from_at.astimezone(zone).replace(tzinfo=None) + _HALF_A_DAY).replace(tzinfo=zone)
    found = []
    while noon < to_at:
        found.append(noon)
        noon += timedelta(days=1)
    return found


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Without the edges that only other deals have."""
    joined: list[Part] = []
    for part in parts:
        before = joined[-1] if joined else None
        if before and (before.version, before.carries) == (part.version, part.carries):
            joined[-1] = replace(before, until_at=part.until_at, days=before.days + part.days)
        else:
            joined.append(part)
    return tuple(joined)
