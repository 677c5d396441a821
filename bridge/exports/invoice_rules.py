"""What must hold of an invoice before it gets a number: rules of EN 16931, XRechnung 3.0 and Peppol, by their ids.

Each rule looks at the document and its totals and says what is wrong; what an operator can mend, it says how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from bridge.exports.invoice import Invoice, Tax, Totals, extended
from bridge.exports.party import clean_iban
from bridge.telephony.money import Rounding, divide

Check = Callable[[Invoice, Totals], str | None]
RULES: Final[dict[str, Check]] = {}
# BR-DE-28: one @ with something before it and behind it, no dot or blank at the ends
_EMAIL: Final = re.compile(r"[^@\s.]([^@\s]*[^@\s.])?@[^@\s.]+(\.[^@\s.]+)+")


@dataclass(frozen=True, slots=True)
class Broken:
    """rule: its id in the standard."""

    rule: str
    problem: str


def broken(invoice: Invoice, totals: Totals) -> list[Broken]:
    """Which rules do not hold. None: the document may be sent."""
    said = ((rule, check(invoice, totals)) for rule, check in RULES.items())
    return [Broken(rule, problem) for rule, problem in said if problem is not None]


def rule(*ids: str) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        RULES.update(dict.fromkeys(ids, check))
        return check

    return keep


def _unless(holds: bool, problem: str) -> str | None:
    return None if holds else problem


def _first(problems: Iterable[str | None]) -> str | None:
    return next((one for one in problems if one is not None), None)


def _all(problems: Iterable[str | None]) -> str | None:
    return " ".join(one for one in problems if one is not None) or None


def _same(name: str, told: int, should: int) -> str | None:
    return _unless(told == should, f"{name} is {told} cents and should be {should}")


# ---------------------------------------------------------------- arithmetic


@rule("BR-16")
def _lines(invoice: Invoice, _: Totals) -> str | None:
    return _unless(bool(invoice.lines), "an invoice has a line at least")


@rule("BR-27", "BR-28")
def _prices(invoice: Invoice, _: Totals) -> str | None:
    bad = [line.title for line in invoice.lines if line.price_micro < 0 or line.per_micro <= 0]
    return _unless(not bad, f"the price of {bad[:1]} is negative: the quantity should be")


@rule("PEPPOL-EN16931-R120")
def _net_of_line(invoice: Invoice, _: Totals) -> str | None:
    return _first(
        _same(
            f"the net amount of line {line_no}",
            line.net_cents,
            extended(line.quantity_micro, line.price_micro, line.per_micro)
            - line.allowance_cents
            + line.charge_cents,
        )
        for line_no, line in enumerate(invoice.lines, 1)
    )


@rule("BR-CO-10")
def _sum_of_lines(invoice: Invoice, totals: Totals) -> str | None:
    return _same("the sum of the lines", totals.lines_cents, sum(line.net_cents for line in invoice.lines))


@rule("BR-CO-11")
def _sum_of_allowances(invoice: Invoice, totals: Totals) -> str | None:
    should = sum(one.amount_cents for one in invoice.extras if not one.charge)
    return _same("the sum of allowances", totals.allowances_cents, should)


@rule("BR-CO-12")
def _sum_of_charges(invoice: Invoice, totals: Totals) -> str | None:
    return _same(
        "the sum of charges",
        totals.charges_cents,
        sum(one.amount_cents for one in invoice.extras if one.charge),
    )


@rule("BR-CO-13")
def _net(_: Invoice, totals: Totals) -> str | None:
    should = totals.lines_cents - totals.allowances_cents + totals.charges_cents
    return _same("the total without tax", totals.net_cents, should)


@rule("BR-CO-14")
def _tax(_: Invoice, totals: Totals) -> str | None:
    return _same("the tax", totals.tax_cents, sum(one.tax_cents for one in totals.taxes))


@rule("BR-CO-15")
def _gross(_: Invoice, totals: Totals) -> str | None:
    return _same("the total with tax", totals.gross_cents, totals.net_cents + totals.tax_cents)


@rule("BR-CO-16")
def _due(_: Invoice, totals: Totals) -> str | None:
    return _same("the amount due", totals.due_cents, totals.gross_cents - totals.paid_cents)


@rule("BR-CO-17")
def _tax_of_category(_: Invoice, totals: Totals) -> str | None:
    return _first(
        _same(
            f"the tax of {one.vat.category}",
            one.tax_cents,
            divide(one.base_cents * one.vat.hundredths, 10_000, Rounding.HALF_UP),
        )
        for one in totals.taxes
    )


@rule("BR-CO-18", "BR-S-01", "BR-AE-01", "BR-O-01")
def _one_group_a_category(invoice: Invoice, totals: Totals) -> str | None:
    treated = [line.vat for line in invoice.lines] + [extra.vat for extra in invoice.extras]
    used = {(vat.category, vat.hundredths) for vat in treated}
    told = [(one.vat.category, one.vat.hundredths) for one in totals.taxes]
    return _unless(used == set(told) and len(told) == len(used), "each category and rate is summed up once")


@rule("BR-S-08", "BR-AE-08", "BR-O-08")
def _base_of_category(invoice: Invoice, totals: Totals) -> str | None:
    def base(tax: Tax) -> int:
        lines = sum(line.net_cents for line in invoice.lines if line.vat == tax.vat)
        more = sum(one.amount_cents for one in invoice.extras if one.vat == tax.vat and one.charge)
        less = sum(one.amount_cents for one in invoice.extras if one.vat == tax.vat and not one.charge)
        return lines + more - less

    return _first(
        _same(f"what is taxed as {one.vat.category}", one.base_cents, base(one)) for one in totals.taxes
    )


@rule("BR-S-05", "BR-AE-05", "BR-O-05", "BR-AE-09", "BR-O-09")
def _rates(invoice: Invoice, _: Totals) -> str | None:
    treated = [line.vat for line in invoice.lines] + [extra.vat for extra in invoice.extras]
    bad = [vat for vat in treated if (vat.category == "S") != (vat.hundredths > 0)]
    return _unless(not bad, "category S has a rate, and no other has")


@rule("BR-S-10", "BR-AE-10", "BR-O-10")
def _reasons(_: Invoice, totals: Totals) -> str | None:
    bad = [one for one in totals.taxes if (one.vat.category == "S") != (not one.vat.reason)]
    return _unless(not bad, "category S has no reason for an exemption, and every other has")


@rule("BR-O-11", "BR-O-12", "BR-O-13", "BR-O-14")
def _outside_alone(_: Invoice, totals: Totals) -> str | None:
    categories = {one.vat.category for one in totals.taxes}
    return _unless(
        "O" not in categories or categories == {"O"}, "what is outside the scope of VAT stands alone"
    )


# ---------------------------------------------------------------- who


@rule("BR-S-02", "BR-AE-02", "BR-DE-16")
def _tax_ids(invoice: Invoice, totals: Totals) -> str | None:
    categories = {one.vat.category for one in totals.taxes}
    seller, buyer = invoice.seller, invoice.buyer
    if categories & {"S", "AE"} and not (seller.vat_id or seller.tax_number):
        return f"{seller.called} needs a VAT id or a tax number. {seller.fix('vat_id')}"
    if "AE" in categories and not (buyer.vat_id or buyer.registration):
        return f"{buyer.called} needs a VAT id. {buyer.fix('vat_id')}"
    return None


@rule(
    "BR-06",
    "BR-07",
    "BR-08",
    "BR-10",
    "BR-DE-3",
    "BR-DE-4",
    "BR-DE-8",
    "BR-DE-9",
    "PEPPOL-EN16931-R010",
    "PEPPOL-EN16931-R020",
)
def _addresses(invoice: Invoice, _: Totals) -> str | None:
    asked = ("name", "street", "postcode", "city", "country", "endpoint")
    return _all(
        _unless(bool(getattr(party, field)), f"{party.called} needs a {field}. {party.fix(field)}")
        for party in (invoice.seller, invoice.buyer)
        for field in asked
    )


@rule("BR-DE-2", "BR-DE-5", "BR-DE-6", "BR-DE-7")
def _contact(invoice: Invoice, _: Totals) -> str | None:
    seller = invoice.seller
    return _all(
        _unless(
            bool(getattr(seller, field)),
            f"{seller.called} needs a {field} for its invoices. {seller.fix(field)}",
        )
        for field in ("contact", "phone", "email")
    )


@rule("BR-DE-27", "BR-DE-28")
def _contact_is_one(invoice: Invoice, _: Totals) -> str | None:
    seller = invoice.seller
    if seller.phone and sum(one.isdigit() for one in seller.phone) < 3:
        return f"The phone of {seller.called} has fewer than three digits. {seller.fix('phone')}"
    bad = bool(seller.email) and not _EMAIL.fullmatch(seller.email)
    return f"The e-mail address of {seller.called} is none. {seller.fix('email')}" if bad else None


@rule("BR-DE-15")
def _reference(invoice: Invoice, _: Totals) -> str | None:
    party = invoice.seller if invoice.buyer.ours else invoice.buyer
    problem = (
        f"The buyer reference is missing (Leitweg-ID, or an agreed text). {party.fix('buyer_reference')}"
    )
    return _unless(bool(invoice.buyer_reference), problem)


# ---------------------------------------------------------------- when, and how it is paid


@rule("BR-DE-TMP-32", "BR-29", "BR-CO-19")
def _period(invoice: Invoice, _: Totals) -> str | None:
    return _unless(invoice.from_on <= invoice.until_on, "the period ends before it begins")


@rule("BR-CO-25")
def _terms(invoice: Invoice, totals: Totals) -> str | None:
    return _unless(
        totals.due_cents <= 0 or invoice.due_on >= invoice.issued_on, "it is due before it is issued"
    )


@rule("BR-DE-1", "BR-DE-19", "BR-DE-23-a", "BR-50", "BR-61")
def _account(invoice: Invoice, _: Totals) -> str | None:
    payee = invoice.seller
    if invoice.type == "381":  # set off, or paid back: code 97, which has no account
        return None
    if not payee.iban:
        return f"{payee.called} needs an IBAN to be paid to. {payee.fix('iban')}"
    try:
        clean_iban(payee.iban)
    except ValueError as error:
        return f"The IBAN of {payee.called} {error}. {payee.fix('iban')}"
    return None


@rule("BR-55", "BR-DE-17")
def _what_it_corrects(invoice: Invoice, _: Totals) -> str | None:
    """One of a statement is about earlier months as a whole (§ 17 (4) UStG): it says so, and names none."""
    if invoice.type != "381":
        return _unless(invoice.corrects is None, "a credit note names its invoice, and nothing else does")
    return _unless(invoice.corrects is not None or bool(invoice.note), "a credit note says what it corrects")
