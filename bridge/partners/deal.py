"""What a deal says: its terms as exact integers, and the arithmetic that statements are made by.

Shares are permyriad (1/100 of a percent). Money is micro-units of the deal's currency. All amounts are of one month.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from bridge.telephony.money import Rounding, divide

WHOLE_PERMYRIAD: Final = 10_000
MINUTE_S: Final = 60
MINUTES_MAX: Final = 10**12
RATE_MICRO_MAX: Final = 10**12  # a million a minute
STEPS_MAX: Final = 50
ON_NET: Final = "on_net"  # a service a deal may name as zero-rated: calls between subscribers of one app

_PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?", re.ASCII)

# What a deal may become. Ended is for ever: whoever agrees again makes a new deal.
TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "draft": frozenset({"signed", "ended"}),
    "signed": frozenset({"ended"}),
    "ended": frozenset(),
}


class Basis(StrEnum):
    """What a share of revenue is taken from."""

    RETAIL_REVENUE = "retail_revenue"
    BUNDLE_SALES = "bundle_sales"


class Mode(StrEnum):
    """How steps count. marginal: each minute by the step it falls into. whole: all by the step reached in the end."""

    MARGINAL = "marginal"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Step:
    """From this minute of the month on, a minute costs this."""

    from_minutes: int
    rate_micro: int


@dataclass(frozen=True, slots=True)
class Wholesale:
    """What we pay the partner for the traffic it carries for us.

    steps    ascending, the first from 0
    raises   ValueError naming what is wrong with the steps
    """

    steps: tuple[Step, ...]
    mode: Mode = Mode.MARGINAL

    def __post_init__(self) -> None:
        starts = [step.from_minutes for step in self.steps]
        if not 1 <= len(starts) <= STEPS_MAX or starts[0] != 0:
            raise ValueError(f"write 1 to {STEPS_MAX} steps, the first from_minutes 0")
        if starts != sorted(set(starts)):
            raise ValueError("steps should ascend by from_minutes, each once")
        if starts[-1] > MINUTES_MAX or any(not 0 <= one.rate_micro <= RATE_MICRO_MAX for one in self.steps):
            raise ValueError("from_minutes or a rate is out of range")

    def step_at(self, billed_s: int) -> Step:
        """The step that the next second falls into after so many of the month."""
        return [step for step in self.steps if step.from_minutes * MINUTE_S <= billed_s][-1]

    def due_micro(self, billed_s: int, rounding: Rounding = Rounding.HALF_UP) -> int:
        """What so many billed seconds of a month cost, rounded once."""
        if billed_s < 0:
            raise ValueError("billed seconds cannot be negative")
        if self.mode is Mode.WHOLE:
            return divide(self.step_at(billed_s).rate_micro * billed_s, MINUTE_S, rounding)
        total = 0  # 1/60 micro-units
        ends = [step.from_minutes * MINUTE_S for step in self.steps[1:]] + [billed_s]
        for step, end_s in zip(self.steps, ends, strict=True):
            total += step.rate_micro * max(0, min(end_s, billed_s) - step.from_minutes * MINUTE_S)
        return divide(total, MINUTE_S, rounding)


@dataclass(frozen=True, slots=True)
class Share:
    """The partner's part of what its subscribers pay."""

    permyriad: int
    of: Basis

    def __post_init__(self) -> None:
        _check_permyriad(self.permyriad)

    def due_micro(self, revenue_micro: int, rounding: Rounding = Rounding.HALF_UP) -> int:
        """Negative where revenue was: more was paid back than came in."""
        return part_micro(revenue_micro, self.permyriad, rounding)


@dataclass(frozen=True, slots=True)
class Commitment:
    """The least of a month. What is less is paid as if it were this; None: nothing was promised."""

    amount_micro: int | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        if self.amount_micro is None and self.minutes is None:
            raise ValueError("name an amount, minutes, or both")
        if (self.amount_micro or 0) < 0 or not 0 <= (self.minutes or 0) <= MINUTES_MAX:
            raise ValueError("a commitment is out of range")

    def missing(self, due_micro: int, billed_s: int) -> tuple[int, int]:
        """Micro-units and seconds short of what was promised."""
        amount = max(0, (self.amount_micro or 0) - due_micro)
        return amount, max(0, (self.minutes or 0) * MINUTE_S - billed_s)


