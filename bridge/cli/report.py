"""`callbridge report …`: what was called, how well, and what it brought."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bridge.cli.arguments import Language, day
from bridge.cli.base import ConfigFile, Json, settings_of, with_database
from bridge.errors import ConfigError

if TYPE_CHECKING:
    from bridge.config import Settings
    from bridge.reports.period import Period

app = typer.Typer(help="Traffic, quality and margin.", no_args_is_help=True)

Month = Annotated[str | None, typer.Option("--month", help="Such as 2026-10; the month before this one.")]
Since = Annotated[
    date | None, typer.Option("--from", parser=day, metavar="DAY", help="Instead of a month: the first day.")
]
Until = Annotated[
    date | None, typer.Option("--to", parser=day, metavar="DAY", help="And the last one, included.")
]
Partner = Annotated[str | None, typer.Option("--partner", help="Only this partner's subscribers.")]
Lang = Annotated[Language, typer.Option("--language", help="Of the words on it.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a CSV file.")]


@app.command()
def traffic(
    by: Annotated[str, typer.Option(help="day, hour, week_hour, destination, partner or carrier")] = "day",
    month: Month = None,
    since: Since = None,
    until: Until = None,
    partner: Partner = None,
    csv: Csv = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Calls, minutes, revenue, cost and margin."""
    _tell("traffic", by, (month, since, until), partner, csv, config_file, as_json=as_json)


@app.command()
def quality(
    by: Annotated[
        str, typer.Option(help="carrier, day, hour, week_hour, destination or partner")
    ] = "carrier",
    month: Month = None,
    since: Since = None,
    until: Until = None,
    partner: Partner = None,
    csv: Csv = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """ASR, NER, ACD and PDD: by carrier of each attempt, by all else of each call."""
    _tell("quality", by, (month, since, until), partner, csv, config_file, as_json=as_json)


@app.command()
def margin(
    by: Annotated[str, typer.Option(help="destination, carrier, partner, day or hour")] = "destination",
    month: Month = None,
    since: Since = None,
    until: Until = None,
    partner: Partner = None,
    csv: Csv = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """What was charged, net of tax, less what carriers got."""
    _tell("margin", by, (month, since, until), partner, csv, config_file, as_json=as_json)


@app.command()
def movers(
    by: Annotated[str, typer.Option(help="destination, carrier or partner")] = "destination",
    month: Month = None,
    since: Since = None,
    until: Until = None,
    partner: Partner = None,
    csv: Csv = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """What changed most against the month before."""
    _tell("movers", by, (month, since, until), partner, csv, config_file, as_json=as_json)


@app.command()
def chart(
    name: Annotated[str, typer.Argument(metavar="NAME", help="minutes, quality, hours, margin or money")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .svg or .png.")],
    month: Month = None,
    since: Since = None,
    until: Until = None,
    partner: Annotated[str | None, typer.Option("--partner", help="As this partner sees it.")] = None,
    language: Lang = Language.en,
    config_file: ConfigFile = None,
) -> None:
    """Draw one chart: minutes or quality by day, hours of the week, margin by destination, revenue and cost by day."""
    from bridge.reports import chart as charts
    from bridge.reports import gathering, store
    from bridge.reports.pictures import picture

    try:
        kind = charts.kind_of(out)
    except ValueError as error:
        raise ConfigError("--out", f"{out.name!r} is no picture", f"{str(error).capitalize()}.") from None
    settings = settings_of(config_file)
    period = period_of(settings, month, since, until)

    async def work(conn: Any) -> Any:
        whose = await store.partner_named(conn, partner) if partner else None
        return await gathering.gather(conn, period, whose)

    gathered = with_database(settings, work)
    write(out, charts.render(picture(gathered, name, language.value), kind))
    typer.echo(f"wrote {out}", err=True)


@app.command()
def partner(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="Its name or id.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Such as report.pdf.")],
    month: Month = None,
    language: Lang = Language.en,
    config_file: ConfigFile = None,
) -> None:
    """A partner's month as PDF, as it may be sent to the partner: its own traffic, no cost or margin of ours."""
    _print(partner, out, month, language.value, config_file)


@app.command()
def house(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Such as report.pdf.")],
    month: Month = None,
    language: Lang = Language.en,
    config_file: ConfigFile = None,
) -> None:
    """The month of all traffic as PDF, with cost and margin."""
    _print(None, out, month, language.value, config_file)


def _print(
    partner: str | None, out: Path, month: str | None, language: Literal["de", "en"], config_file: Path | None
) -> None:
    from bridge.reports import store
    from bridge.reports.printing import monthly

    settings = settings_of(config_file)
    period = period_of(settings, month, None, None)

    async def work(conn: Any) -> bytes:
        whose = await store.partner_named(conn, partner) if partner else None
        return await monthly(conn, period, whose, settings.company, language)

    write(out, with_database(settings, work))
    typer.echo(f"wrote {out}", err=True)


def period_of(settings: Settings, month: str | None, since: date | None, until: date | None) -> Period:
    """raises   ConfigError: both a month and days, or only one of the days"""
    from datetime import UTC, datetime

    from bridge.partners.month import month_of
    from bridge.reports import period

    zone = settings.company.time_zone
    if month and (since or until):
        raise ConfigError("--month", "is given besides --from or --to", "Give a month, or days.")
    if since and until:
        return period.of_days(since, until, zone)
    if since or until:
        missing = "--to" if since else "--from"
        raise ConfigError(missing, "is missing", "Give both --from and --to, or a --month.")
    if month:
        return period.of_month(month, zone)
    return period.before(period.of_month(month_of(datetime.now(UTC), zone), zone))


def write(path: Path, content: bytes) -> None:
    """raises   ConfigError: it cannot be written"""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(str(path), str(error.strerror), "Name a file that can be written.") from None


def _tell(
    name: str, by: str, when: tuple[str | None, date | None, date | None], partner: str | None,
    csv: Path | None, config_file: Path | None, *, as_json: bool,
) -> None:  # fmt: skip
    from bridge.reports import store
    from bridge.reports.report import Ask, report
    from bridge.reports.table import to_csv
    from bridge.telling.report import tell_report

    settings = settings_of(config_file)
    period = period_of(settings, *when)

    async def work(conn: Any) -> Any:
        partner_id = (await store.partner_named(conn, partner))[0] if partner else None
        return await report(conn, name, Ask(period, by, partner_id))

    made = with_database(settings, work)
    if csv is not None:
        write(csv, to_csv(made).encode())
    if as_json:
        print(json.dumps(made.to_json(), ensure_ascii=False))
    elif csv is None:
        print(tell_report(made, shutil.get_terminal_size((120, 24)).columns))
    else:
        typer.echo(f"wrote {csv}", err=True)
