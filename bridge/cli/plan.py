"""`callbridge plan`: what subscribers pay by, from a file that says all of it."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, text_of, with_database

app = typer.Typer(help="Plans: rates, terms, bands, prices of services and bundles.", no_args_is_help=True)

PlanToml = Annotated[Path, typer.Argument(help="The plan as TOML.")]


@app.command("list")
def list_plans(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the plans."""
    from bridge.rating.store.plan_list import plans
    from bridge.telling.plan import tell_plans

    found = with_database(settings_of(config_file), plans)
    print(json.dumps(found) if as_json else tell_plans(found))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The plan's name.")],
    everything: Annotated[bool, typer.Option("--all", help="Every rate, not only the first ones.")] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show a plan with its decks, terms, bands, prices and bundles."""
    from bridge.rating.store.plan_list import show_plan
    from bridge.telling.plan import tell_plan

    most = {"most": None} if everything else {}
    found = with_database(
        settings_of(config_file), lambda conn: show_plan(conn, name, datetime.now(UTC), **most)
    )
    print(json.dumps(found) if as_json else tell_plan(found))


@app.command()
def apply(
    file: PlanToml,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would change, and change nothing.")
    ] = False,
    author: Annotated[str, typer.Option(help="Who does this; you unless given.")] = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Create the plan, or make it what the file says. All of it or nothing; the same file again changes nothing."""
    from bridge.rating.plan_file import parse_plan
    from bridge.rating.store.plans import apply_plan
    from bridge.telling.plan import tell_applied

    plan = parse_plan(text_of(file), file.name)

    async def work(conn: Any) -> dict[str, Any]:
        whole = conn.transaction()
        await whole.start()
        try:
            done = await apply_plan(conn, plan, author=author or getpass.getuser(), at=datetime.now(UTC))
        except BaseException:
            await whole.rollback()
            raise
        await (whole.rollback() if dry_run else whole.commit())
        return done.to_json() | {"dry_run": dry_run}

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_applied(found["parts"], found["notes"], dry_run=dry_run))


@app.command()
def check(file: PlanToml, as_json: Json = False) -> None:
    """Read a plan's file and say what is wrong with it. Needs no database; exit 2 when something is."""
    from bridge.rating.plan_file import parse_plan

    plan = parse_plan(text_of(file), file.name)
    counts = {
        "rates": sum(len(rate.prefixes) for rate in (*plan.home, *plan.roaming)),
        "bands": len(plan.bands),
        "services": len(plan.services),
        "bundles": len(plan.bundles),
        "holidays": len(plan.terms.holidays),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(json.dumps({"plan": plan.name, **counts}) if as_json else f"plan {plan.name} is in order: {said}")
