"""AGI over a byte stream without I/O: bytes in, events out, commands out as bytes.

    HEADER ──request──▶ READY ──command──▶ WAITING ──520-──▶ USAGE
                          ▲                   │                │
                          └──────reply────────┴─────reply──────┘     end ──▶ CLOSED, a fault ──▶ BROKEN

What Asterisk 22 does, read on the wire:
- the header comes line by line, in one fixed order; `HANGUP` may come on any line after it, and always comes
  at the end of a FastAGI session, after our half-close;
- a session ended without a word leaves AGISTATUS=SUCCESS; only the line `FAILURE` makes it FAILURE;
- values are sent raw, so a caller can forge the rest of a header (see `agi_header`). The true rest that
  follows gives him away: nothing but `HANGUP` may come before we speak. Take every waiting event before
  acting on a Request.

Text is UTF-8; bytes that are not become U+FFFD, so every value can be stored and rendered. NUL is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from bridge.asterisk.agi_header import Request, parse_header
from bridge.errors import LocalProtocolError, RemoteProtocolError

HEADER_BYTES_MAX = 8192
REPLY_BYTES_MAX = 8192  # one line, or one usage text as a whole
COMMAND_BYTES_MAX = 2047  # with its line feed: AGI_BUF_LEN less the NUL; Asterisk cuts a longer line in two
COMMAND_WORDS_MAX = 127  # MAX_ARGS 128 less the closing NULL

FAILURE = b"FAILURE\n"
"""Ends a session so that AGISTATUS says FAILURE; legal whenever Asterisk waits for a command."""


class Reply(NamedTuple):
    """Answer to our command. 100 announces a later one; `result` is None for 510, 511 and 520."""

    code: int
    result: str | None
    data: str  # whatever follows, verbatim: "(value) endpos=5", an explanation, a usage text


class Hangup(NamedTuple):
    """The channel is gone or the session ends. Commands marked dead-safe, like SET VARIABLE, still work."""


class Closed(NamedTuple):
    """End of stream between messages."""


Event = Request | Reply | Hangup | Closed


class State(Enum):
    HEADER = auto()
    READY = auto()
    WAITING = auto()
    USAGE = auto()
    CLOSED = auto()
    BROKEN = auto()


class Step(Enum):
    REQUEST = "a header"
    COMMAND = "a command"
    PROGRESS = "a provisional reply"
    REPLY = "a reply"
    USAGE_OPENS = "a usage text"
    USAGE_LINE = "a line of usage text"
    HANGUP = "HANGUP"
    EOF = "end of stream"


# What is not in the table is forbidden: by us when it is COMMAND, else by the peer.
TABLE: dict[tuple[State, Step], State] = {
    (State.HEADER, Step.REQUEST): State.READY,
    (State.HEADER, Step.EOF): State.CLOSED,
    (State.READY, Step.COMMAND): State.WAITING,
    (State.READY, Step.HANGUP): State.READY,
    (State.READY, Step.EOF): State.CLOSED,
    (State.WAITING, Step.PROGRESS): State.WAITING,
    (State.WAITING, Step.REPLY): State.READY,
    (State.WAITING, Step.USAGE_OPENS): State.USAGE,
    (State.WAITING, Step.HANGUP): State.WAITING,
    (State.WAITING, Step.EOF): State.CLOSED,
    (State.USAGE, Step.USAGE_LINE): State.USAGE,
    (State.USAGE, Step.HANGUP): State.USAGE,
    (State.USAGE, Step.REPLY): State.READY,
}

_ANSWER = re.compile(r"(?:(100|200) result=(\S*+)(?: (.*+))?|(510|511|520) (.*+))")

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_BARE_WORD = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_VARIABLE = re.compile(r"[A-Za-z0-9_]+(?:\([A-Za-z0-9_,]*\))?")


class AgiCodec:
    """One AGI session. Feed with `receive_data`, then take events until `next_event` returns None.

    Events do not depend on how the bytes were cut. The peer's faults raise RemoteProtocolError from
    `next_event`, now and at every later call; ours raise LocalProtocolError and change nothing.
    """

    __slots__ = (
        "_buffer",
        "_eof",
        "_fault",
        "_header_bytes_max",
        "_scanned",
        "_usage",
        "_usage_bytes",
        "state",
    )

    def __init__(self, header_bytes_max: int = HEADER_BYTES_MAX) -> None:
        self.state = State.HEADER
        self._header_bytes_max = header_bytes_max
        self._buffer = bytearray()
        self._scanned = 0  # no line (in HEADER: no blank line) ends before this offset
        self._eof = False
        self._fault = ""
        self._usage: list[str] = []
        self._usage_bytes = 0

    def receive_data(self, data: bytes) -> None:
        """Take what was read; b"" is end of stream."""
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("bytes after end of stream")
        elif self.state is not State.BROKEN:
            self._buffer += data

    def next_event(self) -> Event | None:
        """The next event; None until more bytes come."""
        if self.state is State.HEADER:
            return self._next_request()
        if self.state is State.BROKEN:
            raise self._broken(self._fault)
        while (line := self._next_line()) is not None:
            if (event := self._heard(line)) is not None:
                return event
        return self._end() if self._eof else None

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next_event()) is not None:
            yield event

    def set_variable(self, name: str, value: str) -> bytes:
        """SET VARIABLE, one line. `value` may be empty; Asterisk does not expand it."""
        if not _VARIABLE.fullmatch(name):
            raise LocalProtocolError(f"not a variable name: {name!r}")
        return self._say(f"SET VARIABLE {name} {_quoted(value)}\n")

    def command(self, *words: str) -> bytes:
        """Any command, word by word, quoted where needed."""
        if not words or len(words) > COMMAND_WORDS_MAX:
            raise LocalProtocolError(f"a command has 1 to {COMMAND_WORDS_MAX} words, not {len(words)}")
        return self._say(" ".join(w if _BARE_WORD.fullmatch(w) else _quoted(w) for w in words) + "\n")

    def _say(self, line: str) -> bytes:
        after = TABLE.get((self.state, Step.COMMAND))
        if after is None:
            raise LocalProtocolError(f"a command in state {self.state.name}")
        try:
            wire = line.encode()
        except UnicodeEncodeError:
            raise LocalProtocolError("a lone surrogate in a command") from None
        if len(wire) > COMMAND_BYTES_MAX:
            raise LocalProtocolError(f"a command of {len(wire)} bytes; Asterisk takes {COMMAND_BYTES_MAX}")
        self.state = after
        return wire

    def _next_request(self) -> Request | Closed | None:
        buffer = self._buffer
        end = buffer.find(b"\n\n", self._scanned)
        if (end + 2 if end >= 0 else len(buffer)) > self._header_bytes_max:
            raise self._broken(f"a header longer than {self._header_bytes_max} bytes")
        if end < 0:
            self._scanned = max(0, len(buffer) - 1)
            return self._end() if self._eof else None
        head = buffer[: end + 1].decode(errors="replace")
        del buffer[: end + 2]
        self._scanned = 0
        try:
            request = parse_header(head)
        except RemoteProtocolError as fault:
            raise self._broken(str(fault)) from None
        self._advance(Step.REQUEST)
        return request

    def _next_line(self) -> str | None:
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if (end if end >= 0 else len(buffer)) > REPLY_BYTES_MAX:
            raise self._broken(f"a line longer than {REPLY_BYTES_MAX} bytes")
        if end < 0:
            if self.state is State.READY and not b"HANGUP".startswith(buffer):
                raise self._broken("bytes nobody asked for")
            self._scanned = len(buffer)
            return None
        line = buffer[:end].decode(errors="replace")
        del buffer[: end + 1]
        self._scanned = 0
        return line

    def _heard(self, line: str) -> Reply | Hangup | None:
        if line == "HANGUP":
            self._advance(Step.HANGUP)
            return Hangup()
        if self.state is State.USAGE and not line.startswith("520 "):
            self._advance(Step.USAGE_LINE)
            self._usage_bytes += len(line) + 1
            if self._usage_bytes > REPLY_BYTES_MAX:
                raise self._broken(f"a usage text longer than {REPLY_BYTES_MAX} bytes")
            self._usage.append(line)
            return None
        if line.startswith("520-"):
            self._advance(Step.USAGE_OPENS)
            return None
        found = _ANSWER.fullmatch(line)
        if found is None:
            raise self._broken("a line that is no reply")
        code, result, data, refusal, why = found.groups()
        if refusal is None:
            self._advance(Step.PROGRESS if code == "100" else Step.REPLY)
            return Reply(int(code), result, data or "")
        self._advance(Step.REPLY)
        if self._usage:
            why = "\n".join(self._usage)
            self._usage, self._usage_bytes = [], 0
        return Reply(int(refusal), None, why)

    def _end(self) -> Closed | None:
        if self.state is State.CLOSED:
            return None
        if self._buffer:
            raise self._broken("end of stream in the middle of a message")
        self._advance(Step.EOF)
        return Closed()

    def _advance(self, step: Step) -> None:
        after = TABLE.get((self.state, step))
        if after is None:
            raise self._broken(f"{step.value} in state {self.state.name}")
        self.state = after

    def _broken(self, fault: str) -> RemoteProtocolError:
        """Remember the first fault and forget the bytes: nothing after it can be trusted."""
        if self.state is not State.BROKEN:
            self.state, self._fault = State.BROKEN, fault
            self._buffer.clear()
        return RemoteProtocolError(self._fault)


def _quoted(text: str) -> str:
    if _CONTROL.search(text):
        raise LocalProtocolError("a control character in a command")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
