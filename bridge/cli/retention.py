"""`callbridge retention …`: how long traffic data is kept, and the proof that it went."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Traffic data whose time has come.", no_args_is_help=True)


@app.command()
def show(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """The rules, what is due, what is held back and why, and the months' pseudonym keys."""
    from bridge.retention.purge import standing
    from bridge.telling.retention import tell_standing

    settings = settings_of(config_file)
    told = with_database(settings, lambda conn: standing(conn, datetime.now(UTC), settings))
    print(json.dumps(told) if as_json else tell_standing(told))


@app.command()
def purge(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Purge what may not be there any more. The house does it every night by itself."""
    from bridge.retention.purge import purge as run
    from bridge.sandbox.progress import shown
    from bridge.telling.retention import tell_purged

    settings = settings_of(config_file)
    with shown(counted="calls") as progress:
        done = with_database(
            settings,
            lambda conn: run(conn, datetime.now(UTC), settings, dry_run=dry_run, progress=progress),
        )
    print(json.dumps(done.to_json()) if as_json else tell_purged(done.to_json()))


@app.command()
def log(
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="So many, the newest first.")] = 50,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """What was purged when, by which rule. `callbridge audit` proves that no line was changed."""
    from bridge.retention.purge import log as read
    from bridge.telling.retention import tell_log

    found = with_database(settings_of(config_file), lambda conn: read(conn, rows))
    print(json.dumps(found) if as_json else tell_log(found))
