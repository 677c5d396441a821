"""A file of rows, CSV or XLSX, as text: a rate deck's, or a partner's calls. What a cell means is judged elsewhere.

Nothing is guessed here.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any, BinaryIO, Final, Self, cast

from openpyxl import load_workbook
from openpyxl.cell.read_only import ReadOnlyCell

from bridge.errors import DeckError
from bridge.rating.deck_columns import column_of

DELIMITERS: Final = (",", ";", "\t", "|")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_BYTES_MAX: Final = 4 << 30  # unpacked
_XLSX_MAGIC: Final = b"PK\x03\x04"
_XLSX_BYTES_MAX: Final = 1 << 30  # unpacked; a small file may hold a bomb
_ROWS_MAX: Final = 1 << 20  # of a sheet; a row that names itself further down is filled up to with empty ones
_COLUMNS_MAX: Final = 256
_MEMBER_BYTES_MAX: Final = 64 << 20  # of a part of a workbook that is no sheet, and so is read whole
_SHEET_ROW_BYTES_MAX: Final = 2 << 20  # from one row of a sheet to the next
_HEADER_CHARS_MAX: Final = 65_536
_ROW_CHARS_MAX: Final = 1 << 20  # of one row, whatever lines it goes on over
_BLOCK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Sheet:
    """A header and the rows below it. Row 1 is the header, as a spreadsheet counts.

    comma_is_decimal  whether a comma in a number may be a decimal comma: not where commas part the cells
    """

    header: list[str]
    rows: Iterator[tuple[int, list[str]]]
    comma_is_decimal: bool


def open_sheet(
    file: BinaryIO,
    encoding: str | None = None,
    *,
    known: Callable[[str], object | None] = column_of,
    delimiter: str | None = None,
    lenient: bool = False,
) -> Sheet:
    """Read a file from its beginning, row by row, so that memory does not grow with it. CSV may be packed by gzip.

    encoding   of a CSV file that is neither UTF-8 nor UTF-16 with a byte order mark, such as latin-1
    known      what a header is called here; None: none of ours
    delimiter  of a CSV file; None: whichever makes most headers known
    lenient    bytes below the header that are no text come as surrogates, so that they can be told by row
    raises     DeckError, here or while the rows are read: no such file can be read, and how to save it instead
    """
    start = file.read(len(_XLSX_MAGIC))
    file.seek(0)
    if start == _XLSX_MAGIC:
        return _open_xlsx(file)
    if start.startswith(_GZIP_MAGIC):
        file = cast(BinaryIO, _Unpacked(file))
    return _open_csv(file, encoding, known, delimiter, lenient)


def _open_csv(
    file: BinaryIO,
    encoding: str | None,
    known: Callable[[str], object | None],
    given: str | None,
    lenient: bool,
) -> Sheet:
    chosen = encoding or _encoding(file)
    try:
        text = io.TextIOWrapper(
            io.BufferedReader(_Unclosed(file), _BLOCK_BYTES),
            encoding=chosen,
            errors="surrogateescape" if lenient else "strict",
            newline="",
        )
        first = text.readline(_HEADER_CHARS_MAX + 1)
        first.encode()
    except LookupError:
        raise DeckError(f"{chosen!r} is no encoding. Use utf-8, utf-16, latin-1 or cp1252") from None
    except UnicodeError as wrong:
        raise _not_text(chosen, wrong) from None
    if not first.strip():
        raise DeckError("the file is empty. Its first row must name the columns", row=1, column="header")
    if len(first) > _HEADER_CHARS_MAX:
        problem = f"is longer than {_HEADER_CHARS_MAX:,} characters. Is it a table with one header?"
        raise DeckError(problem, row=1, column="header")
    if "\0" in first:
        raise DeckError(
            "holds NUL bytes. Name the encoding, such as --encoding utf-16-le", row=1, column="header"
        )
    delimiter = given or _delimiter(first, known)
    header = next(csv.reader([first], delimiter=delimiter))
    return Sheet(header, _csv_rows(text, delimiter, len(header), chosen), delimiter != ",")


def _encoding(file: BinaryIO) -> str:
    start = file.read(3)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _delimiter(header: str, known: Callable[[str], object | None]) -> str:
    """The one that makes most columns ours. A header that is ours in no reading is refused later, by name."""

    def columns(delimiter: str) -> int:
        return sum(known(name) is not None for name in next(csv.reader([header], delimiter=delimiter)))

    return max(DELIMITERS, key=columns)


def _csv_rows(
    text: io.TextIOBase, delimiter: str, width: int, encoding: str
) -> Iterator[tuple[int, list[str]]]:
    number, lines = 1, _Lines(text)
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter, strict=True), 2):
            lines.room = _ROW_CHARS_MAX
            yield number, cells
    except _TooLong:
        problem = (
            f"is longer than {_ROW_CHARS_MAX:,} characters. Is a quote open, or are there no ends of lines?"
        )
        raise DeckError(problem, row=number + 1, column="row") from None
    except csv.Error as wrong:
        problem = f"the quotes are not in order: {wrong}. Put texts with {delimiter!r} into quotes, double those inside"
        raise DeckError(problem, row=number + 1, column="row") from None
    except UnicodeError as wrong:
        raise _not_text(encoding, wrong) from None
    if width == 0:
        raise DeckError("the header is empty", row=1, column="header")


class _TooLong(Exception):
    """A row without an end would be read into memory whole."""


class _Lines:
    """Lines of a text. room: characters that may still come until it is set anew"""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text, self.room = text, _ROW_CHARS_MAX

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.room + 1)
        if not line:
            raise StopIteration
        self.room -= len(line)
        if self.room < 0:
            raise _TooLong
        return line


def _not_text(encoding: str, wrong: UnicodeError) -> DeckError:
    where = f" at byte {wrong.start} of a block" if isinstance(wrong, UnicodeDecodeError) else ""
    return DeckError(
        f"the file is not {encoding.removesuffix('-sig')}{where}. Save it as CSV UTF-8, or name its encoding, "
        "such as --encoding latin-1"
    )


class _Unpacked(gzip.GzipFile):
    """What gzip packed, as far as it is no bomb. raises DeckError: it is one, or broken"""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        try:
            found = super().read(size)
        except (OSError, EOFError, zlib.error) as wrong:
            raise DeckError(f"the file cannot be unpacked: {wrong}. Send it again, or without gzip") from None
        self._read_bytes += len(found)
        if self._read_bytes > _GZIP_BYTES_MAX:
            raise DeckError("the file unpacks to more than 4 GB. Split it")
        return found


class _Unclosed(io.RawIOBase):
    """A file that stays open when its reader goes: it belongs to whoever opened it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        found = self._file.read(len(view))
        view[: len(found)] = found
        return len(found)


