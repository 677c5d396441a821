"""`callbridge account …`: who has what, and every booking that is not a call."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from bridge.cli.arguments import Amount, Author, Key, Note, Reason, amount_micro, instant, key_or_new
from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Accounts and the ledger.", no_args_is_help=True)

Ask = Callable[..., Awaitable[str]]


@app.command("list")
def list_accounts(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """All accounts. The balance of carriers and our own is a sum of entries: `show` adds it up."""
    from bridge.ledger.listing import accounts
    from bridge.telling.account import tell_accounts

    found = with_database(settings_of(config_file), accounts)
    print(json.dumps(found) if as_json else tell_accounts(found))


@app.command()
def show(name: str, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """One account with its balance."""
    from bridge.ledger.listing import account
    from bridge.telling.account import tell_account

    now = datetime.now(UTC)
    found = with_database(settings_of(config_file), lambda conn: account(conn, name, now))
    print(json.dumps(found) if as_json else tell_account(found))


@app.command()
def statement(
    name: str,
    since: Annotated[
        datetime | None,
        typer.Option(parser=instant, metavar="INSTANT", help="From the beginning when missing."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=instant, metavar="INSTANT", help="Up to now when missing.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """The entries of an account with its balance after each."""
    from bridge.ledger.listing import BEGINNING
    from bridge.ledger.listing import statement as run
    from bridge.telling.account import tell_statement

    upto = until or datetime.now(UTC)
    told = with_database(settings_of(config_file), lambda conn: run(conn, name, since or BEGINNING, upto))
    print(json.dumps(told) if as_json else tell_statement(told))


@app.command("top-up")
def top_up(
    name: str,
    amount: Amount,
    key: Key = None,
    note: Note = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Book money that came in."""
    from bridge.ledger.store import currency_of
    from bridge.ledger.store import top_up as run

    key = key_or_new(key)

    async def ask(conn: Any, account_id: str) -> str:
        return await run(conn, account_id, amount, await currency_of(conn, account_id), key=key, note=note)

    _book(config_file, as_json, "top-up", key, (name,), ask)


@app.command()
def refund(
    transfer: UUID,
    amount: Annotated[
        int | None, typer.Argument(parser=amount_micro, metavar="AMOUNT", help="All of it when missing")
    ] = None,
    key: Key = None,
    note: Note = "",
    author: Author = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give back a charge, or pay out a top-up, whole or in part."""
    from bridge.ledger.store import refund as run

    key = key_or_new(key)
    _book(
        config_file, as_json, "refund", key, (),
        lambda conn: run(conn, transfer, amount, key=key, author=author, note=note),
    )  # fmt: skip


# An amount may be negative here, and is then no option.
@app.command(context_settings={"ignore_unknown_options": True})
def correct(
    name: str,
    amount: Amount,
    author: Author,
    reason: Reason,
    key: Key = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give to an account by hand; a negative amount takes."""
    from bridge.ledger.store import correct as run

    key = key_or_new(key)
    _book(
        config_file, as_json, "correction", key, (name,),
        lambda conn, account_id: run(conn, account_id, amount, author=author, reason=reason, key=key),
    )  # fmt: skip


@app.command()
def refer(
    referrer: str,
    referred: str,
    amount: Amount,
    key: Key = None,
    referrals_max: Annotated[int | None, typer.Option(min=0, help="Rewarded of one referrer.")] = None,
    author: Author = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Credit both sides of a referral, once for whoever is referred."""
    from bridge.ledger.store import REFERRALS_MAX
    from bridge.ledger.store import refer as run

    key = key_or_new(key)
    most = REFERRALS_MAX if referrals_max is None else referrals_max
    _book(
        config_file, as_json, "referral", key, (referrer, referred),
        lambda conn, one, other: run(conn, one, other, amount, key=key, referrals_max=most, author=author),
    )  # fmt: skip


@app.command()
def exchange(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The account that pays")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The account of the other currency")],
    amount: Amount,
    key: Key = None,
    author: Author = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Move money to an account of another currency, at today's rate."""
    from bridge.ledger.store import exchange as run

    key, now = key_or_new(key), datetime.now(UTC)
    _book(
        config_file, as_json, "exchange", key, (source, target),
        lambda conn, one, other: run(conn, one, other, amount, now, key=key, author=author),
    )  # fmt: skip


@app.command()
def reverse(
    transfer: UUID,
    author: Author,
    reason: Reason,
    key: Key = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Take a transfer back, once and whole, today."""
    from bridge.ledger.store import reverse as run

    key = key_or_new(key)
    _book(
        config_file, as_json, "reversal", key, (),
        lambda conn: run(conn, transfer, author=author, reason=reason, key=key),
    )  # fmt: skip


def _book(
    config_file: Path | None, as_json: bool, kind: str, key: str, names: Sequence[str], ask: Ask
) -> None:
    """Book in one transaction, and tell with what the named accounts have then."""
    from bridge.ledger.listing import account, account_id_of
    from bridge.telling.account import tell_booking

    async def work(conn: Any) -> dict[str, Any]:
        async with conn.transaction():
            transfer_id = await ask(conn, *[await account_id_of(conn, name) for name in names])
        now = datetime.now(UTC)
        accounts = [await account(conn, name, now) for name in names]
        return {"kind": kind, "transfer_id": transfer_id, "key": key, "accounts": accounts}

    told = with_database(settings_of(config_file), work)
    print(json.dumps(told) if as_json else tell_booking(told))
