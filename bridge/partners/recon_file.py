"""From a counterparty's file to rows ready for COPY, and everything that is wrong with it, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from bridge.errors import ConfigError, DeckError
from bridge.partners import recon_cells as cells_of
from bridge.partners.recon_mapping import FileMapping, layout_of
from bridge.rating.deck_cells import shown
from bridge.rating.deck_file import Sheet
from bridge.rating.deck_import import Finding, copied
from bridge.telephony.money import format_micro

Value = TypeVar("Value")

COPIED: Final = (
    "run_id", "row_no", "answer_at", "talk_ms", "amount_micro", "b_number", "a_number", "call_id", "record_no",
    "sip_call_id", "their_id",
)  # fmt: skip
LINES: Final = 2_000  # rows a chunk
ROWS_MAX: Final = 20_000_000
_BLANK: Final = " \t\r\n\u00a0"
_MISMATCH: Final = timedelta(seconds=5)  # between a duration and the times it should lie between
_FAR: Final = timedelta(days=45)  # from the period: the month of another file, or day and month swapped


@dataclass(frozen=True, slots=True)
class Frame:
    """What the rows are read against.

    run              its id, as COPY reads it
    currency         of all rows
    leg              rows that say they are of the other one are left out
    from_at, to_at   the period, UTC without a zone
    """

    run: str
    currency: str
    leg: str
    from_at: datetime
    to_at: datetime


class TheirRows:
    """Reads the rows of one file. `chunks` once; then the counters tell.

    found        is told each thing that is wrong; then nothing of the file may stay
    rows         calls that were answered
    unanswered   left out: nothing was talked and nothing charged
    other_leg    left out: they say that they are the other leg
    raises       ConfigError: the header cannot be read by the mapping
    """

    def __init__(
        self, sheet: Sheet, mapping: FileMapping, frame: Frame, found: Callable[[Finding], None]
    ) -> None:
        self._sheet, self._mapping, self._frame, self._found = sheet, mapping, frame, found
        layout = layout_of(sheet.header, mapping)
        self._at, self._width, self.ignored = layout.at, layout.width, layout.ignored
        self._single = {name: places[0] for name, places in layout.at.items()}
        try:
            self._times = cells_of.Times(
                ZoneInfo(mapping.zone) if mapping.zone else None, mapping.time_format, mapping.doubled_hour
            )
        except ValueError as wrong:
            raise ConfigError("time_format", str(wrong), "Known are d m Y y H I M S f p z.") from None
        self._number = partial(cells_of.number, country=mapping.country, strip=mapping.strip)
        self._talk = partial(
            cells_of.duration_ms, unit_ms=layout.unit_ms, short_clock=mapping.duration_unit == "m:s"
        )
        self._amount = partial(cells_of.amount_micro, mark=mapping.decimal)
        self._earliest, self._latest = frame.from_at - _FAR, frame.to_at + _FAR
        self.rows = self.unanswered = self.other_leg = 0
        self._lines_read = self._talk_ms = self._amount_micro = self._trailer_row = 0
        self._wrong = False

    def chunks(self) -> Iterator[bytes]:
        """The rows in the order of COPIED. Wrong ones are told and left out."""
        mark = self._mapping.trailer[0].casefold() if self._mapping.trailer else None
        lines: list[str] = []
        row = 1
        try:
            for row, cells in self._sheet.rows:
                if mark is not None and cells and cells[0].strip(_BLANK).casefold() == mark:
                    self._trailer(row, cells)
                    continue
                line = self._line(row, cells)
                if line:
                    lines.append(line)
                if len(lines) >= LINES:
                    yield "".join(lines).encode()
                    lines.clear()
                    if self.rows > ROWS_MAX:
                        raise DeckError(f"more than {ROWS_MAX:,} rows. Split the file", row=row)
        except DeckError as broken:
            self._found(Finding(broken.row, broken.column, broken.problem))
        else:
            if mark is not None and not self._trailer_row:
                wanted = shown(self._mapping.trailer[0])
                problem = f"no row begins with {wanted}: the file is not whole. Ask for it again"
                self._found(Finding(row, "trailer", problem))
        yield "".join(lines).encode()

    def _line(self, row: int, cells: list[str]) -> str:
        cells = [cell.strip(_BLANK) for cell in cells]
        if len(cells) != self._width:
            if not any(cells):
                return ""
            if len(cells) < self._width or any(cells[self._width :]):
                quotes = "Put texts that hold the delimiter into quotes"
                problem = f"{len(cells)} cells under {self._width} columns. {quotes}"
                self._found(Finding(row, "row", problem))
                return ""
        elif not any(cells):
            return ""
        if self._trailer_row:
            self._found(Finding(row, "row", f"stands behind the trailer of row {self._trailer_row}"))
            return ""
        self._lines_read += 1
        if not (whole := "".join(cells)).isascii() and any(
            "\ud800" <= letter <= "\udfff" for letter in whole
        ):
            self._wrong = True
            self._found(
                Finding(
                    row, "row", "holds bytes that are no text. Name the file's --encoding, such as cp1252"
                )
            )
            return ""
        try:
            return self._read(row, cells)
        except ValueError:
            self._complain(row, cells)
            return ""

    def _read(self, row: int, cells: Sequence[str]) -> str:
        """raises ValueError when anything of it is wrong: `_complain` then finds all that is"""
        at = self._single

        def cell(name: str) -> str:
            place = at.get(name)
            return "" if place is None else cells[place]

        answer_at = (
            self._time("answer_at", cells) if any(cells[place] for place in self._at["answer_at"]) else None
        )
        end_at = self._time("end_at", cells) if cell("end_at") else None
        if text := cell("duration"):
            talk_ms = self._talk(text)
        elif end_at is not None and answer_at is not None:
            talk_ms = int((end_at - answer_at) / timedelta(milliseconds=1))
        elif answer_at is None:
            talk_ms = 0
        else:
            raise ValueError("duration")
        amount = self._amount(text) if (text := cell("amount")) else None
        self._talk_ms += talk_ms
        self._amount_micro += amount or 0
        if (leg := cell("leg")) and self._other_leg(leg):
            self.other_leg += 1
            return ""
        if not talk_ms and not amount:
            self.unanswered += 1
            return ""
        if answer_at is None or not self._earliest <= answer_at <= self._latest or talk_ms < 0:
            raise ValueError("answer_at")
        if cell("setup_at") and self._time("setup_at", cells) > answer_at:
            raise ValueError("setup_at")
        if end_at is not None and abs(end_at - answer_at - timedelta(milliseconds=talk_ms)) > _MISMATCH:
            raise ValueError("end_at")
        if (text := cell("currency")) and text.upper() != self._frame.currency:
            raise ValueError("currency")
        b_number = self._number(cell("b_number"))
        call_id = cells_of.call_id(text) if (text := cell("call_id")) else None
        record = cells_of.record_no(text) if (text := cell("record_id")) else None
        sip = cells_of.identity(text) if (text := cell("sip_call_id")) else None
        if b_number is None and call_id is None and record is None and sip is None:
            raise ValueError("b_number")
        self.rows += 1
        a_number = self._number(cell("a_number"))
        theirs = cells_of.identity(text) if (text := cell("id")) else None
        read = (self._frame.run, row, answer_at, talk_ms, amount, b_number, a_number, call_id, record)
        return "\t".join(map(copied, (*read, sip, theirs))) + "\n"

    def _complain(self, row: int, cells: Sequence[str]) -> None:
        """Tell everything that is wrong with a row, column by column."""
        told: list[Finding] = []

        def read(name: str, parse: Callable[[str], Value], needed: str = "") -> Value | None:
            text = " ".join(cells[place] for place in self._at.get(name, ()) if cells[place])
            try:
                if text:
                    return parse(text)
                if needed:
                    raise ValueError(needed)
            except ValueError as wrong:
                told.append(Finding(row, name, str(wrong)))
            return None

        talk = read(
            "duration",
            self._talk,
            "is empty. Write how long was talked" if "end_at" not in self._single else "",
        )
        amount = read("amount", self._amount)
        answer = read(
            "answer_at", self._times.read, "is empty. Write when it was answered" if talk or amount else ""
        )
        setup, end = read("setup_at", self._times.read), read("end_at", self._times.read)
        read("currency", self._currency)
        read("leg", self._other_leg)
        ids: list[object] = [read("call_id", cells_of.call_id), read("record_id", cells_of.record_no)]
        ids.append(read("sip_call_id", cells_of.identity))
        before = len(told)
        b_number = read("b_number", self._number)
        read("a_number", self._number)
        read("id", cells_of.identity)
        if b_number is None and len(told) == before and ids == [None, None, None]:
            told.append(Finding(row, "b_number", "is empty or hidden, and no id says which call it was"))
        if answer is not None:
            if not self._earliest <= answer <= self._latest:
                fix = "Are day and month swapped, or is it another month's file?"
                told.append(Finding(row, "answer_at", f"{answer} UTC is far from the period. {fix}"))
            if setup is not None and setup > answer:
                told.append(Finding(row, "setup_at", "is after the answer: are columns swapped?"))
            if end is not None and end < answer:
                told.append(Finding(row, "end_at", "is before the answer: are columns swapped?"))
            elif (
                end is not None
                and talk is not None
                and abs(end - answer - timedelta(milliseconds=talk)) > _MISMATCH
            ):
                problem = f"is {(end - answer).total_seconds():g} s after the answer, the duration {talk / 1000:g} s"
                told.append(Finding(row, "end_at", f"{problem}. Is the unit of the duration right?"))
        self._wrong = True  # what the rows sum to is not known any more
        for one in told or [Finding(row, "row", "cannot be read")]:
            self._found(one)

    def _time(self, name: str, cells: Sequence[str]) -> datetime:
        places = self._at[name]
        text = cells[places[0]] if len(places) == 1 else " ".join(cells[place] for place in places)
        return self._times.read(text)

    def _currency(self, text: str) -> str:
        if text.upper() != self._frame.currency:
            raise ValueError(
                f"{shown(text)} in a run in {self._frame.currency}. Reconcile each currency by itself"
            )
        return text

    def _other_leg(self, text: str) -> bool:
        if text.casefold() not in ("origination", "termination"):
            raise ValueError(f"{shown(text)} is no leg. Write origination or termination")
        return text.casefold() != self._frame.leg

    def _trailer(self, row: int, cells: Sequence[str]) -> None:
        """Hold what the last row says against what was read."""
        if self._trailer_row:
            self._found(Finding(row, "trailer", f"is a second one: the first was row {self._trailer_row}"))
            return
        self._trailer_row = row
        for place, kind in enumerate(self._mapping.trailer[1:], 1):
            if kind == "-":
                continue
            text = cells[place].strip(_BLANK) if place < len(cells) else ""
            try:
                self._check(kind, text)
            except ValueError as wrong:
                self._found(Finding(row, f"trailer {kind}", str(wrong)))

    def _check(self, kind: str, text: str) -> None:
        if kind == "rows":
            if not text.isascii() or not text.isdigit() or int(text[:12]) != self._lines_read:
                raise ValueError(f"says {shown(text)}, and there are {self._lines_read} rows")
        elif self._wrong:
            return
        elif kind == "amount":
            if self._amount(text) != self._amount_micro:
                raise ValueError(
                    f"says {shown(text)}, and the rows sum to {format_micro(self._amount_micro)}"
                )
        elif (said := self._total(text)) != self._talk_ms:
            raise ValueError(
                f"says {shown(text)} ({said / 1000:g} s), and the rows sum to {self._talk_ms / 1000:g} s"
            )

    def _total(self, text: str) -> int:
        """A sum of durations: as one of them is written, but as long as it likes."""
        if text.isascii() and text.isdigit() and len(text) < 18:
            return self._talk("1") * int(text)
        hours, colon, rest = text.partition(":")
        if colon and hours.isascii() and hours.isdigit() and len(hours) < 10:
            return int(hours) * 3_600_000 + self._talk(f"0:{rest}")
        return self._talk(text)
