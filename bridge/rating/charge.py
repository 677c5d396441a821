"""The arithmetic of a charge, and its inverse: how long a budget lasts."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.rating.blocks import MINUTE_S, SECOND_MS, lay
from bridge.rating.steps import Step, explain
from bridge.rating.tariff import PPM, Tariff, Tax, Terms, tax_micro
from bridge.telephony.money import divide

__all__ = ["MINUTE_S", "SECOND_MS", "Charge", "Step", "affordable_ms", "charge"]


@dataclass(frozen=True, slots=True)
class Charge:
    """What a leg costs. The steps are worked out only when somebody asks.

    billed_s      what the money pays for, beside `covered_s`
    amount_micro  gross
    """

    tariff: Tariff
    talk_ms: int
    billed_s: int
    amount_micro: int
    answered_at: datetime | None = None
    covered_s: int = 0

    @property
    def currency(self) -> str:
        return self.tariff.currency

    @property
    def tax_micro(self) -> int:
        """The tax in the amount."""
        return tax_micro(self.amount_micro, self.tariff.terms)

    @property
    def steps(self) -> tuple[Step, ...]:
        """How the amount came about, in the order of the arithmetic; readable on a bill."""
        return explain(self.tariff, self.talk_ms, self.amount_micro, self.answered_at, self.covered_s)

    def to_json(self) -> dict[str, Any]:
        """For the call's record and the API: numbers, the frozen tariff, the steps."""
        return {
            "talk_ms": self.talk_ms,
            "answered_at": self.answered_at.isoformat() if self.answered_at else None,
            "covered_s": self.covered_s,
            "billed_s": self.billed_s,
            "amount_micro": self.amount_micro,
            "tax_micro": self.tax_micro,
            "currency": self.currency,
            "rate": self.tariff.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }


def charge(
    tariff: Tariff, talk_ms: int, *, answered_at: datetime | None = None, covered_s: int = 0
) -> Charge:
    """Price one answered leg.

    talk_ms      answer to hangup, milliseconds, >= 0; 0 costs nothing, not even the connect fee
    answered_at  aware; needed where the tariff has bands
    covered_s    seconds from the answer that allowances pay; the money part begins there, without a connect fee
    returns      amount_micro, rounded once by the terms, after all increments and exclusive tax
    raises       ValueError: a negative length, or bands and no answer

    >>> from bridge.rating.rate import Rate
    >>> nine_cents = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
    >>> [charge(nine_cents, ms).amount_micro for ms in (0, 1, 60_000, 60_001)]
    [0, 90000, 90000, 180000]
    """
    if talk_ms < 0 or covered_s < 0:
        raise ValueError(f"talk_ms is {talk_ms}, covered_s {covered_s}: a leg cannot end before its answer")
    if talk_ms == 0:
        return Charge(tariff, 0, 0, 0, answered_at, covered_s)
    talk_s = -(-talk_ms // SECOND_MS)
    rate = tariff.rate
    if covered_s or tariff.bands or rate.tiers or not tariff.terms.simple:
        billed_s, amount_micro = _priced(tariff, talk_s, answered_at, covered_s)
        return Charge(tariff, talk_ms, billed_s, amount_micro, answered_at, covered_s)
    if talk_s <= rate.grace_s:
        return Charge(tariff, talk_ms, 0, 0, answered_at)
    # What follows is _priced for the most frequent tariffs, without laying any blocks.
    if talk_s < rate.minimum_s:
        talk_s = rate.minimum_s
    billed_s = rate.initial_s
    if talk_s > billed_s:
        billed_s -= (billed_s - talk_s) // rate.next_s * rate.next_s
    # Half up. The connect fee is a whole number, so adding it after the division rounds the sum just as once.
    minutes_micro = (2 * rate.rate_micro * billed_s + MINUTE_S) // (2 * MINUTE_S)
    return Charge(tariff, talk_ms, billed_s, rate.connect_fee_micro + minutes_micro, answered_at)


def affordable_ms(
    tariff: Tariff,
    budget_micro: int,
    *,
    cap_ms: int,
    answered_at: datetime | None = None,
    covered_s: int = 0,
) -> int:
    """The longest talk that costs at most the budget: cut there, no call overspends; one ms more would.

    returns  milliseconds, 0 to cap_ms; 0 when not even the shortest answered call is affordable
    raises   ValueError as `charge` does

    >>> from bridge.rating.rate import Rate
    >>> nine_cents = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
    >>> affordable_ms(nine_cents, 200_000, cap_ms=3_600_000)
    120000
    """
    if budget_micro < 0 or cap_ms <= 0:
        return 0
    rate = tariff.rate
    if covered_s or tariff.bands or rate.tiers or not tariff.terms.simple:
        return _longest_ms(tariff, budget_micro, cap_ms, answered_at, covered_s)
    minutes_micro = budget_micro - rate.connect_fee_micro
    if minutes_micro >= 0:
        if (rate_micro := rate.rate_micro) == 0:
            return cap_ms
        # rate·s/60, rounded half up, stays within m while rate·s/60 < m + 1/2, so while 2·rate·s < 60·(2m + 1).
        billed_s_max = (MINUTE_S * (2 * minutes_micro + 1) - 1) // (2 * rate_micro)
        talk_s = billed_s_max - (billed_s_max - rate.initial_s) % rate.next_s
        if talk_s >= rate.initial_s and talk_s >= rate.minimum_s and talk_s >= rate.grace_s:
            if talk_s * SECOND_MS < cap_ms:
                return talk_s * SECOND_MS
            return cap_ms
    return min(rate.grace_s * SECOND_MS, cap_ms)


def _longest_ms(
    tariff: Tariff, budget_micro: int, cap_ms: int, answered_at: datetime | None, covered_s: int
) -> int:
    """By any tariff: run after run, as many blocks as the budget pays. A charge never falls with time."""
    laid = lay(tariff, -(-cap_ms // SECOND_MS), answered_at, covered_s)
    net = 0 if covered_s else laid.rate.connect_fee_micro * MINUTE_S
    paid_s = covered_s
    for run in laid.runs:
        block, begun = run.block_s * run.rate_micro, net
        blocks = bisect_right(
            range(1, run.blocks + 1),
            budget_micro,
            key=lambda count: _gross_micro(tariff.terms, begun + count * block),
        )
        net += blocks * block
        paid_s += blocks * run.block_s
        if blocks < run.blocks:
            break
    if paid_s < laid.rate.minimum_s:
        paid_s = 0
    return min(max(paid_s, covered_s, laid.rate.grace_s) * SECOND_MS, cap_ms)


def _priced(tariff: Tariff, talk_s: int, answered_at: datetime | None, covered_s: int) -> tuple[int, int]:
    """Billed seconds and amount of a talk of at least one second, by any tariff."""
    laid = lay(tariff, talk_s, answered_at, covered_s)
    if not laid.runs:
        return 0, 0
    net = sum(run.talk_s * run.rate_micro for run in laid.runs)
    if covered_s == 0:
        net += laid.rate.connect_fee_micro * MINUTE_S
    return laid.runs[-1].to_s - covered_s, _gross_micro(tariff.terms, net)


def _gross_micro(terms: Terms, net: int) -> int:
    """The amount for a net price in micro-units × 60, where it is exact: the one rounding of a charge."""
    taxed = PPM + (terms.tax_ppm if terms.tax is Tax.EXCLUSIVE else 0)
    quanta = divide(net * taxed, MINUTE_S * PPM * terms.quantum_micro, terms.rounding)
    return quanta * terms.quantum_micro
