"""Parquet: money as decimal128(18,6), instants in UTC to the millisecond, row groups of one size."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from pyarrow import csv, parquet

from bridge.exports.columns import COLUMNS, Kind
from bridge.exports.lines import Lines
from bridge.exports.manifest import Manifest
from bridge.exports.streamed import Sink, WrittenFile

GROUP_ROWS: Final = 10_000  # in memory at a time: under 200 MB with the library itself

_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.WHOLE: pa.int64(),
    Kind.MONEY: pa.decimal128(18, 6),
    Kind.INSTANT: pa.timestamp("ms", tz="UTC"),
}
SCHEMA: Final = pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])


class Parquet:
    def __init__(self, file: WrittenFile) -> None:
        # One thread: the calls are first. Dictionaries are left to the library, by column.
        self._writer = parquet.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=True)
        self._lines = Lines()
        self._held = bytearray()
        self._held_rows = 0
        self.rows = 0

    def block(self, csv: bytes) -> None:
        for line in self._lines.of(csv).splitlines(keepends=True):
            self._held += line
            self._held_rows += 1
            if self._held_rows == GROUP_ROWS:
                self._write()

    def close(self) -> None:
        self._lines.end()
        if self._held_rows or not self.rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        """A row group of exactly what is held, whatever sizes it came in."""
        if self._held_rows:
            table = csv.read_csv(
                pa.BufferReader(bytes(self._held)),
                read_options=csv.ReadOptions(
                    column_names=SCHEMA.names, use_threads=False, block_size=len(self._held) + 1
                ),
                convert_options=csv.ConvertOptions(
                    column_types=SCHEMA,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            self._writer.write_table(table.combine_chunks(), row_group_size=GROUP_ROWS)
            del table
            pa.default_memory_pool().release_unused()
        self.rows += self._held_rows
        self._held.clear()
        self._held_rows = 0


def sink(file: WrittenFile, _about: Manifest, _schema: str) -> Sink:
    return Parquet(file)
