"""SIPp as the independent other end: scenarios put together from steps, run with a deadline, and read back.

A scenario is a sequence of steps. A message that no step expects fails the run, so a scenario that ends well
proves what its peer was sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from bridge.sandbox.process import Child, Deadline, tail

CALL_S_MAX: Final = 20
_END_GRACE_S: Final = 5.0
_RECEIVED: Final = re.compile(
    r"^UDP message received \[\d+\] bytes ?:\n\n(.*?)(?=\n-{40}|\Z)", re.DOTALL | re.MULTILINE
)

_TRACED: Final = re.compile(
    r"^-{47} (\S+)Z\nUDP message (?:received|sent) \[\d+\] bytes ?:\n\n(\S+)", re.MULTILINE
)

_SDP: Final = """\
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio [media_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
"""
_EMPTY: Final = "Content-Length: 0\n"
# CANCEL, and ACK of a failure, belong to the INVITE's transaction.
_INVITES_BRANCH: Final = "z9hG4bK-[pid]-[call_number]"
_CALLERS_HEAD: Final = """\
{method} sip:{service}@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}
From: {caller};tag=[pid]-[call_number]
To: <sip:{service}@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:app@[local_ip]:[local_port]>
Max-Forwards: 70
"""
_CARRIERS_HEAD: Final = """\
SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:]{tag}
[last_Call-ID:]
{cseq}
Contact: <sip:carrier@[local_ip]:[local_port]>
"""
_CARRIERS_TAG: Final = ";tag=[pid]-[call_number]"


def _send(message: str) -> str:
    return f"<send><![CDATA[\n\n{message}\n]]></send>"


def _recv(response: int, *, optional: bool = False) -> str:
    return f'<recv response="{response}"{" optional=" + chr(34) + "true" + chr(34) if optional else ""}/>'


def _pause(seconds: float) -> str:
    return f'<pause milliseconds="{round(seconds * 1000)}"/>'


def _scenario(*steps: str, variables: str = "") -> str:
    reference = f'<Reference variables="{variables}"/>' if variables else ""
    return '<?xml version="1.0"?><scenario name="call">' + "".join(steps) + reference + "</scenario>"


# ---------------------------------------------------------------- the app's side


@dataclass(frozen=True)
class Caller:
    """One INVITE of an app user.

    dialled   the user part of the request's URI, as it goes on the wire
    from_     the From header without its tag; by default the A-number in a bare SIP URI
    more      further headers, each with its line feed
    """

    a_number: str
    dialled: str
    from_: str = ""
    more: str = ""

    def _request(self, method: str, cseq: int, body: str = _EMPTY, branch: str = _INVITES_BRANCH) -> str:
        caller = self.from_ or f"<sip:{self.a_number}@app.invalid>"
        head = _CALLERS_HEAD.format(
            method=method, service=self.dialled, caller=caller, cseq=cseq, branch=branch
        )
        return _send(head + self.more + body)

    def _invite(self) -> str:
        return self._request("INVITE", 1, _SDP) + _recv(100, optional=True)

    def _answered(self) -> str:
        ringing = _recv(180, optional=True) + _recv(183, optional=True)
        return self._invite() + ringing + _recv(200) + self._request("ACK", 1, branch="[branch]")

    def _hangs_up(self) -> str:
        return self._request("BYE", 2, branch="[branch]") + _recv(200)

    def talks(self, talk_s: float) -> str:
        """Is answered, talks and hangs up."""
        return _scenario(self._answered(), _pause(talk_s), self._hangs_up())

    def listens(self) -> str:
        """Is answered and waits for the other side to hang up."""
        return _scenario(self._answered(), '<recv request="BYE"/>', _answer("200 OK", tag=""))

    def talks_after_early_media(self, talk_s: float) -> str:
        """Hears early media, with a session description, before the answer."""
        early = '<recv response="183"><action><ereg regexp="m=audio" search_in="msg" check_it="true" assign_to="sdp"/>'
        return _scenario(
            self._invite(), f"{early}</action></recv>", _recv(200), self._request("ACK", 1, branch="[branch]"),
            _pause(talk_s), self._hangs_up(), variables="sdp",
        )  # fmt: skip

    def says(self, sound: Path, talk_s: float = 0) -> str:
        """Is answered and says what is in a file of A-law; hangs up after talk_s, or (0) waits to be hung up on."""
        spoken = f'<nop><action><exec rtp_stream="{sound},1,8,PCMA/8000"/></action></nop>'
        ringing = _recv(180, optional=True) + _recv(183, optional=True)
        invite = self._request("INVITE", 1, _SDP.replace("[media_port]", "[rtpstream_audio_port]"))
        end = (
            _pause(talk_s) + self._hangs_up()
            if talk_s
            else '<recv request="BYE"/>' + _answer("200 OK", tag="")
        )
        return _scenario(
            invite, _recv(100, optional=True), ringing, _recv(200), self._request("ACK", 1, branch="[branch]"),
            spoken, end,
        )  # fmt: skip

    def hears(self, status: int) -> str:
        """Is refused with this status."""
        ringing = _recv(180, optional=True) + _recv(183, optional=True)
        return _scenario(self._invite(), ringing, _recv(status), self._request("ACK", 1))

    def talks_or_hears(self, talk_s: float, status: int) -> str:
        """Is answered, talks and hangs up; or is refused with this status, and with no other."""
        refused = f'<recv response="{status}" optional="true" next="refused"/>'
        waiting = _recv(100, optional=True) + _recv(180, optional=True) + _recv(183, optional=True)
        return _scenario(
            self._request("INVITE", 1, _SDP), waiting, refused, _recv(200), self._request("ACK", 1, branch="[branch]"),
            _pause(talk_s), self._hangs_up(), '<nop next="over"/>', '<label id="refused"/>', self._request("ACK", 1),
            '<label id="over"/>',
        )  # fmt: skip

    def gives_up(self, after_s: float) -> str:
        """Hears it ring, and cancels."""
        cancel = self._request("CANCEL", 1) + _recv(200) + _recv(487) + self._request("ACK", 1)
        return _scenario(self._invite(), _recv(180), _pause(after_s), cancel)


# ---------------------------------------------------------------- the carriers' side


def _answer(status: str, body: str = _EMPTY, *, tag: str = _CARRIERS_TAG, cseq: str = "[last_CSeq:]") -> str:
    return _send(_CARRIERS_HEAD.format(status=status, tag=tag, cseq=cseq) + body)


def answers(*, ring_s: float = 0.1, early_media: bool = False) -> str:
    """Rings (or plays early media), answers, and waits for the caller to hang up."""
    waiting = _answer("183 Session Progress", _SDP) if early_media else _answer("180 Ringing")
    return _scenario(
        '<recv request="INVITE"/>', waiting, _pause(ring_s), _answer("200 OK", _SDP), '<recv request="ACK"/>',
        '<recv request="BYE"/>', _answer("200 OK", tag=""),
    )  # fmt: skip


def hangs_up(after_s: float) -> str:
    """Answers, and hangs up first."""
    parties = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}:" assign_to="{name.lower()}"/>'
        for name in ("From", "To")
    )
    bye = (
        "BYE [next_url] SIP/2.0\n"
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        f"From:[$to]{_CARRIERS_TAG}\nTo:[$from]\nCall-ID: [call_id]\nCSeq: 2 BYE\nMax-Forwards: 70\n"
    )
    return _scenario(
        f'<recv request="INVITE" rrs="true"><action>{parties}</action></recv>', _answer("200 OK", _SDP),
        '<recv request="ACK"/>', _pause(after_s), _send(bye + _EMPTY), _recv(200),
    )  # fmt: skip


def rejects(status: str, headers: str = "") -> str:
    """Answers the INVITE with a failure: status and reason phrase as they go on the wire."""
    return _scenario('<recv request="INVITE"/>', _answer(status, headers + _EMPTY), '<recv request="ACK"/>')


def rings() -> str:
    """Rings until it is cancelled."""
    cseq = '<ereg regexp="[0-9]+" search_in="hdr" header="CSeq:" assign_to="cseq"/>'
    ended = _answer("487 Request Terminated", cseq="CSeq: [$cseq] INVITE")
    return _scenario(
        f'<recv request="INVITE"><action>{cseq}</action></recv>', _answer("180 Ringing"),
        '<recv request="CANCEL"/>', _answer("200 OK"), ended, '<recv request="ACK"/>',
    )  # fmt: skip


# ---------------------------------------------------------------- running one


@dataclass(frozen=True)
class Seen:
    """How a run ended. received: the messages that came in, in order."""

    code: int | None
    received: tuple[str, ...]
    said: str

    def invites(self) -> list[str]:
        """The request lines of the INVITEs that came in, retransmissions left out."""
        found = [
            message.partition("\n")[0].strip() for message in self.received if message.startswith("INVITE ")
        ]
        return list(dict.fromkeys(found))

    def header(self, name: str) -> str:
        """A header of the first message that came in."""
        found = re.search(rf"^{name}:(.*)$", self.received[0], re.MULTILINE)
        return found[1].strip() if found else ""


class Peer:
    """One running SIPp. Its files lie in `where`, a directory of its own.

    address   "host:port" it is bound to
    call_id   the Call-ID it gives its call; of many, what each of them ends with
    calls     how many it plays; cps: of these begun in a second
    rows      of many calls, what [field0], [field1] … are in each
    """

    def __init__(
        self,
        sipp: tuple[str, ...],
        where: Path,
        scenario: str,
        address: str,
        *,
        towards: str | None = None,
        call_id: str = "",
        calls: int = 1,
        cps: int = 1,
        rows: Sequence[Sequence[str]] = (),
    ) -> None:
        where.mkdir(parents=True)
        (where / "scenario.xml").write_text(scenario)
        self._where, self.address, self.call_id = where, address, call_id
        host, _, port = address.rpartition(":")
        words = ["-sf", "scenario.xml", "-i", host, "-p", port, "-m", str(calls), "-nostdin"]
        words += ["-timeout", f"{CALL_S_MAX}s", "-timeout_error"]
        words += ["-trace_err", "-error_file", "errors", "-trace_msg", "-message_file", "messages"]
        if rows:
            (where / "rows").write_text("\n".join(["SEQUENTIAL", *(";".join(row) for row in rows), ""]))
            words += ["-inf", "rows"]
        if towards is not None:
            many = ["-r", str(cps), "-l", str(calls)] if calls > 1 else []
            words += [*many, "-cid_str", f"%u.{call_id}" if calls > 1 else call_id, towards]
        self._child = Child((*sipp, *words), log=where / "console", cwd=where)

    def wait_bound(self) -> None:
        """Return when its socket is there.

        raises   AssertionError with what it said
        """
        deadline = Deadline(5)
        while not bound(self.address):
            assert self._child.running and deadline.pause(), f"SIPp is not at {self.address}: {self._said()}"

    def ended(self, deadline_s: float = CALL_S_MAX + _END_GRACE_S) -> Seen:
        """Wait for the end of its scenario."""
        self._child.wait(deadline_s)
        return self.seen()

    def seen(self) -> Seen:
        """What it has seen so far."""
        return Seen(self._child.exit_code, tuple(_RECEIVED.findall(self._read("messages"))), self._said())

    def clock(self, start: str) -> float:
        """When the first message that starts so went out or came in, by its own trace; seconds since 1970."""
        found = _TRACED.findall(self._read("messages"))
        at = next(at for at, first in found if first.startswith(start))
        return datetime.fromisoformat(f"{at}+00:00").timestamp()

    def stop(self) -> None:
        self._child.kill()

    def trace(self) -> str:
        """The end of its message trace, for the report of a failure."""
        return f"{self.address}\n{self._said()}\n{tail(self._where / 'messages', 60)}"

    def _said(self) -> str:
        return self._read("errors") or tail(self._where / "console", 5)

    def _read(self, name: str) -> str:
        path = self._where / name
        return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""


def bound(address: str) -> bool:
    """Whether a UDP socket is bound to "host:port" now."""
    host, _, port = address.rpartition(":")
    raw = bytes(
        int(part) for part in reversed(host.split("."))
    )  # the kernel prints it as a little-endian word
    wanted = f"{raw.hex().upper()}:{int(port):04X}"
    return any(line.split()[1] == wanted for line in Path("/proc/net/udp").read_text().splitlines()[1:])
