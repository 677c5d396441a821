"""Billing details: who the company and a partner are on invoices, and whether that can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from bridge.config import Company, Settings
from bridge.errors import Invalid
from bridge.exports.invoicing import Terms
from bridge.exports.party import Party, clean_iban
from bridge.exports.vat import Rate, standard_rates, vat_id_problem

# As long as the table has them
_CHARS_MAX: Final[Mapping[str, int]] = {
    "legal_name": 100, "street": 100, "postcode": 20, "city": 60, "country": 2, "vat_id": 20, "tax_number": 30,
    "registration": 60, "contact": 100, "phone": 30, "email": 100, "endpoint": 100, "endpoint_scheme": 4,
    "buyer_reference": 100, "iban": 42, "bic": 11,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Billing:
    """A partner's details. payment_days None: the setting; endpoint empty: its e-mail address."""

    legal_name: str
    country: str
    street: str = ""
    postcode: str = ""
    city: str = ""
    vat_id: str = ""
    tax_number: str = ""
    registration: str = ""
    contact: str = ""
    phone: str = ""
    email: str = ""
    endpoint: str = ""
    endpoint_scheme: str = "EM"
    buyer_reference: str = ""
    iban: str = ""
    bic: str = ""
    reseller: bool = False
    self_billing: bool = False
    payment_days: int | None = None
    language: Literal["de", "en"] = "de"


FIELDS: Final = tuple(one.name for one in fields(Billing))


def checked(given: Mapping[str, Any]) -> Billing:
    """Details as they are kept: without blanks around, the IBAN without any.

    raises   Invalid: something cannot be right, and what
    """
    told: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in given.items()
    }
    for name, most in _CHARS_MAX.items():
        text = told.get(name, "")
        if len(text) > most or not text.isprintable():
            raise Invalid(f"{name} should be at most {most} characters on one line.")
    if not told.get("legal_name"):
        raise Invalid("legal_name is missing: the company's name as the register has it.")
    country = told.get("country", "")
    if len(country) != 2 or not (country.isascii() and country.isalpha() and country.isupper()):
        raise Invalid("country should be two capital letters, such as DE (ISO 3166-1).")
    scheme = told.get("endpoint_scheme", "EM")
    if not 2 <= len(scheme) <= 4 or not (scheme.isascii() and scheme.isalnum() and scheme == scheme.upper()):
        raise Invalid("endpoint_scheme should be a code of the EAS list, such as EM, 0204 or 9930.")
    problem = vat_id_problem(told["vat_id"], country) if told.get("vat_id") else None
    if problem:
        raise Invalid(f"vat_id {problem}.")
    try:
        iban = clean_iban(told.get("iban", ""))
    except ValueError as error:
        raise Invalid(f"iban {error}.") from None
    if told.get("language", "de") not in ("de", "en"):
        raise Invalid("language should be de or en.")
    days = told.get("payment_days")
    if days is not None and not 0 <= days <= 365:
        raise Invalid("payment_days should be 0 to 365.")
    return Billing(**(told | {"iban": iban}))


def details(billing: Billing) -> dict[str, Any]:
    return asdict(billing)


def company(settings: Company) -> Party:
    """Us. We sell telecommunication on, so that partners owe the tax of what they carry for us."""
    return Party(
        key=settings.code, ours=True, name=settings.legal_name, street=settings.street, postcode=settings.postcode,
        city=settings.city, country=settings.country, vat_id=settings.vat_id, tax_number=settings.tax_number,
        registration=settings.registration, contact=settings.contact, phone=settings.phone, email=settings.email,
        endpoint=settings.email, iban="".join(settings.iban.split()).upper(), bic=settings.bic, reseller=True,
    )  # fmt: skip


def partner(partner_id: UUID, billing: Billing) -> Party:
    return Party(
        key=f"prt_{partner_id.hex}", ours=False, name=billing.legal_name, street=billing.street,
        postcode=billing.postcode, city=billing.city, country=billing.country, vat_id=billing.vat_id,
        tax_number=billing.tax_number, registration=billing.registration, contact=billing.contact,
        phone=billing.phone, email=billing.email, endpoint=billing.endpoint or billing.email,
        endpoint_scheme=billing.endpoint_scheme if billing.endpoint else "EM", iban=billing.iban, bic=billing.bic,
        reseller=billing.reseller,
    )  # fmt: skip


def terms_of(billing: Billing) -> Terms:
    return Terms(billing.language, billing.buyer_reference, billing.self_billing)


def rates_of(settings: Settings) -> tuple[Rate, ...]:
    return standard_rates(settings.company.country, settings.invoices.vat_percent)


def due_on(billing: Billing, settings: Settings, issued_on: date) -> date:
    days = settings.invoices.due_days if billing.payment_days is None else billing.payment_days
    return issued_on + timedelta(days=days)
