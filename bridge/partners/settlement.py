"""What is booked when a statement is approved: its total on the partner's account, against what led to it.

What the traffic was accrued at, call by call on the carriers' accounts, moves to the partner's account; the difference
to the deal's price is cost. What the partner pays is revenue. Outcomes of disputes are booked before: they only move,
where they stand on a carrier's account or in another currency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.partners.statement_inputs import CARRIAGE, LATE, Inputs
from bridge.partners.statement_line import INCOME, Line

PARTNER: Final = "partner"  # the partner's own account in the deal's currency
# Our own accounts, by their role
COST: Final = "cost"
REVENUE: Final = "revenue"
EXCHANGE: Final = "exchange"


@dataclass(frozen=True, slots=True)
class Posting:
    """account   PARTNER, an account's id, or the role of one of our own accounts"""

    account: str
    amount_micro: int
    currency: str


def accrued(inputs: Inputs) -> dict[tuple[str, str], int]:
    """By account and currency: what stands there for what this statement settles.

    Carriers were credited for traffic, call by call; whoever a dispute was with, for that.
    """
    parts = [no for no, part in enumerate(inputs.parts) if part.carries]
    if CARRIAGE in inputs.late:
        parts.append(LATE)
    pairs = [
        ((one.account_id, one.currency), one.amount_micro)
        for no in parts
        for one in inputs.of(("termination",), no)
    ]
    pairs += [((one.account_id or PARTNER, one.currency), one.amount_micro) for one in inputs.outcomes]
    found: dict[tuple[str, str], int] = {}
    for key, amount_micro in pairs:
        found[key] = found.get(key, 0) + amount_micro
    return {key: amount for key, amount in sorted(found.items()) if amount}


def postings(inputs: Inputs, lines: Sequence[Line]) -> tuple[Posting, ...]:
    """They sum to zero in each currency; none where nothing is to be booked. What stands in another currency passes
    through our exchange accounts, each currency's sum converted once.

    raises   Invalid: a rate of exchange is missing
    """
    unit = inputs.currency
    total = sum(line.amount_micro for line in lines)
    income = sum(line.amount_micro for line in lines if line.of in INCOME)
    moved = accrued(inputs)
    by_unit: dict[str, int] = {}
    for (_, currency), amount in moved.items():
        by_unit[currency] = by_unit.get(currency, 0) + amount
    foreign = {other: inputs.converted(amount, other) for other, amount in by_unit.items() if other != unit}
    changed = sum(foreign.values())
    difference = total - income - by_unit.get(unit, 0) - changed
    booked: dict[tuple[str, str], int] = {
        (PARTNER, unit): total,
        (COST, unit): -difference,
        (REVENUE, unit): -income,
    }
    booked[EXCHANGE, unit] = -changed
    for (account, currency), amount in moved.items():
        booked[account, currency] = booked.get((account, currency), 0) - amount
    for other in sorted(foreign):
        booked[EXCHANGE, other] = by_unit[other]
    return tuple(
        Posting(account, amount, currency) for (account, currency), amount in booked.items() if amount
    )
