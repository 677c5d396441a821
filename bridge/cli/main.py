"""The command line: thin, one function a command. Errors say what to do and exit with 2 (yours) or 1 (ours)."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from bridge.cli import (
    account,
    bill,
    bundle,
    close,
    deck,
    dispute,
    export,
    fx,
    invoice,
    jobs,
    key,
    partner,
    period,
    phone,
    plan,
    price,
    reconcile,
    report,
    rerate,
    retention,
    rollout,
    simulate,
    statement,
    trial,
    user,
)
from bridge.cli.base import ConfigFile, Json, settings_of, with_database
from bridge.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from bridge.database import Connection

app = typer.Typer(
    name="callbridge", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
conf_app = typer.Typer(help="The switch's configuration.", no_args_is_help=True)
app.add_typer(conf_app, name="conf")
TOPICS = (
    account,
    bundle,
    deck,
    dispute,
    export,
    fx,
    invoice,
    jobs,
    key,
    partner,
    period,
    phone,
    plan,
    reconcile,
    report,
    rerate,
    retention,
    rollout,
    statement,
    user,
)
for topic in TOPICS:
    app.add_typer(topic.app, name=topic.__name__.rpartition(".")[2])
rollout.app.command()(trial.trial)
app.command()(price.explain)
app.command()(bill.bill)
app.command()(price.quote)
app.command()(simulate.simulate)
app.command()(close.close)


def main() -> None:
    """The entry point. What we raise on purpose ends as one line, never as a traceback."""
    try:
        app()
    except ConfigError as error:
        print(f"callbridge: {error}", file=sys.stderr)
        sys.exit(2)
    except BridgeError as error:
        print(f"callbridge: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes behind the same ports.")] = 1,
    config_file: ConfigFile = None,
) -> None:
    """Take calls: AGI server, API, and the keeper of the switch."""
    from bridge.serve import serve as run

    run(settings_of(config_file), workers)


@app.command(hidden=True)
def worker(config_file: ConfigFile = None) -> None:
    """One worker of `serve --workers N`."""
    import uvloop

    from bridge.app import serve_one

    uvloop.run(serve_one(settings_of(config_file), leash=sys.stdin.fileno()))


@app.command(hidden=True)
def job() -> None:
    """One job of a worker, which says on standard input which."""
    from bridge.jobs.process import main as run

    run()


@app.command()
def migrate(config_file: ConfigFile = None) -> None:
    """Bring the database up to date."""
    from bridge.asterisk.conf_store import ensure_switch_login
    from bridge.migrate import migrate as run

    settings = settings_of(config_file)
    applied = with_database(settings, run)
    with_database(settings, lambda conn: ensure_switch_login(conn, settings))
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")


@conf_app.command("render")
def conf_render(
    reload: Annotated[
        bool, typer.Option("--reload", help="Have the running switch read what changed.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Write callbridge/*.conf from settings and database. Only files that changed are replaced."""
    from bridge.asterisk import conf, orders
    from bridge.asterisk.conf_store import rendered

    settings = settings_of(config_file)
    files = with_database(settings, lambda conn: rendered(conn, settings))
    changed = conf.write(settings.switch.conf_dir, files)
    for name in changed:
        print(f"wrote {settings.switch.conf_dir / conf.FOLDER / name}")
    if reload and changed:
        asyncio.run(orders.reload(settings, conf.RELOADS))
        print(f"reloaded {', '.join(conf.RELOADS)}")
    elif changed:
        print(f"the switch has not read it yet: reload {', '.join(conf.RELOADS)}, or render with --reload")
    else:
        print("nothing changed")


