"""An invoice as XML: UN/CEFACT CII, as XRechnung 3.0 or as Factur-X/ZUGFeRD of the profile EN 16931.

Texts are only ever text: the library escapes them, and what XML 1.0 cannot hold is taken out before.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

from drafthorse.models.accounting import ApplicableTradeTax, CategoryTradeTax, TradeAllowanceCharge
from drafthorse.models.document import Document
from drafthorse.models.note import IncludedNote
from drafthorse.models.party import TaxRegistration
from drafthorse.models.payment import PaymentMeans, PaymentTerms
from drafthorse.models.tradelines import LineItem

from bridge.exports.invoice import Extra, Invoice, Line, Totals
from bridge.exports.invoice_words import payment_terms, remarks
from bridge.exports.paper import clean
from bridge.exports.party import Party
from bridge.exports.vat import REASONS, Treatment
from bridge.telephony.money import format_micro

Profile = Literal["xrechnung", "factur-x"]
_GUIDELINE: Final = {
    "xrechnung": "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0",
    "factur-x": "urn:cen.eu:en16931:2017",
}
_PROCESS: Final = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_SCHEMA: Final = "FACTUR-X_EN16931"
SEPA: Final = "58"
CLEARING: Final = "97"  # a credit note is set off


def to_xml(invoice: Invoice, totals: Totals, profile: Profile) -> bytes:
    """The document, valid by the schema; UTF-8. The same invoice makes the same bytes."""
    document: Any = Document()
    document.context.guideline_parameter.id = _GUIDELINE[profile]
    document.context.business_parameter.id = _PROCESS
    document.header.id = invoice.number
    document.header.type_code = invoice.type
    document.header.issue_date_time = invoice.issued_on
    for text in remarks(invoice):
        document.header.notes.add(IncludedNote(content=_text(text)))
    outside = any(tax.vat.category == "O" for tax in totals.taxes)
    _agreement(document.trade.agreement, invoice, outside)
    for line_no, line in enumerate(invoice.lines, 1):
        document.trade.items.add(_line(line_no, line))
    _settlement(document.trade.settlement, invoice, totals)
    made: bytes = document.serialize(schema=_SCHEMA)
    return made


def _text(text: str) -> str:
    told: str = clean(text)
    return told.strip()


def _amount(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _number(micro: int) -> Decimal:
    return Decimal(format_micro(micro, 0))


def _percent(hundredths: int) -> Decimal:
    return Decimal(hundredths).scaleb(-2)


def _agreement(agreement: Any, invoice: Invoice, outside: bool) -> None:
    agreement.buyer_reference = _text(invoice.buyer_reference)
    _party(agreement.seller, invoice.seller, contact=True, outside=outside)
    _party(agreement.buyer, invoice.buyer, contact=False, outside=outside)
    if invoice.contract:
        agreement.contract.issuer_assigned_id = _text(invoice.contract)


def _party(node: Any, party: Party, *, contact: bool, outside: bool) -> None:
    """outside: BR-O-02 allows no VAT id of either side; the tax number stays."""
    node.id = party.key
    node.name = _text(party.name)
    if party.registration:
        node.legal_organization.id = _text(party.registration)
    if contact:
        node.contact.person_name = _text(party.contact)
        node.contact.telephone.number = _text(party.phone)
        node.contact.email.address = _text(party.email)
    node.address.postcode = _text(party.postcode)
    node.address.line_one = _text(party.street)
    node.address.city_name = _text(party.city)
    node.address.country_id = party.country
    node.electronic_address.uri_ID = (party.endpoint_scheme, _text(party.endpoint))
    ids = [("FC", party.tax_number)] if contact else []
    for scheme, number in [*ids, ("VA", "" if outside else party.vat_id)]:
        if number:
            node.tax_registrations.add(TaxRegistration(id=(scheme, _text(number))))


def _line(line_no: int, line: Line) -> Any:
    item: Any = LineItem()
    item.document.line_id = str(line_no)
    item.product.name = _text(line.title)
    if line.note:
        item.product.description = _text(line.note)
    item.agreement.net.amount = _number(line.price_micro)
    item.agreement.net.basis_quantity = (_number(line.per_micro), line.unit)
    item.delivery.billed_quantity = (_number(line.quantity_micro), line.unit)
    item.settlement.trade_tax.type_code = "VAT"
    item.settlement.trade_tax.category_code = line.vat.category
    if line.vat.category != "O":  # BR-O-05
        item.settlement.trade_tax.rate_applicable_percent = _percent(line.vat.hundredths)
    for cents, charge in ((line.allowance_cents, False), (line.charge_cents, True)):
        if cents:
            extra = TradeAllowanceCharge(indicator=charge, actual_amount=_amount(cents), reason="Agreed")
            item.settlement.allowance_charge.add(extra)
    item.settlement.monetary_summation.total_amount = _amount(line.net_cents)
    return item


def _settlement(node: Any, invoice: Invoice, totals: Totals) -> None:
    node.payment_reference = invoice.number
    node.currency_code = invoice.currency
    node.payment_means.add(_means(invoice))
    for tax in totals.taxes:
        told: Any = ApplicableTradeTax()
        told.calculated_amount = _amount(tax.tax_cents)
        told.type_code = "VAT"
        told.basis_amount = _amount(tax.base_cents)
        told.category_code = tax.vat.category
        told.rate_applicable_percent = _percent(tax.vat.hundredths)
        if tax.vat.reason:
            told.exemption_reason = REASONS[invoice.language][tax.vat.reason]
            told.exemption_reason_code = tax.vat.vatex
        node.trade_tax.add(told)
    node.period.start, node.period.end = invoice.from_on, invoice.until_on
    for extra in invoice.extras:
        node.allowance_charge.add(_extra(extra))
    if totals.due_cents > 0:
        node.terms.add(PaymentTerms(description=payment_terms(invoice, totals), due=invoice.due_on))
    _sums(node.monetary_summation, invoice, totals)
    if invoice.corrects is not None:
        number, issued_on = invoice.corrects
        node.invoice_referenced_document.issuer_assigned_id = number
        node.invoice_referenced_document.issue_date_time = issued_on


def _means(invoice: Invoice) -> Any:
    means: Any = PaymentMeans()
    if invoice.type == "381":
        means.type_code = CLEARING
        return means
    means.type_code = SEPA
    means.payee_account.iban = invoice.seller.iban
    means.payee_account.account_name = _text(invoice.seller.name)
    if invoice.seller.bic:
        means.payee_institution.bic = invoice.seller.bic
    return means


def _extra(extra: Extra) -> Any:
    told: Any = TradeAllowanceCharge()
    told.indicator = extra.charge
    told.actual_amount = _amount(extra.amount_cents)
    told.reason = _text(extra.reason)
    told.trade_tax.add(_category(extra.vat))
    return told


def _category(vat: Treatment) -> Any:
    told: Any = CategoryTradeTax()
    told.type_code = "VAT"
    told.category_code = vat.category
    if vat.category != "O":
        told.rate_applicable_percent = _percent(vat.hundredths)
    return told


def _sums(node: Any, invoice: Invoice, totals: Totals) -> None:
    node.line_total = _amount(totals.lines_cents)
    if invoice.extras:
        node.charge_total = _amount(totals.charges_cents)
        node.allowance_total = _amount(totals.allowances_cents)
    node.tax_basis_total = _amount(totals.net_cents)
    node.tax_total = (_amount(totals.tax_cents), invoice.currency)
    node.grand_total = _amount(totals.gross_cents)
    if totals.paid_cents:
        node.prepaid_total = _amount(totals.paid_cents)
    node.due_amount = _amount(totals.due_cents)
