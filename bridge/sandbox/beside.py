"""A database of its own for a try, on a server that is there: beside the house's, which it leaves alone."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from bridge import queries
from bridge.config import Settings, require_dsn
from bridge.database import connect
from bridge.errors import ConfigError
from bridge.migrate import migrate
from bridge.sandbox.up import running, state_dir

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


def make_beside(settings: Settings, name: str) -> Settings:
    """Make a migrated, empty database on the server of the settings, else of the house that is up. Its settings.

    raises   ConfigError: no name, or one that is taken; or there is no server
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError("--new-database", f"{name[:63]!r} is no name", "Write small letters, digits and _.")
    beside = settings.database.dsn.get_secret_value() or _of_the_house() or require_dsn(settings)
    dsn = urlunsplit(urlsplit(beside)._replace(path=f"/{name}"))
    asyncio.run(_make(beside, name, dsn))
    return settings.model_copy(
        update={"database": settings.database.model_copy(update={"dsn": SecretStr(dsn)})}
    )


def _of_the_house() -> str:
    root = state_dir()
    return str(json.loads((root / "facts.json").read_text())["dsn"]) if running(root) else ""


async def _make(beside: str, name: str, dsn: str) -> None:
    async with connect(beside) as conn:
        if await queries.simulate.database_there.value(conn, name=name):
            raise ConfigError("--new-database", f"{name} is there already", "Name another one.")
        await conn.execute(f"CREATE DATABASE {name}")  # a checked name: no parameter may stand here
    async with connect(dsn) as conn:
        await migrate(conn)
