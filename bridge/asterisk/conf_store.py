"""The generated configuration of a switch, from the database as it stands."""

from __future__ import annotations

from bridge.asterisk import conf
from bridge.config import Settings
from bridge.database import Connection
from bridge.routing.store import load_apps, load_peers


async def rendered(conn: Connection, settings: Settings) -> dict[str, str]:
    """The files that `conf.write` puts in place."""
    return conf.render(settings, await load_peers(conn), await load_apps(conn))
