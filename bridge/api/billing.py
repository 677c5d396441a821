"""Billing details of partners: who they are on invoices. Operators keep them, a partner reads its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import Body, PartnerId, Told, sample, show_at, show_id
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.exports.billing import FIELDS
from bridge.exports.store import billing as store
from bridge.partners.store import partner as partner_row

router = routes("partners")
Reader = Annotated[Desk, Depends(Needs("invoices:read"))]
Operator = Annotated[Desk, Depends(Needs("invoices:write", operator=True))]


class BillingDetails(Body):
    """All of them: what is left out is empty. A text is one line."""

    model_config = sample(
        legal_name="E-Plus Carrier Services GmbH",
        street="E-Plus-Straße 1",
        postcode="40472",
        city="Düsseldorf",
        country="DE",
        vat_id="DE811128135",
        contact="Interconnect Billing",
        phone="+49 211 4480",
        email="billing@eplus.example",
        buyer_reference="PO-4711",
        iban="DE02120300000000202051",
        reseller=True,
        self_billing=True,
    )

    legal_name: str = Field(min_length=1, max_length=100, description="As the register has it")
    country: str = Field(pattern="^[A-Z]{2}$", examples=["DE"])
    street: str = Field("", max_length=100)
    postcode: str = Field("", max_length=20)
    city: str = Field("", max_length=60)
    vat_id: str = Field("", max_length=20, description="With the country's letters, without blanks")
    tax_number: str = Field("", max_length=30)
    registration: str = Field("", max_length=60, description="Of the register of companies")
    contact: str = Field("", max_length=100)
    phone: str = Field("", max_length=30)
    email: str = Field("", max_length=100)
    endpoint: str = Field("", max_length=100, description="Its electronic address (BT-49); empty: the e-mail")
    endpoint_scheme: str = Field("EM", pattern="^[0-9A-Z]{2,4}$", description="A code of the EAS list")
    buyer_reference: str = Field(
        "", max_length=100, description="What it wants on invoices, e.g. a Leitweg-ID (BT-10)"
    )
    iban: str = Field("", max_length=42)
    bic: str = Field("", max_length=11)
    reseller: bool = Field(
        False, description="It sells telecommunication on, and owes the VAT itself (§ 13b UStG)"
    )
    self_billing: bool = Field(
        False, description="It agreed that we write its invoices to us (§ 14 Abs. 2 UStG)"
    )
    payment_days: int | None = Field(None, ge=0, le=365, description="null: as the installation has it")
    language: Literal["de", "en"] = "de"


class Billing(Told):
    """As they are kept."""

    partner_id: PartnerId
    legal_name: str
    country: str
    street: str
    postcode: str
    city: str
    vat_id: str
    tax_number: str
    registration: str
    contact: str
    phone: str
    email: str
    endpoint: str
    endpoint_scheme: str
    buyer_reference: str
    iban: str
    bic: str
    reseller: bool
    self_billing: bool
    payment_days: int | None
    language: Literal["de", "en"]
    changed_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partner_id": show_id("prt", row["partner_id"]),
        **{name: row[name] for name in FIELDS},
        "changed_at": show_at(row["changed_at"]),
    }


@router.get(
    "/{partner_id}/billing",
    response_model=Billing,
    responses=responses(404),
    summary="Billing details of a partner",
)
async def read_billing(desk: Reader, partner_id: PartnerId) -> Response:
    async with desk.reading() as conn:
        await partner_row(conn, partner_id)
        row = await store.billing_row(conn, partner_id)
    if row is None:
        raise NotFound("There are no billing details of this partner yet.")
    return desk.shown(show(row), row["edition"])


@router.put(
    "/{partner_id}/billing",
    response_model=Billing,
    responses=responses(*BY_METHOD["PUT"]),
    summary="Give the billing details of a partner",
)
async def put_billing(desk: Operator, partner_id: PartnerId, body: BillingDetails) -> Response:
    """The first ones with `If-Match: "0"`. Invoices that have a number keep those they were made with."""

    async def work(conn: Connection, edition: int) -> Made:
        row = await store.put_billing(conn, partner_id, body.model_dump(), edition)
        if row is None:
            raise stale()
        told = show(row)
        return Made(told["partner_id"], told, partner_id, row["edition"])

    return await desk.change("billing.change", body, work)
