"""A bill for people and for machines: the data of its template, rows of a CSV file, an object of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from bridge.partners.month import zone_of
from bridge.rating.deck_cells import guarded
from bridge.reports import writing
from bridge.reports.bill import Bill, Booking, Call, shown
from bridge.reports.period import Period
from bridge.reports.report import percent
from bridge.reports.store.bill import Holder
from bridge.reports.writing import Language
from bridge.telephony.money import format_micro

TEMPLATE: Final = "bill"
CSV_COLUMNS: Final = (
    "at", "number", "destination", "duration_s", "billed_s", "bundle_s", "net", "tax", "gross", "currency", "kind",
)  # fmt: skip

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "de": {
        "title": "Einzelverbindungsnachweis", "number": "Rufnummer", "account": "Konto", "period": "Zeitraum",
        "date": "Datum", "time": "Uhrzeit", "called": "Zielrufnummer", "destination": "Ziel", "duration": "Dauer",
        "billed": "berechnet", "units": "aus Paket", "net": "netto", "gross": "brutto", "calls": "Verbindungen",
        "count": "Anzahl", "sum": "Summe der Verbindungen", "carried": "Übertrag",
        "unlisted": "Verbindungen ohne Einzelnachweis", "gone": "Verbindungen, deren Daten gelöscht sind",
        "unlisted text": "Kostenfreie Verbindungen und Verbindungen zu Anschlüssen, die nicht erkennbar sein dürfen "
        "(§ 11 Abs. 5 TDDDG), sind nur als Summe aufgeführt.",
        "gone text": "Die Verkehrsdaten dieses Zeitraums werden nicht mehr aufbewahrt (§ 10 TDDDG). Einzelne "
        "Verbindungen können daher nicht mehr nachgewiesen werden; die Summen sind vollständig.",
        "short": "Zielrufnummern sind um die letzten drei Ziffern gekürzt.",
        "full": "Zielrufnummern sind wie gewählt vollständig aufgeführt.",
        "usage": "Nachrichten und Daten", "service": "Dienst", "quantity": "Menge", "charged": "berechnet ",
        "bookings": "Pakete und Buchungen", "booking": "Buchung", "amount": "Betrag", "bundle": "Paket",
        "summary": "Zusammenfassung", "tax": "enthaltene Umsatzsteuer {}", "no tax": "ohne Umsatzsteuerausweis",
        "others": "Verbindungen anderer Rufnummern des Kontos", "opening": "Guthaben zu Beginn",
        "closing": "Guthaben am Ende", "shift": "zeitversetzt gebucht", "total": "Gesamt", "correction": "Korrektur",
        "early": "Vorläufig: noch nicht alle Verbindungen des Zeitraums sind erfasst.",
        "purchase": "Kauf", "top_up": "Aufladung", "refund": "Erstattung", "referral": "Empfehlung",
        "exchange": "Umtausch", "reversal": "Storno", "settlement": "Abrechnung", "payment": "Zahlung",
    },
    "en": {
        "title": "Itemised bill", "number": "number", "account": "account", "period": "period",
        "date": "date", "time": "time", "called": "called number", "destination": "destination",
        "duration": "duration", "billed": "billed", "units": "from bundle", "net": "net", "gross": "gross",
        "calls": "Calls", "count": "count", "sum": "total of calls", "carried": "carried forward",
        "unlisted": "calls that are not itemised", "gone": "calls whose data are deleted",
        "unlisted text": "Calls that cost nothing, and calls to lines that must not be recognisable (TDDDG § 11 (5)), "
        "are listed as a sum only.",
        "gone text": "Traffic data of this period are no longer kept (TDDDG § 10). Single calls can no longer be "
        "proved; the sums are complete.",
        "short": "Called numbers lack their last three digits.",
        "full": "Called numbers are whole, as was chosen.",
        "usage": "Messages and data", "service": "service", "quantity": "quantity", "charged": "charged",
        "bookings": "Bundles and bookings", "booking": "booking", "amount": "amount", "bundle": "bundle",
        "summary": "Summary", "tax": "VAT contained, {}", "no tax": "no VAT shown",
        "others": "calls of other numbers of the account", "opening": "balance at the beginning",
        "closing": "balance at the end", "shift": "booked at another time", "total": "total",
        "correction": "correction", "early": "Preliminary: not all calls of the period are recorded yet.",
        "purchase": "purchase", "top_up": "top-up", "refund": "refund", "referral": "referral",
        "exchange": "exchange", "reversal": "reversal", "settlement": "settlement", "payment": "payment",
    },
}  # fmt: skip


def to_json(bill: Bill, whose: Holder, period: Period, *, complete: bool) -> dict[str, Any]:
    """Money as decimal strings; times in UTC."""
    return {
        "subscriber_id": f"sub_{whose.subscriber_id.hex}",
        "a_number": whose.a_number,
        "month": period.month,
        "from": _utc(period.since),
        "to": _utc(period.until),
        "complete": complete,
        "currency": whose.currency,
        "numbers": bill.numbers,
        "records_kept": not bill.gone.calls and not bill.gone.gross_micro,
        "calls": [_line(call, bill) for call in bill.lines],
        "unlisted": {"calls": bill.unlisted.calls, "gross": format_micro(bill.unlisted.gross_micro)},
        "gone": {"calls": bill.gone.calls, "gross": format_micro(bill.gone.gross_micro)},
        "usage": [
            {
                "at": _utc(one.at),
                "service": one.service,
                "quantity": one.quantity,
                "charged_quantity": one.charged,
                "tax": format_micro(one.tax_micro),
                "gross": format_micro(one.gross_micro),
            }
            for one in bill.used
        ],
        "bookings": [
            {
                "at": _utc(one.at),
                "kind": one.kind,
                "bundle": one.bundle,
                "amount": format_micro(one.amount_micro),
            }
            for one in bill.bookings
        ],
        "totals": {
            "calls_gross": format_micro(bill.calls_micro),
            "calls_tax": format_micro(bill.calls_tax_micro),
            "calls_net": format_micro(bill.calls_micro - bill.calls_tax_micro),
            "usage_gross": format_micro(bill.used_micro),
            "usage_tax": format_micro(sum(one.tax_micro for one in bill.used)),
            "other_numbers": format_micro(bill.others.gross_micro),
        },
        "balance": {
            "opening": format_micro(bill.balance.opening_micro),
            "closing": format_micro(bill.balance.closing_micro),
            "booked_at_another_time": format_micro(bill.balance.shift_micro),
        }
        if bill.balance
        else None,
    }


def to_csv(bill: Bill, whose: Holder) -> str:
    """What is itemised, and the sum of what is not: the column gross adds up to all calls."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\r\n", restval="")
    writer.writeheader()
    for call in bill.lines:
        line = _line(call, bill) | {"currency": whose.currency}
        line |= {"number": guarded(line["number"]), "destination": guarded(line["destination"])}
        writer.writerow(line)
    for kind, one in (("unlisted", bill.unlisted), ("gone", bill.gone)):
        if one.calls or one.gross_micro:
            writer.writerow(
                {
                    "net": format_micro(one.gross_micro - one.tax_micro),
                    "tax": format_micro(one.tax_micro),
                    "gross": format_micro(one.gross_micro),
                    "currency": whose.currency,
                    "kind": kind,
                }
            )
    return out.getvalue()


