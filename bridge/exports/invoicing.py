"""From a statement to invoices, and from an invoice to its credit note: who supplied what, and what is booked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, Literal

from bridge.errors import Conflict, Invalid
from bridge.exports.invoice import (
    CENT,
    NOT_TELECOM,
    Invoice,
    Line,
    Totals,
    difference_micro,
    line_of,
    totals_of,
)
from bridge.exports.invoice_titles import titled
from bridge.exports.invoice_words import KINDS, WORDS
from bridge.exports.party import Party
from bridge.exports.vat import Rate, treatment
from bridge.partners.statement_line import INCOME, PURCHASE, SECOND, Kind
from bridge.telephony.money import MICRO, format_micro

State = Literal["new", "validated", "sent", "partiallySettled", "settled", "onHold"]
NEXT: Final[Mapping[str, frozenset[str]]] = {
    "new": frozenset({"validated", "onHold"}),
    "validated": frozenset({"sent", "partiallySettled", "settled", "onHold"}),
    "sent": frozenset({"partiallySettled", "settled", "onHold"}),
    "partiallySettled": frozenset({"partiallySettled", "settled", "onHold"}),
    "settled": frozenset(),
    "onHold": frozenset({"new", "validated", "sent", "partiallySettled"}),  # what it was before, and no other
}
_MINUTE_S: Final = 60
# Our own accounts, by their role
VAT: Final = "vat"
ROUNDING: Final = "rounding"
REVENUE: Final = "revenue"
COST: Final = "cost"
PARTNER: Final = "partner"


@dataclass(frozen=True, slots=True)
class Source:
    """A line of a statement. Positive: we owe it."""

    line_no: int
    kind: str
    of_kind: str
    title: str
    quantity: int
    unit: str
    rate_micro: int | None
    amount_micro: int

    @property
    def ours(self) -> bool:
        """We supplied it. A correction goes with what it corrects, whichever way it goes; so does a dispute's outcome
        where it is known what it was about, else it is of whoever gets it."""
        if self.of_kind == Kind.DISPUTE:
            return self.amount_micro < 0
        return self.of_kind in INCOME


@dataclass(frozen=True, slots=True)
class Terms:
    """How a partner is invoiced."""

    language: Literal["de", "en"]
    buyer_reference: str
    self_billing: bool


@dataclass(frozen=True, slots=True)
class Occasion:
    """What invoices are made of, beside the lines. Days are the company's."""

    currency: str
    contract: str
    from_on: date
    until_on: date
    issued_on: date
    due_on: date


def check_step(state: str, wanted: str) -> None:
    """raises   Conflict: an invoice in this state does not become that"""
    if wanted not in NEXT[state]:
        may = ", ".join(sorted(NEXT[state])) or "nothing else"
        raise Conflict(f"The invoice is {state}: it can become {may}, not {wanted}.")


def documents_of(
    sources: Sequence[Source],
    us: Party,
    partner: Party,
    terms: Terms,
    occasion: Occasion,
    rates: Sequence[Rate],
) -> list[Invoice]:
    """Up to two drafts: of what we supplied, and, where the partner agreed to it, of what the partner did.

    A side that comes to less than nothing (corrections) is a credit note. A side that comes to nothing is none.

    raises   Invalid: VAT cannot be told, and what to do
    """
    made = [_document(sources, us, partner, terms, occasion, rates, ours=True)]
    if terms.self_billing:
        made.append(_document(sources, us, partner, terms, occasion, rates, ours=False))
    return [one for one in made if one is not None]


def _document(
    sources: Sequence[Source], us: Party, partner: Party, terms: Terms, occasion: Occasion, rates: Sequence[Rate],
    *, ours: bool,
) -> Invoice | None:  # fmt: skip
    found = [source for source in sources if source.ours is ours]
    total = sum(source.amount_micro for source in found) * (-1 if ours else 1)
    if not any(source.amount_micro for source in found):
        return None
    seller, buyer = (us, partner) if ours else (partner, us)
    credit = total < 0
    sign = (-1 if ours else 1) * (-1 if credit else 1)
    lines = []
    for source in found:
        telecom = source.of_kind not in NOT_TELECOM
        vat = treatment(seller, buyer, rates, occasion.until_on, telecom=telecom)
        lines.append(_line(source, sign, vat, terms.language))
    made = Invoice(
        number="", type="381" if credit else "380" if ours else "389", issued_on=occasion.issued_on,
        due_on=occasion.due_on, currency=occasion.currency, seller=seller, buyer=buyer, from_on=occasion.from_on,
        until_on=occasion.until_on, lines=tuple(lines),
        buyer_reference=terms.buyer_reference if ours else us.key, contract=occasion.contract,
        note=WORDS[terms.language]["earlier"] if credit else "",
        language=terms.language, self_billed=not ours,
    )  # fmt: skip
    return made if totals_of(made).gross_cents > 0 else None


