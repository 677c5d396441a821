"""Who sells and who buys, as an invoice names them (EN 16931, BG-4 and BG-7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Party:
    """One side of an invoice.

    key         how the other side knows it (BT-29, BT-46)
    ours        it is this company: what is missing is a setting; else it is a command about the partner
    endpoint    electronic address (BT-34, BT-49) of `endpoint_scheme`, a code of the EAS list; EM is e-mail
    reseller    it sells on what it buys of telecommunication (§ 13b Abs. 5 Satz 6 UStG)
    """

    key: str
    ours: bool
    name: str
    street: str
    postcode: str
    city: str
    country: str
    vat_id: str = ""
    tax_number: str = ""
    registration: str = ""
    contact: str = ""
    phone: str = ""
    email: str = ""
    endpoint: str = ""
    endpoint_scheme: str = "EM"
    iban: str = ""
    bic: str = ""
    reseller: bool = False

    @property
    def called(self) -> str:
        return self.name or ("Our company" if self.ours else self.key)

    def field(self, name: str) -> str:
        """As an operator writes it."""
        return {"name": "legal_name", "endpoint": "email"}.get(name, name)

    def fix(self, field: str) -> str:
        """What an operator does where a field is missing or wrong."""
        return self.fixes([field])

    def fixes(self, fields: Sequence[str]) -> str:
        """The same of some fields."""
        named = list(dict.fromkeys(self.field(one) for one in fields))
        if self.ours:
            return f"Set {', '.join(f'company.{one}' for one in named)} in callbridge.toml."
        told = " ".join(f"--{one.replace('_', '-')} …" for one in named)
        return f"Give {'it' if len(named) == 1 else 'them'}: callbridge partner billing {self.key} {told}"


def clean_iban(text: str) -> str:
    """An IBAN without blanks, in capitals; empty stays empty.

    raises   ValueError: it is none, or its check digits (ISO 13616, mod 97) are wrong
    """
    iban = "".join(text.split()).upper()
    if iban and (
        not _IBAN.fullmatch(iban) or int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 != 1
    ):
        raise ValueError("is no IBAN: a character is wrong or missing")
    return iban
