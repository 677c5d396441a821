"""`callbridge export …`: files of call records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.arguments import instant
from bridge.cli.base import ConfigFile, Json, settings_of, with_database
from bridge.cli.export_recipient import app as recipient_app

app = typer.Typer(help="Files of call records.", no_args_is_help=True)
app.add_typer(recipient_app, name="recipient")

Name = Annotated[str, typer.Argument(metavar="FILE", help="Its name, as `export files` tells it.")]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until", parser=instant, metavar="WHEN", help="Periods that were over by then; now when not given."
    ),
]


@app.command()
def run(
    recipient: Annotated[
        str | None, typer.Option("--recipient", metavar="CODE", help="Only for this one.")
    ] = None,
    until: Until = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Number what has ended, then write and deliver all files that are due. Safe to repeat, and goes on after a crash.

    Exit 1 when something stopped on the way.
    """
    from bridge.exports.running import run as work
    from bridge.sandbox.progress import shown
    from bridge.telling.export import tell_run

    settings = settings_of(config_file)
    with shown(counted="rows") as progress:
        told = with_database(
            settings, lambda conn: work(conn, settings, code=recipient, until=until, progress=progress)
        )
    print(json.dumps(told) if as_json else tell_run(told))
    raise typer.Exit(1 if any(one["problem"] for one in told["recipients"]) else 0)


@app.command()
def files(
    recipient: Annotated[str | None, typer.Option("--recipient", metavar="CODE")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="cdr, quality or correction.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="planned, written or delivered.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=10_000)] = 100,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """The latest files, newest first, with their totals."""
    from bridge.exports.listing import file_told
    from bridge.exports.store import cdr_files as store
    from bridge.telling.export import tell_files

    async def found(conn: Any) -> list[dict[str, Any]]:
        one = await store.recipient_coded(conn, recipient) if recipient else None
        listed = await store.files(
            conn, recipient_id=one.recipient_id if one else None, kind=kind, state=state, rows=rows
        )
        return [file_told(row) for row in listed]

    told = with_database(settings_of(config_file), found)
    print(json.dumps(told) if as_json else tell_files(told))


@app.command()
def show(name: Name, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """One file: what is in it, and where it is."""
    from bridge.exports.listing import file_told
    from bridge.exports.store.cdr_files import file_named
    from bridge.telling.export import tell_file

    settings = settings_of(config_file)
    planned = with_database(settings, lambda conn: file_named(conn, name))
    told = file_told(planned.row, settings.exports.folder / planned.place)
    print(json.dumps(told) if as_json else tell_file(told))


@app.command()
def again(name: Name, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Write a file once more, prove that it is the same, and put it back where it is missing."""
    from bridge.exports.cdr_files import again as work
    from bridge.sandbox.progress import shown

    settings = settings_of(config_file)
    with shown(counted="rows") as progress:
        path, sha256 = with_database(settings, lambda conn: work(conn, settings, name, progress))
    told = {"path": str(path), "sha256": sha256}
    print(json.dumps(told) if as_json else f"{path}\nthe same as the first time: sha256 {sha256}")


@app.command()
def extract(
    since: Annotated[datetime, typer.Option("--since", parser=instant, metavar="WHEN")],
    until: Annotated[datetime, typer.Option("--until", parser=instant, metavar="WHEN")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the file is written.")],
    kind: Annotated[str, typer.Option("--type", help="cdr, quality or correction.")] = "cdr",
    form: Annotated[str, typer.Option("--format", help="csv, jsonl, parquet or tap3.")] = "csv",
    partner: Annotated[
        str | None, typer.Option("--partner", metavar="NAME", help="Its records only, as it may read them.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write the records of a time into a file without a number, which is in no sequence."""
    from bridge.exports.cdr_files import HOUSE
    from bridge.exports.cdr_files import extract as work
    from bridge.exports.file_name import code_of
    from bridge.exports.listing import extract_told
    from bridge.exports.store.cdr_files import partner_named
    from bridge.sandbox.progress import shown
    from bridge.telling.export import tell_extract

    settings = settings_of(config_file)

    async def written(conn: Any) -> dict[str, Any]:
        partner_id = await partner_named(conn, partner) if partner else None
        path, manifest = await work(
            conn,
            settings,
            out,
            partner_id=partner_id,
            whose=code_of(partner) if partner else HOUSE,
            kind=kind,
            since=since,
            until=until,
            form=form,
            progress=progress,
        )
        return extract_told(path, manifest)

    with shown(counted="rows") as progress:
        told = with_database(settings, written)
    print(json.dumps(told) if as_json else tell_extract(told))


@app.command("chain")
def tell_chain(
    partner: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose; the house's own when missing.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=4000, help="So many, up to today.")] = 62,
    config_file: ConfigFile = None,
) -> None:
    """The daily chain of records, as the API tells it to a partner: for docs/verify_completeness.py."""
    from bridge.exports.completeness import chain
    from bridge.exports.sequence import HOUSE, horizon
    from bridge.exports.store.cdr_files import partner_named

    async def work(conn: Any) -> dict[str, Any]:
        whose = await partner_named(conn, partner) if partner else HOUSE
        until = datetime.now(UTC).date() + timedelta(days=1)
        sealed = await horizon(conn)
        found = await chain(conn, whose, until - timedelta(days=days), until)
        return {"sealed_until": sealed.isoformat() if sealed else None, "days": found}

    print(json.dumps(with_database(settings_of(config_file), work), indent=1))
