"""From a rate deck's file to rows ready for COPY, and everything that is wrong with it, row by row."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import IO, Any, Final, TypeVar
from zoneinfo import ZoneInfo

from bridge.errors import DeckError
from bridge.rating import deck_cells as cells_of
from bridge.rating.deck_columns import Layout, layout_of
from bridge.rating.deck_file import Sheet
from bridge.telephony.money import check_currency

Value = TypeVar("Value")
Other = TypeVar("Other")

# What a row says beside its prefix, in this order. `valid` is from where the row says, or from when the import does.
PRICED: Final = (
    "price_no", "origin_set", "destination", "rate_micro", "connect_fee_micro", "initial_s", "next_s", "minimum_s",
    "grace_s", "tiers", "blocked", "deleted", "valid",
)  # fmt: skip
LINES: Final = 2_000  # rows a chunk
_PRICES_MAX: Final = 50_000  # remembered at a time
_BLANK: Final = " \t\r\n\u00a0"
_at_least_0: Final = partial(cells_of.seconds, least=0)
_at_least_1: Final = partial(cells_of.seconds, least=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a file. row: as a spreadsheet counts, the header is 1; 0: the file as a whole."""

    row: int
    column: str
    problem: str

    def __str__(self) -> str:
        where = (
            f"row {self.row}, {self.column}: " if self.row else (f"{self.column}: " if self.column else "")
        )
        return where + self.problem


@dataclass(frozen=True, slots=True)
class Frame:
    """What the rows of a file are read against.

    zone           times without an offset are of this time zone
    origin_sets    those that exist
    effective_at   from when rows hold that do not say (aware)
    """

    currency: str
    zone: ZoneInfo
    origin_sets: Collection[str]
    effective_at: datetime


