"""From lines of a statement to documents: which side, in which words, and what a side in the red becomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from bridge.exports.invoice import totals_of
from bridge.exports.invoice_rules import broken
from bridge.exports.invoice_titles import titled
from bridge.exports.invoice_words import remarks
from bridge.exports.invoice_xml import to_xml
from bridge.exports.invoicing import Occasion, Source, Terms, documents_of
from bridge.exports.vat import STANDARD
from tests.invoices import PARTNER, US

TERMS = Terms("de", "Leitweg-1", self_billing=True)
OCCASION = Occasion(
    "EUR", "Deal", date(2026, 10, 1), date(2026, 10, 31), date(2026, 11, 2), date(2026, 11, 16)
)


def source(no: int, kind: str, amount_micro: int, of: str = "", title: str = "Dispute: x") -> Source:
    return Source(no, kind, of or kind, title, 0, "", None, amount_micro)


@pytest.mark.parametrize(("of", "self_billed", "sign"), [("zero_rated", False, 1), ("wholesale", True, -1)])
def test_a_side_in_the_red_is_a_credit_note_that_may_be_sent(of: str, self_billed: bool, sign: int) -> None:
    """Corrections of earlier months are more than the month itself: it names no invoice, and says why."""
    sources = [source(1, of, -sign * 1_000_000), source(2, "correction", sign * 3_000_000, of)]
    [made] = documents_of(sources, US, PARTNER, TERMS, OCCASION, STANDARD)
    assert (made.type, made.self_billed, made.corrects) == ("381", self_billed, None)
    totals = totals_of(made)
    assert totals.net_cents == 200
    final = replace(made, number="CB-1")
    assert broken(final, totals) == []
    assert "früherer Monate" in " ".join(remarks(final))
    assert b"fr\xc3\xbcherer Monate" in to_xml(final, totals, "xrechnung")


def test_what_a_dispute_was_about_says_whose_document_it_changes() -> None:
    """We carried too little of their bill: their supply becomes less, it is no supply of ours."""
    sources = [source(1, "wholesale", 10_000_000), source(2, "dispute", -4_000_000, "wholesale")]
    [made] = documents_of(sources, US, PARTNER, TERMS, OCCASION, STANDARD)
    assert (made.type, totals_of(made).net_cents, [line.net_cents for line in made.lines]) == (
        "389",
        600,
        [1000, -400],
    )


@pytest.mark.parametrize(
    ("title", "german"),
    [
        (
            "Traffic carried, from minute 0 of the month, days 1 to 14",
            "Anrufe befördert, ab Minute 0 des Monats, Tage 1 bis 14",
        ),
        (
            "Traffic carried, all at the step from minute 1250",
            "Anrufe befördert, alle zur Stufe ab Minute 1250",
        ),
        (
            "Traffic carried, at the prices of the deck, version 2",
            "Anrufe befördert, zu den Preisen der Preisliste, Fassung 2",
        ),
        (
            "Traffic carried in earlier months, at the prices of the deck",
            "Anrufe früherer Monate, zu den Preisen der Preisliste",
        ),
        (
            "Traffic carried in earlier months, at the step from minute 5",
            "Anrufe früherer Monate, zur Stufe ab Minute 5",
        ),
        ("Minutes short of the 15000.5 committed", "Fehlende Minuten zu den vereinbarten 15000,5"),
        ("Short of the 2500.00 EUR committed", "Fehlender Betrag zu den vereinbarten 2500,00 EUR"),
        (
            "12.50 % of retail revenue, net of earlier months",
            "12,50 % der Endkundenumsätze, netto, früherer Monate",
        ),
        ("10.00 % of bundles sold, net", "10,00 % der verkauften Pakete, netto"),
        (
            "40.00 % of bundle Flex, net, bought in earlier months",
            "40,00 % des Pakets Flex, netto, in früheren Monaten gekauft",
        ),
        (
            "Calls to zero-rated destinations, at what they cost us, of earlier months",
            "Anrufe zu kostenfreien Zielen, zu unseren Kosten, früherer Monate",
        ),
        ("Calls between subscribers of one app", "Anrufe zwischen Nutzern einer App"),
        ("Dispute: 5 % too much", "Klärung: 5 % too much"),
    ],
)
def test_a_german_invoice_says_in_german_what_it_is_for(title: str, german: str) -> None:
    assert (titled(title, "de"), titled(title, "en")) == (german, title)
