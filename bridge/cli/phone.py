"""`callbridge phone …`: the browser phone."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of

app = typer.Typer(help="The browser phone.", no_args_is_help=True)


@app.callback()
def phone() -> None:
    """The browser phone."""


@app.command()
def link(
    a_number: Annotated[str, typer.Argument(help="Whose phone it will be, e.g. +498999998100")],
    app_name: Annotated[
        str | None, typer.Option("--app", help="Where the number has subscribers in several apps.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Print a link that signs a browser in as this subscriber, once."""
    from bridge.api.phone import link_url
    from bridge.partners.store.phone import add_link, subscriber_by_number

    settings = settings_of(config_file)

    async def work(conn: Any) -> dict[str, str]:
        subscriber_id = await subscriber_by_number(conn, a_number, app_name)
        made = await add_link(conn, subscriber_id, settings.web.sign_in_s)
        return {"url": link_url(settings, made.token), "expires_at": made.expires_at.isoformat()}

    made = in_transaction(settings, work)
    print(json.dumps(made) if as_json else made["url"])
