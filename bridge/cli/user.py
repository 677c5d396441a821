"""`callbridge user …`: what a user's phone registers with, who left messages, who is banned from registering."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Any
from uuid import UUID

import typer

from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="App users' phones.", no_args_is_help=True)

Number = Annotated[str, typer.Argument(help="The user's own number, e.g. +498999998100")]
InApp = Annotated[str | None, typer.Option("--app", help="Where the number has subscribers in several apps.")]
MESSAGES_MAX = 100


@app.command()
def credential(
    a_number: Number, app_name: InApp = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Make what a phone in a browser registers with. The password is shown now and never again."""
    from bridge.partners.store.credential import add_credential
    from bridge.partners.store.phone import subscriber_by_number

    settings = settings_of(config_file)
    users = settings.users

    async def work(conn: Any) -> dict[str, str]:
        subscriber_id = await subscriber_by_number(conn, a_number, app_name)
        made = await add_credential(conn, subscriber_id, users.credential_s, contacts_max=users.contacts_max)
        return {
            "url": settings.phones_url,
            "username": made.username,
            "password": made.password,
            "expires_at": made.expires_at.isoformat(),
        }

    made = in_transaction(settings, work)
    print(json.dumps(made) if as_json else "\n".join(f"{key:10}  {value}" for key, value in made.items()))


@app.command()
def messages(
    a_number: Number, app_name: InApp = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """The newest voice messages that were left for a user."""
    from bridge.calls.messages import messages_of
    from bridge.partners.store.phone import subscriber_by_number

    async def work(conn: Any) -> list[dict[str, Any]]:
        subscriber_id = await subscriber_by_number(conn, a_number, app_name)
        return [
            {
                "message_id": f"msg_{row['message_id'].hex}",
                "from": row["from_number"],
                "duration_ms": row["duration_ms"],
                "left_at": row["left_at"].isoformat(),
            }
            for row in await messages_of(conn, subscriber_id, UUID(int=2**128 - 1), MESSAGES_MAX)
        ]

    found = with_database(settings_of(config_file), work)
    if as_json:
        print(json.dumps({"messages": found}))
        return
    for one in found:
        seconds = one["duration_ms"] / 1000
        print(
            f"{one['left_at'][:19]}  {one['from'] or 'anonymous':16}  {seconds:6.1f} s  {one['message_id']}"
        )
    if not found:
        print("nobody left a message")


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
