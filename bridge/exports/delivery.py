"""How files get where they belong. A reader that sees a manifest has the file and its sums already."""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, assert_never

from bridge.config import Exports
from bridge.errors import ConfigError, Conflict
from bridge.exports.file_name import subfolder
from bridge.exports.streamed import sync_folder
from bridge.exports.target import PART, Api, Directory, Sftp, check_file_name, read_target

_COPY_BYTES: Final = 1 << 20


async def deliver(settings: Exports, target: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Have files where the target says, in their order. Where one is already, nothing is done.

    raises   Conflict: another file is there by that name · ConfigError: nothing can be written there · DeliveryFailed:
             the server did not take them, and trying again goes on
    """
    where = read_target(target)
    match where:
        case Directory():
            await asyncio.to_thread(_into, Path(where.path), paths)
        case Sftp():
            from bridge.exports.sftp import send  # noqa: PLC0415 - slow to load, and workers never send

            await send(settings, where, paths)
        case Api():
            pass  # they are fetched from where they lie
        case _:
            assert_never(where)


async def check_reachable(settings: Exports, target: Mapping[str, Any]) -> None:
    """Whether files could be delivered, as far as that can be told without sending any.

    raises   ConfigError · DeliveryFailed: what is wrong, and what to do
    """
    where = read_target(target)
    match where:
        case Directory():
            await asyncio.to_thread(_check_folder, Path(where.path))
        case Sftp():
            from bridge.exports.sftp import look  # noqa: PLC0415 - slow to load, and workers never send

            await look(settings, where)
        case Api():
            pass
        case _:
            assert_never(where)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(str(folder), "is no folder", "Make it, and let us write there.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(str(folder), "cannot be written to", "Let us write there.")


def _into(folder: Path, paths: Sequence[Path]) -> None:
    _check_folder(folder)
    for path in paths:
        check_file_name(path.name)
        try:
            home = _month_in(folder, subfolder(PurePosixPath(path)))
            _copy(path, home / path.name)
        except OSError as error:
            fix = "Make room there, and let us write there."
            raise ConfigError(
                str(folder), f"{path.name} cannot be delivered ({error.strerror})", fix
            ) from error


def _month_in(folder: Path, name: str) -> Path:
    """Parquet is laid out by months. No link leads out of the folder."""
    if not name:
        return folder
    home = folder / name
    home.mkdir(exist_ok=True)
    if home.is_symlink():
        raise Conflict(f"{home} is a link. Make it a folder.")
    return home


def _copy(path: Path, there: Path) -> None:
    """Whole or not at all, also when the machine goes down; never over a file that is another."""
    if there.is_symlink():
        raise Conflict(f"{there} is a link. Move it away.")
    if there.exists():
        if filecmp.cmp(path, there, shallow=False):
            return
        raise Conflict(f"{there} is there already, with other content. Move it away.")
    part = there.with_name(there.name + PART)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Buffered, for a raw write may be short without a word where the disk is full.
        with path.open("rb") as ours, os.fdopen(os.open(part, flags, 0o640), "wb") as theirs:
            shutil.copyfileobj(ours, theirs, _COPY_BYTES)
            theirs.flush()
            os.fsync(theirs.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(there)
    sync_folder(there.parent)