def paper(
    bill: Bill, whose: Holder, period: Period, language: Language, company: str, *, complete: bool
) -> dict[str, Any]:
    """The data of the template."""
    words, zone = WORDS[language], zone_of(period.zone)
    notes = [words[bill.numbers]]
    if bill.unlisted.calls:
        notes.append(words["unlisted text"])
    if bill.gone.calls or bill.gone.gross_micro:
        notes.insert(0, words["gone text"])
    if not complete:
        notes.insert(0, words["early"])
    label = writing.month(period.month, language) if period.month else period.label
    return {
        "language": language,
        "date": period.until.astimezone(zone).date().isoformat(),
        "words": dict(words),
        "author": company,
        "facts": [
            [words["number"], whose.a_number],
            [words["period"], f"{label} ({period.zone})"],
            [words["account"], f"{whose.account}, {whose.currency}"],
        ],
        "currency": whose.currency,
        "decimal": "," if language == "de" else ".",
        "notes": notes,
        "calls": [_cells(call, bill, zone, language) for call in bill.lines],
        "sums": [
            [words[name], writing.number(one.calls, 0, language),
             writing.amount(one.gross_micro - one.tax_micro, language, 4), writing.amount(one.gross_micro, language, 4)]
            for name, one in (("unlisted", bill.unlisted), ("gone", bill.gone)) if one.calls or one.gross_micro
        ],
        "total": [writing.amount(bill.calls_micro - bill.calls_tax_micro, language, 4),
                  writing.amount(bill.calls_micro, language, 4)],
        "usage": [
            [*writing.clock(one.at, zone, language), one.service,
             writing.quantity(one.service, one.quantity, language),
             writing.amount(one.gross_micro, language, 4)]
            for one in bill.used
        ],
        "bookings": [
            [*writing.clock(one.at, zone, language), _booking(one, words), writing.amount(one.amount_micro, language)]
            for one in bill.bookings
        ],
        "summary": _summary(bill, language),
    }  # fmt: skip


