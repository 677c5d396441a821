"""The generated configuration of a switch, from the database as it stands."""

from __future__ import annotations

import asyncpg

from bridge import queries
from bridge.asterisk import conf
from bridge.asterisk.conf_users import switch_login
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import ConfigError
from bridge.routing.store import load_apps, load_peers


async def rendered(conn: Connection, settings: Settings) -> dict[str, str]:
    """The files that `conf.write` puts in place."""
    return conf.render(settings, await load_peers(conn), await load_apps(conn))


async def ensure_switch_login(conn: Connection, settings: Settings) -> None:
    """The role of users.switch_dsn exists, has that password and reads what the switch needs, nothing else.

    raises   ConfigError: whoever migrates may not make roles, or the role may do more
    """
    login = switch_login(settings)
    if login is None:
        return
    try:
        await queries.credentials.switch_login.run(conn, name=login.user, password=login.password)
    except asyncpg.PostgresError as error:
        if error.sqlstate not in ("42501", "BR003"):  # may not make roles; the role may do more
            raise
        fix = f"As superuser, run SELECT bridge.switch_login_v1('{login.user}', '<its password>')."
        raise ConfigError("users.switch_dsn", f"has no login ({error})", fix) from None
