"""What two companies still lack for the invoices between them, before there are any. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from bridge.errors import Invalid
from bridge.exports.invoice import Invoice, line_of, totals_of
from bridge.exports.invoice_rules import broken
from bridge.exports.party import Party
from bridge.exports.vat import Rate, Treatment, treatment
from bridge.telephony.money import MICRO

# What XRechnung asks for: BR-06 to BR-10, BR-DE-2 to -9, R010, R020; of who is paid, where to
_OF_BOTH: Final = ("name", "street", "postcode", "city", "country", "endpoint")
_OF_SELLER: Final = ("contact", "phone", "email", "iban")
_TAXED: Final = Treatment("S", 1900)  # stands for the tax while other rules are checked


@dataclass(slots=True)
class Lacks:
    """What is missing between us and some partners, told once however often it was found."""

    fields: dict[str, tuple[Party, list[str]]] = field(default_factory=dict)  # by party
    said: list[str] = field(default_factory=list)

    def look(
        self,
        seller: Party,
        buyer: Party,
        rates: Sequence[Rate],
        day: date,
        reference: str,
        *,
        telecom: Iterable[bool],
    ) -> None:
        """Look for what an invoice from one to the other needs.

        day        the last of its period
        reference  the buyer's
        telecom    which sorts of lines it may have: of telecommunication, and others
        """
        missing = [(seller, name) for name in (*_OF_BOTH, *_OF_SELLER) if not getattr(seller, name)]
        missing += [(buyer, name) for name in _OF_BOTH if not getattr(buyer, name)]
        if not reference and not buyer.ours:
            missing.append((buyer, "buyer_reference"))
        for party, name in missing:
            found = self.fields.setdefault(party.key, (party, []))[1]
            if party.field(name) not in found:
                found.append(party.field(name))
        for sort in telecom:
            try:
                treatment(seller, buyer, rates, day, telecom=sort)
            except Invalid as error:
                self.said.append(str(error))
        if not missing:
            self.said += _broken(seller, buyer, day, reference)

    def told(self) -> list[str]:
        """Each with what mends it."""
        needs = [
            f"{party.called} needs {', '.join(names)}. {party.fixes(names)}"
            for party, names in self.fields.values()
        ]
        # A VAT id does for a tax number, too
        ids = {one.split(" needs ")[0] for one in self.said if " needs a vat id " in one}
        said = [
            one
            for one in self.said
            if " needs a tax number " not in one or one.split(" needs ")[0] not in ids
        ]
        return [*needs, *dict.fromkeys(said)]


def _broken(seller: Party, buyer: Party, day: date, reference: str) -> list[str]:
    """What is there and cannot be right, such as an IBAN."""
    line = line_of("-", MICRO, "C62", None, MICRO, _TAXED)
    draft = Invoice(
        number="-", type="380", issued_on=day, due_on=day, currency="EUR",
        seller=replace(seller, vat_id=seller.vat_id or "-"), buyer=buyer, from_on=day, until_on=day, lines=(line,),
        buyer_reference=reference, contract="", language="en", self_billed=False,
    )  # fmt: skip
    return list(dict.fromkeys(one.problem for one in broken(draft, totals_of(draft))))
