"""Titles of a statement's lines in German: statements are in English, and an invoice is in its reader's language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_DAYS: Final = r"(?P<days>, days (?P<first>\d+) to (?P<last>\d+)|, version (?P<version>\d+))?"
_LATE: Final = r"(?P<late>,? of earlier months|, bought in earlier months)?"
# What a title is, and what it says in German. Named parts: n (minute), figure, percent, name.
_TITLES: Final = (
    (r"Traffic carried, from minute (?P<n>\d+) of the month", "Anrufe befördert, ab Minute {n} des Monats"),
    (r"Traffic carried, all at the step from minute (?P<n>\d+)", "Anrufe befördert, alle zur Stufe ab Minute {n}"),
    (r"Traffic carried, at the prices of the deck", "Anrufe befördert, zu den Preisen der Preisliste"),
    (r"Traffic carried in earlier months, at the prices of the deck",
     "Anrufe früherer Monate, zu den Preisen der Preisliste"),
    (r"Traffic carried in earlier months, at the step from minute (?P<n>\d+)",
     "Anrufe früherer Monate, zur Stufe ab Minute {n}"),
    (r"Minutes short of the (?P<figure>[\d.]+) committed", "Fehlende Minuten zu den vereinbarten {figure}"),
    (r"Short of the (?P<figure>[\d.]+) (?P<unit>[A-Z]{3}) committed",
     "Fehlender Betrag zu den vereinbarten {figure} {unit}"),
    (r"(?P<percent>[\d.]+) % of retail revenue, net", "{percent} % der Endkundenumsätze, netto"),
    (r"(?P<percent>[\d.]+) % of bundles sold, net", "{percent} % der verkauften Pakete, netto"),
    (r"(?P<percent>[\d.]+) % of bundle (?P<name>.+?), net", "{percent} % des Pakets {name}, netto"),
    (r"Calls to zero-rated destinations, at what they cost us",
     "Anrufe zu kostenfreien Zielen, zu unseren Kosten"),
    (r"Calls between subscribers of one app", "Anrufe zwischen Nutzern einer App"),
    (r"Dispute: (?P<name>.*)", "Klärung: {name}"),
)  # fmt: skip
_KNOWN: Final = tuple((re.compile(pattern + _DAYS + _LATE), german) for pattern, german in _TITLES)
_COMMAS: Final[frozenset[str]] = frozenset({"figure", "percent"})


def titled(title: str, language: str) -> str:
    """A title in the language; one that is not known stays as it is.

    >>> titled("12.50 % of bundles sold, net, days 1 to 14", "de")
    '12,50 % der verkauften Pakete, netto, Tage 1 bis 14'
    """
    return _LANGUAGES.get(language, str)(title)


def _german(title: str) -> str:
    for pattern, german in _KNOWN:
        found = pattern.fullmatch(title)
        if found is None:
            continue
        parts = {
            name: value.replace(".", ",") if name in _COMMAS else value
            for name, value in found.groupdict(default="").items()
        }
        said = german.format_map(parts)
        if parts["version"]:
            said += f", Fassung {parts['version']}"
        elif parts["days"]:
            said += f", Tage {parts['first']} bis {parts['last']}"
        if parts["late"]:
            said += ", in früheren Monaten gekauft" if "bought" in parts["late"] else ", früherer Monate"
        return said
    return title


_LANGUAGES: Final[dict[str, Callable[[str], str]]] = {"de": _german}
