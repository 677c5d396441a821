"""`callbridge partner …`: carriers we have an alliance with."""

from __future__ import annotations

import json
from typing import Annotated

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
