"""Figures as they are printed for people, in German and English."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from bridge.telephony.money import MICRO, Rounding, divide

Language = Literal["de", "en"]

NOTHING: Final = "–"
_MONTHS: Final[dict[Language, tuple[str, ...]]] = {
    "de": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
        "Dezember",
    ),
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
}  # fmt: skip


def number(count: int, places: int, language: Language) -> str:
    """count / 10^places, thousands apart.

    >>> number(1234567, 2, "de"), number(-5, 2, "en")
    ('12.345,67', '-0.05')
    """
    whole, rest = divmod(abs(count), 10**places)
    text = f"{whole:,}" + (f".{rest:0{places}}" if places else "")
    text = f"-{text}" if count < 0 else text
    return text.translate(str.maketrans(",.", ".,")) if language == "de" else text


def amount(amount_micro: int, language: Language, places: int = 2) -> str:
    """Rounded half-up to decimals: for people, never to be summed.

    >>> amount(1_234_565_000, "de"), amount(7_000, "en", 4)
    ('1.234,57', '0.0070')
    """
    return number(divide(amount_micro, MICRO // 10**places, Rounding.HALF_UP), places, language)


def quantity(service: str, count: int | None, language: Language) -> str:
    """Messages by their number, data in megabytes (10^6); what was not kept is NOTHING.

    >>> quantity("data.messenger", 5_641_323, "de"), quantity("sms", 2, "en"), quantity("sms", None, "en")
    ('5,641 MB', '2', '–')
    """
    if count is None:
        return NOTHING
    if service.split(".", maxsplit=1)[0] != "data":
        return number(count, 0, language)
    return f"{number(divide(count, 1000, Rounding.HALF_UP), 3, language)} MB"


def minutes(talk_ms: int, language: Language) -> str:
    """Whole minutes, half-up."""
    return number(divide(talk_ms, 60_000, Rounding.HALF_UP), 0, language)


def percent(permyriad: int | None, language: Language, *, signed: bool = False) -> str:
    """One decimal.

    >>> percent(9876, "de"), percent(-50, "en", signed=True), percent(120, "en", signed=True), percent(None, "de")
    ('98,8 %', '-0.5 %', '+1.2 %', '–')
    """
    if permyriad is None:
        return NOTHING
    tenths = divide(permyriad, 10, Rounding.HALF_UP)
    return ("+" if signed and tenths > 0 else "") + number(tenths, 1, language) + " %"


def seconds(ms: int | None, language: Language) -> str:
    """One decimal and the unit."""
    if ms is None:
        return NOTHING
    return number(divide(ms, 100, Rounding.HALF_UP), 1, language) + " s"


def duration(talk_s: int) -> str:
    """
    >>> duration(61), duration(3_725), duration(-5)
    ('1:01', '1:02:05', '-0:05')
    """
    sign, rest = "-" if talk_s < 0 else "", abs(talk_s)
    hours, rest = divmod(rest, 3600)
    head = f"{hours}:{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{sign}{head}:{rest % 60:02}"


def month(text: str, language: Language) -> str:
    """
    >>> month("2026-03", "de")
    'März 2026'
    """
    return f"{_MONTHS[language][int(text[5:]) - 1]} {text[:4]}"


def day(one: date, language: Language) -> str:
    """
    >>> day(date(2026, 3, 1), "de"), day(date(2026, 3, 1), "en")
    ('01.03.2026', '2026-03-01')
    """
    return f"{one:%d.%m.%Y}" if language == "de" else f"{one:%Y-%m-%d}"


def clock(at: datetime, zone: ZoneInfo, language: Language) -> tuple[str, str]:
    """Day and time of day there."""
    local = at.astimezone(zone)
    return day(local.date(), language), f"{local:%H:%M:%S}"
