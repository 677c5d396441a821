"""Companies and invoices that tests are made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from bridge.config import Company
from bridge.exports.invoice import Invoice, Line, line_of
from bridge.exports.party import Party
from bridge.exports.vat import Treatment

US = Party(
    key="callbridge", ours=True, name="Callbridge GmbH", street="Rheinufer 7", postcode="40221", city="Düsseldorf",
    country="DE", vat_id="DE136695976", tax_number="106/5815/0815", registration="HRB 12345, Amtsgericht Düsseldorf",
    contact="Erika Muster", phone="+49 211 5550100", email="rechnung@callbridge.example",
    endpoint="rechnung@callbridge.example", iban="DE89370400440532013000", bic="COBADEFFXXX", reseller=True,
)  # fmt: skip
PARTNER = Party(
    key="prt_019a0c0e5d7a7cc0b5a1c9f3d2e4b6a8", ours=False, name="E-Plus Carrier Services GmbH",
    street="E-Plus-Straße 1", postcode="40472", city="Düsseldorf", country="DE", vat_id="DE811128135",
    contact="Interconnect Billing", phone="+49 211 4480", email="billing@eplus.example",
    endpoint="billing@eplus.example", iban="DE02120300000000202051", bic="BYLADEM1001", reseller=True,
)  # fmt: skip
S = Treatment("S", 1900)
AE = Treatment("AE", 0, "domestic_resale")


def lines(vat: Treatment = AE, count: int = 3) -> tuple[Line, ...]:
    return tuple(
        line_of(
            "Telekommunikationsleistungen: Transport von Anrufen",
            (7_403_000 + 61 * no) * 1_000_000,
            "SEC",
            6_500 + no,
            ((6_500 + no) * (7_403_000 + 61 * no) + 30) // 60,
            vat,
            rate_per_micro=60_000_000,
            kind="wholesale",
            note=f"Traffic carried, from minute {no * 1000} of the month",
        )
        for no in range(count)
    )


def invoice(**more: Any) -> Invoice:
    made = Invoice(
        number="CB-2026-000001", type="380", issued_on=date(2026, 11, 2), due_on=date(2026, 11, 16), currency="EUR",
        seller=US, buyer=PARTNER, from_on=date(2026, 10, 1), until_on=date(2026, 10, 31), lines=lines(),
        buyer_reference="PO-4711", contract="Zusammenschaltung 2026",
    )  # fmt: skip
    return replace(made, **more)


def self_billed(**more: Any) -> Invoice:
    given = {
        "type": "389",
        "seller": PARTNER,
        "buyer": US,
        "buyer_reference": "callbridge",
        "self_billed": True,
    }
    return invoice(**(given | more))


# The same two, as settings and as billing details
COMPANY = Company(
    legal_name="Callbridge GmbH", street="Rheinufer 7", postcode="40221", city="Düsseldorf", vat_id="DE136695976",
    tax_number="106/5815/0815", registration="HRB 12345", contact="Erika Muster", phone="+49 211 5550100",
    email="rechnung@callbridge.example", iban="DE89 3704 0044 0532 0130 00", bic="COBADEFFXXX",
)  # fmt: skip
DETAILS: dict[str, Any] = {
    "legal_name": "E-Plus Carrier Services GmbH", "street": "E-Plus-Straße 1", "postcode": "40472",
    "city": "Düsseldorf", "country": "DE", "vat_id": "DE811128135", "contact": "Interconnect", "phone": "+49 211 4480",
    "email": "billing@eplus.example", "buyer_reference": "PO-4711", "iban": "DE02120300000000202051",
    "reseller": True, "self_billing": True,
}  # fmt: skip
