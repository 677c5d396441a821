"""`callbridge period …`: closing the books."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from bridge.cli.arguments import Author, instant
from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Closed periods of the ledger.", no_args_is_help=True)


@app.command()
def close(
    until: Annotated[datetime, typer.Argument(parser=instant, metavar="UNTIL", help="Such as 2026-12-01")],
    author: Author,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Close the books for whatever happened before an instant. They do not open again."""
    from bridge.ledger.store import close_period

    closed = with_database(settings_of(config_file), lambda conn: close_period(conn, until, author=author))
    told = {"closed_until": closed.isoformat()}
    print(json.dumps(told) if as_json else f"the books are closed until {told['closed_until']}")


@app.command()
def show(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """The closings, newest first."""
    from bridge.ledger.listing import periods
    from bridge.telling.account import tell_periods

    found = with_database(settings_of(config_file), periods)
    print(json.dumps(found) if as_json else tell_periods(found))
