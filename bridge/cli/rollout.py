"""`callbridge rollout …`: who may call with an app yet. A rollout is named by its app, or by its id."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from bridge.cli.arguments import instant
from bridge.cli.base import ConfigFile, Json, in_transaction, settings_of, with_database

app = typer.Typer(help="Rollouts: who may call yet.", no_args_is_help=True)

Rollout = Annotated[str, typer.Argument(help="The app's name, or the rollout's id.")]
Window = Annotated[
    str | None, typer.Option("--window", help="Its name or id; needed where several could be meant.")
]


@app.command("list")
def list_rollouts(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """All rollouts, newest first."""
    from bridge.api.rollout_desk import all_rollouts
    from bridge.telling.rollout import tell_rollouts

    found = with_database(settings_of(config_file), all_rollouts)
    print(json.dumps(found) if as_json else tell_rollouts(found))


@app.command()
def show(rollout: Rollout, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """A rollout with its windows and waves."""
    from bridge.api.rollout_desk import look
    from bridge.telling.rollout import tell_rollout

    found = with_database(settings_of(config_file), lambda conn: look(conn, rollout))
    print(json.dumps(found) if as_json else tell_rollout(found))


@app.command("open")
def open_window(
    rollout: Rollout,
    window: Window = None,
    new: Annotated[str | None, typer.Option("--new", help="Make a window of this name first.")] = None,
    quota: Annotated[int | None, typer.Option("--quota", min=1, help="Of the new one.")] = None,
    closes: Annotated[
        datetime | None,
        typer.Option(
            "--closes", parser=instant, metavar="INSTANT", help="When the new one closes by itself."
        ),
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Open a window that is planned or paused, or a new one."""
    from bridge.api.rollout_desk import new_window, set_window

    if new is None and (quota is not None or closes is not None):
        raise typer.BadParameter("--quota and --closes are of a window that --new makes")
    if new is not None and window is not None:
        raise typer.BadParameter("name a window or make a new one, not both")

    async def work(conn: Any) -> dict[str, Any]:
        if new is not None:
            return await new_window(conn, rollout, new, quota, closes)
        return await set_window(conn, rollout, window, "open")

    _tell_window(in_transaction(settings_of(config_file), work), as_json)


@app.command()
def pause(
    rollout: Rollout, window: Window = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Pause the open window."""
    from bridge.api.rollout_desk import set_window

    made = in_transaction(settings_of(config_file), lambda conn: set_window(conn, rollout, window, "paused"))
    _tell_window(made, as_json)


@app.command()
def close(
    rollout: Rollout, window: Window = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Close a window for good."""
    from bridge.api.rollout_desk import set_window

    made = in_transaction(settings_of(config_file), lambda conn: set_window(conn, rollout, window, "closed"))
    _tell_window(made, as_json)


@app.command()
def launch(rollout: Rollout, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Open the app to everybody, for good."""
    from bridge.api.rollout_desk import set_state
    from bridge.telling.rollout import tell_rollouts

    made = in_transaction(settings_of(config_file), lambda conn: set_state(conn, rollout, "launched"))
    print(json.dumps(made) if as_json else tell_rollouts([made]))


@app.command()
def kill(rollout: Rollout, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """End all activation, for good. Who is enabled stays so."""
    from bridge.api.rollout_desk import set_state
    from bridge.telling.rollout import tell_rollouts

    made = in_transaction(settings_of(config_file), lambda conn: set_state(conn, rollout, "killed"))
    print(json.dumps(made) if as_json else tell_rollouts([made]))


@app.command()
def key(
    rollout: Rollout,
    deed: Annotated[str, typer.Argument(help="give or withhold")],
    platform: Annotated[
        str | None, typer.Option("--platform", help="Waves of this platform; all waves when missing.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give or withhold the server's key. Given, who has only the client's is activated."""
    from bridge.api.rollout_desk import set_keys
    from bridge.telling.rollout import tell_waves

    if deed not in ("give", "withhold"):
        raise typer.BadParameter("say give or withhold")
    made = in_transaction(
        settings_of(config_file), lambda conn: set_keys(conn, rollout, platform, given=deed == "give")
    )
    print(json.dumps(made) if as_json else tell_waves(made))


@app.command()
def tree(
    rollout: Rollout,
    below: Annotated[str | None, typer.Option("--below", help="A number: only whom they brought in.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000)] = 200,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Who was brought in by whom."""
    from bridge.api.rollout_desk import chain
    from bridge.telling.rollout import tell_chain

    found = with_database(settings_of(config_file), lambda conn: chain(conn, rollout, below, rows))
    print(json.dumps(found) if as_json else tell_chain(found))


@app.command()
def forecast(
    rollout: Rollout,
    hours: Annotated[float, typer.Option("--hours", min=0, max=8760)] = 24.0,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """How many will be able to call if the open window stays open."""
    from bridge.api.rollout_desk import foresee
    from bridge.telling.rollout import tell_forecast

    found = with_database(settings_of(config_file), lambda conn: foresee(conn, rollout, hours))
    print(json.dumps(found) if as_json else tell_forecast(found))


@app.command()
def replay(rollout: Rollout, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Work the rollout out again from its events. Exit 1 when the tables say something else."""
    from bridge.api.rollout_desk import replay as run
    from bridge.telling.rollout import tell_replay

    async def work(conn: Any) -> dict[str, Any]:
        return await run(conn, rollout)

    found = with_database(settings_of(config_file), work)
    print(json.dumps(found) if as_json else tell_replay(found))
    raise typer.Exit(1 if found["problems"] else 0)


@app.command()
def invite(
    rollout: Rollout,
    inviter: Annotated[str, typer.Argument(help="Number of a subscriber who can call.")],
    number: Annotated[str, typer.Argument(help="Who is invited, e.g. +493023125017")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Invite a number for a subscriber. The code is shown now and never again."""
    from bridge.api.rollout_desk import invite as run
    from bridge.telling.rollout import tell_invite

    made = in_transaction(settings_of(config_file), lambda conn: run(conn, rollout, inviter, number))
    print(json.dumps(made) if as_json else tell_invite(made))


def _tell_window(window: dict[str, Any], as_json: bool) -> None:
    from bridge.telling.rollout import tell_windows

    print(json.dumps(window) if as_json else tell_windows([window]))
