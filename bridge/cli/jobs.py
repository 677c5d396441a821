"""`callbridge jobs …`: what is done apart from calls, when, and what became of it."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, with_database

app = typer.Typer(help="Work apart from calls: numbering, files, extracts.", no_args_is_help=True)


@app.command("list")
def list_jobs(config_file: ConfigFile = None, as_json: Json = False) -> None:
    """The jobs: when each is due, how it stands, and what went wrong."""
    from bridge.jobs.store import jobs
    from bridge.telling.jobs import shown, tell_jobs

    found = [shown(row) for row in with_database(settings_of(config_file), jobs)]
    print(json.dumps(found) if as_json else tell_jobs(found))


@app.command()
def run(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `jobs list` has it.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Do one now and wait for it, whenever it is due. Exit 1 when it fails."""
    from bridge.config import require_dsn
    from bridge.database import open_pool
    from bridge.jobs.runner import Runner

    settings = settings_of(config_file)

    async def work() -> Any:
        pool = await open_pool(settings.database.model_copy(update={"pool_max": 2}), require_dsn(settings))
        try:
            return await Runner(pool, settings).do_key(key)
        finally:
            await pool.close()

    outcome = asyncio.run(work())
    problem = "It was taken over by a worker." if outcome is None else outcome.problem
    said = {} if outcome is None else dict(outcome.said)
    if as_json:
        print(json.dumps({"key": key, "problem": problem, "said": said}))
    else:
        facts = ", ".join(f"{name} {value}" for name, value in said.items())
        print(f"{key}: {problem or 'done'}{f' ({facts})' if facts else ''}")
    raise typer.Exit(1 if problem else 0)


@app.command()
def retry(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="All that failed when missing.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Have workers do at once what failed."""
    from bridge.jobs import store

    found = with_database(settings_of(config_file), lambda conn: store.retry(conn, key))
    print(json.dumps(found) if as_json else "\n".join(found) or "nothing has failed")
