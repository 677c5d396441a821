"""CSV, compressed: RFC 4180 with LF, RFC 1952 without a name and without a time."""

from __future__ import annotations

import zlib
from typing import Final

from bridge.errors import InvariantBroken
from bridge.exports.columns import HEADER
from bridge.exports.manifest import Manifest
from bridge.exports.streamed import Sink, WrittenFile

LEVEL: Final = 3
GZIP: Final = 16 + zlib.MAX_WBITS


class Gzipped:
    """Writes the bytes as they come. A row is a line: no cell has a line's end in it."""

    def __init__(self, file: WrittenFile) -> None:
        self._file = file
        self._packed = zlib.compressobj(LEVEL, wbits=GZIP)
        self._lines = 0

    @property
    def rows(self) -> int:
        return max(self._lines - 1, 0)

    def block(self, csv: bytes) -> None:
        if not self._lines and not csv.startswith(HEADER):
            raise InvariantBroken("the columns of a file of call records are not what they are said to be")
        self._lines += csv.count(b"\n")
        if packed := self._packed.compress(csv):
            self._file.write(packed)

    def close(self) -> None:
        self._file.write(self._packed.flush())


def sink(file: WrittenFile, _about: Manifest, _schema: str) -> Sink:
    return Gzipped(file)
