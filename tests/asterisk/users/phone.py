"""A phone of an app user, as small as one can be: SIP over UDP or WebSocket, digest, no media. Loopback only."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass
from itertools import count
from typing import Final, Self

ANSWER_S: Final = 5.0
_serial = count(1)

SDP: Final = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


@dataclass(frozen=True)
class Message:
    """head: first line and headers as they came."""

    head: str
    body: str

    @property
    def first(self) -> str:
        return self.head.split("\r\n", 1)[0]

    @property
    def status(self) -> int:
        """Of an answer; 0: it is a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        return self.header("CSeq").split()[1]

    def headers(self, name: str) -> list[str]:
        return re.findall(rf"(?im)^{name}\s*:\s*(.*?)\r?$", self.head)

    def header(self, name: str) -> str:
        found = self.headers(name)
        return found[0] if found else ""


class Wire:
    """Whole SIP messages to and from the switch over UDP."""

    via: str = "UDP"

    def __init__(self, address: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect(address)
        self.socket.settimeout(ANSWER_S)
        self.local = "{}:{}".format(*self.socket.getsockname())
        self.remote = "{}:{}".format(*address)

    def send(self, text: str) -> None:
        self.socket.send(text.encode())

    def receive(self) -> str:
        """raises   TimeoutError"""
        return self.socket.recv(65536).decode()

    def close(self) -> None:
        self.socket.close()


class WebSocketWire(Wire):
    """The same over WebSocket (RFC 7118), with nothing of a library: client frames are masked, one message a frame."""

    via = "WS"

    def __init__(self, address: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(address, timeout=ANSWER_S, source_address=(host, 0))
        self.local = f"{secrets.token_hex(6)}.invalid"
        self.remote = "{}:{}".format(*address)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {self.remote}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self.socket.makefile("rb")
        self.upgraded = self._stream.readline().decode().strip()
        headers = []
        while (line := self._stream.readline().strip()) != b"":
            headers.append(line.decode().lower())
        assert self.upgraded.startswith("HTTP/1.1 101"), self.upgraded
        assert "sec-websocket-protocol: sip" in headers, headers

    def send(self, text: str) -> None:
        self._frame(1, text.encode())

    def receive(self) -> str:
        while True:
            kind, size = self._stream.read(2)
            size &= 0x7F
            if size >= 126:
                size = int.from_bytes(self._stream.read(2 if size == 126 else 8))
            data = self._stream.read(size)
            match kind & 0x0F:
                case 1 | 2 if data.strip():  # an empty line is a keep-alive
                    return data.decode()
                case 9:
                    self._frame(10, data)
                case 8:
                    raise ConnectionResetError("closed by the switch")

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def _frame(self, kind: int, data: bytes) -> None:
        size = len(data)
        head = bytes([0x80 | kind]) + (
            bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2)
        )
        mask = os.urandom(4)
        self.socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))


def digest(username: str, password: str, challenge: str, method: str, uri: str) -> str:
    """RFC 2617, as the switch asks for it."""
    asked = dict(re.findall(r'(\w+)="?([^",]+)"?', challenge))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    first, second = md5(username, asked["realm"], password), md5(method, uri)
    nc, cnonce = "00000001", secrets.token_hex(8)
    response = md5(first, asked["nonce"], nc, cnonce, "auth", second)
    more = f', opaque="{asked["opaque"]}"' if "opaque" in asked else ""
    return (
        f'Digest username="{username}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", '
        f'response="{response}", algorithm=MD5, qop=auth, nc={nc}, cnonce="{cnonce}"{more}'
    )


