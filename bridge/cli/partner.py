"""`callbridge partner …`: carriers we have an alliance with."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="Carrier partners.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Such as E-Plus.")],
    currency: Annotated[str, typer.Argument(help="Of the account between us, such as EUR.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a partner, and the account of what we owe each other."""
    from bridge.api.key_desk import make_partner
    from bridge.telling.key import tell_partners

    made = in_transaction(settings_of(config_file), lambda conn: make_partner(conn, name, currency))
    print(json.dumps(made) if as_json else tell_partners([made]))


@app.command("list")
def list_partners(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """All partners, newest first."""
    from bridge.api.key_desk import all_partners
    from bridge.telling.key import tell_partners

    found = with_database(settings_of(config_file), all_partners)
    print(json.dumps(found) if as_json else tell_partners(found))


_Text = Annotated[str | None, typer.Option()]


@app.command()
def billing(
    partner: Annotated[str, typer.Argument(help="Its name or id.")],
    legal_name: Annotated[str | None, typer.Option(help="As the register has it.")] = None,
    country: Annotated[str | None, typer.Option(help="Two letters, such as DE.")] = None,
    street: _Text = None,
    postcode: _Text = None,
    city: _Text = None,
    vat_id: Annotated[str | None, typer.Option(help="Without blanks, such as DE136695976.")] = None,
    tax_number: _Text = None,
    registration: _Text = None,
    contact: _Text = None,
    phone: _Text = None,
    email: _Text = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Its electronic address; the e-mail when empty.")
    ] = None,
    endpoint_scheme: Annotated[str | None, typer.Option(help="Of the EAS list: EM, 0204, 9930 …")] = None,
    buyer_reference: Annotated[
        str | None, typer.Option(help="What it wants on invoices, e.g. a Leitweg-ID.")
    ] = None,
    iban: _Text = None,
    bic: _Text = None,
    reseller: Annotated[
        bool | None, typer.Option(help="It sells telecommunication on: it owes the VAT.")
    ] = None,
    self_billing: Annotated[
        bool | None, typer.Option(help="It agreed that we write its invoices to us.")
    ] = None,
    payment_days: Annotated[int | None, typer.Option(help="From the invoice's day on.")] = None,
    language: Annotated[str | None, typer.Option(help="de or en.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show a partner's billing details; with options, change these and keep the others."""
    from bridge.telling.invoice import billing_of, tell_billing

    given: dict[str, Any] = {
        "legal_name": legal_name, "country": country, "street": street, "postcode": postcode, "city": city,
        "vat_id": vat_id, "tax_number": tax_number, "registration": registration, "contact": contact, "phone": phone,
        "email": email, "endpoint": endpoint, "endpoint_scheme": endpoint_scheme, "buyer_reference": buyer_reference,
        "iban": iban, "bic": bic, "reseller": reseller, "self_billing": self_billing, "payment_days": payment_days,
        "language": language,
    }  # fmt: skip
    changed = {name: value for name, value in given.items() if value is not None}
    told = in_transaction(settings_of(config_file), lambda conn: billing_of(conn, partner, changed))
    print(json.dumps(told, default=str) if as_json else tell_billing(told))
