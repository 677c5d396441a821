"""How a counterparty's file of calls is read: which of its columns are ours, and how it writes times and numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.errors import ConfigError
from bridge.rating.deck_file import DELIMITERS

# What a row of theirs can say, and what the columns are called: as our own CDR files call them, and as others do.
# A header is read without case, with blanks, dashes and dots as underscores. Columns named nowhere here are left out.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "call_id": ("callbridge_id",),  # ours, as they repeat it
    "record_id": ("callbridge_record",),  # ours, too: the number of a record in our files
    "sip_call_id": ("sip_callid", "sip_id"),
    "id": ("their_id", "cdr_id", "reference", "unique_id", "uniqueid", "session_id"),
    "a_number": ("cli_received", "cli_presented", "cli", "ani", "caller", "calling_number", "a_nr", "from", "source"),
    "b_number": ("cld_routed", "cld", "called", "called_number", "b_nr", "dialled_number", "dialed_number", "to",
                 "destination_number"),
    "setup_at": ("setup", "setup_time", "invite_time"),
    "answer_at": ("answer", "answer_time", "answered_at", "connect_time", "start_time", "call_start", "start"),
    "end_at": ("end", "end_time", "disconnect_time", "release_time", "stop_time"),
    "duration": ("duration_ms", "duration_s", "duration_sec", "duration_seconds", "call_duration", "talk_time",
                 "billsec"),
    "amount": ("charge", "cost", "price", "total", "net_amount"),
    "currency": ("ccy",),
    "leg": (),
}  # fmt: skip
OURS: Final = frozenset(
    {"call_id", "record_id", "cli_received", "cli_presented", "cld_routed", "setup_at", "answer_at", "end_at",
     "duration_ms", "amount", "currency", "leg"}
)  # fmt: skip
_NAMES: Final = {other: name for name, others in COLUMNS.items() for other in (name, *others)}
JOINED: Final = frozenset({"setup_at", "answer_at", "end_at"})  # may be two columns: a date and a time
UNITS: Final[Mapping[str, int]] = {"s": 1_000, "ms": 1, "min": 60_000, "m:s": 1_000}
TRAILER: Final = frozenset({"rows", "duration", "amount", "-"})
EPOCHS: Final[Mapping[str, int]] = {"epoch_s": 1_000_000, "epoch_ms": 1_000}  # microseconds
_SHOWN_MAX: Final = 40


def plain(header: str) -> str:
    """
    >>> plain(" Answer-Time ")
    'answer_time'
    """
    text = header.strip().casefold()
    for mark in " -.":
        text = text.replace(mark, "_")
    return text


def column_of(header: str) -> str | None:
    """Our name of what a column is usually called; None: nobody knows."""
    return _NAMES.get(plain(header))


@dataclass(frozen=True, slots=True)
class FileMapping:
    """How one counterparty writes its files. raises ConfigError: it makes no sense

    columns        our names to theirs; what is not named is found by its usual names
    zone           of times that say no offset; None: each must say it
    time_format    as strptime has it, or epoch_s, epoch_ms; None: ISO 8601 alone, because 03/04 is two days
    doubled_hour   which of both, first or second, a time of the hour is that clocks are put back; None: refused
    duration_unit  s, ms, min, or m:s (12:30 are minutes and seconds); h:mm:ss is known by itself
    decimal        the mark of decimals; None: as the file shows, and no thousands
    country        country code, digits: numbers that begin with one 0 are of there
    strip          digits before numbers, such as a technical prefix
    trailer        the cells of the last row: its mark, then what each is (rows, duration, amount, or - for nothing)
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zone: str | None = None
    time_format: str | None = None
    doubled_hour: str | None = None
    duration_unit: str | None = None
    decimal: str | None = None
    country: str = ""
    strip: str = ""
    trailer: tuple[str, ...] = ()
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        for name, theirs in self.columns.items():
            if name not in COLUMNS:
                raise ConfigError(f"columns.{name:.40}", "is none of ours", f"Known: {', '.join(COLUMNS)}.")
            if not 1 <= len(theirs) <= (2 if name in JOINED else 1) or not all(theirs):
                raise ConfigError(
                    f"columns.{name}", "names no column", "Write the header as it is in the file."
                )
        self._one_of("duration_unit", UNITS)
        self._one_of("doubled_hour", ("first", "second"))
        self._one_of("decimal", (".", ","))
        self._one_of("delimiter", DELIMITERS)
        for key in ("country", "strip"):
            if (digits := getattr(self, key)) and not (
                digits.isascii() and digits.isdigit() and len(digits) <= 10
            ):
                raise ConfigError(key, "is no digits", 'Write them without +, such as "49".')
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is none
                raise ConfigError(
                    "zone", f"{self.zone!r:.60} is no time zone", "Write Europe/Berlin or UTC."
                ) from None
        if self.time_format is not None and self.time_format not in EPOCHS and "%" not in self.time_format:
            raise ConfigError("time_format", "is no format", 'Write it like "%d.%m.%Y %H:%M:%S", or epoch_s.')
        if self.trailer and (len(self.trailer) < 2 or not self.trailer[0] or set(self.trailer[1:]) - TRAILER):
            fix = "Write its mark and what each cell is: TOTAL,rows,duration,amount; - for what is nothing."
            raise ConfigError("trailer", "is none", fix)

    def _one_of(self, key: str, known: Any) -> None:
        value = getattr(self, key)
        if value is not None and value not in known:
            raise ConfigError(key, f"{value!r:.20} is not known", f"Known: {', '.join(map(repr, known))}.")

    def to_json(self) -> dict[str, Any]:
        """As kept: what is set."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name)}
        if self.columns:
            kept["columns"] = {name: list(theirs) for name, theirs in self.columns.items()}
        return kept | ({"trailer": list(self.trailer)} if self.trailer else {})

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse; what a person wrote as TOML, too. raises ConfigError"""
        known = {one.name for one in fields(cls)}
        for key, value in kept.items():
            if key not in known:
                raise ConfigError(
                    f"{key:.40}", "is no setting of a mapping", f"Known: {', '.join(sorted(known))}."
                )
            texts = value if key == "trailer" else [value]
            if key != "columns" and not (
                isinstance(texts, list | tuple) and all(isinstance(one, str) for one in texts)
            ):
                raise ConfigError(key, "is no text", "Put it into quotes.")
        named = kept.get("columns", {})
        if not isinstance(named, Mapping):
            raise ConfigError("columns", "is no table", 'Write [columns], then b_number = "Called".')
        columns = {}
        for name, theirs in named.items():
            headers = theirs if isinstance(theirs, list | tuple) else (theirs,)
            if not all(isinstance(one, str) for one in headers):
                raise ConfigError(
                    f"columns.{name:.40}", "is no text", "Write the header as it is in the file."
                )
            columns[name] = tuple(headers)
        rest = {key: value for key, value in kept.items() if key not in ("columns", "trailer")}
        return cls(columns=columns, trailer=tuple(kept.get("trailer", ())), **rest)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """raises   ConfigError"""
        try:
            return cls.from_json(tomllib.loads(text))
        except tomllib.TOMLDecodeError as wrong:
            raise ConfigError("mapping", f"is no TOML ({wrong})", "Correct the file.") from None

    def mapped(self, given: Sequence[str]) -> Self:
        """With columns as somebody writes them at a command line: `b_number=Called`, `answer_at=Date,Time`."""
        columns = dict(self.columns)
        for one in given:
            name, equals, theirs = one.partition("=")
            if not equals:
                raise ConfigError(
                    f"--map {one[:_SHOWN_MAX]}", "names no column", "Write --map b_number=Called."
                )
            parts = (
                tuple(part.strip() for part in theirs.split(","))
                if name.strip() in JOINED
                else (theirs.strip(),)
            )
            columns[name.strip()] = parts
        return replace(self, columns=columns)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row what stands. at: cells by our name; width: cells a row has; unit: ms of one in `duration`."""

    at: Mapping[str, tuple[int, ...]]
    width: int
    unit_ms: int
    ignored: tuple[str, ...]


def layout_of(header: Sequence[str], mapping: FileMapping) -> Layout:
    """Read the header. raises ConfigError naming every column that is missing, there twice, or could be either."""
    names = list(header)
    while names and not names[-1].strip():
        names.pop()
    at: dict[str, tuple[int, ...]] = {}
    problems: list[str] = []
    for name, theirs in mapping.columns.items():
        places = [
            [index for index, one in enumerate(names) if plain(one) == plain(their)] for their in theirs
        ]
        wrong = [f"column {their[:_SHOWN_MAX]!r} is there {len(place)} times"
                 for their, place in zip(theirs, places, strict=True) if len(place) != 1]  # fmt: skip
        problems += wrong
        if not wrong:
            at[name] = tuple(place[0] for place in places)
    taken = {index for places_of in at.values() for index in places_of}
    for name in COLUMNS.keys() - at.keys() - mapping.columns.keys():
        found = [index for index, one in enumerate(names) if index not in taken and column_of(one) == name]
        ours = [index for index in found if plain(names[index]) in OURS]
        if len(found) > 1 and not ours:
            said = ", ".join(repr(names[index][:_SHOWN_MAX]) for index in found)
            problems.append(f"{said} could each be {name}: say which by --map {name}=…")
        elif found:
            at[name] = ((ours or found)[0],)
    if not {"b_number", "call_id", "record_id", "sip_call_id"} & at.keys():
        problems.append("no column is the called number: name it by --map b_number=…")
    if "answer_at" not in at:
        problems.append("no column is the time of the answer: name it by --map answer_at=…")
    if not {"duration", "end_at"} & at.keys():
        problems.append("no column is the duration: name it by --map duration=…")
    if problems:
        raise ConfigError(
            "header", "; ".join(sorted(problems)), f"The file has: {', '.join(map(repr, names[:50]))}."
        )
    by_name = "ms" if "duration" in at and plain(names[at["duration"][0]]).endswith("_ms") else "s"
    used = {index for places_of in at.values() for index in places_of}
    ignored = tuple(one for index, one in enumerate(names) if index not in used)
    return Layout(at, len(names), UNITS[mapping.duration_unit or by_name], ignored)
