"""Files to a partner's SFTP server: written as `.part`, read back, renamed. Whatever breaks, the next run goes on.

Nothing the server says is taken for granted. It is known by the one key that was given for it, at an address that was
checked; sizes it tells are held against what it gives to read; names come from us alone. Nothing of whoever runs us is
used: no agent, no password, no known_hosts, no configuration of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import asyncssh

from bridge.config import Exports
from bridge.errors import BridgeError, ConfigError
from bridge.events.address import AddressRefused, Names, Resolve, resolve
from bridge.events.address import Target as Place
from bridge.exports.target import PART, Sftp, check_file_name

BLOCK_BYTES: Final = 256 * 1024  # what is written and read in one step
SAID_CHARS_MAX: Final = 200
NAME_THREADS: Final = 2

T = TypeVar("T")


class DeliveryFailed(BridgeError):
    """The files are not all there. Trying again goes on where it broke off. The message says what to do."""


async def send(settings: Exports, target: Sftp, paths: Sequence[Path], names: Resolve | None = None) -> None:
    """Deliver files in their order; the last is the manifest: where that is, all before it have been.

    names    looks up names; None: the system's
    raises   DeliveryFailed · ConfigError: we have no key
    """
    files = [_File(path, check_file_name(path.name), path.stat().st_size) for path in paths]
    key = await asyncio.to_thread(_own_key, settings.sftp_key_file)
    own_names = Names(NAME_THREADS) if names is None else None
    try:
        addresses = await _addresses(settings, target, names or own_names)  # type: ignore[arg-type]
        async with _connected(settings, target, addresses, key) as sftp:
            server = _Server(sftp, target, settings.sftp_timeout_s)
            if await server.has(files[-1]):
                return
            for file in files:
                await server.deliver(file)
    finally:
        if own_names is not None:
            own_names.close()


async def look(settings: Exports, target: Sftp, names: Resolve | None = None) -> None:
    """Whether the server lets us in, and has the folder. Nothing is written there.

    raises   as `send`
    """
    key = await asyncio.to_thread(_own_key, settings.sftp_key_file)
    own_names = Names(NAME_THREADS) if names is None else None
    try:
        addresses = await _addresses(settings, target, names or own_names)  # type: ignore[arg-type]
        async with _connected(settings, target, addresses, key) as sftp:
            await _Server(sftp, target, settings.sftp_timeout_s).check_folder()
    finally:
        if own_names is not None:
            own_names.close()


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    size: int


class _Server:
    """A session with a server."""

    def __init__(self, sftp: asyncssh.SFTPClient, target: Sftp, step_s: float) -> None:
        self._sftp, self._target, self._step_s = sftp, target, step_s

    async def deliver(self, file: _File) -> None:
        """Have the file there under its name, whole; nothing is done where it is already.

        raises   DeliveryFailed
        """
        if await self.has(file):
            return
        there = self._there(file)
        part = there + PART
        begin = await self._good_until(part, file)
        await self._write(part, file, begin)
        if await self._same_until(part, file, begin, why="what was kept of it") != file.size:
            raise self._failed(
                f"{part} is not what was sent: the server does not keep files as they are. Nothing was renamed"
            )
        await self._rename(part, there)
        if await self._size(there) != file.size:
            raise self._failed(f"{there} is not there as it should be after it was renamed")

    async def has(self, file: _File) -> bool:
        """Whether the file is there.

        raises   DeliveryFailed: another one is there by its name
        """
        there = self._there(file)
        found = await self._size(there)
        if found is None:
            return False
        why = "whether it is the same"
        if found == file.size and await self._same_until(there, file, 0, why=why) == file.size:
            return True
        raise self._failed(f"{there} is there already, with other content. Move it away on the server")

    async def check_folder(self) -> None:
        """raises   DeliveryFailed: it is not there"""
        folder = self._target.folder
        found = await self._told(self._sftp.stat(folder), f"asking for {folder}")
        if found.type not in (asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_UNKNOWN):
            raise self._failed(f"{folder} is no folder")

    def _there(self, file: _File) -> str:
        return f"{self._target.folder}/{file.name}"

    async def _size(self, there: str) -> int | None:
        """As the server tells it; None: no such file."""
        try:
            told = await self._step(self._sftp.stat(there), f"asking for {there}")
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        return -1 if told.size is None else told.size

    async def _good_until(self, part: str, file: _File) -> int:
        """How much of the file is there as `.part`, in whole blocks or all of it; 0: it is begun again."""
        found = await self._size(part)
        if found is None or not 0 < found <= file.size:
            return 0
        try:
            return await self._same_until(part, file, 0, why="how far it came")
        except _Unreadable:
            return 0

    async def _write(self, part: str, file: _File, begin: int) -> None:
        """Where this fails the session ends, and whatever is open with it."""
        doing = f"writing {part}"
        flags = asyncssh.FXF_WRITE | (0 if begin else asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC)
        theirs = await self._told(self._sftp.open(part, flags, encoding=None), doing)
        with file.path.open("rb") as ours:
            ours.seek(begin)
            at = begin
            while block := await asyncio.to_thread(ours.read, BLOCK_BYTES):
                await self._told(theirs.write(block, at), doing)
                at += len(block)
        try:
            await self._step(theirs.fsync(), doing)
        except asyncssh.SFTPOpUnsupported:
            pass  # then closing it has to do
        except asyncssh.SFTPError as error:
            raise self._refused(error, doing) from None
        await self._told(theirs.close(), doing)

    async def _same_until(self, there: str, file: _File, begin: int, *, why: str) -> int:
        """How many bytes from the beginning are the same in both, in whole blocks or to the end of both.

        begin    so many are known to be. One that goes on where ours ends has none in common.
        raises   _Unreadable: the server does not let us read
        """
        doing = f"reading {there}"
        try:
            theirs = await self._step(self._sftp.open(there, asyncssh.FXF_READ, encoding=None), doing)
        except asyncssh.SFTPError as error:
            raise _Unreadable(
                self._text(
                    f"{there} cannot be read, so {why} is not known: {error.reason}. Let us read there"
                )
            ) from None
        at = begin
        with file.path.open("rb") as ours:
            ours.seek(begin)
            while True:
                block = await asyncio.to_thread(ours.read, BLOCK_BYTES)
                if await self._read(theirs, max(len(block), 1), at, doing) != block:
                    break
                if not block:
                    await self._told(theirs.close(), doing)
                    return at
                at += len(block)
        await self._told(theirs.close(), doing)
        return at if block else 0

    async def _read(self, file: asyncssh.SFTPClientFile, size: int, at: int, doing: str) -> bytes:
        """So many bytes, or what there is up to the end. All of it within the time of a step: else it trickles."""
        data = b""
        try:
            async with asyncio.timeout(self._step_s):
                while len(data) < size:
                    more: bytes = await self._told(file.read(size - len(data), at + len(data)), doing)
                    if not more:
                        break
                    data += more
        except TimeoutError:
            raise self._failed(f"{doing}: {size} bytes took longer than {self._step_s:g} s") from None
        return data

    async def _rename(self, part: str, there: str) -> None:
        doing = f"renaming {part}"
        try:
            await self._step(self._sftp.posix_rename(part, there), doing)
        except asyncssh.SFTPOpUnsupported:
            await self._told(self._sftp.rename(part, there), doing)
        except asyncssh.SFTPError as error:
            raise self._refused(error, doing) from None

    async def _told(self, work: Awaitable[T], doing: str) -> T:
        """A step in which nothing may be refused."""
        try:
            return await self._step(work, doing)
        except asyncssh.SFTPError as error:
            raise self._refused(error, doing) from None

    async def _step(self, work: Awaitable[T], doing: str) -> T:
        """raises   SFTPError: the server said no · DeliveryFailed: it said nothing in time, or went away"""
        try:
            async with asyncio.timeout(self._step_s):
                return await work
        except TimeoutError:
            raise self._failed(f"{doing}: no answer within {self._step_s:g} s") from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
            raise self._failed(f"{doing}: the connection was lost ({error.reason})") from None
        except (asyncssh.Error, OSError) as error:
            if isinstance(error, asyncssh.SFTPError):
                raise
            raise self._failed(f"{doing}: the connection was lost ({error})") from None

    def _refused(self, error: asyncssh.SFTPError, doing: str) -> DeliveryFailed:
        return self._failed(f"{doing} was refused: {error.reason or type(error).__name__}")

    def _failed(self, text: str) -> DeliveryFailed:
        return DeliveryFailed(self._text(text))

    def _text(self, text: str) -> str:
        return _line(f"{self._target.host}: {text}") + "."


class _Unreadable(DeliveryFailed):
    """What is there cannot be looked at."""


async def _addresses(settings: Exports, target: Sftp, names: Resolve) -> list[str]:
    try:
        place = Place("sftp", target.host.lower(), target.port, "")
        return await resolve(place, names, settings.allow_networks)
    except AddressRefused as error:
        raise DeliveryFailed(
            f"{target.host}: {error} A server in a private network needs its network in exports.allow_networks."
        ) from None


@asynccontextmanager
async def _connected(
    settings: Exports, target: Sftp, addresses: Sequence[str], key: asyncssh.SSHKey
) -> AsyncIterator[asyncssh.SFTPClient]:
    """At the first address that answers; by the pinned key only."""
    problem = DeliveryFailed(f"{target.host}: no address.")
    for address in addresses:
        try:
            async with asyncio.timeout(settings.sftp_timeout_s):
                conn = await asyncssh.connect(
                    address, target.port, config=None, options=_options(settings, target, key)
                )
        except (TimeoutError, OSError, asyncssh.Error) as error:
            problem = _not_connected(target, error, settings.sftp_timeout_s)
            if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.PermissionDenied):
                raise problem from None
            continue
        try:
            try:
                async with asyncio.timeout(settings.sftp_timeout_s):
                    sftp = await conn.start_sftp_client()
            except (TimeoutError, OSError, asyncssh.Error) as error:
                raise _not_connected(target, error, settings.sftp_timeout_s) from None
            yield sftp
        finally:
            conn.abort()  # an orderly end would wait for the server's
            await _gone(conn, settings.sftp_timeout_s)
        return
    raise problem


async def _gone(conn: asyncssh.SSHClientConnection, patience_s: float) -> None:
    try:
        async with asyncio.timeout(patience_s):
            await conn.wait_closed()
    except (TimeoutError, OSError, asyncssh.Error):
        pass  # what was delivered has been read back


def _options(settings: Exports, target: Sftp, key: asyncssh.SSHKey) -> asyncssh.SSHClientConnectionOptions:
    try:
        pinned = asyncssh.import_public_key(target.host_key)
    except asyncssh.KeyImportError:
        raise DeliveryFailed(f"{target.host}: target.host_key is no public key. Correct it.") from None
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        username=target.user,
        known_hosts=([pinned], [], []),
        x509_trusted_certs=None,
        client_keys=[key],
        client_certs=(),
        agent_path=None,
        password=None,
        passphrase=None,
        preferred_auth=("publickey",),
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_kex=False,
        gss_auth=False,
        compression_algs=("none",),
        connect_timeout=settings.sftp_timeout_s,
        login_timeout=settings.sftp_timeout_s,
    )


def _not_connected(target: Sftp, error: Exception, patience_s: float) -> DeliveryFailed:
    match error:
        case TimeoutError():
            text = f"no answer within {patience_s:g} s."
        # A changed key of another kind ends before the key is shown: no method in common.
        case asyncssh.HostKeyNotVerifiable() | asyncssh.KeyExchangeFailed():
            text = (
                "its host key is not the one in target.host_key. Nothing was sent. Ask the server's operator"
                " whether the key was changed, and only then replace it."
            )
        case asyncssh.PermissionDenied():
            text = f"it does not let user {target.user} in with our key (exports.sftp_key_file)."
        case asyncssh.ChannelOpenError() | asyncssh.SFTPError():
            text = f"it offers no SFTP ({error.reason})."
        case _:
            text = f"no connection ({error})."
    return DeliveryFailed(_line(f"{target.host}: {text}"))


def _own_key(file: str) -> asyncssh.SSHKey:
    key = "exports.sftp_key_file"
    if not file:
        raise ConfigError(key, "is empty", "Make a key (`ssh-keygen -t ed25519 -N ''`) and name its file.")
    try:
        return asyncssh.read_private_key(file)
    except OSError as error:
        raise ConfigError(
            key, f"{file} cannot be read: {error.strerror}", "Name a file we may read."
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(key, f"{file}: {error}", "Name a private key without a passphrase.") from None


def _line(text: str) -> str:
    """One line of what may come from a stranger."""
    return "".join(one if one.isprintable() else " " for one in text)[: SAID_CHARS_MAX + 300].strip()
