"""What a call would cost, and why one cost what it did."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, with_database
from bridge.errors import ConfigError


def explain(call_id: UUID, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show every step from number to price of one call."""
    from bridge.calls.explain import explain as run
    from bridge.telling.prices import tell_explanation

    told = with_database(settings_of(config_file), lambda conn: run(conn, call_id))
    print(json.dumps(told) if as_json else tell_explanation(told))


def quote(
    caller: Annotated[str, typer.Option("--from", help="Who calls, e.g. +498999998100")],
    dialled: Annotated[str, typer.Option("--to", help="Whom, as it is dialled.")],
    at: Annotated[
        str | None, typer.Option(help="When, e.g. 2026-11-22T20:00+01:00; now if not given.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long a call.")] = 180,
    plan: Annotated[
        str | None, typer.Option(help="The plan's name, where it is not the subscriber's.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="The app, where the number is in several.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Say what a call would cost, which bundle pays, over which routes, and the margin."""
    from bridge.calls.quote import quote as run
    from bridge.telling.prices import tell_quote

    settings = settings_of(config_file)
    when = _instant(at)
    told = with_database(
        settings,
        lambda conn: run(
            conn, caller, dialled, at=when, seconds=seconds, plan=plan, app=app, rules=settings.calls
        ),
    )
    print(json.dumps(told) if as_json else tell_quote(told))


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "--at", f"{text!r:.40} is no time", "Write it like 2026-11-22T20:00+01:00."
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
