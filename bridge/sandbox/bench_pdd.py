"""Callers and carrier of our own for `added_pdd`: one thread, one clock. SIPp's clock ticks in steps of 4 ms.

A packet's arrival is stamped by the kernel (SO_TIMESTAMPNS), so it does not matter how late we come to read it.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from bridge.errors import BridgeError
from bridge.sandbox.ports import LOOPBACK

TALK_NS: Final = 500_000_000
GRACE_NS: Final = 10_000_000_000
B_PREFIX: Final = (
    "+493023125"  # the rest of a called number is the call's own, so that both INVITEs can be matched
)
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; the socket module does not name it
_TIMESPEC: Final = struct.Struct("@ll")
_SDP: Final = (
    f"v=0\r\no=- 1 1 IN IP4 {LOOPBACK}\r\ns=-\r\nc=IN IP4 {LOOPBACK}\r\nt=0 0\r\n"
    "m=audio 9 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


def measure_pdd(
    switch: str, *, caller_port: int, carrier_port: int, numbers: Sequence[str], rate: float, calls: int
) -> list[float]:
    """Milliseconds from a caller's INVITE to the carrier's, for each call in the order they were placed.

    switch   `host:port`, where the callers call
    rate     calls a second, evenly spaced; each is answered at once and lasts half a second
    raises   BridgeError: a call failed, or did not end in time
    """
    placed = [Dialogue(numbers[no % len(numbers)], f"{B_PREFIX}{no:04d}", switch) for no in range(calls)]
    caller, carrier = Line(caller_port), Line(carrier_port)
    with closing(caller.sock), closing(carrier.sock):
        Play(switch, caller, carrier, placed).run(rate)
    return [(call.passed_on_ns - call.sent_ns) / 1e6 for call in placed]


@dataclass(slots=True)
class Dialogue:
    """One call as the caller knows it. Times in nanoseconds since 1970, 0: not yet.

    target, to   where its requests go, and to whom: the carrier's words once it has answered
    """

    a_number: str
    b_number: str
    switch: str
    sent_ns: int = 0
    passed_on_ns: int = 0
    answered_ns: int = 0
    target: str = ""
    to: str = ""

    def __post_init__(self) -> None:
        self.target = f"sip:{self.b_number}@{self.switch}"
        self.to = f"<{self.target}>"


class Message:
    """As much of a SIP message as these calls need."""

    def __init__(self, text: str) -> None:
        self.first, *self._headers = text.partition("\r\n\r\n")[0].split("\r\n")

    def lines(self, *names: str) -> list[str]:
        """Whole header lines of these names, in their order."""
        return [line for line in self._headers if line.partition(":")[0].lower() in names]

    def value(self, name: str) -> str:
        return next((line.partition(":")[2].strip() for line in self.lines(name)), "")


class Line:
    """A UDP port that tells when a message came."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.sock.bind((LOOPBACK, port))
        self.sock.setblocking(False)
        self.address = f"{LOOPBACK}:{port}"

    def hear(self) -> tuple[Message, int] | None:
        """The next message and when it came; None: no more now."""
        try:
            text, stamps, _, _ = self.sock.recvmsg(8192, 64)
        except BlockingIOError:
            return None
        at_ns = time.time_ns()
        for level, kind, value in stamps:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                at_ns = seconds * 1_000_000_000 + nanoseconds
        return Message(text.decode(errors="replace")), at_ns

    def say(self, to: str, head: Sequence[str], body: str = "") -> None:
        kind = ["Content-Type: application/sdp"] if body else []
        lines = (*head, *kind, f"Content-Length: {len(body)}", "", body)
        host, _, port = to.partition(":")
        self.sock.sendto("\r\n".join(lines).encode(), (host, int(port)))


class Play:
    """Callers and carrier through all their calls."""

    def __init__(self, switch: str, caller: Line, carrier: Line, calls: Sequence[Dialogue]) -> None:
        self._switch, self._caller, self._carrier, self._calls = switch, caller, carrier, calls
        self._by_number = {call.b_number: call for call in calls}
        self._talking: deque[Dialogue] = deque()  # in the order of their answers, so of their hang-ups
        self._ended: set[str] = set()

    def run(self, rate: float) -> None:
        """Place the calls evenly and carry them to their ends."""
        begun_ns, placed, total = time.time_ns(), 0, len(self._calls)
        until_ns = begun_ns + round(total / rate * 1e9) + GRACE_NS
        with closing(select.epoll()) as waiting:
            for line in (self._caller, self._carrier):
                waiting.register(line.sock, select.EPOLLIN)
            while len(self._ended) < total:
                now_ns = time.time_ns()
                if now_ns > until_ns:
                    raise BridgeError(f"{total - len(self._ended)} of {total} calls did not end")
                call_ns = begun_ns + round(placed / rate * 1e9) if placed < total else until_ns
                hang_up_ns = self._talking[0].answered_ns + TALK_NS if self._talking else until_ns
                if call_ns <= now_ns:
                    self._request("INVITE", 1, self._calls[placed], _SDP)
                    placed += 1
                elif hang_up_ns <= now_ns:
                    self._request("BYE", 2, self._talking.popleft())
                else:
                    waiting.poll((min(call_ns, hang_up_ns) - now_ns) / 1e9)
                    self._hear()

    def _hear(self) -> None:
        while heard := self._carrier.hear():
            self._on_carrier(*heard)
        while heard := self._caller.hear():
            self._on_caller(*heard)

    def _on_carrier(self, message: Message, at_ns: int) -> None:
        method, _, rest = message.first.partition(" ")
        call = self._by_number.get(rest.removeprefix("sip:").partition("@")[0])
        if method == "INVITE" and call is not None:
            call.passed_on_ns = call.passed_on_ns or at_ns
            self._answer(message, "180 Ringing")
            self._answer(message, "200 OK", _SDP)
        elif method == "BYE":
            self._answer(message, "200 OK")

    def _answer(self, asked: Message, status: str, body: str = "") -> None:
        user = asked.first.split()[1].removeprefix("sip:").partition("@")[0]
        to = asked.value("to")
        self._carrier.say(
            self._switch,
            (
                f"SIP/2.0 {status}",
                *asked.lines("via", "from", "call-id", "cseq"),
                f"To: {to}" if ";tag=" in to else f"To: {to};tag=b",
                f"Contact: <sip:{user}@{self._carrier.address}>",
            ),
            body,
        )

    def _on_caller(self, message: Message, at_ns: int) -> None:
        status = message.first.removeprefix("SIP/2.0 ")[:3]
        b_number = message.value("call-id").partition("-")[0]
        call = self._by_number.get(b_number)
        if call is None or status < "200":
            return
        if status != "200":
            raise BridgeError(f"a call was refused: {message.first}")
        if message.value("cseq").endswith("BYE"):
            self._ended.add(b_number)
        else:
            call.target = message.value("contact").partition("<")[2].partition(">")[0]
            call.to = message.value("to")
            self._request("ACK", 1, call)
            if not call.answered_ns:
                call.answered_ns = at_ns
                self._talking.append(call)

    def _request(self, method: str, cseq: int, call: Dialogue, body: str = "") -> None:
        head = (
            f"{method} {call.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._caller.address};branch=z9hG4bK{method}{call.b_number[1:]}",
            f"From: <sip:{call.a_number}@{self._caller.address}>;tag=a",
            f"To: {call.to}",
            f"Call-ID: {call.b_number}-{id(call)}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:caller@{self._caller.address}>",
            "Max-Forwards: 70",
        )
        if method == "INVITE":
            call.sent_ns = time.time_ns()
        self._caller.say(self._switch, head, body)