@dataclass(frozen=True, slots=True)
class ZeroRated:
    """What subscribers do not pay and the partner does: calls to these prefixes, and these services."""

    destinations: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Funding:
    """The part of a bundle's price that the partner pays for its subscribers."""

    bundle_id: UUID
    bundle: str
    permyriad: int

    def __post_init__(self) -> None:
        _check_permyriad(self.permyriad)


@dataclass(frozen=True, slots=True)
class Terms:
    """All that one version of a deal says."""

    wholesale: Wholesale | None = None
    revenue_share: tuple[Share, ...] = ()
    commitment: Commitment | None = None
    zero_rated: ZeroRated = field(default_factory=ZeroRated)
    bundle_funding: tuple[Funding, ...] = ()

    def __post_init__(self) -> None:
        if len({share.of for share in self.revenue_share}) != len(self.revenue_share):
            raise ValueError("name one share of each kind of revenue")
        if len({one.bundle_id for one in self.bundle_funding}) != len(self.bundle_funding):
            raise ValueError("name each bundle once")

    def to_json(self) -> dict[str, Any]:
        """As kept: integers only."""
        kept: dict[str, Any] = {}
        if self.wholesale:
            steps = [[step.from_minutes, step.rate_micro] for step in self.wholesale.steps]
            kept["wholesale"] = {"mode": self.wholesale.mode.value, "steps": steps}
        if self.revenue_share:
            kept["revenue_share"] = [[share.permyriad, share.of.value] for share in self.revenue_share]
        if self.commitment:
            kept["commitment"] = {
                "amount_micro": self.commitment.amount_micro,
                "minutes": self.commitment.minutes,
            }
        if self.zero_rated != ZeroRated():
            kept["zero_rated"] = {
                "destinations": list(self.zero_rated.destinations),
                "services": list(self.zero_rated.services),
            }
        if self.bundle_funding:
            kept["bundle_funding"] = [
                [one.bundle_id.hex, one.bundle, one.permyriad] for one in self.bundle_funding
            ]
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        wholesale, zero = kept.get("wholesale"), kept.get("zero_rated", {})
        return cls(
            Wholesale(tuple(Step(*step) for step in wholesale["steps"]), Mode(wholesale["mode"]))
            if wholesale
            else None,
            tuple(Share(permyriad, Basis(of)) for permyriad, of in kept.get("revenue_share", ())),
            Commitment(**kept["commitment"]) if "commitment" in kept else None,
            ZeroRated(tuple(zero.get("destinations", ())), tuple(zero.get("services", ()))),
            tuple(Funding(UUID(hex=key), name, part) for key, name, part in kept.get("bundle_funding", ())),
        )


def may_become(before: str, after: str) -> bool:
    """Whether a deal of the one state may be given the other; its own is no change."""
    return after in TRANSITIONS[before]


def permits(agreed: Sequence[Terms], zero_rated: Sequence[str], *, on_net_free: bool) -> str | None:
    """The first thing that a plan gives away and no deal pays for; None: all is paid for.

    zero_rated   prefixes that the plan's subscribers call for nothing
    """
    paid = tuple({prefix for terms in agreed for prefix in terms.zero_rated.destinations})
    for prefix in zero_rated:
        if not prefix.startswith(paid):
            return prefix
    if on_net_free and not any(ON_NET in terms.zero_rated.services for terms in agreed):
        return ON_NET
    return None


def part_micro(amount_micro: int, permyriad: int, rounding: Rounding = Rounding.HALF_UP) -> int:
    return divide(amount_micro * permyriad, WHOLE_PERMYRIAD, rounding)


def parse_percent(text: str) -> int:
    """Decimal percent to permyriad.

    >>> parse_percent("25"), parse_percent("2.5"), parse_percent("0.05")
    (2500, 250, 5)

    raises   ValueError: no number, over two decimals, over 100
    """
    found = _PERCENT.fullmatch(text)
    if found is None:
        raise ValueError('should be a percentage with at most two decimals, such as "12.50"')
    return _check_permyriad(int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")))


def format_percent(permyriad: int) -> str:
    """
    >>> format_percent(2500), format_percent(5)
    ('25.00', '0.05')
    """
    return f"{permyriad // 100}.{permyriad % 100:02}"


def _check_permyriad(permyriad: int) -> int:
    if not 0 <= permyriad <= WHOLE_PERMYRIAD:
        raise ValueError("should be a percentage from 0 to 100")
    return permyriad