class Phone:
    """One phone: a user name, a password, a wire.

    caller   what it says of itself in From; the user name unless told otherwise
    """

    def __init__(self, wire: Wire, username: str, password: str, *, caller: str = "") -> None:
        self.wire, self.username, self.password = wire, username, password
        self.caller = caller or f"<sip:{username}@{wire.remote}>"
        self.tag = secrets.token_hex(4)
        self.call_id = f"{secrets.token_hex(8)}@phone"
        self._waiting: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    @property
    def contact(self) -> str:
        return f"<sip:{self.username}@{self.wire.local};transport={self.wire.via.lower()}>"

    def register(self, expires_s: int = 120) -> Message:
        """The last answer, after at most one challenge. expires_s 0: no more."""
        more = f"Contact: {self.contact}\r\nExpires: {expires_s}\r\n"
        return self.ask(
            "REGISTER", f"sip:{self.wire.remote}", f"<sip:{self.username}@{self.wire.remote}>", more
        )

    def call(self, number: str, more: str = "") -> Message:
        """INVITE; the final answer, acknowledged."""
        uri = f"sip:{number}@{self.wire.remote}"
        return self.ask("INVITE", uri, f"<{uri}>", f"Contact: {self.contact}\r\n{more}", SDP)

    def ask(self, method: str, uri: str, to: str, more: str = "", body: str = "") -> Message:
        """Send, answer the challenge, and return the final answer.

        raises   TimeoutError: there is none
        """
        answer = self._exchange(method, uri, to, more, body)
        if answer.status in (401, 407):
            name = "WWW-Authenticate" if answer.status == 401 else "Proxy-Authenticate"
            told = digest(self.username, self.password, answer.header(name), method, uri)
            header = "Authorization" if answer.status == 401 else "Proxy-Authorization"
            answer = self._exchange(method, uri, to, f"{more}{header}: {told}\r\n", body)
        return answer

    def wait_for(self, method: str) -> Message:
        """The next request of a kind; others are kept."""
        for message in self._waiting:
            if not message.status and message.method == method:
                self._waiting.remove(message)
                return message
        while True:
            message = self._read()
            if not message.status and message.method == method:
                return message
            self._waiting.append(message)

    def answer(self, request: Message, status: str, body: str = "") -> None:
        kept = "".join(
            f"{name}: {line}\r\n"
            for name in ("Via", "Record-Route", "From")
            for line in request.headers(name)
        )
        to = request.header("To")
        tagged = to if ";tag=" in to else f"{to};tag={self.tag}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        self.wire.send(
            f"SIP/2.0 {status}\r\n{kept}To: {tagged}\r\nCall-ID: {request.header('Call-ID')}\r\n"
            f"CSeq: {request.header('CSeq')}\r\nContact: {self.contact}\r\n{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def bye(self, answered: Message) -> Message:
        """End a call of ours whose INVITE was answered with this."""
        target = re.search(r"<([^>]+)>", answered.header("Contact"))
        assert target is not None
        return self._exchange("BYE", target[1], answered.header("To"))

    def _exchange(self, method: str, uri: str, to: str, more: str = "", body: str = "") -> Message:
        cseq = next(_serial)
        kind = "Content-Type: application/sdp\r\n" if body else ""
        head = (
            f"Via: SIP/2.0/{self.wire.via} {self.wire.local};branch=z9hG4bK{secrets.token_hex(6)};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: {self.caller};tag={self.tag}\r\nTo: {to}\r\nCall-ID: {self.call_id}\r\n"
        )
        self.wire.send(
            f"{method} {uri} SIP/2.0\r\n{head}CSeq: {cseq} {method}\r\n{more}{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        while True:
            message = self._read()
            if not message.status or message.header("CSeq") != f"{cseq} {method}":
                self._waiting.append(message)
            elif message.status >= 200:
                if method == "INVITE":
                    ack = re.sub(r"To: .*\r\n", f"To: {message.header('To')}\r\n", head)
                    if message.status == 200:
                        ack = re.sub(r"branch=\w+", f"branch=z9hG4bK{secrets.token_hex(6)}", ack)
                    self.wire.send(f"ACK {uri} SIP/2.0\r\n{ack}CSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n")
                return message

    def _read(self) -> Message:
        head, _, body = self.wire.receive().partition("\r\n\r\n")
        return Message(head, body)
