"""The words of the monthly report, in German and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PURPOSES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "retail": "charged", "bundle": "paid by units of bundles", "destination": "zero-rated: destination of a deal",
        "on-net": "zero-rated: between users of one app", "usage": "messages and data", "quality": "not answered",
        "wholesale": "carried by trunks",
    },
    "de": {
        "retail": "berechnet", "bundle": "durch Paketeinheiten bezahlt",
        "destination": "kostenfrei: Ziel eines Vertrags",
        "on-net": "kostenfrei: zwischen Nutzern einer App", "usage": "Nachrichten und Daten",
        "quality": "nicht angenommen", "wholesale": "über Leitungen abgewickelt",
    },
}  # fmt: skip

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "house": "All traffic", "report of": "Monthly report, {}", "before": "{} on the month before",
        "points": "points", "calls": "calls", "talk": "talk time", "revenue": "revenue, net", "margin": "margin",
        "carried": "carried for us", "traffic": "Traffic", "by destination": "Traffic by destination",
        "destination": "destination", "answered": "answered", "talk min": "talk min", "billed min": "billed min",
        "cost": "cost", "sum": "total", "others": "{} others", "money": "Revenue, cost and margin",
        "margin by carrier": "Margin by carrier", "margin by partner": "Margin by partner",
        "no carrier": "no carrier", "apart": ", cost in {} apart",
        "money text": "Margin: net revenue less what carriers get for the calls, in each currency by itself; cost in "
        "another currency stands in a row of its own. Partners' shares, what partners pay and bundles sold are not in "
        "it: they are on the statements.",
        "our own": "our own subscribers", "movers": "What changed most",
        "movers text": "Net revenue by destination, against the month before.", "month before": "month before",
        "this month": "this month", "change": "change", "quality": "Quality",
        "quality by destination": "Quality of calls by destination",
        "quality by trunk": "Quality of attempts by trunk", "seizures": "seizures", "purpose": "purpose",
        "purposes": "Charged, bundled and zero-rated", "statement": "Statement: {}", "line": "line",
        "quantity": "quantity",
        "statement text": "Positive: we owe the partner. Negative: the partner owes us.",
        "purposes text": "What callers do not pay for is listed apart, with the purpose its records are kept for.",
        "lead": "Days and hours are those of {zone}. Money is net of tax, charges less what was written off.",
        "notes": "Definitions",
        "definitions": "Calls and money count when their record was numbered; later prices count in the month in which "
        "they were booked. These are the records of the CDR files and of the statement.\n"
        "Seizure: a call or attempt that was sent to a trunk. ASR (ITU-T E.411): answered of all seizures. NER (ITU-T "
        "E.425): seizures that were answered, or that the called or the calling side ended, of all seizures.\n"
        "ACD: talk time by answered call. PDD: from the request to ringing or early media; p50 and p95 are the delay "
        "that 50 % and 95 % of seizures do not exceed, measured in steps of 50 ms.\n"
        "Billed time: talk time after increments and minimum. A dash: there was nothing to measure.",
    },
    "de": {
        "house": "Gesamter Verkehr", "report of": "Monatsbericht {}", "before": "{} zum Vormonat",
        "points": "Punkte", "calls": "Anrufe", "talk": "Gesprächszeit", "revenue": "Erlöse, netto", "margin": "Marge",
        "carried": "für uns befördert", "traffic": "Verkehr", "by destination": "Verkehr nach Ziel",
        "destination": "Ziel", "answered": "angenommen", "talk min": "Gespräch min", "billed min": "berechnet min",
        "cost": "Kosten", "sum": "Summe", "others": "{} weitere", "money": "Erlöse, Kosten und Marge",
        "margin by carrier": "Marge nach Netzbetreiber", "margin by partner": "Marge nach Partner",
        "no carrier": "ohne Netzbetreiber", "apart": ", ohne Kosten in {}",
        "money text": "Marge: Nettoerlöse abzüglich dessen, was Netzbetreiber für die Anrufe erhalten, je Währung für "
        "sich; Kosten in anderer Währung stehen in einer eigenen Zeile. Anteile der Partner, Zahlungen der Partner und "
        "verkaufte Pakete sind nicht enthalten: sie stehen auf den Abrechnungen.",
        "our own": "eigene Teilnehmer", "movers": "Größte Veränderungen",
        "movers text": "Nettoerlöse nach Ziel im Vergleich zum Vormonat.", "month before": "Vormonat",
        "this month": "dieser Monat", "change": "Veränderung", "quality": "Qualität",
        "quality by destination": "Qualität der Anrufe nach Ziel",
        "quality by trunk": "Qualität der Versuche nach Leitung", "seizures": "Belegungen", "purpose": "Zweck",
        "purposes": "Berechnet, aus Paketen und kostenfrei", "statement": "Abrechnung: {}",
        "line": "Posten", "quantity": "Menge",
        "statement text": "Positiv: wir schulden dem Partner. Negativ: der Partner schuldet uns.",
        "purposes text": "Was Anrufer nicht bezahlen, steht getrennt, mit dem Zweck, für den die Daten gespeichert "
        "sind.",
        "lead": "Tage und Stunden gelten für {zone}. Beträge ohne Steuer, abzüglich dessen, was ausgebucht wurde.",
        "notes": "Begriffe",
        "definitions": "Anrufe und Beträge zählen, wenn ihr Datensatz nummeriert wurde; spätere Preise zählen in dem "
        "Monat, in dem sie gebucht wurden. Es sind die Datensätze der CDR-Dateien und der Abrechnung.\n"
        "Belegung: ein Anruf oder Versuch, der an eine Leitung ging. ASR (ITU-T E.411): Anteil der angenommenen "
        "Belegungen. NER (ITU-T E.425): Anteil der Belegungen, die angenommen oder von einer der beiden Seiten "
        "beendet wurden.\n"
        "ACD: Gesprächszeit je angenommenem Anruf. PDD: von der Anfrage bis zum Klingeln; p50 und p95 werden von 50 % "
        "und 95 % der Belegungen nicht überschritten, gemessen in Schritten von 50 ms.\n"
        "Berechnete Zeit: Gesprächszeit nach Takt und Mindestdauer. Ein Strich: es gab nichts zu messen.",
    },
}  # fmt: skip
