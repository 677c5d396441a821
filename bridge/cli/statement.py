"""`callbridge statement …`: what we and partners owe each other for a month."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from bridge.cli.arguments import Author, Key, Note, amount_micro, key_or_new
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="Statements with partners, by deal and month.", no_args_is_help=True)


def statement_id(text: str) -> UUID:
    """`stm_…`, or the bare UUID."""
    try:
        return UUID(text.removeprefix("stm_"))
    except ValueError:
        raise typer.BadParameter(
            f"{text[:40]!r} is no statement. `callbridge statement list` shows their ids"
        ) from None


Id = Annotated[UUID, typer.Argument(parser=statement_id, metavar="STATEMENT", help="As `list` names it.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-10, of the company's time zone.")]


@app.command()
def draft(
    month: Month,
    author: Author,
    deal: Annotated[
        str | None,
        typer.Option(help="Of this deal only, by its name or id; all that were in force when missing."),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Draft statements of a month that is over. What is a draft already is made again."""
    from bridge.telling.statement import drafted, tell_statements

    settings = settings_of(config_file)
    zone = settings.company.time_zone
    found = in_transaction(settings, lambda conn: drafted(conn, month, zone, deal, author))
    print(json.dumps(found) if as_json else tell_statements(found))


@app.command("list")
def list_statements(
    month: Annotated[str | None, typer.Option(help="Of this month only.")] = None,
    state: Annotated[str | None, typer.Option(help="draft, approved, sent or settled.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """The latest statements, newest first."""
    from bridge.telling.statement import latest, tell_statements

    found = with_database(settings_of(config_file), lambda conn: latest(conn, month, state))
    print(json.dumps(found) if as_json else tell_statements(found))


@app.command()
def show(statement: Id, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """A statement with its lines, its payments and what proves it."""
    from bridge.telling.statement import whole

    _print(with_database(settings_of(config_file), lambda conn: whole(conn, statement)), as_json=as_json)


@app.command()
def check(statement: Id, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Make it again from its inputs, and these from the books. Exit 1 where anything differs."""
    from bridge.partners.store import statement as store

    wrong = in_transaction(settings_of(config_file), lambda conn: store.check(conn, statement))
    told = {"statement_id": f"stm_{statement.hex}", "differs": wrong}
    lines = wrong or ["it follows from its inputs, and these from the books"]
    print(json.dumps(told) if as_json else "\n".join(lines))
    raise typer.Exit(1 if wrong else 0)


@app.command()
def approve(statement: Id, author: Author, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Approve a draft and book it. The books of its month are closed before: `callbridge period close`."""
    from bridge.partners.store import statement as store

    _do(config_file, statement, as_json, lambda conn: store.approve(conn, statement, author=author))


@app.command()
def send(
    statement: Id,
    author: Author,
    by: Annotated[str, typer.Option(help="How it was sent, such as email.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Note that an approved statement was sent to the partner."""
    from bridge.partners.store import statement as store

    _do(config_file, statement, as_json, lambda conn: store.send(conn, statement, channel=by, author=author))


@app.command()
def pay(
    statement: Id,
    author: Author,
    amount: Annotated[
        int | None,
        typer.Argument(parser=amount_micro, metavar="AMOUNT", help="All that is open when missing."),
    ] = None,
    key: Key = None,
    note: Note = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Book a payment of a statement that was sent, by whoever owes it."""
    from bridge.partners.store import statement as store

    used = key_or_new(key)
    _do(
        config_file,
        statement,
        as_json,
        lambda conn: store.settle(conn, statement, amount, key=used, author=author, note=note),
    )


def _do(config_file: Any, statement: UUID, as_json: bool, work: Any) -> None:
    from bridge.telling.statement import whole

    async def done(conn: Any) -> Any:
        await work(conn)
        return await whole(conn, statement)

    _print(in_transaction(settings_of(config_file), done), as_json=as_json)


def _print(told: Any, *, as_json: bool) -> None:
    from bridge.telling.statement import tell_statement

    print(json.dumps(told) if as_json else tell_statement(told))
