"""Totals beside each other: the same sum, seen from every side. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.telephony.money import format_micro

HOUSE: Final = "house"
COUNT: Final = ""
SECONDS: Final = "s"
MILLISECONDS: Final = "ms"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One total from all who have it.

    scope   the house, or a partner's name
    unit    COUNT, SECONDS, MILLISECONDS, or a currency: then the values are micro-units of it
    of      the value by who says it, in the order in which it came about
    """

    scope: str
    what: str
    unit: str
    of: Mapping[str, int]

    @property
    def agrees(self) -> bool:
        return len(set(self.of.values())) <= 1

    @property
    def money(self) -> bool:
        return self.unit not in (COUNT, SECONDS, MILLISECONDS)

    def shown(self, value: int) -> str:
        return format_micro(value) if self.money else str(value)

    def to_json(self) -> dict[str, Any]:
        """Money as decimal strings."""
        of = {name: self.shown(value) if self.money else value for name, value in self.of.items()}
        return {
            "scope": self.scope,
            "what": self.what,
            "unit": self.unit or None,
            "of": of,
            "agrees": self.agrees,
        }

    def differs(self) -> str:
        """In words, for an error."""
        said = ", ".join(f"{name} {self.shown(value)}" for name, value in self.of.items())
        return f"{self.scope}: {self.what}{f' ({self.unit})' if self.unit else ''}: {said}"


@dataclass(frozen=True, slots=True)
class Sums:
    """Records by what is added up of them.

    paid, owed   micro-units by currency: what accounts paid, and what carriers are owed. Nothing is not in it
    """

    records: int
    talk_ms: int
    billed_s: int
    paid: Mapping[str, int]
    owed: Mapping[str, int]


def laid(scope: str, of: Mapping[str, Sums]) -> list[Agreement]:
    """The totals of some who have the whole of them."""
    found = [
        Agreement(scope, "records", COUNT, {who: sums.records for who, sums in of.items()}),
        Agreement(scope, "talk", MILLISECONDS, {who: sums.talk_ms for who, sums in of.items()}),
        Agreement(scope, "billed", SECONDS, {who: sums.billed_s for who, sums in of.items()}),
    ]
    return [*found, *money(scope, "paid", {who: sums.paid for who, sums in of.items()}),
            *money(scope, "owed to carriers", {who: sums.owed for who, sums in of.items()})]  # fmt: skip


def money(scope: str, what: str, of: Mapping[str, Mapping[str, int]]) -> list[Agreement]:
    """One total for each currency that anybody has."""
    currencies = sorted({unit for amounts in of.values() for unit, amount in amounts.items() if amount})
    return [
        Agreement(scope, what, unit, {who: amounts.get(unit, 0) for who, amounts in of.items()})
        for unit in currencies
    ]


def summed(rows: Iterable[Mapping[str, Any]]) -> Sums:
    """Rows of the query `records`, or of files that were read back."""
    records = talk_ms = billed_s = 0
    paid: dict[str, int] = {}
    owed: dict[str, int] = {}
    for row in rows:
        records += row["records"]
        talk_ms += row["talk_ms"]
        billed_s += row["billed_s"]
        side = owed if row["leg"] == "termination" else paid
        side[row["currency"]] = side.get(row["currency"], 0) + row["amount_micro"]
    return Sums(records, talk_ms, billed_s, paid, owed)


def differing(found: Sequence[Agreement]) -> list[Agreement]:
    return [one for one in found if not one.agrees]
