"""`callbridge export recipient …`: who gets which files, and where."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bridge.cli.arguments import instant
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database
from bridge.errors import Invalid

app = typer.Typer(help="Who gets files of call records.", no_args_is_help=True)

Code = Annotated[str, typer.Argument(metavar="CODE", help="1 to 20 letters, digits, hyphens.")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="cdr, quality or correction; may be repeated.")
]
Format = Annotated[str | None, typer.Option("--format", help="csv, jsonl, parquet or tap3.")]
Period = Annotated[str | None, typer.Option("--period", help="hourly, daily, monthly or manual.")]
Zone = Annotated[str | None, typer.Option("--zone", help="In which its days begin, such as Europe/Berlin.")]
Directory = Annotated[
    str | None, typer.Option("--directory", metavar="PATH", help="Deliver into this folder.")
]
Sftp = Annotated[
    str | None, typer.Option("--sftp", metavar="USER@HOST[:PORT]/FOLDER", help="Deliver to this server.")
]
HostKey = Annotated[
    str | None,
    typer.Option("--host-key", metavar="KEY", help="The server's public key: `ssh-ed25519 AAAA…`."),
]


@app.command()
def add(
    code: Code,
    partner: Annotated[
        str | None,
        typer.Option(
            "--partner", metavar="NAME", help="Gets its own records; without, everybody's: the house."
        ),
    ] = None,
    types: Types = None,
    form: Format = None,
    period: Period = None,
    zone: Zone = None,
    directory: Directory = None,
    sftp: Sftp = None,
    host_key: HostKey = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            parser=instant,
            metavar="WHEN",
            help="The first file begins then; now's period otherwise.",
        ),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Begin to make files for somebody. Without --directory and --sftp they are fetched over the API."""
    from bridge.exports.spans import begun, zone_named
    from bridge.exports.store.cdr_files import add_recipient, partner_named

    settings = settings_of(config_file)
    every, named = _every(period or "daily"), zone or settings.company.time_zone
    first_at = since or begun(datetime.now(UTC), every, zone_named(named))

    async def work(conn: Any) -> dict[str, Any]:
        partner_id = await partner_named(conn, partner) if partner else None
        await add_recipient(
            conn,
            code,
            partner_id,
            types=types or ["cdr"],
            form=form or "csv",
            every=every,
            zone=named,
            target=_target(directory, sftp, host_key) or {"kind": "api"},
            since_at=first_at,
        )
        return await _told(conn, code)

    _print(in_transaction(settings, work), as_json=as_json)


@app.command("list")
def list_recipients(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Everybody who gets files."""
    from bridge.exports.store.cdr_files import recipients
    from bridge.telling.export import tell_recipients

    async def found(conn: Any) -> list[dict[str, Any]]:
        return [await _told(conn, one.code) for one in await recipients(conn)]

    told = with_database(settings_of(config_file), found)
    print(json.dumps(told) if as_json else tell_recipients(told))


@app.command()
def show(code: Code, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """One recipient."""
    _print(with_database(settings_of(config_file), lambda conn: _told(conn, code)), as_json=as_json)


@app.command("set")
def set_recipient(
    code: Code,
    types: Types = None,
    form: Format = None,
    period: Period = None,
    zone: Zone = None,
    directory: Directory = None,
    sftp: Sftp = None,
    host_key: HostKey = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Change what is given. It holds for files that are not planned yet; where to, for all that are not delivered."""
    from bridge.exports.spans import zone_named
    from bridge.exports.store import cdr_files as store

    async def work(conn: Any) -> dict[str, Any]:
        one = await store.recipient_coded(conn, code)
        changed = replace(
            one,
            types=tuple(types) if types else one.types,
            format=form or one.format,
            every=_every(period) if period else one.every,
            zone=zone_named(zone) if zone else one.zone,
            target=_target(directory, sftp, host_key) or one.target,
            enabled=one.enabled if enabled is None else enabled,
        )
        await store.set_recipient(conn, changed)
        return await _told(conn, code)

    _print(in_transaction(settings_of(config_file), work), as_json=as_json)


@app.command()
def disable(code: Code, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Make no more files for it. Those of the time between come when it is enabled again."""
    set_recipient(code, enabled=False, config_file=config_file, as_json=as_json)


async def _told(conn: Any, code: str) -> dict[str, Any]:
    from bridge.exports.listing import recipient_told
    from bridge.exports.store.cdr_files import partner_name, recipient_coded

    one = await recipient_coded(conn, code)
    return recipient_told(one, await partner_name(conn, one.partner_id))


def _every(text: str) -> Any:
    from bridge.exports.spans import Every

    try:
        return Every(text)
    except ValueError:
        raise Invalid(f"The period is one of {', '.join(Every)}.") from None


def _target(directory: str | None, sftp: str | None, host_key: str | None) -> dict[str, Any] | None:
    """raises   Invalid"""
    if directory and sftp:
        raise Invalid("Give --directory or --sftp, not both.")
    if directory:
        return {"kind": "directory", "path": directory}
    if not sftp:
        return None
    user, at, rest = sftp.partition("@")
    place, _, folder = rest.partition("/")
    host, _, port = place.partition(":")
    if not at or not host or (port and not port.isdecimal()):
        raise Invalid("Write --sftp as USER@HOST/FOLDER or USER@HOST:PORT/FOLDER.")
    return {
        "kind": "sftp",
        "host": host,
        "port": int(port or 22),
        "user": user,
        "folder": folder or ".",
        "host_key": host_key or "",
    }


def _print(told: dict[str, Any], *, as_json: bool) -> None:
    from bridge.telling.export import tell_recipient

    print(json.dumps(told) if as_json else tell_recipient(told))
