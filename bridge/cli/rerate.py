"""`callbridge rerate …`: prices of the past put right, previewed first."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from bridge.cli.arguments import Author, Reason, instant
from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Re-rate calls that have ended.", no_args_is_help=True)

RunId = Annotated[UUID, typer.Argument(metavar="RUN", help="As the preview named it.")]


@app.command()
def preview(
    author: Author,
    reason: Reason,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=instant, metavar="WHEN", help="Calls admitted from then on."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", parser=instant, metavar="WHEN", help="And before then.")
    ] = None,
    carrier: Annotated[
        str | None, typer.Option(help="Calls over this carrier (or trunk); what it is paid is re-rated.")
    ] = None,
    deck: Annotated[str | None, typer.Option(help="Calls priced by this deck; its side is re-rated.")] = None,
    calls: Annotated[
        list[UUID] | None, typer.Option("--call", help="Only this call; may be repeated.")
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(help="Price on this deck, DECK or DECK@VERSION, instead of the calls' own; one a side."),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Say what re-rating these calls would change. Moves no money; `rerate run` does."""
    from bridge.calls import rerate
    from bridge.calls.selection import Criteria
    from bridge.sandbox.progress import shown

    criteria = Criteria(since, until, carrier, deck, tuple(calls or ()), tuple(on or ()))
    with shown(counted="calls") as progress:
        told = with_database(
            settings_of(config_file),
            lambda conn: rerate.preview(conn, criteria, author=author, reason=reason, progress=progress),
        )
    _print(told, as_json=as_json)


@app.command()
def run(
    run_id: RunId,
    into_open: Annotated[
        bool, typer.Option("--into-open", help="Book calls of closed periods into the open one.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Book what was previewed, or what is left of it. Safe to repeat."""
    from bridge.calls import rerate
    from bridge.sandbox.progress import shown

    with shown(counted="calls") as progress:
        told = with_database(
            settings_of(config_file),
            lambda conn: rerate.run(conn, run_id, into_open=into_open, progress=progress),
        )
    _print(told, as_json=as_json)


@app.command()
def show(run_id: RunId, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """A run: what it changes, how far it is, what it has moved."""
    from bridge.calls import rerate

    _print(with_database(settings_of(config_file), lambda conn: rerate.show(conn, run_id)), as_json=as_json)


@app.command("list")
def list_runs(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """The latest runs, newest first."""
    from bridge.calls import rerate
    from bridge.telling.rerate import tell_runs

    found = with_database(settings_of(config_file), rerate.runs)
    print(json.dumps(found) if as_json else tell_runs(found))


@app.command()
def cancel(run_id: RunId, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Book no more of a run. What it has booked stays."""
    from bridge.calls import rerate

    _print(with_database(settings_of(config_file), lambda conn: rerate.cancel(conn, run_id)), as_json=as_json)


def _print(told: Any, *, as_json: bool) -> None:
    from bridge.telling.rerate import tell_run

    print(json.dumps(told) if as_json else tell_run(told))