def _line(source: Source, sign: int, vat: Any, language: str) -> Line:
    unit, per = {SECOND: ("SEC", _MINUTE_S * MICRO), PURCHASE: ("C62", MICRO)}.get(
        source.unit, ("C62", MICRO)
    )
    return line_of(
        KINDS[language][source.kind], source.quantity * MICRO, unit, source.rate_micro, sign * source.amount_micro,
        vat, rate_per_micro=per, kind=source.kind, note=titled(source.title, language), source_no=source.line_no,
    )  # fmt: skip


# ---------------------------------------------------------------- credit notes


def credit_of(
    invoice: Invoice, credited: Mapping[int, tuple[int, int]], parts: Mapping[int, int] | None, reason: str
) -> Invoice:
    """A credit note for what is left of an invoice, or for parts of its lines.

    credited   by line number: cents and micro-units that earlier credit notes took back
    parts      cents by line number; None: all that is left
    raises     Invalid: no such line, or nothing of it · Conflict: more than is left
    """
    left = {
        no: (line.net_cents - credited.get(no, (0, 0))[0], line.amount_micro - credited.get(no, (0, 0))[1])
        for no, line in enumerate(invoice.lines, 1)
    }
    wanted = parts if parts is not None else {no: cents for no, (cents, _) in left.items() if cents}
    if not wanted:
        raise Conflict(f"Nothing of invoice {invoice.number} is left to be credited.")
    lines = []
    for no, cents in sorted(wanted.items()):
        if no not in left or not cents:
            raise Invalid(
                f"Invoice {invoice.number} has the lines 1 to {len(left)}; name the amount of each in cents."
            )
        open_cents, open_micro = left[no]
        if not 0 < cents * (1 if open_cents > 0 else -1) <= abs(open_cents):
            raise Conflict(
                f"Of line {no}, {format_micro(open_cents * CENT)} {invoice.currency} are left to be credited."
            )
        lines.append(
            _credited(invoice.lines[no - 1], no, cents, open_micro if cents == open_cents else cents * CENT)
        )
    made = replace(
        invoice, type="381", number="", lines=tuple(lines), extras=(), paid_cents=0, note=reason,
        corrects=(invoice.number, invoice.issued_on),
    )  # fmt: skip
    if totals_of(made).gross_cents <= 0:
        raise Invalid("A credit note comes to more than nothing.")
    return made


def _credited(line: Line, no: int, cents: int, amount_micro: int) -> Line:
    if cents == line.net_cents and amount_micro == line.amount_micro:
        return replace(line, source_no=no)
    return replace(
        line_of(
            line.title, 0, "C62", None, cents * CENT, line.vat, kind=line.kind, note=line.note, source_no=no
        ),
        amount_micro=amount_micro,
    )


# ---------------------------------------------------------------- what is booked


def direction(*, self_billed: bool, credit: bool) -> int:
    """+1: the document adds to what we owe the partner, -1: to what it owes us."""
    return 1 if self_billed is not credit else -1


def postings(invoice: Invoice, totals: Totals) -> list[tuple[str, int]]:
    """By account (PARTNER or a role): what issuing books. The statement has booked the net; of a credit note for an
    invoice that goes back, too. They sum to zero; none where there is nothing to book.
    """
    sign = direction(self_billed=invoice.self_billed, credit=invoice.type == "381")
    tax = totals.tax_cents * CENT
    rounding = difference_micro(invoice.lines)
    net = totals.net_cents * CENT - rounding if invoice.corrects is not None else 0
    booked = (
        (PARTNER, sign * (tax + rounding + net)),
        (VAT, -sign * tax),
        (ROUNDING, -sign * rounding),
        (COST if invoice.self_billed else REVENUE, -sign * net),
    )
    return [(account, amount) for account, amount in booked if amount]


def last_day(until: date) -> date:
    """The last day of a period that ends with the beginning of a day."""
    return until - timedelta(days=1)


def sources_of(rows: Iterable[Mapping[str, Any]]) -> list[Source]:
    return [Source(**{name: row[name] for name in Source.__slots__}) for row in rows]
