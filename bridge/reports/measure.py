"""What is measured of traffic, and the ratios of it. A ratio of nothing is None, never 0.

Shares are permyriad (1/100 of a percent). ASR, the answer-seizure ratio, is of ITU-T E.411: answered of all seizures.
NER, the network effectiveness ratio, is of ITU-T E.425: besides what was answered it counts as effective what the
called or the calling side ended (busy, no answer, rejected, given up, a number that is none; `fault` caller or callee
of bridge.telephony.cause), for there the network did its work. ACD is talk time by answered call, PDD is INVITE to
ringing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar

from bridge.partners.deal import WHOLE_PERMYRIAD
from bridge.telephony.money import Rounding, divide

NO_CURRENCY: Final = "XXX"  # of calls that are nobody's: refused strangers, emergency, from the network
PDD_STEP_MS: Final = 50  # how fine quality_hour keeps the post-dial delay
PDD_STEPS_MAX: Final = 1200  # the last step is a minute and more

T = TypeVar("T", "Money", "Quality")


@dataclass(frozen=True, slots=True)
class Money:
    """One row of report_money_v1: sums of records. gross_micro is what was charged less what was written off.

    free     calls that a deal makes free: zero-rated destinations, and between users of one app
    bundle   calls that units paid for; covered_s: seconds that units paid for, in these and in others
    carried  answered calls that trunks carried, for cost_micro
    usage    messages and data: net here, with their tax in gross_micro
    """

    key: str
    currency: str
    calls: int = 0
    answered: int = 0
    talk_ms: int = 0
    billed_s: int = 0
    covered_s: int = 0
    free_calls: int = 0
    free_s: int = 0
    bundle_calls: int = 0
    bundle_s: int = 0
    gross_micro: int = 0
    tax_micro: int = 0
    usage_micro: int = 0
    carried: int = 0
    carried_s: int = 0
    cost_micro: int = 0
    corrections: int = 0

    @property
    def net_micro(self) -> int:
        return self.gross_micro - self.tax_micro

    @property
    def margin_micro(self) -> int:
        return self.net_micro - self.cost_micro

    @property
    def margin_permyriad(self) -> int | None:
        """Of the net revenue; None where there is none."""
        return share(self.margin_micro, self.net_micro)


@dataclass(frozen=True, slots=True)
class Quality:
    """One row of report_quality_v1. measured: seizures whose traffic data told how they went.

    pdd   how many took how many steps of PDD_STEP_MS
    """

    key: str
    seizures: int
    answered: int
    measured: int
    effective: int
    talk_ms: int
    pdd: Mapping[int, int]

    @property
    def asr(self) -> int | None:
        return share(self.answered, self.seizures)

    @property
    def ner(self) -> int | None:
        """None, too, where some traffic data were gone before they were measured: answered calls are kept longer."""
        return share(self.effective, self.seizures) if self.measured == self.seizures else None

    @property
    def acd_ms(self) -> int | None:
        return divide(self.talk_ms, self.answered, Rounding.HALF_UP) if self.answered else None

    @property
    def pdd_ms_p50(self) -> int | None:
        return percentile_ms(self.pdd, 50)

    @property
    def pdd_ms_p95(self) -> int | None:
        return percentile_ms(self.pdd, 95)


def share(part: int, whole: int) -> int | None:
    """Permyriad, half-up; None of nothing, and of less than nothing.

    >>> share(1, 3), share(0, 5), share(0, 0), share(5, -1)
    (3333, 0, None, None)
    """
    return divide(part * WHOLE_PERMYRIAD, whole, Rounding.HALF_UP) if whole > 0 else None


def percentile_ms(steps: Mapping[int, int], percent: int) -> int | None:
    """The middle of the step in which the percentile is (nearest rank); None of nothing.

    >>> percentile_ms({2: 1, 34: 1, 90: 2}, 50), percentile_ms({}, 50)
    (1725, None)
    """
    rank = -(-sum(steps.values()) * percent // 100)
    seen = 0
    for step in sorted(steps):
        seen += steps[step]
        if seen >= rank > 0:
            return step * PDD_STEP_MS + PDD_STEP_MS // 2
    return None


def total(rows: Iterable[T], key: str) -> list[T]:
    """The sum of all rows; of money, one a currency."""
    found: dict[str, T] = {}
    for row in rows:
        unit = getattr(row, "currency", "")
        one = replace(row, key=key)
        found[unit] = _plus(found[unit], one) if unit in found else one
    return [found[unit] for unit in sorted(found)]


def costs_apart(totals: Sequence[Money]) -> list[str]:
    """Currencies in which something costs and nothing is earned: no margin of another currency has that cost."""
    earned = {one.currency for one in totals if one.net_micro}
    return sorted(one.currency for one in totals if one.cost_micro and one.currency not in earned)


def fold(rows: Iterable[Money]) -> list[Money]:
    """The rows with what has no currency in the main one, of most calls: it moves no money, but they are calls."""
    given = list(rows)
    sums = [one for one in total(given, "") if one.currency != NO_CURRENCY]
    if not sums:
        return [replace(one, currency="") for one in given]
    main = max(sums, key=lambda one: (one.calls, one.carried, one.currency)).currency
    found: dict[tuple[str, str], Money] = {}
    for row in given:
        one = replace(row, currency=main) if row.currency == NO_CURRENCY else row
        key = (one.key, one.currency)
        found[key] = _plus(found[key], one) if key in found else one
    return [found[key] for key in sorted(found)]


@dataclass(frozen=True, slots=True)
class Mover:
    """What a key made in a period and in the one before it. change_permyriad: of the one before; None from nothing."""

    key: str
    currency: str
    now_micro: int
    before_micro: int
    now_s: int
    before_s: int

    @property
    def change_micro(self) -> int:
        return self.now_micro - self.before_micro

    @property
    def change_permyriad(self) -> int | None:
        return share(self.change_micro, self.before_micro)


def movers(now: Iterable[Money], earlier: Iterable[Money], most: int = 10) -> list[Mover]:
    """What changed most in net revenue, up or down, the greatest change first; what stayed is none."""
    news = {(one.key, one.currency): one for one in now}
    olds = {(one.key, one.currency): one for one in earlier}
    found = []
    for key in news.keys() | olds.keys():
        new, old = news.get(key) or Money(*key), olds.get(key) or Money(*key)
        found.append(Mover(*key, new.net_micro, old.net_micro, new.billed_s, old.billed_s))
    moved = [one for one in found if one.change_micro or one.now_s != one.before_s]
    moved.sort(
        key=lambda one: (-abs(one.change_micro), -abs(one.now_s - one.before_s), one.key, one.currency)
    )
    return moved[:most]


def _plus(one: T, other: T) -> T:
    summed: dict[str, object] = {}
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, int):
            summed[field.name] = mine + theirs
        elif isinstance(mine, Mapping):
            summed[field.name] = {
                step: mine.get(step, 0) + theirs.get(step, 0) for step in mine.keys() | theirs.keys()
            }
    return replace(one, **summed)  # type: ignore[arg-type]
