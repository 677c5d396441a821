"""`callbridge simulate`: a month of traffic that never was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, with_database
from bridge.config import require_dsn


def simulate(
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="A month that has passed.")],
    calls: Annotated[int, typer.Option(help="Calls in it.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed, the same calls.")] = 1,
    their_files: Annotated[
        Path | None,
        typer.Option(
            help="A folder for what the carriers would send, and for the differences to find in it."
        ),
    ] = None,
    new_database: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Make a database of this name first, beside that of database.dsn or of `callbridge up`.",
        ),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Fill an empty database with one month: partners, carriers, people, calls, bundles, bookings. All of it made up.

    A database that has anything in it is refused.
    """
    from bridge.sandbox.beside import make_beside
    from bridge.sandbox.progress import shown
    from bridge.sandbox.simulate import Simulation
    from bridge.sandbox.simulate import simulate as run
    from bridge.telling.simulate import tell_simulation

    settings = settings_of(config_file)
    made = make_beside(settings, new_database) if new_database else None
    asked = Simulation(month, calls, seed, settings.company.time_zone)
    with shown(counted="calls") as progress:
        told = with_database(made or settings, lambda conn: run(conn, asked, progress, their_files))
    if made is not None:
        told["dsn"] = require_dsn(made)
    print(json.dumps(told) if as_json else tell_simulation(told))
