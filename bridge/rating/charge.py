"""The arithmetic of a charge, its explanation, and its inverse: how long a budget lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.telephony.money import Rounding, divide, format_micro

MINUTE_S: Final = 60
SECOND_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the explanation. `amount_micro` where the step yields money, else None."""

    name: str
    text: str
    amount_micro: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text} | (
            {} if self.amount_micro is None else {"amount_micro": self.amount_micro}
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What a leg costs. The steps are worked out only when somebody asks."""

    tariff: Tariff
    talk_ms: int
    billed_s: int
    amount_micro: int

    @property
    def currency(self) -> str:
        return self.tariff.currency

    @property
    def steps(self) -> tuple[Step, ...]:
        """How the amount came about, in the order of the arithmetic; readable on a bill."""
        if self.talk_ms == 0:
            return (Step("unanswered", "no talk time, no charge", 0),)
        rate, talk_s = self.tariff.rate, _whole_seconds(self.talk_ms)
        found = [
            Step(
                "talk",
                f"{format_micro(self.talk_ms * SECOND_MS, 0)} s of talk, begun seconds count: {talk_s} s",
            )
        ]
        if talk_s < rate.minimum_s:
            found.append(Step("minimum", f"at least {rate.minimum_s} s"))
        found.append(Step("increments", f"{rate.initial_s}/{rate.next_s}: {self.billed_s} s billed"))
        if rate.connect_fee_micro:
            fee = rate.connect_fee_micro
            found.append(Step("connect", f"connect fee {format_micro(fee)}", fee))
        minutes = f"{self.billed_s} s at {format_micro(rate.rate_micro)} a minute"
        found.append(Step("minutes", minutes, self.amount_micro - rate.connect_fee_micro))
        found.append(Step("total", f"{format_micro(self.amount_micro)} {self.currency}", self.amount_micro))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """For the call's record and the API: numbers, the frozen rate, the steps."""
        return {
            "talk_ms": self.talk_ms,
            "billed_s": self.billed_s,
            "amount_micro": self.amount_micro,
            "currency": self.currency,
            "rate": self.tariff.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }


def charge(tariff: Tariff, talk_ms: int) -> Charge:
    """Price one answered leg.

    talk_ms  answer to hangup, milliseconds, >= 0; 0 costs nothing, not even the connect fee
    returns  amount_micro, rounded half-up once, after all increments, with the steps that led to it
    raises   ValueError: talk_ms is negative

    >>> nine_cents = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
    >>> [charge(nine_cents, ms).amount_micro for ms in (0, 1, 60_000, 60_001)]
    [0, 90000, 90000, 180000]
    """
    if talk_ms < 0:
        raise ValueError(f"talk_ms is {talk_ms}: a leg cannot end before its answer")
    if talk_ms == 0:
        return Charge(tariff, 0, 0, 0)
    rate = tariff.rate
    billed_s = _billed_s(rate, max(_whole_seconds(talk_ms), rate.minimum_s))
    # The connect fee is a whole number, so adding it after the division rounds the sum just as once.
    minutes_micro = divide(rate.rate_micro * billed_s, MINUTE_S, Rounding.HALF_UP)
    return Charge(tariff, talk_ms, billed_s, rate.connect_fee_micro + minutes_micro)


def affordable_ms(tariff: Tariff, budget_micro: int, *, cap_ms: int) -> int:
    """The longest talk that costs at most the budget: cut there, no call overspends; one ms more would.

    returns  milliseconds, 0 to cap_ms; 0 when not even the shortest answered call is affordable

    >>> nine_cents = Tariff(Rate("r", "d", "49", "Germany", "EUR", rate_micro=90_000))
    >>> affordable_ms(nine_cents, 200_000, cap_ms=3_600_000)
    120000
    """
    rate = tariff.rate
    minutes_micro = budget_micro - rate.connect_fee_micro
    if minutes_micro < 0 or cap_ms <= 0:
        return 0
    if rate.rate_micro == 0:
        return cap_ms
    # rate·s/60, rounded half up, stays within m while rate·s/60 < m + 1/2, so while 2·rate·s < 60·(2m + 1).
    billed_s_max = (MINUTE_S * (2 * minutes_micro + 1) - 1) // (2 * rate.rate_micro)
    if billed_s_max < rate.initial_s:
        return 0
    blocks = (billed_s_max - rate.initial_s) // rate.next_s
    talk_s = rate.initial_s + blocks * rate.next_s
    return min(talk_s * SECOND_MS, cap_ms) if talk_s >= rate.minimum_s else 0


def _whole_seconds(talk_ms: int) -> int:
    return -(-talk_ms // SECOND_MS)


def _billed_s(rate: Rate, talk_s: int) -> int:
    if talk_s <= rate.initial_s:
        return rate.initial_s
    return rate.initial_s + -(-(talk_s - rate.initial_s) // rate.next_s) * rate.next_s
