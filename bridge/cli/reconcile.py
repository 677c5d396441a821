"""`callbridge reconcile …`: what a partner or a carrier says of the same calls, against our records."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from bridge.cli.arguments import Author, amount_micro, instant
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, text_of, with_database
from bridge.errors import ConfigError

app = typer.Typer(help="Their records against ours.", no_args_is_help=True)

_DAY_S = 86_400

Class = Literal["matched", "rate", "duration", "only_ours", "only_theirs"]
Who = Annotated[str, typer.Option("--with", help="The partner's name, or the carrier's account.")]
RunId = Annotated[UUID, typer.Argument(metavar="RUN", help="As the import named it.")]
MappingFile = Annotated[
    Path | None, typer.Option("--mapping", help="A TOML file that says how theirs is read.")
]
Maps = Annotated[
    list[str] | None, typer.Option("--map", help="ours=theirs, such as b_number=Called; repeatable.")
]
Preset = Annotated[str, typer.Option(help="The name under which a mapping is saved.")]
Zone = Annotated[str | None, typer.Option(help="Of times that say no offset, such as Europe/Berlin.")]
TimeFormat = Annotated[str | None, typer.Option(help="Such as '%d.%m.%Y %H:%M:%S', epoch_s or epoch_ms.")]
Doubled = Annotated[
    Literal["first", "second"] | None,
    typer.Option(help="Which of both hours it is when clocks are put back."),
]
Unit = Annotated[Literal["s", "ms", "min", "m:s"] | None, typer.Option("--duration", help="Of durations.")]
Decimal = Annotated[Literal[",", "."] | None, typer.Option(help="The mark of decimals.")]
Country = Annotated[str | None, typer.Option(help="Of national numbers, such as 49.")]
Strip = Annotated[str | None, typer.Option(help="Digits before numbers, such as a technical prefix.")]
Trailer = Annotated[str | None, typer.Option(help="The last row: TOTAL,rows,duration,amount.")]
Encoding = Annotated[str | None, typer.Option(help="Of a CSV file that is not UTF-8.")]
Delimiter = Annotated[str | None, typer.Option(help="Of a CSV file, where it is not found by itself.")]


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV (.gz, too) or XLSX; its first row names the columns.")],
    party: Who,
    author: Author,
    month: Annotated[str | None, typer.Option(help="Such as 2026-10, of the company's time zone.")] = None,
    since: Annotated[datetime | None, typer.Option("--from", parser=instant, metavar="WHEN")] = None,
    until: Annotated[datetime | None, typer.Option("--to", parser=instant, metavar="WHEN")] = None,
    leg: Annotated[
        Literal["termination", "origination"],
        typer.Option(help="termination: calls they carried for us; origination: calls of their subscribers."),
    ] = "termination",
    currency: Annotated[str | None, typer.Option(help="That of their account unless given.")] = None,
    preset: Preset = "default",
    mapping: MappingFile = None,
    maps: Maps = None,
    zone: Zone = None,
    time_format: TimeFormat = None,
    doubled_hour: Doubled = None,
    duration: Unit = None,
    decimal: Decimal = None,
    country: Country = None,
    strip: Strip = None,
    trailer: Trailer = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Read their file whole, or nothing of it: then all that is wrong is told by row and column, and the exit is 1."""
    from bridge.partners.month import month as month_of
    from bridge.partners.store import reconcile as store
    from bridge.sandbox.progress import shown
    from bridge.telling.reconcile import tell_import

    settings = settings_of(config_file)
    if month is not None:
        since, until = month_of(month, settings.company.time_zone)
    if since is None or until is None:
        raise ConfigError("period", "is not named", "Give --month 2026-10, or --from and --to.")
    if not since < until:
        raise ConfigError("period", "ends before it begins", "Give --from before --to.")
    period = (since, until)
    given = {
        "zone": zone, "time_format": time_format, "doubled_hour": doubled_hour, "duration_unit": duration,
        "decimal": decimal, "country": country, "strip": strip, "encoding": encoding, "delimiter": delimiter,
        "trailer": tuple(trailer.split(",")) if trailer else None,
    }  # fmt: skip

    async def work(conn: Any) -> Any:
        whose = await store.counterparty(conn, party)
        saved = await store.load_mapping(conn, whose, preset, needed=preset != "default")
        how = _read_with(mapping, saved, maps, given)
        with _opened(file) as opened:
            return await store.import_file(
                conn,
                whose,
                store.TheirFile(
                    opened, file.name, leg, *period, how, author, currency, settings.retention.billing_months
                ),
                progress=progress,
            )

    with shown() as progress:
        found = with_database(settings, work)
    print(json.dumps(found) if as_json else tell_import(found))
    raise typer.Exit(1 if found["state"] == "refused" else 0)


def _read_with(mapping: Path | None, saved: Any, maps: list[str] | None, given: dict[str, Any]) -> Any:
    """The file's own mapping or the saved one, changed by what is said at the command line."""
    from bridge.partners.recon_mapping import FileMapping

    base = FileMapping.from_toml(text_of(mapping)) if mapping else saved
    return replace(
        base.mapped(maps or []), **{key: value for key, value in given.items() if value is not None}
    )


def _opened(file: Path) -> Any:
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(str(file), str(error.strerror), "Name a file that can be read.") from None


