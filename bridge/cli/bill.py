"""`callbridge bill …`: a subscriber's itemised bill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.arguments import Language
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database
from bridge.cli.report import Csv, Month, period_of, write


def bill(
    subscriber: Annotated[str, typer.Argument(metavar="SUBSCRIBER", help="Its number +49… or its id.")],
    month: Month = None,
    pdf: Annotated[Path | None, typer.Option("--pdf", metavar="FILE", help="Write a PDF.")] = None,
    csv: Csv = None,
    language: Annotated[Language, typer.Option("--language", help="Of the words on it.")] = Language.de,
    numbers: Annotated[
        str | None,
        typer.Option("--numbers", help="full or short: choose for the months that begin after now; no bill."),
    ] = None,
    author: Annotated[str, typer.Option("--author", help="Who does this, with --numbers.")] = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """What a subscriber called, message by message and to the cent, as the law wants it itemised."""
    if numbers is not None:
        _choose(subscriber, numbers, author, config_file, as_json=as_json)
        return
    from bridge.reports import bill_paper, printing
    from bridge.reports.bills import bill_of
    from bridge.telling.bill import tell_bill

    settings = settings_of(config_file)
    period = period_of(settings, month, None, None)
    made = with_database(settings, lambda conn: bill_of(conn, settings, subscriber, period))
    if pdf is not None:
        write(pdf, printing.bill_pdf(made, settings.company, language.value))
        typer.echo(f"wrote {pdf}", err=True)
    if csv is not None:
        write(csv, bill_paper.to_csv(made.bill, made.whose).encode())
        typer.echo(f"wrote {csv}", err=True)
    if as_json:
        print(json.dumps(made.to_json(), ensure_ascii=False))
    elif pdf is None and csv is None:
        print(tell_bill(made, shutil.get_terminal_size((120, 24)).columns))


def _choose(subscriber: str, numbers: str, author: str, config_file: Path | None, *, as_json: bool) -> None:
    from bridge.errors import ConfigError
    from bridge.reports.store import bill as store

    if numbers not in ("full", "short"):
        raise ConfigError("--numbers", f"{numbers[:20]!r} is no choice", "Write full or short.")
    if not author:
        raise ConfigError("--author", "is missing", "Say who was told of the choice.")

    async def work(conn: Any) -> dict[str, Any]:
        whose = await store.holder_named(conn, subscriber)
        made = await store.choose(conn, whose, "full" if numbers == "full" else "short", author)
        assert made is not None and made.chosen_at is not None  # on whatever was chosen before
        return {"numbers": made.numbers, "chosen_at": made.chosen_at.isoformat()}

    told = in_transaction(settings_of(config_file), work)
    print(json.dumps(told) if as_json else f"{numbers} numbers on the bills of months that begin from now on")