def _summary(bill: Bill, language: Language) -> list[list[str]]:
    """Label, amount, and how it stands there: plain, sum or quiet."""
    words = WORDS[language]

    def row(label: str, micro: int, how: str = "plain") -> list[str]:
        return [label, writing.amount(micro, language, 4), how]

    sign = -1 if bill.balance else 1  # of prepaid money, what was paid is what is gone

    def taxes(of: Mapping[int, tuple[int, int]]) -> list[list[str]]:
        rates = [(ppm, tax) for ppm, (gross, tax) in sorted(of.items()) if ppm and gross]
        comma = "," if language == "de" else "."
        shown = [((percent(ppm // 100) or "").replace(".", comma) + " %", tax) for ppm, tax in rates]
        return [row(words["tax"].format(rate), tax, "quiet") for rate, tax in shown]

    rows = [row(words["sum"], sign * bill.calls_micro), *taxes(bill.taxes)]
    if bill.used:
        rows += [row(words["usage"], sign * bill.used_micro), *taxes(bill.used_taxes)]
    if bill.others.calls or bill.others.gross_micro:
        rows.append(row(words["others"], sign * bill.others.gross_micro))
    if bill.bookings:
        rows.append(row(words["bookings"], -sign * sum(one.amount_micro for one in bill.bookings)))
    if bill.balance:
        rows.insert(0, row(words["opening"], bill.balance.opening_micro))
        if bill.balance.shift_micro:
            rows.append(row(words["shift"], bill.balance.shift_micro))
        rows.append(row(words["closing"], bill.balance.closing_micro, "sum"))
    else:
        due = bill.calls_micro + bill.used_micro + bill.others.gross_micro
        rows.append(row(words["total"], due - sum(one.amount_micro for one in bill.bookings), "sum"))
    return rows


def _cells(call: Call, bill: Bill, zone: ZoneInfo, language: Language) -> dict[str, Any]:
    """A line as printed, and its gross amount to be carried from page to page."""
    day, time = writing.clock(call.at, zone, language)
    what = call.destination
    if call.kind != "first":
        what = f"{WORDS[language]['correction']}: {what}"
    return {
        "cells": [
            day, time, shown(call.number or "", bill.numbers), what,
            writing.duration(call.talk_ms // 1000) if call.talk_ms >= 0 else writing.duration(-(-call.talk_ms // 1000)),
            writing.duration(call.covered_s) if call.covered_s else "",
            writing.amount(call.gross_micro - call.tax_micro, language, 4),
            writing.amount(call.gross_micro, language, 4),
        ],
        "micro": call.gross_micro,
    }  # fmt: skip


def _line(call: Call, bill: Bill) -> dict[str, Any]:
    return {
        "at": _utc(call.at),
        "number": shown(call.number or "", bill.numbers),
        "destination": call.destination,
        "duration_s": call.talk_ms // 1000 if call.talk_ms >= 0 else -(-call.talk_ms // 1000),
        "billed_s": call.billed_s,
        "bundle_s": call.covered_s,
        "net": format_micro(call.gross_micro - call.tax_micro),
        "tax": format_micro(call.tax_micro),
        "gross": format_micro(call.gross_micro),
        "kind": call.kind,
    }


def _booking(one: Booking, words: Mapping[str, str]) -> str:
    name = words.get(one.kind, one.kind)
    return f"{name}: {words['bundle']} {one.bundle}" if one.bundle else name


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