@app.command()
def run(
    run_id: RunId,
    clock: Annotated[
        float,
        typer.Option(min=-_DAY_S, max=_DAY_S, help="Seconds to add to their times, when a note says so."),
    ] = 0,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Match what was imported with our records, again where it was matched before."""
    if not isfinite(clock):
        raise ConfigError("--clock", "is no number of seconds", "Write it like 3600 or -3600.")
    from bridge.partners.store import reconcile as store
    from bridge.sandbox.progress import shown

    with shown(counted="steps") as progress:
        found = with_database(
            settings_of(config_file),
            lambda conn: store.match(conn, run_id, clock_ms=round(clock * 1000), progress=progress),
        )
    _print(found, as_json=as_json)


@app.command("list")
def list_runs(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """The latest imports, newest first."""
    from bridge.partners.store import reconcile as store
    from bridge.telling.reconcile import run_json, tell_runs

    found = with_database(settings_of(config_file), store.runs)
    print(json.dumps([run_json(one) for one in found]) if as_json else tell_runs(found))


@app.command()
def show(
    run_id: RunId,
    class_: Annotated[Class | None, typer.Option("--class", help="Only the calls of a class.")] = None,
    by: Annotated[
        Literal["call", "destination"], typer.Option(help="Calls, or sums by destination.")
    ] = "call",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000)] = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """A run and its classes; with --class, --by or --csv what is behind them, the largest differences first."""
    from bridge.partners.reconciliation import OPEN
    from bridge.partners.store import reconcile as store
    from bridge.telling import reconcile as telling

    settings, wanted = settings_of(config_file), [class_] if class_ else list(OPEN)
    if class_ is None and by == "call" and not as_csv:
        _print(with_database(settings, lambda conn: store.run(conn, run_id)), as_json=as_json)
        return
    if by == "destination":
        sums = with_database(settings, lambda conn: store.by_destination(conn, run_id, wanted, limit))
        rows = telling.destination_rows(sums)
        columns: tuple[str, ...] = tuple(rows[0]) if rows else ()
    else:
        calls = with_database(settings, lambda conn: store.matches(conn, run_id, wanted, limit))
        rows, columns = telling.call_rows(calls), telling.CALL_COLUMNS
    if as_csv:
        print(telling.csv_of(columns, rows), end="")
    elif as_json:
        print(json.dumps(rows))
    else:
        print(telling.tell_destinations(rows) if by == "destination" else telling.tell_calls(rows))


@app.command()
def remove(run_id: RunId, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Take an import back, so that the file can be read in another way. Not after it was disputed."""
    from bridge.partners.store import reconcile as store

    with_database(settings_of(config_file), lambda conn: store.remove(conn, run_id))
    print(json.dumps({"removed": str(run_id)}) if as_json else f"removed run {run_id}")


@app.command("map")
def save_map(
    party: Annotated[
        str | None, typer.Option("--with", help="Whose files; left out: list what is saved.")
    ] = None,
    author: Annotated[str, typer.Option("--author", help="Who does this.")] = "",
    preset: Preset = "default",
    mapping: MappingFile = None,
    maps: Maps = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Save how a counterparty's files are read: a TOML file, --map, or both; without --with list what is saved."""
    from bridge.partners.store import reconcile as store
    from bridge.telling.reconcile import tell_mappings

    async def work(conn: Any) -> Any:
        if party is not None:
            if not author or not (mapping or maps):
                raise ConfigError(
                    "map", "says not how", "Give --author, and --mapping FILE or --map ours=theirs."
                )
            whose = await store.counterparty(conn, party)
            saved = await store.load_mapping(conn, whose, preset, needed=False)
            await store.save_mapping(conn, whose, preset, _read_with(mapping, saved, maps, {}), author)
        return await store.mappings(conn)

    found = in_transaction(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_mappings(found))


@app.command()
def terms(
    party: Who,
    answer_s: Annotated[int | None, typer.Option(help="Seconds between answers.")] = None,
    duration_s: Annotated[int | None, typer.Option(help="Seconds between durations.")] = None,
    amount: Annotated[
        int | None, typer.Option("--amount", parser=amount_micro, metavar="AMOUNT", help="Of one call.")
    ] = None,
    permyriad: Annotated[int | None, typer.Option(help="Of our amount, in hundredths of a percent.")] = None,
    dispute_days: Annotated[int | None, typer.Option(help="Until a dispute has to be answered.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """How far their records and ours may lie apart, by contract. What is not given stays."""
    from bridge.partners.store import reconcile as store

    given = {
        "answer_s": answer_s, "duration_s": duration_s, "amount_micro": amount, "amount_permyriad": permyriad,
        "dispute_days": dispute_days,
    }  # fmt: skip

    async def work(conn: Any) -> Any:
        whose = await store.counterparty(conn, party)
        return await store.set_terms(
            conn, whose, **{key: value for key, value in given.items() if value is not None}
        )

    found = in_transaction(settings_of(config_file), work).to_json()
    print(json.dumps(found) if as_json else "\n".join(f"{name:<20}{value}" for name, value in found.items()))


def _print(found: Any, *, as_json: bool) -> None:
    from bridge.telling.reconcile import run_json, tell_run

    print(json.dumps(run_json(found)) if as_json else tell_run(found))
