"""Invoices: amounts, the rules of EN 16931, the XML read back by another reader, and the paper with the XML inside."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from typing import Any

import pytest
from lxml import etree
from pypdf import PdfReader

from bridge.exports.invoice import Extra, Invoice, Line, difference_micro, line_of, totals_of
from bridge.exports.invoice_pdf import paper_data, to_pdf, xml_in
from bridge.exports.invoice_rules import RULES, broken
from bridge.exports.invoice_words import KINDS, WORDS
from bridge.exports.invoice_xml import Profile, to_xml
from bridge.exports.vat import Treatment
from tests.invoices import AE, PARTNER, US, S, invoice, lines, self_billed

M = 1_000_000
OUTSIDE = Treatment("O", 0, "outside")
RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
CREDIT: dict[str, Any] = {
    "type": "381",
    "number": "CB-2026-000002",
    "corrects": ("CB-2026-000001", date(2026, 11, 2)),
}
EXTRAS = (Extra("Agreed discount", 1_000, S), Extra("Handling", 250, AE, charge=True))
KINDS_OF_INVOICE: list[Invoice] = [
    invoice(),
    invoice(lines=(*lines(S), *lines(AE)), extras=EXTRAS, paid_cents=500, note="Danke & <Gruß>"),
    invoice(lines=lines(OUTSIDE), language="en", buyer=replace(PARTNER, country="CH", vat_id="CHE107787577")),
    invoice(lines=(line_of("Korrektur", 60 * M, "SEC", None, -1_234_567, S),)),
    invoice(**CREDIT),
    self_billed(lines=lines(S)),
    replace(self_billed(lines=lines(S)), **CREDIT),
]


# ---------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("quantity", "unit", "rate", "per", "amount", "net", "price", "per_micro"),
    [
        (7_403_000 * M, "SEC", 6_500, 60 * M, 801_991_667, 80_199, 6_500, 60 * M),  # the rate it has
        (
            7_403_000 * M,
            "SEC",
            None,
            M,
            801_987_654,
            80_199,
            801_990_000,
            7_403_000 * M,
        ),  # a sum of rounded calls
        (
            7_403_000 * M,
            "SEC",
            6_500,
            60 * M,
            799_000_000,
            79_900,
            799_000_000,
            7_403_000 * M,
        ),  # not at this rate
        (0, "", None, M, 1_005_000, 101, 1_010_000, M),  # half a cent goes away from zero
        (0, "", None, M, 4_999, 0, 0, M),
        (60 * M, "SEC", 0, 60 * M, 0, 0, 0, 60 * M),  # free of charge
    ],
)
def test_a_line_keeps_the_amount_of_the_statement(
    quantity: int, unit: str, rate: int | None, per: int, amount: int, net: int, price: int, per_micro: int
) -> None:
    line = line_of("x", quantity, unit, rate, amount, S, rate_per_micro=per)
    assert (line.net_cents, line.price_micro, line.per_micro) == (net, price, per_micro)
    assert line.extended_cents == net
    assert abs(difference_micro([line])) <= 5_000
    mirrored = line_of("x", quantity, unit, rate, -amount, S, rate_per_micro=per)
    assert mirrored.net_cents == -net
    assert mirrored.price_micro == price, "BR-27: a price is never negative"


def test_tax_is_rounded_once_a_category_and_not_a_line() -> None:
    three = tuple(
        line_of("x", 0, "", None, 30_000, S) for _ in range(3)
    )  # 3 cents each: 0.57 cents of tax a line
    told = totals_of(invoice(lines=three))
    assert (told.net_cents, told.tax_cents, told.gross_cents) == (9, 2, 11)


# ---------------------------------------------------------------- rules

WRONG: list[tuple[str, Invoice]] = [
    ("BR-16", invoice(lines=())),
    ("BR-27", invoice(lines=(replace(lines()[0], price_micro=-1),))),
    ("PEPPOL-EN16931-R120", invoice(lines=(replace(lines()[0], net_cents=1),))),
    ("BR-S-05", invoice(lines=lines(Treatment("S", 0)))),
    ("BR-AE-10", invoice(lines=lines(Treatment("AE", 0)))),
    ("BR-O-11", invoice(lines=(*lines(OUTSIDE), *lines(S)))),
    ("BR-S-02", invoice(lines=lines(S), seller=replace(US, vat_id="", tax_number=""))),
    ("BR-AE-02", invoice(buyer=replace(PARTNER, vat_id=""))),
    ("BR-DE-3", invoice(seller=replace(US, city=""))),
    ("BR-DE-9", invoice(buyer=replace(PARTNER, postcode=""))),
    ("PEPPOL-EN16931-R010", invoice(buyer=replace(PARTNER, endpoint=""))),
    ("BR-DE-5", invoice(seller=replace(US, contact=""))),
    ("BR-DE-27", invoice(seller=replace(US, phone="+4"))),
    ("BR-DE-28", invoice(seller=replace(US, email="nobody"))),
    ("BR-DE-15", invoice(buyer_reference="")),
    ("BR-29", invoice(from_on=date(2026, 11, 1))),
    ("BR-CO-25", invoice(due_on=date(2026, 11, 1))),
    ("BR-DE-1", invoice(seller=replace(US, iban=""))),
    ("BR-DE-19", self_billed(seller=replace(PARTNER, iban="DE02120300000000202052"))),
    ("BR-55", invoice(type="381")),
    ("BR-55", invoice(type="380", corrects=("CB-2026-000001", date(2026, 11, 2)))),
]


@pytest.mark.parametrize(("rule", "wrong"), WRONG, ids=[rule for rule, _ in WRONG])
def test_a_broken_rule_is_named(rule: str, wrong: Invoice) -> None:
    assert rule in {one.rule for one in broken(wrong, totals_of(wrong))}


@pytest.mark.parametrize("field", ["lines", "allowances", "charges", "net", "tax", "gross", "due"])
def test_totals_that_do_not_add_up_are_seen(field: str) -> None:
    told = totals_of(invoice())
    off = replace(told, **{f"{field}_cents": getattr(told, f"{field}_cents") + 1})
    assert broken(invoice(), off)
    tax = replace(told.taxes[0], base_cents=told.taxes[0].base_cents + 1)
    assert {"BR-S-08", "BR-AE-08"} <= {one.rule for one in broken(invoice(), replace(told, taxes=(tax,)))}


def test_what_is_missing_says_how_to_give_it() -> None:
    def fix(wrong: Invoice) -> str:
        return " ".join(one.problem for one in broken(wrong, totals_of(wrong)))

    assert "Set company.iban in callbridge.toml" in fix(invoice(seller=replace(US, iban="")))
    assert "callbridge partner billing prt_" in fix(invoice(buyer_reference=""))
    assert "--buyer-reference" in fix(invoice(buyer_reference=""))
    assert "Set company.legal_name" in fix(invoice(seller=replace(US, name="")))


@pytest.mark.parametrize("one", KINDS_OF_INVOICE)
def test_ours_break_none(one: Invoice) -> None:
    assert not broken(one, totals_of(one))
    assert len(RULES) > 50


# ---------------------------------------------------------------- XML, read by another reader


def read(xml: bytes, path: str) -> list[str]:
    return [
        str(found.text)
        for found in etree.fromstring(xml).findall(".//" + "/".join(RAM + step for step in path.split("/")))
    ]


def summed(texts: list[str]) -> Decimal:
    return sum(map(Decimal, texts), Decimal(0))


@pytest.mark.parametrize("profile", ["xrechnung", "factur-x"])
@pytest.mark.parametrize("one", KINDS_OF_INVOICE)
def test_the_sums_in_the_xml_follow_from_its_lines(one: Invoice, profile: Profile) -> None:
    xml = to_xml(one, totals_of(one), profile)
    item = "IncludedSupplyChainTradeLineItem/SpecifiedLineTrade"
    nets = read(xml, item + "Settlement/SpecifiedTradeSettlementLineMonetarySummation/LineTotalAmount")
    prices = read(xml, item + "Agreement/NetPriceProductTradePrice/ChargeAmount")
    pers = read(xml, item + "Agreement/NetPriceProductTradePrice/BasisQuantity")
    quantities = read(xml, item + "Delivery/BilledQuantity")
    for net, price, per, quantity in zip(nets, prices, pers, quantities, strict=True):
        exact = Decimal(quantity) * Decimal(price) / Decimal(per)
        assert exact.quantize(Decimal("0.01"), ROUND_HALF_UP) == Decimal(net)
    head = "SpecifiedTradeSettlementHeaderMonetarySummation/"
    (net_sum,), (gross,) = read(xml, head + "TaxBasisTotalAmount"), read(xml, head + "GrandTotalAmount")
    less, more = (
        summed(read(xml, head + "AllowanceTotalAmount")),
        summed(read(xml, head + "ChargeTotalAmount")),
    )
    assert summed(nets) == summed(read(xml, head + "LineTotalAmount"))
    assert summed(nets) - less + more == Decimal(net_sum)
    group = "ApplicableHeaderTradeSettlement/ApplicableTradeTax/"
    taxes = read(xml, group + "CalculatedAmount")
    bases, rates = read(xml, group + "BasisAmount"), read(xml, group + "RateApplicablePercent")
    for tax, base, rate in zip(taxes, bases, rates, strict=True):
        assert (Decimal(base) * Decimal(rate) / 100).quantize(Decimal("0.01"), ROUND_HALF_UP) == Decimal(tax)
    assert summed(bases) == Decimal(net_sum)
    assert summed(taxes) == summed(read(xml, head + "TaxTotalAmount"))
    assert Decimal(net_sum) + summed(taxes) == Decimal(gross)
    paid = summed(read(xml, head + "TotalPrepaidAmount"))
    assert Decimal(gross) - paid == summed(read(xml, head + "DuePayableAmount"))


def test_types_parties_and_references() -> None:
    def told(one: Invoice, path: str) -> list[str]:
        return read(to_xml(one, totals_of(one), "xrechnung"), path)

    assert told(self_billed(), "SellerTradeParty/Name") == [PARTNER.name]
    assert told(self_billed(), "PayeePartyCreditorFinancialAccount/IBANID") == [PARTNER.iban]
    assert told(invoice(), "BuyerReference") == ["PO-4711"]
    assert told(invoice(**CREDIT), "InvoiceReferencedDocument/IssuerAssignedID") == ["CB-2026-000001"]
    assert told(invoice(**CREDIT), "SpecifiedTradeSettlementPaymentMeans/TypeCode") == ["97"]
    assert told(invoice(), "SpecifiedTradeSettlementPaymentMeans/TypeCode") == ["58"]
    outside = KINDS_OF_INVOICE[2]
    assert told(outside, "ApplicableTradeTax/ExemptionReasonCode") == ["VATEX-EU-O"]
    assert told(outside, "BuyerTradeParty/SpecifiedTaxRegistration/ID") == [], "BR-O-02"
    assert told(outside, "SellerTradeParty/SpecifiedTaxRegistration/ID") == [US.tax_number]
    codes = [etree.fromstring(to_xml(one, totals_of(one), "xrechnung")) for one in (invoice(), self_billed())]
    assert [code.find(f".//{RAM}TypeCode").text for code in codes] == ["380", "389"]


HOSTILE = "</ram:Name><x/>&amp;<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>&b;]]>\x00\x0b\u202e #import \"x\""


def test_names_are_text_in_the_xml_and_on_paper() -> None:
    one = invoice(buyer=replace(PARTNER, name=HOSTILE), contract=HOSTILE, buyer_reference=HOSTILE)
    xml = to_xml(one, totals_of(one), "factur-x")
    (name,) = read(xml, "BuyerTradeParty/Name")
    assert name.startswith("</ram:Name><x/>&amp;<!DOCTYPE") and "\x00" not in name and "\u202e" not in name
    assert b"<!DOCTYPE" not in xml
    text = PdfReader(BytesIO(to_pdf(one, totals_of(one), xml))).pages[0].extract_text()
    assert "#import" in text and "<!ENTITY" in text


# ---------------------------------------------------------------- paper


@pytest.mark.parametrize(
    "one", [KINDS_OF_INVOICE[0], KINDS_OF_INVOICE[2], KINDS_OF_INVOICE[4], KINDS_OF_INVOICE[5]]
)
def test_the_xml_is_inside_the_pdf_and_both_come_out_the_same_again(one: Invoice) -> None:
    told = totals_of(one)
    xml = to_xml(one, told, "factur-x")
    pdf = to_pdf(one, told, xml)
    assert xml_in(pdf) == xml
    assert pdf == to_pdf(one, totals_of(one), to_xml(one, told, "factur-x"))
    root: Any = PdfReader(BytesIO(pdf)).trailer["/Root"]
    metadata = etree.fromstring(root["/Metadata"].get_object().get_data())
    fx = "{urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#}"
    assert metadata.find(f".//{fx}ConformanceLevel").text == "EN 16931"
    assert b"pdfaid" in root["/Metadata"].get_object().get_data()
    assert root["/AF"][0].get_object()["/AFRelationship"] == "/Alternative"


def test_what_the_law_wants_is_on_the_paper() -> None:
    def text(one: Invoice) -> str:
        pdf = to_pdf(one, totals_of(one), b"<x/>")
        return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).split())

    shown = text(invoice())
    for wanted in (
        "Rechnung CB-2026-000001", "02.11.2026", US.name, US.vat_id, PARTNER.name, PARTNER.vat_id, "2.406,36 EUR",
        "01.10.2026 – 31.10.2026", "Steuerschuldnerschaft des Leistungsempfängers", "Seite 1 von 1",
    ):  # fmt: skip
        assert wanted in shown
    assert "Gutschrift" not in text(invoice(**CREDIT)), "that word means self-billing"
    assert "Gutschrift CB-2026-000001" in text(self_billed(lines=lines(S)))
    long = text(invoice(lines=lines(count=60), language="en"))
    assert "Page 3 of 3" in long and long.count("Amount EUR") == 3


def test_words_are_there_in_both_languages() -> None:
    assert WORDS["de"].keys() == WORDS["en"].keys()
    assert KINDS["de"].keys() == KINDS["en"].keys()


def test_seconds_are_shown_as_minutes() -> None:
    line: Line = line_of("x", 90 * M, "SEC", 60_000, 90_000, S, rate_per_micro=60 * M)
    shown = paper_data(invoice(lines=(line,)), totals_of(invoice(lines=(line,))))["lines"][0]
    assert (shown["quantity"], shown["price"]) == (["1,50 Min."], ["0,06", "/ Min."])
