"""`callbridge close`: a month, from its last call to the proof that all totals agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.arguments import Author
from bridge.cli.base import ConfigFile, Json, settings_of, with_database


def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-10")],
    author: Author,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for documents, reports and close.json; else under exports.folder."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only compare the totals of a month that is closed; write nothing."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be done, and what is missing; do nothing. Exit 1 when something is.",
        ),
    ] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Number the last calls, write files, close the books, make statements, invoices and reports; compare all totals.

    Exit 1 and what differs when a total does. Safe to repeat: what is done already is not done again.
    """
    from bridge.closing.close import begun, foretold
    from bridge.closing.close import check as compare
    from bridge.closing.close import close as run
    from bridge.closing.ready import missing
    from bridge.sandbox.progress import shown
    from bridge.telling.close import tell_closing, tell_foretold

    settings, now = settings_of(config_file), datetime.now(UTC)
    if dry_run:
        of = begun(settings, month, author=author, now=now, out=out)

        async def look(conn: Any) -> tuple[dict[str, str], list[str]]:
            return await foretold(conn, of), await missing(conn, of)

        would, lacks = with_database(settings, look)
        print(json.dumps({**would, "missing": lacks}) if as_json else tell_foretold(would, lacks))
        raise typer.Exit(1 if lacks else 0)
    work = compare if check else run
    with shown(counted="rows") as progress:
        done = with_database(
            settings,
            lambda conn: work(conn, settings, month, author=author, now=now, out=out, progress=progress),
        )
    told = done.to_json()
    print(json.dumps(told) if as_json else tell_closing(told))
    raise typer.Exit(0 if done.sound else 1)
