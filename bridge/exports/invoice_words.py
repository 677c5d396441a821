"""What an invoice says in words, in German and in English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.exports.invoice import Invoice, Totals
from bridge.exports.vat import REASONS
from bridge.exports.writing import cents_figure, day, iban_groups

KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "de": {
        "wholesale": "Telekommunikationsleistungen: Transport von Anrufen",
        "revenue_share": "Umsatzbeteiligung",
        "shortfall": "Differenz zur Mindestabnahme",
        "bundle_funding": "Telekommunikationsleistungen: Zuschuss zu Paketen",
        "zero_rated": "Telekommunikationsleistungen: für Nutzer kostenfreie Anrufe",
        "correction": "Korrektur früherer Monate",
        "dispute": "Ergebnis einer Klärung",
    },
    "en": {
        "wholesale": "Telecommunication services: calls carried",
        "revenue_share": "Share of revenue",
        "shortfall": "Shortfall of the commitment",
        "bundle_funding": "Telecommunication services: funding of bundles",
        "zero_rated": "Telecommunication services: calls that are free for users",
        "correction": "Correction of earlier months",
        "dispute": "Outcome of a dispute",
    },
}

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "de": {
        "380": "Rechnung",
        "381": "Rechnungskorrektur",
        "389": "Gutschrift",
        "number": "Nummer",
        "issued": "Datum",
        "due": "Fällig am",
        "period": "Leistungszeitraum",
        "reference": "Ihre Referenz",
        "contract": "Vertrag",
        "your_vat": "Ihre USt-IdNr.",
        "your_tax": "Ihre Steuernummer",
        "our_vat": "Unsere USt-IdNr.",
        "vat_id": "USt-IdNr.",
        "contact": "Ansprechpartner",
        "position": "Pos.",
        "service": "Leistung",
        "quantity": "Menge",
        "price": "Preis",
        "vat": "USt.",
        "amount": "Betrag",
        "sum": "Summe netto",
        "allowances": "Abzüge",
        "charges": "Zuschläge",
        "tax": "Umsatzsteuer {percent} % auf {base}",
        "no_tax": "Umsatzsteuer 0 % auf {base}",
        "outside": "nicht steuerbar: {base}",
        "total": "Gesamtbetrag",
        "paid": "Bereits gezahlt",
        "due_total": "Zahlbetrag",
        "corrects": "Zur Rechnung {number} vom {day}",
        "piece": "Stk.",
        "minutes": "Min.",
        "phone": "Tel.",
        "tax_number": "Steuernummer",
        "intro_380": "für unsere Leistungen im Zeitraum {period} berechnen wir Ihnen:",
        "intro_389": "über Ihre Leistungen im Zeitraum {period} erteilen wir Ihnen diese Gutschrift:",
        "intro_381": "zu Ihren Gunsten korrigieren wir unsere Abrechnung{corrects}:",
        "intro_381_self": "unsere Gutschrift an Sie korrigieren wir{corrects}; es mindert sich, was wir zahlen:",
        "corrected": " {number} vom {day}",
        "earlier": "Korrektur unserer Abrechnungen früherer Monate; welcher, sagt die Abrechnung des Vertrags.",
        "dear": "Sehr geehrte Damen und Herren,",
        "draft": "Entwurf",
        "self_billed": "Gutschrift im Sinne von § 14 Abs. 2 UStG: Diese Abrechnung stellt der "
        "Leistungsempfänger aus. Sie verliert ihre Wirkung, wenn Sie ihr widersprechen.",
    },
    "en": {
        "380": "Invoice",
        "381": "Credit note",
        "389": "Self-billed invoice",
        "number": "Number",
        "issued": "Date",
        "due": "Due on",
        "period": "Period",
        "reference": "Your reference",
        "contract": "Contract",
        "your_vat": "Your VAT id",
        "your_tax": "Your tax number",
        "our_vat": "Our VAT id",
        "vat_id": "VAT id",
        "contact": "Contact",
        "position": "No.",
        "service": "Service",
        "quantity": "Quantity",
        "price": "Price",
        "vat": "VAT",
        "amount": "Amount",
        "sum": "Total without VAT",
        "allowances": "Allowances",
        "charges": "Charges",
        "tax": "VAT {percent} % of {base}",
        "no_tax": "VAT 0 % of {base}",
        "outside": "outside the scope of VAT: {base}",
        "total": "Total",
        "paid": "Paid already",
        "due_total": "Amount due",
        "corrects": "For invoice {number} of {day}",
        "piece": "pcs.",
        "minutes": "min",
        "phone": "Phone",
        "tax_number": "Tax number",
        "intro_380": "for our services from {period} we invoice:",
        "intro_389": "for your services from {period} we credit to you:",
        "intro_381": "in your favour we correct our invoice{corrects}:",
        "intro_381_self": "we correct our self-billed invoice{corrects}, so that we pay less:",
        "corrected": " {number} of {day}",
        "earlier": "Correction of what we charged for earlier months; the contract's statement says which.",
        "dear": "Dear Sir or Madam,",
        "draft": "Draft",
        "self_billed": "Self-billing (“Gutschrift”, § 14 (2) UStG): issued by the recipient of the "
        "services. It loses its effect when you object to it.",
    },
}


def remarks(invoice: Invoice) -> list[str]:
    """What the law wants said: self-billing by its name, and why no tax is shown."""
    words = WORDS[invoice.language]
    said = [words["self_billed"]] if invoice.type == "389" else []
    if invoice.corrects is not None:
        number, issued_on = invoice.corrects
        said.append(words["corrects"].format(number=number, day=day(issued_on, invoice.language)))
    reasons = dict.fromkeys(line.vat.reason for line in invoice.lines if line.vat.reason)
    said += [REASONS[invoice.language][reason] for reason in reasons]
    return said + ([invoice.note] if invoice.note else [])


def payment_terms(invoice: Invoice, totals: Totals) -> str:
    """How it is paid (BT-20)."""
    amount = f"{cents_figure(totals.due_cents, invoice.language)} {invoice.currency}"
    until, iban = day(invoice.due_on, invoice.language), iban_groups(invoice.seller.iban)
    if invoice.language == "de":
        if invoice.type == "381":
            return (
                f"{amount} verrechnen wir mit offenen Posten."
                if not invoice.self_billed
                else (f"{amount} verrechnen wir mit unseren Zahlungen an Sie.")
            )
        if invoice.self_billed:
            return f"Wir zahlen {amount} bis zum {until} auf Ihr Konto {iban}."
        return (
            f"Bitte zahlen Sie {amount} ohne Abzug bis zum {until} auf das Konto {iban} und nennen Sie die "
            f"Nummer {invoice.number}."
        )
    if invoice.type == "381":
        return f"{amount} is set off against what is open."
    if invoice.self_billed:
        return f"We pay {amount} by {until} to your account {iban}."
    return f"Please pay {amount} without deduction by {until} to the account {iban}, naming {invoice.number}."
