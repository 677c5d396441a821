"""`callbridge fx …`: rates of exchange."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from bridge.cli.arguments import day, rate_nano
from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Rates of exchange.", no_args_is_help=True)


@app.command("set")
def set_rate(
    base: Annotated[str, typer.Argument(help="Such as EUR")],
    quote: Annotated[str, typer.Argument(help="Such as USD")],
    rate: Annotated[int, typer.Argument(parser=rate_nano, metavar="RATE", help="What one BASE is in QUOTE")],
    on: Annotated[
        date | None, typer.Option(parser=day, metavar="DAY", help="Today (UTC) when missing.")
    ] = None,
    source: Annotated[str, typer.Option(help="Whose rate it is.")] = "by hand",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Note the rate of a day. What was noted stays."""
    from bridge.ledger.exchange import FxRate, format_rate
    from bridge.ledger.store import note_fx

    noted = FxRate(base, quote, on or datetime.now(UTC).date(), rate)
    with_database(
        settings_of(config_file),
        lambda conn: note_fx(conn, base, quote, rate, noted.valid_on, source=source),
    )
    told = {"base": base, "quote": quote, "on": noted.valid_on.isoformat(), "rate": format_rate(rate)}
    print(json.dumps(told) if as_json else f"noted {noted}")


@app.command()
def show(
    on: Annotated[
        date | None, typer.Option(parser=day, metavar="DAY", help="Today (UTC) when missing.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """The rates in force on a day, inverses included."""
    from bridge.ledger.exchange import format_rate
    from bridge.ledger.store import load_fx

    at = on or datetime.now(UTC).date()
    found = with_database(settings_of(config_file), lambda conn: load_fx(conn, at))
    rates = [
        {"base": base, "quote": quote, "rate": format_rate(nano)}
        for (base, quote), nano in sorted(found.items())
    ]
    lines = [f"1 {one['base']} = {one['rate']} {one['quote']}" for one in rates]
    print(json.dumps(rates) if as_json else "\n".join(lines) or "no rate of the last days is known")
