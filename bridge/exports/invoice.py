"""Invoices between companies as EN 16931 has them: lines, tax by category and rate, totals. BT numbers are its terms.

Amounts of a document are whole cents. A statement's micro-units become cents once a line; tax is rounded once a
category and rate. Quantities and prices are 10⁻⁶ of their unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from bridge.exports.party import Party
from bridge.exports.vat import Treatment
from bridge.telephony.money import MICRO, Rounding, divide

Type = Literal["380", "381", "389"]  # invoice, credit note, self-billed invoice (UNTDID 1001)
CENT: Final = MICRO // 100  # a cent in micro-units
UNITS: Final = {"C62": "piece", "MIN": "minute", "SEC": "second", "MON": "month", "P1": "per cent"}
# A share of revenue pays for the partner's trade; whatever else is agreed pays for calls (and messages, and data).
NOT_TELECOM: Final = frozenset({"revenue_share"})


@dataclass(frozen=True, slots=True)
class Line:
    """What is invoiced (BG-25): quantity × price / per, less allowances, plus charges, rounded once, is net.

    quantity_micro   BT-129, of `unit` (BT-130); negative for what is taken back
    price_micro      BT-146, never negative, for `per_micro` (BT-149, positive) of the unit
    amount_micro     what the statement says, before it was rounded
    """

    title: str
    quantity_micro: int
    unit: str
    price_micro: int
    per_micro: int
    net_cents: int
    vat: Treatment
    amount_micro: int
    kind: str = ""
    note: str = ""
    allowance_cents: int = 0
    charge_cents: int = 0
    source_no: int | None = None  # of the statement's line

    @property
    def extended_cents(self) -> int:
        return extended(self.quantity_micro, self.price_micro, self.per_micro)


@dataclass(frozen=True, slots=True)
class Extra:
    """Taken off the whole (BG-20), or put on it (BG-21): always positive."""

    reason: str
    amount_cents: int
    vat: Treatment
    charge: bool = False


@dataclass(frozen=True, slots=True)
class Tax:
    """One category and rate (BG-23)."""

    vat: Treatment
    base_cents: int  # BT-116
    tax_cents: int  # BT-117


@dataclass(frozen=True, slots=True)
class Totals:
    lines_cents: int  # BT-106
    allowances_cents: int  # BT-107
    charges_cents: int  # BT-108
    net_cents: int  # BT-109
    tax_cents: int  # BT-110
    gross_cents: int  # BT-112
    paid_cents: int  # BT-113
    due_cents: int  # BT-115
    taxes: tuple[Tax, ...]


@dataclass(frozen=True, slots=True)
class Invoice:
    """A document as it is sent.

    number      empty until it is validated
    from_on     the first and until_on the last day it is for (BT-73, BT-74)
    corrects    number and day of the invoice a credit note is about (BT-25, BT-26)
    self_billed the buyer writes it: a Gutschrift within the meaning of § 14 Abs. 2 UStG, and what credits one
    """

    number: str
    type: Type
    issued_on: date
    due_on: date
    currency: str
    seller: Party
    buyer: Party
    from_on: date
    until_on: date
    lines: tuple[Line, ...]
    buyer_reference: str = ""  # BT-10
    contract: str = ""  # BT-12
    note: str = ""  # BT-22
    language: Literal["de", "en"] = "de"
    extras: tuple[Extra, ...] = ()
    corrects: tuple[str, date] | None = None
    self_billed: bool = False
    paid_cents: int = 0


def cents(amount_micro: int) -> int:
    """Micro-units to cents, half away from zero."""
    return divide(amount_micro, CENT, Rounding.HALF_UP)


def extended(quantity_micro: int, price_micro: int, per_micro: int) -> int:
    """Quantity × price / per in cents, rounded once."""
    return divide(quantity_micro * price_micro, per_micro * CENT, Rounding.HALF_UP)


def line_of(
    title: str, quantity_micro: int, unit: str, rate_micro: int | None, amount_micro: int, vat: Treatment,
    *, rate_per_micro: int = MICRO, kind: str = "", note: str = "", source_no: int | None = None,
) -> Line:  # fmt: skip
    """A statement's line, whose amount is kept to the cent.

    Where quantity × rate is that amount, the price is the rate. Else (tiers, sums of rounded calls) the price is the
    amount itself, for the whole quantity: EN 16931's price base quantity says so exactly.
    """
    net = cents(amount_micro)
    quantity = -abs(quantity_micro) if net < 0 else abs(quantity_micro)
    plain = rate_micro is not None and extended(quantity, abs(rate_micro), rate_per_micro) == net
    if quantity and plain and rate_micro is not None:
        price, per = abs(rate_micro), rate_per_micro
    elif quantity:
        price, per = abs(net) * CENT, abs(quantity)
    else:
        quantity, unit, price, per = (-MICRO if net < 0 else MICRO), "C62", abs(net) * CENT, MICRO
    return Line(title, quantity, unit, price, per, net, vat, amount_micro, kind, note, source_no=source_no)


def totals(lines: Sequence[Line], extras: Sequence[Extra] = (), paid_cents: int = 0) -> Totals:
    """BR-CO-10 to BR-CO-17."""
    allowances = sum(one.amount_cents for one in extras if not one.charge)
    charges = sum(one.amount_cents for one in extras if one.charge)
    summed = sum(line.net_cents for line in lines)
    net = summed - allowances + charges
    taxes = tuple(_taxes(lines, extras))
    tax = sum(one.tax_cents for one in taxes)
    gross = net + tax
    return Totals(summed, allowances, charges, net, tax, gross, paid_cents, gross - paid_cents, taxes)


def _taxes(lines: Sequence[Line], extras: Sequence[Extra]) -> Iterable[Tax]:
    bases: dict[Treatment, int] = {}
    for line in lines:
        bases[line.vat] = bases.get(line.vat, 0) + line.net_cents
    for extra in extras:
        bases[extra.vat] = bases.get(extra.vat, 0) + (
            extra.amount_cents if extra.charge else -extra.amount_cents
        )
    for vat, base in sorted(
        bases.items(), key=lambda one: (one[0].category, one[0].hundredths, one[0].reason)
    ):
        yield Tax(vat, base, divide(base * vat.hundredths, 10_000, Rounding.HALF_UP))


def totals_of(invoice: Invoice) -> Totals:
    return totals(invoice.lines, invoice.extras, invoice.paid_cents)


def difference_micro(lines: Iterable[Line]) -> int:
    """What rounding to cents put on the statement's amounts, or took off: at most half a cent a line."""
    return sum(line.net_cents * CENT - line.amount_micro for line in lines)
