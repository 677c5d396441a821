"""The itemised bill: what stands on it, what the law keeps off it, and its sums. Pure.

TDDDG § 11 (1): numbers whole or without their last three digits, as was chosen before the period. § 11 (5): calls to
lines that counsel people by telephone are not recognisable. Directive (EU) 2018/1972, annex VI A (a): calls that are
free for the caller, helplines among them, are not identified either. So both are one sum, without numbers and times:
nobody can tell from the bill whom somebody in need has called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from bridge.telephony.money import Rounding, divide

Numbers = Literal["full", "short"]

SHORTENED: Final = "short"  # what holds where nobody has chosen
HIDDEN_DIGITS: Final = 3
PPM: Final = 1_000_000
# Counselling by telephone, as far as it has numbers for all of Germany; settings name more (`bills.counselling`).
COUNSELLING: Final = frozenset(
    {
        "+498001110111",  # TelefonSeelsorge
        "+498001110222",
        "+49116123",
        "+49116111",  # Nummer gegen Kummer: children and young people
        "+498001110333",
        "+498001110550",  # and parents
        "+49116016",  # Hilfetelefon: violence against women
        "+498000116016",
        "+498001239900",  # violence against men
        "+498002255530",  # sexual abuse
        "+498004040020",  # pregnant women in need
        "+49116006",  # victims of crime
        "+498001372700",  # gambling
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """One record of a call. Signed: a reversal takes back. kept: the call's traffic data are still there."""

    at: datetime
    number: str | None
    destination: str
    talk_ms: int
    billed_s: int
    covered_s: int
    gross_micro: int
    tax_ppm: int
    purpose: str
    kind: str
    kept: bool

    @property
    def tax_micro(self) -> int:
        return tax_of(self.gross_micro, self.tax_ppm)


@dataclass(frozen=True, slots=True)
class Used:
    """Messages or data. quantity: messages or bytes; charged: beyond allowances; None: the report is gone."""

    at: datetime
    service: str
    quantity: int | None
    charged: int | None
    gross_micro: int
    tax_ppm: int = 0

    @property
    def tax_micro(self) -> int:
        return tax_of(self.gross_micro, self.tax_ppm)


@dataclass(frozen=True, slots=True)
class Booking:
    """Whatever else was booked on the account. Signed: positive, the account gained. bundle: what was bought."""

    at: datetime
    kind: str
    amount_micro: int
    bundle: str | None


@dataclass(frozen=True, slots=True)
class Sum:
    """So many calls, and what they cost."""

    calls: int = 0
    gross_micro: int = 0
    tax_micro: int = 0
    billed_s: int = 0
    covered_s: int = 0

    def plus(self, call: Call) -> Sum:
        return Sum(
            self.calls + (call.kind == "first"),
            self.gross_micro + call.gross_micro,
            self.tax_micro + call.tax_micro,
            self.billed_s + call.billed_s,
            self.covered_s + call.covered_s,
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """Of a prepaid account. shift: what was booked on the other side of the period's ends than it counts."""

    opening_micro: int
    closing_micro: int
    shift_micro: int


@dataclass(frozen=True, slots=True)
class Bill:
    """lines: what is itemised. unlisted: free and counselling calls. gone: calls whose traffic data are no longer kept.

    others   calls of other numbers that the same account pays for
    """

    lines: Sequence[Call]
    unlisted: Sum
    gone: Sum
    used: Sequence[Used]
    bookings: Sequence[Booking]
    others: Sum
    balance: Balance | None
    numbers: Numbers
    taxes: Mapping[int, tuple[int, int]] = field(
        default_factory=dict
    )  # tax_ppm: (gross, tax) of this number's calls

    @property
    def calls_micro(self) -> int:
        """All calls of the number: the sum of their records."""
        return sum(gross for gross, _ in self.taxes.values())

    @property
    def calls_tax_micro(self) -> int:
        return sum(tax for _, tax in self.taxes.values())

    @property
    def used_micro(self) -> int:
        return sum(one.gross_micro for one in self.used)

    @property
    def used_taxes(self) -> Mapping[int, tuple[int, int]]:
        """Of messages and data, as `taxes`."""
        found: dict[int, tuple[int, int]] = {}
        for one in self.used:
            gross, tax = found.get(one.tax_ppm, (0, 0))
            found[one.tax_ppm] = (gross + one.gross_micro, tax + one.tax_micro)
        return found


def bill(
    calls: Iterable[Call],
    used: Sequence[Used],
    bookings: Sequence[Booking],
    others: Sum,
    *,
    numbers: Numbers,
    protected: frozenset[str],
    balance: tuple[int, int] | None,
) -> Bill:
    """A bill of these records. balance: before and after the period. protected: counselling lines, E.164."""
    lines: list[Call] = []
    unlisted, gone, taxes = Sum(), Sum(), dict[int, tuple[int, int]]()
    for call in calls:
        gross, tax = taxes.get(call.tax_ppm, (0, 0))
        taxes[call.tax_ppm] = (gross + call.gross_micro, tax + call.tax_micro)
        if not call.kept:
            gone = gone.plus(call)
        elif is_unlisted(call, protected):
            unlisted = unlisted.plus(call)
        else:
            lines.append(call)
    kept = None
    if balance:
        moved = sum(one.amount_micro for one in bookings) - others.gross_micro
        moved -= sum(gross for gross, _ in taxes.values()) + sum(one.gross_micro for one in used)
        kept = Balance(*balance, balance[1] - balance[0] - moved)
    return Bill(lines, unlisted, gone, used, bookings, others, kept, numbers, taxes)


def is_unlisted(call: Call, protected: frozenset[str]) -> bool:
    """Whether nothing but a sum may stand for it: free for the caller, or to a counselling line.

    What units paid for is not free: whoever bought them may see what became of them.
    """
    free = call.gross_micro == 0 and call.covered_s == 0
    return (
        free or call.purpose in ("destination", "on-net") or call.number is None or call.number in protected
    )


def shown(number: str, numbers: Numbers) -> str:
    """A number as the bill has it.

    >>> shown("+493023125010", "short"), shown("+493023125010", "full"), shown("115", "short")
    ('+493023125xxx', '+493023125010', 'xxx')
    """
    return number if numbers == "full" else number[:-HIDDEN_DIGITS] + "x" * min(HIDDEN_DIGITS, len(number))


def tax_of(gross_micro: int, tax_ppm: int) -> int:
    """The tax in a gross amount, half-up, record by record: sums agree with reports."""
    return divide(gross_micro * tax_ppm, PPM + tax_ppm, Rounding.HALF_UP)


def tax_ppm_of(terms: Mapping[str, Any] | None) -> int:
    """Of the tax terms of a record."""
    return int(terms["tax_ppm"]) if terms and terms.get("tax") not in (None, "none") else 0
