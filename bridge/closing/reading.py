"""Files of call records read back from where they lie: what a recipient adds up, not what we meant to write."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bridge.errors import InvariantBroken
from bridge.telephony.money import parse_micro

_COLUMNS: Final = ("record_id", "leg", "duration_ms", "billed_s", "amount", "currency")
_ADDED: Final = ("records", "talk_ms", "billed_s", "amount_micro")
_BATCH: Final = 10_000


class Read:
    """What files hold together. Of numbers, only which ones of a range are there: a byte for each."""

    def __init__(self, first_no: int, last_no: int) -> None:
        """The range of numbers, both included, that the files should have."""
        self._rows: Counter[tuple[str, str, str]] = Counter()  # by leg, currency, and what is added up
        self._first_no = first_no
        self._seen = bytearray(max(last_no - first_no + 1, 0))
        self._strange: int | None = None
        self.files = 0

    def sums(self) -> list[dict[str, Any]]:
        """As the query `records` has them."""
        return [
            {"leg": leg, "currency": unit} | {name: self._rows[leg, unit, name] for name in _ADDED}
            for leg, unit in sorted({(leg, unit) for leg, unit, _ in self._rows})
        ]

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Cells as a file has them."""
        counted, seen, first_no = self._rows, self._seen, self._first_no
        for row in rows:
            leg, unit = row["leg"], row["currency"] or ""
            counted[leg, unit, "records"] += 1
            counted[leg, unit, "talk_ms"] += int(row["duration_ms"] or 0)
            counted[leg, unit, "billed_s"] += int(row["billed_s"] or 0)
            counted[leg, unit, "amount_micro"] += parse_micro(str(row["amount"] or "0"))
            number = int(row["record_id"])
            place = number - first_no
            if not 0 <= place < len(seen) or seen[place]:
                self._strange = number
            else:
                seen[place] = 1

    def gap(self) -> str | None:
        """What is wrong with the numbers: one is missing, there twice, or not of the range. None: nothing."""
        if self._strange is not None:
            return f"record {self._strange} is there twice, or not of the month"
        missing = self._seen.find(0)
        return None if missing < 0 else f"record {self._first_no + missing} is missing"


def read(path: Path, form: str, sha256: bytes, into: Read) -> None:
    """Add what is in a file. Blocks.

    raises   InvariantBroken: it is not there, cannot be read, or is not as it was written
    """
    try:
        if hashlib.sha256(path.read_bytes()).digest() != sha256:
            raise InvariantBroken(f"{path.name} is not as it was written: its SHA-256 is another")
        into.add(_rows(path, form))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InvariantBroken(f"{path.name} cannot be read back: {error}") from None
    into.files += 1


def _rows(path: Path, form: str) -> Iterator[Mapping[str, Any]]:
    if form == "parquet":
        from pyarrow import parquet  # noqa: PLC0415 - it takes a third of a second

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
                yield from batch.to_pylist()
        return
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        if form == "jsonl":
            yield from map(json.loads, text)
        else:
            yield from csv.DictReader(text, strict=True)