@conf_app.command("check")
def conf_check(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Say what is missing before calls can be made. Exit 1 when something is."""
    from bridge.asterisk import conf

    settings = settings_of(config_file)
    problems = conf.check(settings, settings.switch.conf_dir)
    if as_json:
        print(json.dumps([{"problem": one.what, "fix": one.fix} for one in problems]))
    else:
        print("\n".join(f"{one.what}. {one.fix}" for one in problems) or "ready for calls")
    raise typer.Exit(1 if problems else 0)


@app.command()
def call(call_id: UUID, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Tell the story of one call."""
    from bridge.calls.story import story
    from bridge.telling import tell

    told = with_database(settings_of(config_file), lambda conn: story(conn, call_id))
    print(json.dumps(told) if as_json else tell(told))


@app.command()
def live(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the calls in progress."""
    from bridge.calls.listing import live_calls
    from bridge.telling import tell_live

    found = with_database(settings_of(config_file), live_calls)
    print(json.dumps(found) if as_json else tell_live(found))


@app.command()
def hangup(call_id: UUID, config_file: ConfigFile = None) -> None:
    """End a call in progress. It is billed like any other."""
    from bridge.asterisk.orders import hang_up
    from bridge.calls.listing import live_channel

    settings = settings_of(config_file)
    channel = with_database(settings, lambda conn: live_channel(conn, call_id))
    asyncio.run(hang_up(settings, channel))
    print(f"hung up {call_id}")


@app.command()
def audit(
    completeness: Annotated[
        bool,
        typer.Option(
            "--completeness",
            help="That every ended call has its records, no number is missing, and files have them all.",
        ),
    ] = False,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Prove the invariants of the books, or of the records. Exit 1 and the offending ids when one is broken."""
    from bridge.calls.audit import audit as audit_calls
    from bridge.exports.cdr_files import files_agree
    from bridge.exports.completeness import audit_completeness
    from bridge.partners.store.statement_audit import audit_statements
    from bridge.telling import tell_audit

    async def books(conn: Connection) -> dict[str, list[dict[str, Any]]]:
        return await audit_calls(conn) | await audit_statements(conn)

    async def records(conn: Connection) -> dict[str, list[dict[str, Any]]]:
        return await audit_completeness(conn) | await files_agree(conn)

    findings = with_database(settings_of(config_file), records if completeness else books)
    print(json.dumps(findings) if as_json else tell_audit(findings))
    raise typer.Exit(1 if any(findings.values()) else 0)


@app.command()
def openapi(
    collection: Annotated[
        bool, typer.Option("--collection", help="As a collection for Postman, Bruno, Insomnia.")
    ] = False,
) -> None:
    """Print the description of the API."""
    from bridge.api.app import described
    from bridge.api.collection import collection as collected

    told = described().openapi()
    print(json.dumps(collected(told) if collection else told, indent=1, ensure_ascii=False))


@app.command()
def demo(
    as_json: Json = False,
    keep: Annotated[bool, typer.Option(help="Leave the demo's files behind and say where.")] = False,
) -> None:
    """Set everything up on this machine, make one call, tell its story."""
    from bridge.sandbox.demo import run
    from bridge.telling import tell

    told = run(keep=keep)
    print(json.dumps(told) if as_json else tell(told))


@app.command()
def up(
    as_json: Json = False,
    env: Annotated[
        bool, typer.Option("--env", help="Print what a shell sets: API, KEY, OPERATOR, PHONE.")
    ] = False,
) -> None:
    """Keep the whole house running on this machine, in the background, until `callbridge down`."""
    from bridge.sandbox import up as sandbox

    facts = sandbox.up()
    if env:
        print(sandbox.exports(facts))
    else:
        print(json.dumps(facts) if as_json else sandbox.tell(facts))


@app.command()
def dial(
    b_number: Annotated[str, typer.Argument(help="Whom to call, e.g. +493023125000")],
    talk_s: Annotated[
        float, typer.Option("--talk", min=0.1, max=600, help="Seconds to talk when answered.")
    ] = 3.0,
    as_json: Json = False,
) -> None:
    """Place a call in the house that `callbridge up` keeps, and tell its story."""
    from bridge.sandbox.up import dial as run
    from bridge.telling import tell

    told = run(b_number, talk_s)
    print(json.dumps(told) if as_json else tell(told))


@app.command()
def down() -> None:
    """End what `callbridge up` started."""
    from bridge.sandbox.up import down as run

    print(run())


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Figures to measure; all when none is named.")
    ] = None,
    as_json: Json = False,
    smoke: Annotated[
        bool, typer.Option(help="Seconds instead of minutes; the numbers mean nothing.")
    ] = False,
) -> None:
    """Measure this machine, each figure against its baseline in the same run."""
    from bridge.sandbox.bench import run
    from bridge.telling import tell_figure

    for figure in run(names or [], smoke=smoke):
        print(json.dumps(figure) if as_json else tell_figure(figure), flush=True)
