"""`callbridge rollout trial`: how the capacity trial of a window stands, or ended."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bridge.cli.base import ConfigFile, Json, settings_of, with_database


def trial(
    window: Annotated[str, typer.Argument(help="The window's id or name; of several so named, the newest.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Report on the capacity trial of a window: verdict, and each measure beside its threshold."""
    from bridge.api.trials import show
    from bridge.rollout.store.trials import trials, window_named
    from bridge.rollout.trial_report import report
    from bridge.telling.trial import tell_trial

    async def work(conn: Any) -> dict[str, Any]:
        return report(await trials(conn, await window_named(conn, window)))

    found = with_database(settings_of(config_file), work)
    print(json.dumps(show(found)) if as_json else tell_trial(found))
