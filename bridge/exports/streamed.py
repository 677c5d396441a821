"""Records as Postgres tells them, one CSV for all formats, turned into a file by a thread while the next ones come.

What a file has is what its stream had: every format is made of the same cells. The work is cut into blocks of one size,
whatever sizes the network makes of them, so that a file comes out the same to the last byte each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self

from bridge import queries
from bridge.database import Connection
from bridge.exports.file_name import PART
from bridge.exports.manifest import Manifest
from bridge.exports.store.cdr_files import Part

BLOCK_BYTES: Final = 1 << 18

# (what is being done, rows done, rows in all)
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """For callers nobody watches."""


class Sink(Protocol):
    """Makes a file of CSV. rows: how many there were, without the header."""

    @property
    def rows(self) -> int: ...

    def block(self, csv: bytes) -> None:
        """The next bytes: lines may go on in the next block."""

    def close(self) -> None:
        """There is no more."""


# Where the sink of a format is made: modules that need much are read when they are needed.
_SINKS: Final = {
    "csv": "bridge.exports.as_csv",
    "jsonl": "bridge.exports.as_jsonl",
    "parquet": "bridge.exports.as_parquet",
    "tap3": "bridge.exports.as_tap",
}


class WrittenFile:
    """A file under its name only once it is whole: before, it is a `.part`, which is gone when something failed.

    sha256, bytes   of what was written
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + PART)
        self._hash = hashlib.sha256()
        self.bytes = 0
        self.closed = False  # asked for by writers of Parquet

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file: IO[bytes] = os.fdopen(os.open(self._part, flags, 0o640), "wb", buffering=0)
        return self

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        at = 0
        while at < len(view):
            at += self._file.write(view[at:])
        self._hash.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Nothing is held back."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            if kind is None:
                os.fsync(self._file.fileno())
                whole = True
        finally:
            self._file.close()
            if not whole:
                self._part.unlink(missing_ok=True)
        if whole:
            self._part.replace(self._path)
            sync_folder(self._path.parent)


def sync_folder(folder: Path) -> None:
    """A name is there after a crash of the machine once its folder has been written."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Pipe:
    """Takes what comes, and gives it to a sink in a thread, block by block, one behind."""

    def __init__(self, sink: Sink, told: Callable[[int], None]) -> None:
        self._sink, self._told = sink, told
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file")
        self._buffer = bytearray()
        self._under_way: asyncio.Future[None] | None = None

    async def take(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= BLOCK_BYTES:
            await self._give(bytes(self._buffer[at : at + BLOCK_BYTES]))
            at += BLOCK_BYTES
        if at:
            del self._buffer[:at]

    async def end(self) -> None:
        await self._give(bytes(self._buffer))
        await self._settled()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._sink.close)

    async def stop(self) -> None:
        """Nobody is at work on the file after this."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _give(self, block: bytes) -> None:
        await self._settled()
        self._under_way = asyncio.get_running_loop().run_in_executor(self._thread, self._sink.block, block)

    async def _settled(self) -> None:
        if self._under_way is not None:
            await self._under_way
            self._under_way = None
            self._told(self._sink.rows)


async def stream(
    conn: Connection,
    part: Part,
    form: str,
    file: WrittenFile,
    about: Manifest,
    schema: str,
    progress: Progress,
) -> None:
    """Write the records of a part. Inside the transaction that its totals were read in.

    about    all but the file's own sums, for formats that have it inside
    schema   of TAP3: the path of the operator's module
    raises   InvariantBroken: other rows came out than the records are · ConfigError: nothing can be written there
    """
    sink: Sink = import_module(_SINKS[form]).sink(file, about, schema)
    query = queries.cdr_files.rows
    given = part.given() | {"names_id": part.names_id}
    total = about.totals.rows
    pipe = Pipe(sink, lambda rows: progress(about.name, rows, total))
    try:
        said = await conn.copy_from_query(
            query.sql.rstrip().rstrip(";"),
            *[given[name] for name in query.names],
            output=pipe.take,
            format="csv",
            header=True,
        )
        await pipe.end()
    finally:
        await pipe.stop()
    about.totals.must_be(int(said.split()[1]), about.name)
    about.totals.must_be(sink.rows, about.name)
