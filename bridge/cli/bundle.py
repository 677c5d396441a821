"""Bundles: what is for sale, what an account has of it, and the usage that draws it down."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="Bundles and allowances.", no_args_is_help=True)

Key = Annotated[str | None, typer.Option(help="Makes a repeat harmless; made up and told when not given.")]


@app.command("list")
def list_bundles(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the bundles that exist."""
    from bridge.rating.store.allowances import bundles
    from bridge.telling.bundle import tell_bundles

    found = with_database(settings_of(config_file), bundles)
    print(json.dumps(found) if as_json else tell_bundles(found))


@app.command()
def show(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List what an account has and had."""
    from bridge.ledger.listing import account_id_of
    from bridge.rating.store.allowances import allowances
    from bridge.telling.bundle import tell_allowances

    async def work(conn: Any) -> Any:
        return await allowances(conn, await account_id_of(conn, account))

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_allowances(found))


@app.command()
def buy(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    bundle: Annotated[str, typer.Argument(help="The bundle's name.")],
    key: Key = None,
    author: Annotated[str, typer.Option(help="Who asks for it.")] = "console",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Buy a bundle for an account, from now on."""
    from bridge.ledger.listing import account_id_of
    from bridge.rating.store.allowances import buy as run

    used = key or str(uuid4())

    async def work(conn: Any) -> UUID:
        return await run(
            conn, await account_id_of(conn, account), bundle, key=used, author=author, at=datetime.now(UTC)
        )

    bought = in_transaction(settings_of(config_file), work)
    told = {"allowance": str(bought), "key": used}
    print(json.dumps(told) if as_json else f"bought {bought}\nkey {used}")


@app.command()
def cancel(allowance: UUID, config_file: ConfigFile = None) -> None:
    """Let an allowance end when it ends, without a renewal."""
    from bridge.rating.store.allowances import cancel_renewal

    with_database(settings_of(config_file), lambda conn: cancel_renewal(conn, allowance))
    print(f"{allowance} will not be renewed")


@app.command()
def usage(
    subscriber: Annotated[UUID, typer.Argument(help="Who used it.")],
    service: Annotated[str, typer.Argument(help="sms, data, or a special one such as data.messenger")],
    quantity: Annotated[int, typer.Argument(min=1, help="Messages, or bytes.")],
    key: Key = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Report messages or data that were used: they burn allowances, the rest is charged."""
    from bridge.rating.store.usage import report_usage
    from bridge.telling.bundle import tell_usage, usage_json

    used = key or str(uuid4())

    async def work(conn: Any) -> Any:
        return await report_usage(conn, subscriber, service, quantity, key=used, at=datetime.now(UTC))

    found = usage_json(in_transaction(settings_of(config_file), work), used)
    print(json.dumps(found) if as_json else tell_usage(found))


@app.command()
def zone(
    subscriber: UUID,
    where: Annotated[str, typer.Argument(help="home or roaming")],
    config_file: ConfigFile = None,
) -> None:
    """Note that a subscriber is abroad, or at home again."""
    from bridge.rating.store.allowances import set_zone

    with_database(settings_of(config_file), lambda conn: set_zone(conn, subscriber, where))
    print(f"{subscriber} is {where}")
