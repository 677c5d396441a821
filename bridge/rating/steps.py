"""How a charge came about: every step of the arithmetic in words, for a bill and for those who check it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from bridge.rating.blocks import MINUTE_S, SECOND_MS, Run, instant, lay
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff, Tax, Terms, tax_micro
from bridge.telephony.money import format_micro


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


def explain(
    tariff: Tariff, talk_ms: int, amount_micro: int, answered_at: datetime | None, covered_s: int
) -> tuple[Step, ...]:
    """The steps to a charge. The amounts before the last, the total, add up to it."""
    if talk_ms == 0:
        return (Step("unanswered", "no talk time, no charge", 0),)
    talk_s = -(-talk_ms // SECOND_MS)
    talked = f"{format_micro(talk_ms * SECOND_MS, 0)} s of talk, begun seconds count: {talk_s} s"
    found = [Step("talk", talked)]
    rate, runs = lay(tariff, talk_s, answered_at, covered_s)
    if not runs and talk_s > covered_s:
        return (*found, Step("grace", f"up to {rate.grace_s} s are free", 0))
    if covered_s:
        found.append(Step("covered", f"paid by allowances: {min(talk_s, covered_s)} s"))
    if not runs:
        return (*found, _total(tariff, amount_micro))
    if talk_s < rate.minimum_s:
        found.append(Step("minimum", f"at least {rate.minimum_s} s"))
    found.append(_increments(rate, runs))
    if rate.connect_fee_micro and not covered_s:
        fee_micro = rate.connect_fee_micro
        found.append(Step("connect", f"connect fee {format_micro(fee_micro)}", fee_micro))
    found += _minutes(tariff, answered_at, runs)
    found += _tax(tariff.terms, amount_micro)
    # What is cut off the steps before, and what the one rounding adds
    exact = sum(run.talk_s * run.rate_micro for run in runs) % MINUTE_S == 0
    rest_micro = amount_micro - sum(step.amount_micro or 0 for step in found)
    if rest_micro or not exact:
        terms = tariff.terms
        rule = terms.rounding.value.replace("_", " ")
        found.append(Step("rounding", f"rounded {rule} to {format_micro(terms.quantum_micro)}", rest_micro))
    return (*found, _total(tariff, amount_micro))


def _increments(answer: Rate, runs: list[Run]) -> Step:
    """The lengths of the blocks, in their order."""
    from_s, to_s = runs[0].from_s, runs[-1].to_s
    later = [run.block_s for run in runs[1:]]
    if not later and from_s == 0:
        later = [answer.next_s]
    told = [runs[0].block_s, *(block_s for block_s, _ in groupby(later))]
    return Step("increments", f"{'/'.join(map(str, told))}: {to_s - from_s} s billed")


def _minutes(tariff: Tariff, answered_at: datetime | None, runs: list[Run]) -> list[Step]:
    """One step for each stretch of one price. A fraction of a micro-unit is carried into the next one."""
    found = []
    carried = 0
    for (rate_micro, band), group in groupby(runs, key=lambda run: (run.rate_micro, run.band)):
        stretch = list(group)
        talk_s = sum(run.talk_s for run in stretch)
        text = f"{talk_s} s at {format_micro(rate_micro)} a minute"
        if tariff.rate.tiers or any(one.rate.tiers for one in tariff.bands):
            text += f", seconds {stretch[0].from_s + 1} to {stretch[-1].to_s}"
        if tariff.bands:
            begin, end = (_clock(tariff, answered_at, at_s) for at_s in (stretch[0].from_s, stretch[-1].to_s))
            text += f", {band or 'outside the bands'} {begin} to {end}"
        micro, carried = divmod(carried + talk_s * rate_micro, MINUTE_S)
        found.append(Step("minutes", text, micro))
    return found


def _clock(tariff: Tariff, answered_at: datetime | None, talk_s: int) -> str:
    """The local time, told with its zone: in one night of the year an hour comes twice."""
    return instant(answered_at, talk_s).astimezone(tariff.terms.zone).strftime("%H:%M:%S %Z")


def _tax(terms: Terms, amount_micro: int) -> list[Step]:
    tax = tax_micro(amount_micro, terms)
    percent = f"{format_micro(terms.tax_ppm * 100, 0)} % tax"
    match terms.tax:
        case Tax.NONE:
            return []
        case Tax.INCLUSIVE:
            return [Step("tax", f"contains {percent}: {format_micro(tax)}")]
        case Tax.EXCLUSIVE:
            return [Step("tax", f"plus {percent}: {format_micro(tax)}", tax)]


def _total(tariff: Tariff, amount_micro: int) -> Step:
    return Step("total", f"{format_micro(amount_micro)} {tariff.currency}", amount_micro)
