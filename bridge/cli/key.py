"""`callbridge key …`: who may use the API. The first key is made here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bridge.cli.arguments import instant
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="API keys and OAuth2 clients.", no_args_is_help=True)

Prefix = Annotated[str, typer.Argument(help="The first 11 characters of the key, as `list` shows them.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, or who holds it.")],
    partner: Annotated[
        str | None, typer.Option("--partner", help="Whose key it is, by name; an operator's when missing.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Such as calls:read; may be repeated. All when missing."),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", parser=instant, metavar="INSTANT", help="Never when missing."),
    ] = None,
    client: Annotated[bool, typer.Option("--client", help="An OAuth2 client instead of a key.")] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown now and never again."""
    from bridge.api.key_desk import make_key
    from bridge.telling.key import tell_new_key

    made = in_transaction(
        settings_of(config_file),
        lambda conn: make_key(
            conn, name, partner=partner, scopes=scope or ["*"], expires_at=expires,
            kind="client" if client else "key", now=datetime.now(UTC),
        ),
    )  # fmt: skip
    print(json.dumps(made) if as_json else tell_new_key(made))


@app.command("list")
def list_keys(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """All keys, newest first, by what may be shown of them."""
    from bridge.api.key_desk import all_keys
    from bridge.telling.key import tell_keys

    found = with_database(settings_of(config_file), all_keys)
    print(json.dumps(found) if as_json else tell_keys(found))


@app.command()
def revoke(prefix: Prefix, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Make a key void at once, and the access tokens of a client with it."""
    from bridge.api.key_desk import end_key

    async def work(conn: Any) -> dict[str, Any]:
        return await end_key(conn, prefix)

    gone = in_transaction(settings_of(config_file), work)
    print(json.dumps(gone) if as_json else f"{gone['prefix']} ({gone['name']}) is revoked")
