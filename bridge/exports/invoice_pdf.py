"""An invoice on paper, with its XML inside: PDF/A-3 as Factur-X and ZUGFeRD 2 want it, profile EN 16931."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any, Final

from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject

from bridge.exports.invoice import Invoice, Line, Totals
from bridge.exports.invoice_words import KINDS, WORDS, payment_terms, remarks
from bridge.exports.paper import pictures, render
from bridge.exports.party import Party
from bridge.exports.writing import cents_figure, day, figure, iban_groups
from bridge.telephony.money import MICRO, Rounding, divide

XML_NAME: Final = "factur-x.xml"
_MINUTE_S: Final = 60
# Factur-X 1.0: what the attachment is, said in the metadata by a schema that PDF/A wants declared there.
_FX: Final = """
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>
<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>{name}</fx:DocumentFileName>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>EN 16931</fx:ConformanceLevel></rdf:Description>
"""
_PROPERTY: Final = (
    '<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
    "<pdfaProperty:description>{about}</pdfaProperty:description></rdf:li>"
)
_PROPERTIES: Final = (
    ("DocumentFileName", "name of the embedded XML invoice file"),
    ("DocumentType", "INVOICE"),
    ("Version", "The actual version of the Factur-X XML schema"),
    ("ConformanceLevel", "The conformance level of the embedded Factur-X data"),
)


def to_pdf(invoice: Invoice, totals: Totals, xml: bytes) -> bytes:
    """The document with `xml`, which is of the profile factur-x, as its attachment. The same makes the same bytes."""
    return _marked(render("invoice", paper_data(invoice, totals), attached=xml))


def to_pictures(invoice: Invoice, totals: Totals, *, ppi: int = 90) -> list[bytes]:
    """Its pages as PNG."""
    return pictures("invoice", paper_data(invoice, totals), ppi=ppi)


def xml_in(pdf: bytes) -> bytes:
    """The attachment. raises KeyError: there is none"""
    return PdfReader(BytesIO(pdf)).attachments[XML_NAME][0]


def _marked(pdf: bytes) -> bytes:
    writer = PdfWriter(clone_from=BytesIO(pdf))
    kept: Any = writer.root_object["/Metadata"].get_object()
    said = "".join(_PROPERTY.format(name=name, about=about) for name, about in _PROPERTIES)
    more = _FX.format(properties=said, name=XML_NAME)
    metadata = DecodedStreamObject()
    metadata.set_data(kept.get_data().replace(b"</rdf:RDF>", more.encode() + b"</rdf:RDF>"))
    metadata.update(
        {NameObject("/Type"): NameObject("/Metadata"), NameObject("/Subtype"): NameObject("/XML")}
    )
    writer.root_object[NameObject("/Metadata")] = writer._add_object(metadata)
    written = BytesIO()
    writer.write(written)
    return written.getvalue()


# ---------------------------------------------------------------- what the template is filled with


def paper_data(invoice: Invoice, totals: Totals) -> dict[str, Any]:
    """All that is printed, as text."""
    language = invoice.language
    words = WORDS[language]
    us, partner = _sides(invoice)
    title = words[invoice.type]
    period = f"{day(invoice.from_on, language)} – {day(invoice.until_on, language)}"
    return {
        "language": language,
        "date": invoice.issued_on.isoformat(),
        "title": title,
        "number": invoice.number or words["draft"],
        "issued": day(invoice.issued_on, language),
        "subject": invoice.contract and f"{words['contract']} {invoice.contract}",
        "issuer": us.name,
        "sender": " · ".join((us.name, us.street, f"{us.postcode} {us.city}")),
        "address": [one for one in _address(partner, us) if one],
        "facts": [[name, value] for name, value in _facts(invoice, words, us, partner, period) if value],
        "dear": words["dear"],
        "intro": _intro(invoice, words, period),
        "head": [words[name] for name in ("position", "service", "quantity", "price", "vat")]
        + [f"{words['amount']} {invoice.currency}"],
        "lines": [_line(no, line, invoice) for no, line in enumerate(invoice.lines, 1)],
        "sums": _sums(invoice, totals, words),
        "total": [
            words["due_total"] if totals.paid_cents else words["total"],
            f"{cents_figure(totals.due_cents, language)} {invoice.currency}",
        ],
        "terms": payment_terms(invoice, totals) if totals.due_cents > 0 else "",
        "remarks": remarks(invoice),
        "footer": _footer(us, words),
    }


def _intro(invoice: Invoice, words: Any, period: str) -> str:
    kind = f"intro_{invoice.type}" + ("_self" if invoice.type == "381" and invoice.self_billed else "")
    corrects = ""
    if invoice.corrects is not None:
        number, issued_on = invoice.corrects
        corrects = words["corrected"].format(number=number, day=day(issued_on, invoice.language))
    said: str = words[kind].format(period=period, corrects=corrects)
    return said


def _sides(invoice: Invoice) -> tuple[Party, Party]:
    """Us, who write it, and the partner, whom it is sent to, whoever of the two has supplied something."""
    return (invoice.seller, invoice.buyer) if invoice.seller.ours else (invoice.buyer, invoice.seller)


def _address(partner: Party, us: Party) -> list[str]:
    country = "" if partner.country == us.country else partner.country
    return [
        partner.name,
        partner.contact,
        partner.street,
        f"{partner.postcode} {partner.city}".strip(),
        country,
    ]


def _facts(invoice: Invoice, words: Any, us: Party, partner: Party, period: str) -> Iterable[tuple[str, str]]:
    yield words["number"], invoice.number
    yield words["issued"], day(invoice.issued_on, invoice.language)
    yield words["period"], period
    if invoice.type != "381":
        yield words["due"], day(invoice.due_on, invoice.language)
    yield words["reference"], invoice.buyer_reference if invoice.buyer is partner else ""
    yield words["your_vat"], partner.vat_id
    yield words["your_tax"], "" if partner.vat_id else partner.tax_number
    yield words["our_vat"], us.vat_id
    yield words["contact"], us.contact


def _line(no: int, line: Line, invoice: Invoice) -> dict[str, Any]:
    language = invoice.language
    words = WORDS[language]
    quantity, price = _measure(line, language, words)
    rate = line.vat.hundredths * MICRO // 100
    return {
        "no": str(no),
        "title": line.title,
        "note": line.note,
        "quantity": quantity,
        "price": price,
        "vat": "–" if line.vat.category == "O" else f"{figure(rate, language, 0)} %",
        "amount": cents_figure(line.net_cents, language),
    }


def _measure(line: Line, language: Any, words: Any) -> tuple[list[str], list[str]]:
    """Quantity and price. Seconds are shown as minutes, which are what rates are for."""
    by_minute = line.unit == "SEC"
    unit = words["minutes"] if line.unit in ("SEC", "MIN") else words["piece"]
    one = _MINUTE_S * MICRO if by_minute else MICRO
    shown = divide(line.quantity_micro, _MINUTE_S, Rounding.HALF_UP) if by_minute else line.quantity_micro
    shown = divide(shown, 10_000, Rounding.HALF_UP) * 10_000
    quantity = [f"{figure(shown, language, 2 if by_minute else 0)} {unit}"]
    if line.per_micro == one:
        return quantity, [figure(line.price_micro, language), f"/ {unit}"]
    average = divide(line.price_micro * one, line.per_micro, Rounding.HALF_UP)
    return quantity, [f"ø {figure(average, language)}", f"/ {unit}"]


def _sums(invoice: Invoice, totals: Totals, words: Any) -> list[list[str]]:
    language = invoice.language

    def shown(cents: int) -> str:
        return f"{cents_figure(cents, language)} {invoice.currency}"

    told = [[words["sum"], shown(totals.lines_cents)]]
    if totals.allowances_cents:
        told.append([words["allowances"], shown(-totals.allowances_cents)])
    if totals.charges_cents:
        told.append([words["charges"], shown(totals.charges_cents)])
    for tax in totals.taxes:
        name = {"S": "tax", "AE": "no_tax", "O": "outside"}[tax.vat.category]
        percent = figure(tax.vat.hundredths * MICRO // 100, language, 0)
        told.append([words[name].format(percent=percent, base=shown(tax.base_cents)), shown(tax.tax_cents)])
    if totals.paid_cents:
        told.append([words["paid"], shown(-totals.paid_cents)])
    return told


def _footer(us: Party, words: Any) -> list[list[str]]:
    columns = (
        [us.name, us.street, f"{us.postcode} {us.city}", us.registration],
        [f"{words['phone']} {us.phone}" if us.phone else "", us.email],
        [
            f"IBAN {iban_groups(us.iban)}" if us.iban else "",
            f"BIC {us.bic}" if us.bic else "",
            f"{words['vat_id']} {us.vat_id}" if us.vat_id else "",
            f"{words['tax_number']} {us.tax_number}" if us.tax_number else "",
        ],
    )
    return [[one for one in column if one] for column in columns]


def title_of(kind: str, language: str, otherwise: str) -> str:
    """What is invoiced, in the words of the language."""
    return KINDS[language].get(kind, otherwise)
