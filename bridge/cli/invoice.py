"""`callbridge invoice …`: invoices with partners."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.arguments import Author, Key, Note, Reason, amount_micro, day, key_or_new
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="Invoices with partners, made of approved statements.", no_args_is_help=True)

Which = Annotated[
    str, typer.Argument(metavar="INVOICE", help="Its number, such as CB-2026-000001, or its id.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to; its number, here, when missing.")]


@app.command()
def issue(
    what: Annotated[str, typer.Argument(metavar="MONTH|STATEMENT", help="Such as 2026-10, or stm_….")],
    author: Author,
    draft: Annotated[
        bool, typer.Option("--draft", help="Without numbers yet; made again the next time.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make the invoices of approved statements, and give them their numbers. Again, nothing changes."""
    from bridge.telling.invoice import issued, tell_invoices

    settings = settings_of(config_file)
    made = in_transaction(settings, lambda conn: issued(conn, what, settings, author, draft=draft))
    print(json.dumps(made) if as_json else tell_invoices(made))


@app.command("list")
def list_invoices(
    state: Annotated[str | None, typer.Option(help="Such as sent, partiallySettled, onHold.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """The latest invoices, newest first."""
    from bridge.telling.invoice import latest, tell_invoices

    found = with_database(settings_of(config_file), lambda conn: latest(conn, state))
    print(json.dumps(found) if as_json else tell_invoices(found))


@app.command()
def show(invoice: Which, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """An invoice with its lines and payments."""
    from bridge.telling.invoice import tell_invoice, whole

    found = with_database(settings_of(config_file), lambda conn: whole(conn, invoice))
    print(json.dumps(found) if as_json else tell_invoice(found))


@app.command()
def pdf(invoice: Which, out: Out = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Write an invoice as PDF, with its XML inside (ZUGFeRD, Factur-X)."""
    _write(config_file, invoice, "pdf", out, as_json)


@app.command()
def xml(invoice: Which, out: Out = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Write an invoice as XRechnung."""
    _write(config_file, invoice, "xml", out, as_json)


def _write(config_file: Path | None, invoice: str, kind: str, out: Path | None, as_json: bool) -> None:
    from bridge.errors import ConfigError
    from bridge.telling.invoice import document

    name, content = with_database(settings_of(config_file), lambda conn: document(conn, invoice, kind))
    path = out or Path(name)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(str(path), str(error.strerror), "Name a file that can be written.") from None
    print(json.dumps({"file": str(path), "bytes": len(content)}) if as_json else f"wrote {path}")


@app.command()
def send(invoice: Which, author: Author, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Note that an invoice was sent."""
    _move(config_file, invoice, "send", author, as_json)


@app.command()
def hold(
    invoice: Which,
    author: Author,
    release: Annotated[bool, typer.Option("--release", help="Take it off hold.")] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Put an invoice on hold: nothing is booked until it is released."""
    _move(config_file, invoice, "release" if release else "hold", author, as_json)


def _move(config_file: Path | None, invoice: str, action: str, author: str, as_json: bool) -> None:
    from bridge.telling.invoice import moved

    _print(
        in_transaction(settings_of(config_file), lambda conn: moved(conn, invoice, action, author)), as_json
    )


@app.command()
def pay(
    invoice: Which,
    author: Author,
    amount: Annotated[
        int | None,
        typer.Argument(parser=amount_micro, metavar="AMOUNT", help="All that is open when missing."),
    ] = None,
    on: Annotated[
        date | None, typer.Option(parser=day, metavar="DAY", help="When it was paid; today when missing.")
    ] = None,
    key: Key = None,
    note: Note = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Book a payment of an invoice, by whoever owes it."""
    from bridge.partners.month import zone_of
    from bridge.telling.invoice import paid

    settings = settings_of(config_file)
    paid_on = on or datetime.now(zone_of(settings.company.time_zone)).date()
    named = key_or_new(key)
    told = in_transaction(settings, lambda conn: paid(conn, invoice, amount, paid_on, named, author, note))
    _print(told, as_json)


@app.command()
def credit(
    invoice: Which,
    author: Author,
    reason: Reason,
    line: Annotated[
        list[str] | None,
        typer.Option("--line", help="A part, such as 1=12.50; all that is left when missing."),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write a credit note for an invoice, or for parts of it. It is set off against what is open."""
    from bridge.telling.invoice import credited

    settings = settings_of(config_file)
    told = in_transaction(
        settings, lambda conn: credited(conn, invoice, line or [], settings, author, reason)
    )
    _print(told, as_json)


def _print(told: dict[str, Any], as_json: bool) -> None:
    from bridge.telling.invoice import tell_invoices

    print(json.dumps(told) if as_json else tell_invoices([told]))
