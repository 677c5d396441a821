"""Callers and carrier of our own for `added_pdd`: one thread, one clock. SIPp's clock ticks in steps of 4 ms.

A packet's arrival is stamped by the kernel (SO_TIMESTAMPNS), so it does not matter how late we come to read it.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.errors import BridgeError
from bridge.sandbox.ports import LOOPBACK

TALK_NS: Final = 500_000_000
GRACE_S: Final = 10.0
B_PREFIX: Final = (
    "+4930231250"  # the rest of a called number is the call's own, so that both INVITEs can be matched
)
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; the socket module does not name it
_TIMESPEC: Final = struct.Struct("@ll")
_SDP: Final = (
    f"v=0\r\no=- 1 1 IN IP4 {LOOPBACK}\r\ns=-\r\nc=IN IP4 {LOOPBACK}\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n"
)


@dataclass(slots=True)
class Dialogue:
    """One call of ours as it goes on."""

    a_number: str
    b_number: str
    sent_ns: int = 0
    passed_on_ns: int = 0
    target: str = ""
    to: str = ""
    ended: bool = False


class Line:
    """A UDP port that tells when a message came."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.sock.bind((LOOPBACK, port))
        self.sock.setblocking(False)
        self.address = f"{LOOPBACK}:{port}"

    def hear(self) -> tuple[Message, tuple[str, int], int] | None:
        """The next message, from where, and when it came in nanoseconds since 1970; None: no more now."""
        try:
            text, stamps, _, peer = self.sock.recvmsg(8192, 64)
        except BlockingIOError:
            return None
        at_ns = time.time_ns()
        for level, kind, value in stamps:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                at_ns = seconds * 1_000_000_000 + nanoseconds
        return Message(text.decode(errors="replace")), peer, at_ns


class Message:
    """As much of a SIP message as these calls need."""

    def __init__(self, text: str) -> None:
        self.first, *self._headers = text.partition("\r\n\r\n")[0].split("\r\n")

    def lines(self, *names: str) -> list[str]:
        """Whole header lines of these names, in their order."""
        return [line for line in self._headers if line.partition(":")[0].lower() in names]

    def value(self, name: str) -> str:
        return next((line.partition(":")[2].strip() for line in self.lines(name)), "")


class Play:
    """Callers and carrier through all their calls."""

    def __init__(
        self, switch: tuple[str, int], caller: Line, carrier: Line, calls: Sequence[Dialogue]
    ) -> None:
        self._switch, self._caller, self._carrier, self._calls = switch, caller, carrier, calls
        self._by_number = {call.b_number: call for call in calls}
        self._hang_ups: list[tuple[int, str]] = []
        self.ended = 0

    def run(self, rate: float) -> None:
        """Place the calls evenly and carry them to their ends.

        raises  BridgeError: one failed, or did not end in time
        """
        waiting = select.epoll()
        for line in (self._caller, self._carrier):
            waiting.register(line.sock, select.EPOLLIN)
        begun_ns, opened = time.time_ns(), 0
        until_ns = begun_ns + round((len(self._calls) / rate + GRACE_S) * 1e9)
        while self.ended < len(self._calls):
            now_ns = time.time_ns()
            if now_ns > until_ns:
                raise BridgeError(f"{len(self._calls) - self.ended} of {len(self._calls)} calls did not end")
            due_ns = begun_ns + round(opened / rate * 1e9) if opened < len(self._calls) else until_ns
            if due_ns <= now_ns:
                self._invite(self._calls[opened])
                opened += 1
                continue
            while self._hang_ups and self._hang_ups[0][0] <= now_ns:
                self._request("BYE", 2, self._by_number[heapq.heappop(self._hang_ups)[1]])
            waiting.poll((min(due_ns, *(at for at, _ in self._hang_ups[:1]), until_ns) - now_ns) / 1e9)
            self._hear()
        waiting.close()

    def _hear(self) -> None:
        while heard := self._carrier.hear():
            self._on_carrier(*heard)
        while heard := self._caller.hear():
            self._on_caller(heard[0])

    def _invite(self, call: Dialogue) -> None:
        call.target, call.to = f"sip:{call.b_number}@{self._switch[0]}:{self._switch[1]}", ""
        call.to = f"<{call.target}>"
        self._request("INVITE", 1, call, _SDP)

    def _request(self, method: str, cseq: int, call: Dialogue, body: str = "") -> None:
        head = (
            f"{method} {call.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._caller.address};branch=z9hG4bK{method}{call.b_number}",
            f"From: <sip:{call.a_number}@{self._caller.address}>;tag=a{call.b_number}",
            f"To: {call.to}",
            f"Call-ID: {call.b_number}-{call.sent_ns or time.time_ns()}" if method == "INVITE" else "",
        )
        raise NotImplementedError(head, cseq, body)
