"""How numbers are written for a carrier: with or without plus, international or as dialled at home."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import phonenumbers

E164_PLUS: Final = "e164_plus"  # +493023125000, as we write them ourselves
E164: Final = "e164"  # 493023125000
INTERNATIONAL: Final = "international"  # 00493023125000
NATIONAL: Final = "national"  # 03023125000, and 00… for other countries

# They have no area code and no trunk prefix: Decision 2007/116/EC, and 124 124.
_GERMAN_SERVICE: Final = re.compile(r"\+49(116[0-9]{3}|124124)", re.ASCII)
_E164: Final = re.compile(r"\+[1-9][0-9]{4,14}", re.ASCII)
_TECH_PREFIX: Final = re.compile(r"[0-9]{0,8}", re.ASCII)


@lru_cache(maxsize=8)
def _home(region: str) -> tuple[str, str]:
    """Country code with its plus, and what is dialled before a national number."""
    prefix = phonenumbers.ndd_prefix_for_region(region, True) or ""
    return f"+{phonenumbers.country_code_for_region(region)}", prefix


def _national(e164: str, home: str) -> str:
    if home == "DE" and (service := _GERMAN_SERVICE.fullmatch(e164)) is not None:
        return service[1]
    code, prefix = _home(home)
    return prefix + e164.removeprefix(code) if e164.startswith(code) else f"00{e164[1:]}"


_WRITERS: Final[Mapping[str, Callable[[str, str], str]]] = MappingProxyType(
    {
        E164_PLUS: lambda e164, _: e164,
        E164: lambda e164, _: e164[1:],
        INTERNATIONAL: lambda e164, _: f"00{e164[1:]}",
        NATIONAL: _national,
    }
)
FORMATS: Final = tuple(_WRITERS)


@dataclass(frozen=True, slots=True)
class Writing:
    """What one carrier wants to see.

    b_format, a_format   of `FORMATS`
    tech_prefix          digits before the B-number, by which the carrier knows the product; never before a plus
    raises               ValueError: no such format, or no such prefix
    """

    b_format: str = E164_PLUS
    a_format: str = E164_PLUS
    tech_prefix: str = ""

    def __post_init__(self) -> None:
        for given in (self.b_format, self.a_format):
            if given not in _WRITERS:
                raise ValueError(f"number format {given!r}. Use one of {', '.join(FORMATS)}")
        if _TECH_PREFIX.fullmatch(self.tech_prefix) is None:
            raise ValueError("tech_prefix is up to eight digits")
        if self.tech_prefix and self.b_format == E164_PLUS:
            raise ValueError("a tech_prefix needs a b_format without plus")

    def b_number(self, e164: str, home: str) -> str:
        """Digits, with a leading plus at most. home: ISO 3166 region whose dialling habits are the national ones."""
        return self.tech_prefix + self._write(e164, self.b_format, home)

    def a_number(self, e164: str, home: str) -> str:
        """As `b_number`. What is no E.164 number stays as it is."""
        return self._write(e164, self.a_format, home)

    def _write(self, number: str, form: str, home: str) -> str:
        return _WRITERS[form](number, home) if _E164.fullmatch(number) else number


AS_IS: Final = Writing()
