"""`callbridge deck`: rate decks in, looked at, applied, and back."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from bridge.cli.arguments import instant
from bridge.cli.base import ConfigFile, Json, settings_of, text_of, with_database
from bridge.errors import BridgeError, DeckError

app = typer.Typer(help="Rate decks: what carriers charge, and what subscribers pay.", no_args_is_help=True)

DeckName = Annotated[str, typer.Argument(help="The deck's name.")]
All = Annotated[bool, typer.Option("--all", help="Every row, not only the first ones.")]


@app.command("list")
def list_decks(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the decks."""
    from bridge.rating.store import versions
    from bridge.telling.deck import tell_decks

    found = with_database(settings_of(config_file), lambda conn: versions.decks(conn, datetime.now(UTC)))
    print(json.dumps(found) if as_json else tell_decks(found))


@app.command()
def show(
    deck: DeckName, everything: All = False, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Show a deck and its rates in force or to come."""
    from bridge.rating.store import versions
    from bridge.telling.deck import tell_deck

    def work(conn: Any) -> Any:
        return versions.show(conn, deck, datetime.now(UTC), **_most(everything))

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_deck(found))


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV or XLSX; its first row names the columns.")],
    deck: Annotated[str, typer.Option("--deck", help="The deck's name.")],
    side: Annotated[
        Literal["buy", "sell"] | None, typer.Option(help="With --currency: make the deck if there is none.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217, such as EUR.")] = None,
    mode: Annotated[
        Literal["add", "replace"],
        typer.Option(help="add: prefixes the file does not name stay; replace: they end."),
    ] = "add",
    effective_at: Annotated[
        str | None, typer.Option(help="From when on rows hold that do not say. Now unless given.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV file that is not UTF-8.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Stage and tell, and leave it there: do not ask to apply.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    everything: All = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Read a file, tell what it changes, and apply it. Exit 1 when the file has errors: nothing is applied then."""
    from bridge.sandbox.progress import shown
    from bridge.telling.deck import tell_import

    if (side is None) != (currency is None):
        raise DeckError("a new deck needs both --side and --currency", column="side")
    settings = settings_of(config_file)
    with shown() as progress:
        found = with_database(
            settings,
            lambda conn: _stage(
                conn,
                file,
                deck,
                new=(side, currency) if side and currency else None,
                mode=mode,
                effective_at=effective_at,
                encoding=encoding,
                most=_most_of_import(everything, as_json),
                progress=progress,
            ),
        )
    if not as_json:
        print(tell_import(found))
    if found["state"] == "staged" and not dry_run and (yes or _agreed(found, as_json=as_json)):
        found |= _apply(settings, UUID(found["import_id"]))
        if not as_json:
            print(f"applied as version {found['version']} of {deck}")
    if as_json:
        print(json.dumps(found))
    raise typer.Exit(1 if found["state"] == "refused" else 0)


@app.command()
def diff(
    import_id: UUID, everything: All = False, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Tell what a staged import would change, or what is wrong with it."""
    from bridge.rating.store import versions
    from bridge.telling.deck import tell_import

    def work(conn: Any) -> Any:
        return versions.preview(conn, import_id, **_most_of_import(everything, as_json))

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_import(found))


@app.command()
def replay(
    import_id: UUID,
    days: Annotated[int, typer.Option(min=1, help="So many days back, unless --from says otherwise.")] = 7,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=instant, metavar="WHEN", help="Calls admitted from then on."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", parser=instant, metavar="WHEN", help="And before then; now unless given."),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Price recorded calls as they would be once the import is applied. Nothing is written, no money moves."""
    from bridge.calls.replay import replay as run
    from bridge.sandbox.progress import shown
    from bridge.telling.rerate import tell_replay

    to = until or datetime.now(UTC)
    begin = since or to - timedelta(days=days)
    with shown(counted="calls") as progress:
        found = with_database(
            settings_of(config_file), lambda conn: run(conn, import_id, begin, to, progress=progress)
        )
    print(json.dumps(found) if as_json else tell_replay(found))


@app.command()
def apply(import_id: UUID, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Make a staged import the deck's next version. A repeat changes nothing."""
    found = _apply(settings_of(config_file), import_id)
    print(json.dumps(found) if as_json else f"{import_id} is version {found['version']}")


@app.command()
def rollback(
    deck: DeckName,
    to: Annotated[
        int | None, typer.Option(min=1, help="Version to go back to; the one before unless given.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give a deck the content of an older version again, as a new version."""
    from bridge.rating.store import versions

    def work(conn: Any) -> Any:
        return versions.rollback(conn, deck, _author(), to)

    version = with_database(settings_of(config_file), work)
    print(json.dumps({"deck": deck, "version": version}) if as_json else f"{deck} is version {version} now")


@app.command()
def history(deck: DeckName, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Tell the versions of a deck, and where each came from."""
    from bridge.rating.store import versions
    from bridge.telling.deck import tell_history

    found = with_database(settings_of(config_file), lambda conn: versions.history(conn, deck))
    print(json.dumps(found) if as_json else tell_history(found))


@app.command()
def export(
    deck: DeckName,
    file: Annotated[
        Path | None, typer.Argument(help="Where to; standard output unless given.", dir_okay=False)
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Write a deck as CSV: what is in force or to come. Imported to replace, it changes nothing."""
    from bridge.rating.store import versions

    async def work(conn: Any) -> None:
        pieces = versions.export(conn, deck, datetime.now(UTC))
        first = await anext(pieces)  # a deck that is not there leaves no empty file behind
        out = sys.stdout if file is None else file.open("w", encoding="utf-8", newline="")
        try:
            out.write(first)
            async for piece in pieces:
                out.write(piece)
        finally:
            if file is not None:
                out.close()

    with_database(settings_of(config_file), work)


@app.command()
def terms(
    deck: DeckName,
    file: Annotated[
        Path | None, typer.Option("--file", help="TOML: give the deck these terms and bands, and no others.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Tell a deck's terms: clock, rounding, tax, holidays, bands. With --file: set them."""
    from bridge.rating.store.terms import apply_terms, terms_of
    from bridge.rating.terms_file import parse_terms
    from bridge.telling.plan import tell_applied, tell_terms

    settings = settings_of(config_file)
    if file is None:
        found = with_database(settings, lambda conn: terms_of(conn, deck))
        print(json.dumps(found) if as_json else tell_terms(found))
        return
    given = parse_terms(text_of(file), file.name)
    done = [one.to_json() for one in with_database(settings, lambda conn: apply_terms(conn, deck, given))]
    print(json.dumps({"deck": deck, "parts": done}) if as_json else tell_applied(done))


@app.command()
def origin(
    name: Annotated[str | None, typer.Argument(help="The origin set, such as eu.")] = None,
    prefixes: Annotated[
        list[str] | None, typer.Argument(help="All prefixes of its callers' numbers, digits without +.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List the origin sets, or give one exactly these prefixes."""
    from bridge.rating.store import load_origin_sets, versions
    from bridge.telling.deck import tell_origin_sets

    async def work(conn: Any) -> Any:
        if name is not None and prefixes:
            await versions.set_origin_set(conn, name, prefixes)
        found = await load_origin_sets(conn)
        return found if name is None else {name: found.get(name, ())}

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_origin_sets(found))


async def _stage(
    conn: Any,
    path: Path,
    deck: str,
    *,
    new: tuple[str, str] | None,
    mode: str,
    effective_at: str | None,
    encoding: str | None,
    most: dict[str, None],
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    from bridge.rating.store import imports, versions

    try:
        file = path.open("rb")
    except OSError as error:
        raise BridgeError(f"{path}: {error.strerror}. Name a file that can be read") from None
    with file:
        begun = conn.transaction()
        await begun.start()
        try:
            made = new is not None and await imports.create_deck(conn, deck, *new)
            given = imports.DeckFile(file, path.name, _author(), encoding)
            staged = await imports.stage(
                conn, deck, given, mode, at=datetime.now(UTC), effective_at=effective_at, progress=progress
            )
            found = await versions.preview(conn, staged.import_id, **most)
        except BaseException:
            await begun.rollback()
            raise
        if made and staged.state == "refused":  # a file with errors makes no deck, nor keeps them for one
            await begun.rollback()
            return found | {"import_id": None}
        await begun.commit()
    return found


def _apply(settings: Any, import_id: UUID) -> dict[str, Any]:
    from bridge.rating.store import imports

    async def work(conn: Any) -> dict[str, Any]:
        version = await imports.apply(conn, import_id)
        return {"import_id": str(import_id), "state": "applied", "version": version}

    found: dict[str, Any] = with_database(settings, work)
    return found


def _agreed(found: dict[str, Any], *, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        if not as_json:
            print(f"staged, not applied: `callbridge deck apply {found['import_id']}` does that")
        return False
    return typer.confirm(f"Apply it to {found['deck']}?")


def _author() -> str:
    return getpass.getuser()


def _most(everything: bool) -> dict[str, None]:
    return {"most": None} if everything else {}


def _most_of_import(everything: bool, as_json: bool) -> dict[str, None]:
    """Programs get every error."""
    return _most(everything) | ({"errors_most": None} if everything or as_json else {})
