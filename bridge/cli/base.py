"""What every command shares: its options, the settings, a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge import config
from bridge.config import Settings
from bridge.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="callbridge.toml")]


def settings_of(path: Path | None) -> Settings:
    """Settings, with the log configured by them."""
    from bridge.observe import log

    settings = config.load(path)
    log.configure(settings.log)
    return settings


def text_of(path: Path) -> str:
    """A file that an operator wrote. raises ConfigError: it cannot be read, or is not UTF-8"""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), str(error.strerror), "Name a file that can be read.") from None
    except UnicodeError:
        raise ConfigError(str(path), "is not UTF-8", "Save it as UTF-8.") from None


def with_database(settings: Settings, work: Callable[[Any], Any]) -> Any:
    """Run one coroutine function on a connection of its own, without a statement timeout."""
    from bridge.database import connect

    async def run() -> Any:
        async with connect(config.require_dsn(settings)) as conn:
            return await work(conn)

    return asyncio.run(run())


def in_transaction(settings: Settings, work: Callable[[Any], Any]) -> Any:
    """The same, all of it or nothing."""

    async def whole(conn: Any) -> Any:
        async with conn.transaction():
            return await work(conn)

    return with_database(settings, whole)
