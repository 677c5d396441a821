"""The generated configuration of a switch, from the database as it stands."""

from __future__ import annotations

from datetime import UTC, datetime

from bridge.asterisk import conf
from bridge.config import Settings
from bridge.database import Connection
from bridge.rating.store import load_decks
from bridge.routing.store import load_apps, load_trunks


async def rendered(conn: Connection, settings: Settings) -> dict[str, str]:
    """The files that `conf.write` puts in place."""
    decks = await load_decks(conn, datetime.now(UTC))
    return conf.render(settings, await load_trunks(conn, decks), await load_apps(conn))
