"""JSON Lines, compressed: an object a row. Money is a string, whole numbers are numbers, what is empty is null."""

from __future__ import annotations

import json
import zlib
from typing import Any

from bridge.exports.as_csv import GZIP, LEVEL
from bridge.exports.columns import COLUMNS, Kind
from bridge.exports.lines import Lines, cells
from bridge.exports.manifest import Manifest
from bridge.exports.streamed import Sink, WrittenFile


class JsonLines:
    def __init__(self, file: WrittenFile) -> None:
        self._file = file
        self._packed = zlib.compressobj(LEVEL, wbits=GZIP)
        self._lines = Lines()
        self.rows = 0

    def block(self, csv: bytes) -> None:
        told = [_told(row) for row in cells(self._lines.of(csv))]
        self.rows += len(told)
        if told and (packed := self._packed.compress(("\n".join(told) + "\n").encode())):
            self._file.write(packed)

    def close(self) -> None:
        self._lines.end()
        self._file.write(self._packed.flush())


_WHOLE = frozenset(place for place, kind in enumerate(COLUMNS.values()) if kind is Kind.WHOLE)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _told(row: list[str]) -> str:
    values: dict[str, Any] = {
        name: None if not cell else int(cell) if place in _WHOLE else cell
        for place, (name, cell) in enumerate(zip(COLUMNS, row, strict=True))
    }
    return _encode(values)


def sink(file: WrittenFile, _about: Manifest, _schema: str) -> Sink:
    return JsonLines(file)
