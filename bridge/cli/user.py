"""`callbridge user …`: who is banned from registering, and letting them in again."""

from __future__ import annotations

import getpass
import json
from typing import Annotated

import typer

from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="App users' phones.", no_args_is_help=True)


@app.command("bans")
def list_bans(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Addresses that the switch does not listen to, and users locked out, each until when."""
    from bridge.partners.store.ban import bans

    found = with_database(settings_of(config_file), bans)
    if as_json:
        print(json.dumps({"bans": found}))
        return
    for one in found:
        print(f"{one['address'] or one['endpoint']}  {one['failures']} failures, until {one['expires_at']}")
    if not found:
        print("nobody is banned")


@app.command()
def unban(
    who: Annotated[str, typer.Argument(help="An address or an endpoint, as `bans` shows it.")],
    config_file: ConfigFile = None,
) -> None:
    """End a ban early. The switch listens to an address again within half a minute."""
    from bridge.errors import NotFound
    from bridge.partners.store.ban import lift_ban

    actor = f"{getpass.getuser()} at the command line"
    if not in_transaction(settings_of(config_file), lambda conn: lift_ban(conn, who, actor)):
        raise NotFound("Nobody is banned by that name.")
    print(f"{who} may register again")