@dataclass(slots=True)
class DeckRows:
    """Reads the rows of one file. `chunks` once; then `rows` and `lines` tell how many there were.

    Decks have far fewer prices than prefixes: rows that differ in the prefix alone are read once, and share a price.

    prices   gets what rows say beside the prefix, as COPY text reads it, in the order of PRICED
    found    is told each thing that is wrong
    lines_max  reading ends there; that is wrong, too
    raises   DeckError: the header is wrong, so that no row can be read
    """

    sheet: Sheet
    frame: Frame
    prices: IO[bytes]
    found: Callable[[Finding], None]
    lines_max: int = sys.maxsize
    rows: int = 0  # of the file, without the header and blank ones
    lines: int = 0  # of the deck: one a prefix
    _layout: Layout = field(init=False)
    _decimals: cells_of.Decimals = field(init=False)
    _known: dict[tuple[str, ...], str] = field(default_factory=dict)
    _price_no: int = 0

    def __post_init__(self) -> None:
        self._layout = layout_of(self.sheet.header)
        self._decimals = cells_of.Decimals(self.sheet.comma_is_decimal)

    def chunks(self) -> Iterator[bytes]:
        """Row number, prefix and price number, as COPY text reads them. Wrong rows are told and left out."""
        at, width, known = self._layout.at["prefix"], self._layout.width, self._known
        if "area" in self._layout.at:
            width = -1  # no row is of the usual shape
        lines: list[str] = []
        try:
            for row, cells in self.sheet.rows:
                if len(cells) == width:
                    prefix, cells[at] = cells[at], ""
                    price = known.get(tuple(cells))
                    # The shape of nearly every row: digits, and a price that was read before.
                    if (
                        price
                        and prefix.isdigit()
                        and prefix.isascii()
                        and len(prefix) < 16
                        and prefix[0] != "0"
                    ):
                        lines.append(f"{row}\t{prefix}{price}")
                        self.rows += 1
                    else:
                        cells[at] = prefix
                        lines += self._lines(row, cells)
                else:
                    lines += self._lines(row, cells)
                if len(lines) >= LINES:
                    self.lines += len(lines)
                    if self.lines > self.lines_max:
                        raise DeckError(f"more than {self.lines_max:,} prefixes. Use several decks", row=row)
                    yield "".join(lines).encode()
                    lines.clear()
        except DeckError as broken:
            self.found(Finding(broken.row, broken.column, broken.problem))
        self.lines += len(lines)
        yield "".join(lines).encode()

    def _lines(self, row: int, cells: list[str]) -> list[str]:
        """The lines of one row of any shape."""
        cells = [cell.strip(_BLANK) for cell in cells]
        if not any(cells):
            return []
        self.rows += 1
        width, at = self._layout.width, self._layout.at
        if any(cells[width:]) or len(cells) < width:
            problem = (
                f"{len(cells)} cells under {width} columns. Put texts that hold the delimiter into quotes"
            )
            self.found(Finding(row, "row", problem))
            return []
        one = _Row(row, {column: cells[index] for column, index in at.items()}, self.found)
        prefixes = self._prefixes(one)
        key = tuple("" if index in (at["prefix"], at.get("area")) else cells[index] for index in range(width))
        price = self._known.get(key)
        if price is None:
            price = self._price(one)
            if price:
                if len(self._known) >= _PRICES_MAX:
                    self._known.clear()
                self._known[key] = price
        return [f"{row}\t{prefix}{price}" for prefix in prefixes] if price else []

    def _prefixes(self, one: _Row) -> list[str]:
        area = one.cells.get("area", "")
        try:
            found = cells_of.prefixes(one.cells["prefix"], area)
        except ValueError as wrong:
            one.complain("prefix", str(wrong))
            return []
        for twice in cells_of.duplicates(found):
            one.complain("prefix", f"{twice} stands in this row twice. Keep it once")
        return [] if one.wrong else found

    def _price(self, one: _Row) -> str:
        """Keep what a row says, and return the end of its line; empty when something was wrong."""
        wrong = one.wrong
        frame, money = self.frame, self._decimals
        change = one.read("change", cells_of.change, "")
        blocked = one.read("blocked", cells_of.yes, False) or change == "blocked"
        deleted = change == "delete"
        if not one.cells["rate"] and not (blocked or deleted):
            one.complain("rate", "is empty. Write the price of one minute; 0 for free")
        if not one.cells["destination"] and not deleted:
            one.complain("destination", "is empty. Write the name of the destination")
        initial_s, next_s = one.read("increment", cells_of.increments, (60, 60))
        tiers = one.read("tiers", money.tiers, ())
        begin = one.read("effective_from", self._instant, frame.effective_at)
        end = one.read("effective_to", self._instant, None)
        if end is not None and end <= begin:
            begun = begin.isoformat()
            one.complain("effective_to", f"is not after {begun}, when the row begins. Write a later time")
        one.read("currency", self._currency, "")
        one.read("comment", cells_of.plain_text, "")
        columns = (
            one.read("origin_set", self._origin_set, ""),
            one.read("destination", cells_of.plain_text, ""),
            one.read("rate", money.micro, 0),
            one.read("connection_fee", money.micro, 0),
            one.read("interval_1", _at_least_1, initial_s),
            one.read("interval_n", _at_least_1, next_s),
            one.read("minimum_s", _at_least_0, 0),
            one.read("grace_s", _at_least_0, 0),
            json.dumps([[tier.from_s, tier.rate_micro, tier.next_s] for tier in tiers]) if tiers else None,
            blocked,
            deleted,
            f"[{begin.isoformat()},{end.isoformat() if end else ''})",
        )
        if one.wrong > wrong:
            return ""
        self._price_no += 1
        self.prices.write("\t".join(map(copied, (self._price_no, *columns))).encode() + b"\n")
        return f"\t{self._price_no}\n"

    def _instant(self, text: str) -> datetime:
        return cells_of.instant(text, self.frame.zone)

    def _currency(self, text: str) -> str:
        if check_currency(text.upper()) != self.frame.currency:
            raise ValueError(
                f"{text} in a deck in {self.frame.currency}. Use a deck of its own for each currency"
            )
        return text

    def _origin_set(self, text: str) -> str:
        if text not in self.frame.origin_sets:
            known = ", ".join(sorted(self.frame.origin_sets)) or "none"
            raise ValueError(
                f"{cells_of.shown(text)} is no origin set. Known: {known}. `callbridge deck origin` makes one"
            )
        return text


@dataclass(slots=True)
class _Row:
    """One row's cells by column, and how much was wrong with them."""

    number: int
    cells: Mapping[str, str]
    found: Callable[[Finding], None]
    wrong: int = 0

    def complain(self, column: str, problem: str) -> None:
        self.wrong += 1
        self.found(Finding(self.number, column, problem))

    def read(self, column: str, parse: Callable[[str], Value], usual: Other) -> Value | Other:
        """What the cell says; what is usual where the file has no such column, an empty cell or a wrong one."""
        if not (cell := self.cells.get(column, "")):
            return usual
        try:
            return parse(cell)
        except DeckError as wrong:
            self.complain(column, wrong.problem)
        except ValueError as wrong:
            self.complain(column, str(wrong))
        return usual


def copied(value: Any) -> str:
    """A value as COPY's text format writes it. Texts hold no control characters any more."""
    if value is None:
        return r"\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", "\\\\")
