"""Whole lines out of blocks of CSV, and cells out of lines. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from bridge.errors import InvariantBroken
from bridge.exports.columns import COLUMNS, HEADER


class Lines:
    """Keeps what has no end yet for the next block. A row is a line: no cell has a line's end in it."""

    def __init__(self) -> None:
        self._begun = False
        self._rest = b""

    def of(self, block: bytes) -> bytes:
        """The lines that are whole by now, without the header.

        raises   InvariantBroken: the header is another
        """
        whole = self._rest + block
        end = whole.rfind(b"\n") + 1
        self._rest = whole[end:]
        found = whole[:end]
        if not self._begun and found:
            self._begun = True
            if not found.startswith(HEADER):
                raise InvariantBroken(
                    "the columns of a file of call records are not what they are said to be"
                )
            found = found[len(HEADER) :]
        return found

    def end(self) -> None:
        """raises   InvariantBroken: the last line has no end, or there was no header"""
        if self._rest or not self._begun:
            raise InvariantBroken("the stream of call records broke off within a line")


def cells(lines: bytes) -> Iterator[list[str]]:
    """The rows of whole lines."""
    for row in csv.reader(lines.decode().split("\n")[:-1], strict=True):
        if len(row) != len(COLUMNS):
            raise InvariantBroken(f"a row has {len(row)} cells")
        yield row
