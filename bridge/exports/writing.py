"""Figures and days as people write them in German and in English."""

from __future__ import annotations

from datetime import date
from typing import Literal

from bridge.telephony.money import format_micro

Language = Literal["de", "en"]
CENT_MICRO = 10_000


def figure(micro: int, language: Language, places_min: int = 2) -> str:
    """Micro-units as a decimal number with groups of three.

    >>> figure(1_234_567_890_000, "de"), figure(-7_250, "en", 4), figure(1_000_000, "de", 0)
    ('1.234.567,89', '-0.00725', '1')
    """
    whole, _, fraction = format_micro(abs(micro), places_min).partition(".")
    grouped = f"{int(whole):,}"
    point = "."
    if language == "de":
        grouped, point = grouped.replace(",", "."), ","
    return f"{'-' if micro < 0 else ''}{grouped}{point + fraction if fraction else ''}"


def cents_figure(cents: int, language: Language) -> str:
    """
    >>> cents_figure(123_456, "de")
    '1.234,56'
    """
    return figure(cents * CENT_MICRO, language)


def day(on: date, language: Language) -> str:
    """
    >>> day(date(2026, 10, 1), "de"), day(date(2026, 10, 1), "en")
    ('01.10.2026', '1 October 2026')
    """
    if language == "de":
        return f"{on:%d.%m.%Y}"
    return f"{on.day} {MONTHS_EN[on.month - 1]} {on.year}"


_EN = "January February March April May June July August September October November December"
MONTHS_EN = tuple(_EN.split())
_DE = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
MONTHS_DE = tuple(_DE.split())


def iban_groups(iban: str) -> str:
    """In groups of four, which no line breaks."""
    return "\N{NO-BREAK SPACE}".join(iban[place : place + 4] for place in range(0, len(iban), 4))
