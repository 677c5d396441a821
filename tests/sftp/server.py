"""A partner's SFTP server on loopback, a real one, which can be given troubles."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from bridge.config import Exports
from bridge.exports.sftp import send
from bridge.exports.target import Sftp


@dataclass
class Trouble:
    """drop_at       the connection breaks after so many bytes were written in all
    room          bytes the disk has in all; None: enough
    rename        'refused', or 'unanswered': it is done, and the connection breaks before it is said, or 'silent':
                  it is done, and nothing is said
    rename_of     only names that end so
    hangs         writing is never answered
    size_off      what is told of a size is wrong by so much
    forgets       bytes of the file's end that are never kept
    unreadable    nothing can be read
    plain         no posix-rename, no fsync
    trickles      what is read comes byte by byte
    """

    drop_at: int | None = None
    room: int | None = None
    rename: str = ""
    rename_of: str = ""
    hangs: bool = False
    size_off: int = 0
    forgets: bool = False
    unreadable: bool = False
    plain: bool = False
    trickles: bool = False
    written: int = 0
    renamed: list[str] = field(default_factory=list)
    synced: int = 0

    def is_of(self, name: str) -> bool:
        """Whether a rename to this name is meant: it ends so, or it is the file of that number."""
        of = self.rename_of
        return name.endswith(of) or (of.startswith("_") and of in name)

    silent: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class _Files(asyncssh.SFTPServer):
    def __init__(self, chan: Any, root: Path, trouble: Trouble) -> None:
        super().__init__(chan, chroot=os.fsencode(root))
        self.trouble = trouble

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if self.trouble.unreadable and not pflags & asyncssh.FXF_WRITE:
            raise asyncssh.SFTPPermissionDenied("go\x1b[31m away\n")
        return super().open(path, pflags, attrs)

    async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        trouble = self.trouble
        if trouble.hangs:
            await trouble.released.wait()
        if trouble.drop_at is not None and trouble.written + len(data) > trouble.drop_at:
            kept = data[: trouble.drop_at - trouble.written]
            trouble.drop_at = None
            super().write(file_obj, offset, kept)
            self.connection.abort()
            return len(kept)
        if trouble.room is not None and trouble.written + len(data) > trouble.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        trouble.written += len(data)
        if trouble.forgets:
            data = data[:-1] + b"\0"
        super().write(file_obj, offset, data)
        return len(data)

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, 1 if self.trouble.trickles else size)

    def stat(self, path: bytes) -> Any:
        told = self._local(path).stat()
        if not self.trouble.size_off:
            return told
        return asyncssh.SFTPAttrs(size=max(told.st_size + self.trouble.size_off, 0))

    def _local(self, path: bytes) -> Path:
        return Path(os.fsdecode(self.map_path(path)))

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        return self._rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if self.trouble.plain:
            raise asyncssh.SFTPOpUnsupported("not here")
        return self._rename(oldpath, newpath)

    async def _rename(self, oldpath: bytes, newpath: bytes) -> None:
        name, trouble = newpath.decode(), self.trouble
        if trouble.rename == "refused" and trouble.is_of(name):
            raise asyncssh.SFTPPermissionDenied("no renaming here")
        if self._local(newpath).exists():
            raise asyncssh.SFTPFailure("it exists")
        self._local(oldpath).rename(self._local(newpath))
        trouble.renamed.append(name.rpartition("/")[2])
        if trouble.rename == "unanswered" and trouble.is_of(name):
            trouble.rename = ""
            self.connection.abort()
        elif trouble.rename == "silent" and trouble.is_of(name):
            trouble.silent.set()
            await trouble.released.wait()

    def fsync(self, file_obj: Any) -> None:
        if self.trouble.plain:
            raise asyncssh.SFTPOpUnsupported("not here")
        self.trouble.synced += 1
        os.fsync(file_obj.fileno())


class _Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        raise AssertionError("nobody may try a password here")


@dataclass
class Stage:
    """A server with its trouble, and what delivers to it. folder: where files arrive."""

    trouble: Trouble
    settings: Exports
    target: Sftp
    folder: Path
    files: list[Path]
    asked: list[str] = field(default_factory=list)

    async def deliver(self, **changed: Any) -> None:
        async def names(host: str) -> list[str]:
            self.asked.append(host)
            return ["127.0.0.1"]

        settings = self.settings.model_copy(update=changed)
        await send(settings, self.target, self.files, names)

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def wanted(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.files}


@asynccontextmanager
async def stage(
    tmp_path: Path, size: int, host_key: asyncssh.SSHKey, own: asyncssh.SSHKey
) -> AsyncIterator[Stage]:
    """size   of the data file, bytes"""
    root, made = tmp_path / "theirs", tmp_path / "ours"
    folder = root / "incoming"
    folder.mkdir(parents=True)
    made.mkdir()
    key_file = made / "key"
    own.write_private_key(str(key_file))
    trusted = made / "trusted"
    trusted.write_bytes(own.export_public_key())
    data = made / "CDR_us_them_00000007_20261001_20261002.csv.gz"
    data.write_bytes(os.urandom(size))
    rest = [data.with_name(data.name + ".sha256"), data.with_name(data.name + ".json")]
    for path in rest:
        path.write_text(f"of {data.name}\n")
    trouble = Trouble()
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_Door,
        server_host_keys=[host_key],
        authorized_client_keys=str(trusted),
        sftp_factory=lambda chan: _Files(chan, root, trouble),
        allow_scp=False,
    )
    pinned = host_key.export_public_key().decode().strip()
    target = Sftp("sftp.partner.example", server.get_port(), "callbridge", "incoming", pinned)
    settings = Exports(
        sftp_key_file=str(key_file),
        sftp_timeout_s=5,
        allow_networks="127.0.0.0/8",
    )
    try:
        yield Stage(trouble, settings, target, folder, [data, *rest])
    finally:
        trouble.released.set()
        server.close()
        await server.wait_closed()