def _open_xlsx(file: BinaryIO) -> Sheet:
    try:
        with zipfile.ZipFile(file) as packed:
            members = packed.infolist()
            if sum(member.file_size for member in members) > _XLSX_BYTES_MAX:
                raise DeckError("the workbook unpacks to more than 1 GB. Save it as CSV")
            whole = [one for one in members if not one.filename.startswith("xl/worksheets/")]
            if sum(one.file_size for one in whole) > _MEMBER_BYTES_MAX:
                raise DeckError("the workbook has more than 64 MB of texts beside its sheet. Save it as CSV")
        file.seek(0)
        book = load_workbook(file, read_only=True, data_only=False, keep_links=False)
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    except DeckError:
        raise
    except Exception as wrong:  # noqa: BLE001  whatever a file that is none makes its reader say
        problem = f"the workbook cannot be read: {str(wrong)[:80]!r}. Save it again, or as CSV"
        raise DeckError(problem) from None
    if len(sheets) != 1:
        raise DeckError(f"the workbook has {len(sheets)} visible sheets. Leave the one that is to be read")
    sheet: Any = sheets[0]
    sheet.reset_dimensions()  # what it says of its size may be wrong
    source = _Source(sheet._get_source)
    sheet._get_source = source.open
    rows = _xlsx_rows(sheet.iter_rows(), source)
    try:
        _, header = next(rows)
    except StopIteration:
        raise DeckError(
            "the sheet is empty. Its first row must name the columns", row=1, column="header"
        ) from None
    width = len(header)  # empty cells at a row's end are not kept in a workbook
    padded = ((number, cells + [""] * (width - len(cells))) for number, cells in rows)
    return Sheet(header, padded, comma_is_decimal=True)


class _Source:
    """The XML of a sheet as its reader reads it. room: bytes that may still come until it is set anew"""

    def __init__(self, opened: Callable[[], IO[bytes]]) -> None:
        self._opened, self.room = opened, _SHEET_ROW_BYTES_MAX

    def open(self) -> Self:
        self._file = self._opened()
        return self

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        self.room -= len(found)
        if self.room < 0:
            raise _TooLong("a row is longer than 2 MB")
        return found

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _xlsx_rows(rows: Iterator[tuple[object, ...]], source: _Source) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            source.room = _SHEET_ROW_BYTES_MAX
            if number > _ROWS_MAX or len(row) > _COLUMNS_MAX:
                problem = (
                    f"a sheet may have {_ROWS_MAX:,} rows and {_COLUMNS_MAX} columns. Remove what is beyond"
                )
                raise DeckError(problem, row=number, column="row")
            yield number, [_cell(cell) for cell in row]
    except DeckError:
        raise
    except Exception as wrong:  # noqa: BLE001
        raise DeckError(f"the sheet breaks off: {str(wrong)[:80]!r}", row=number + 1, column="row") from None


def _cell(cell: object) -> str:
    """A cell as its text. Numbers are written out exactly; one formatted as 4.915E+10 has lost digits and stays so."""
    value = getattr(cell, "value", None)
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case int() | float():
            shown = cell.number_format if isinstance(cell, ReadOnlyCell) else "General"
            if "E+" in shown.upper() or "E-" in shown.upper():
                return f"{value:E}"
            return _number(value)
        case datetime():
            return value.isoformat(" ")
        case date():
            return value.isoformat()
    return str(value)


def _number(value: float) -> str:
    """
    >>> _number(49), _number(49.0), _number(0.0725), _number(5e-05), _number(0.1 + 0.2)
    ('49', '49', '0.0725', '0.00005', '0.30000000000000004')
    """
    if isinstance(value, int) or not value.is_integer():
        return format(Decimal(repr(value)), "f")
    return str(int(value))
