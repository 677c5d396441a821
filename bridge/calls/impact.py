"""What another deck does to the money: sums before and after, by destination and in all. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.calls.reprice import Repriced, Skip
from bridge.telephony.money import format_micro


@dataclass(slots=True)
class Sums:
    """Of calls that could be priced, changed or not; micro-units."""

    calls: int = 0
    changed: int = 0
    charge_before: int = 0
    charge_after: int = 0
    cost_before: int = 0
    cost_after: int = 0

    def __iadd__(self, other: Sums) -> Sums:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(slots=True)
class Impact:
    """Adds up. A destination is named as the call was sold; amounts of two currencies are never added."""

    groups: defaultdict[tuple[str, str, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    skipped: Counter[Skip] = field(default_factory=Counter)

    def add(self, one: Repriced) -> None:
        """Count a call that could be priced."""
        call, sold, bought = one.call, one.sold, one.bought
        amount_micro, cost_micro = one.amount_micro, one.cost_micro
        rate = sold.rate
        sums = self.groups[rate.destination, rate.currency, bought.rate.currency if bought else rate.currency]
        sums.calls += 1
        sums.charge_before += call.amount_micro
        sums.charge_after += amount_micro
        sums.cost_before += call.cost_micro
        sums.cost_after += cost_micro
        if amount_micro != call.amount_micro or cost_micro != call.cost_micro:
            sums.changed += 1

    def to_json(self) -> dict[str, Any]:
        """Money as decimal strings. Margins only where sell and buy side are in one currency."""
        totals: defaultdict[tuple[str, str], Sums] = defaultdict(Sums)
        for (_, currency, buy_currency), sums in self.groups.items():
            totals[currency, buy_currency] += sums
        calls = sum(sums.calls for sums in totals.values())
        changed = sum(sums.changed for sums in totals.values())
        return {
            "calls": calls + self.skipped.total(),
            "changed": changed,
            "unchanged": calls - changed,
            "skipped": {skip.value: count for skip, count in sorted(self.skipped.items())},
            "totals": [_money(*units, sums) for units, sums in sorted(totals.items())],
            "destinations": [
                {"destination": destination} | _money(currency, buy_currency, sums)
                for (destination, currency, buy_currency), sums in sorted(self.groups.items())
            ],
        }


def _money(currency: str, buy_currency: str, sums: Sums) -> dict[str, Any]:
    same = currency == buy_currency
    told: Mapping[str, int | None] = {
        "charge_before": sums.charge_before,
        "charge_after": sums.charge_after,
        "cost_before": sums.cost_before,
        "cost_after": sums.cost_after,
        "margin_before": sums.charge_before - sums.cost_before if same else None,
        "margin_after": sums.charge_after - sums.cost_after if same else None,
    }
    return {
        "calls": sums.calls,
        "changed": sums.changed,
        **{name: None if micro is None else format_micro(micro) for name, micro in told.items()},
        "currency": currency,
        "cost_currency": buy_currency,
    }
