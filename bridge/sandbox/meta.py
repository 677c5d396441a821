"""Meta's side of WhatsApp Business calls, simulated: an Asterisk with TLS, digest, SDES-SRTP and Opus.

It asks every business that calls for its password (realm wa.meta.vc), rings a user who answers at once and hears
himself, and has users call businesses with the headers Meta sends.
"""

from __future__ import annotations

import importlib.resources
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bridge.sandbox.certificates import Certificate
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.ports import LOOPBACK
from bridge.sandbox.process import Deadline
from bridge.sandbox.switch import Switch

REALM: Final = "wa.meta.vc"
_EMPTY: Final = (
    "acl.conf", "ccss.conf", "cdr.conf", "cel.conf", "features.conf", "manager.conf", "pjproject.conf", "stasis.conf",
    "udptl.conf",
)  # fmt: skip
_LINE: Final = re.compile(r"[ -:<-~]*", re.ASCII)  # no semicolon: that starts a comment

_PJSIP: Final = """\
[global]
type = global
user_agent = meta

[tls]
type = transport
protocol = tls
method = tlsv1_2
bind = {address}:{port}
cert_file = {certificate.cert_file}
priv_key_file = {certificate.key_file}
ca_list_file = {ca_file}
verify_server = yes

[leg](!)
type = endpoint
transport = tls
context = users
disallow = all
allow = opus
media_encryption = sdes
rtcp_mux = yes
direct_media = no
timers = no
rtp_timeout = 20
from_domain = {realm}

; Whatever comes from loopback is a business; which one, its password says.
[businesses](leg)
auth = {auths}

[businesses]
type = identify
endpoint = businesses
match = 127.0.0.1

{numbers}"""

_BUSINESS: Final = """\
[b{one.digits}](leg)
aors = b{one.digits}
outbound_auth = b{one.digits}-out

[b{one.digits}]
type = aor
contact = sip:{one.server}\\;transport=tls

[b{one.digits}-out]
type = auth
auth_type = digest
username = {one.digits}
password = {one.password}

[b{one.digits}-in]
type = auth
auth_type = digest
supported_algorithms_uas = {algorithm}
realm = {realm}
username = {one.digits}
password = {one.password}

"""

# Read by Asterisk's pbx_spool the moment it is renamed into the spool directory
_CALL_FILE: Final = """\
Channel: Local/{digits}@business/n
CallerID: <{user}>
MaxRetries: 0
WaitTime: {ring_s}
Context: speak
Extension: s
Priority: 1
Setvar: __WACID={wacid}
Setvar: __CTA={cta}
Setvar: __TO={to}
Setvar: __RING_S={ring_s}
Setvar: __TALK_S={talk_s:g}
"""


@dataclass(frozen=True, slots=True)
class Business:
    """A WhatsApp Business number, its password, and the SIP server it has set: host:port."""

    digits: str
    password: str
    server: str


class Meta:
    """certificate   what it shows; ca_file: from whom the businesses' servers must have theirs.

    algorithm     of the digest it asks for
    """

    def __init__(
        self,
        install: AsteriskInstall,
        run_dir: Path,
        *,
        port: int,
        businesses: Sequence[Business],
        certificate: Certificate,
        ca_file: Path,
        algorithm: str = "SHA-256",
    ) -> None:
        self.port, self._businesses, self._algorithm = port, tuple(businesses), algorithm
        self._certificate, self._ca_file = certificate, ca_file
        self.switch = Switch(install, run_dir, run_dir / "conf")
        self._seen = self.switch.run_dir / "seen"

    def __enter__(self) -> Self:
        self._write_conf()
        self.switch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch.stop()

    def seen(self, kind: str) -> list[list[str]]:
        """What was noted of one kind, oldest first.

        invite  number, From header, 1 if the signalling was encrypted
        dial    business, DIALSTATUS, cause
        ended   endpoint, 1 if the media was encrypted, codec, packets sent, packets received
        """
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        return [fields[1:] for fields in (line.split("|") for line in lines) if fields[0] == kind]

    def call(
        self,
        user: str,
        digits: str,
        *,
        to: str = "",
        talk_s: float = 3,
        ring_s: int = 20,
        wacid: str = "wacid.1",
        cta: str = "",
    ) -> None:
        """A user calls a business; returns at once. When answered he talks (a tone) and hangs up after talk_s.

        to       whom the INVITE is for, if not the business: digits
        raises   ValueError: something that does not fit a line
        """
        for text in (user, digits, to, wacid, cta):
            if not _LINE.fullmatch(text):
                raise ValueError("does not fit a line of a call file")
        text = _CALL_FILE.format(
            user=user, digits=digits, to=to or digits, talk_s=talk_s, ring_s=ring_s, wacid=wacid, cta=cta
        )
        written = self.switch.spool_dir / "tmp" / f"{secrets.token_hex(8)}.call"
        written.write_text(text)
        os.utime(written, (0, 0))  # due long ago: Asterisk would wait for the next whole second
        written.rename(self.switch.spool_dir / "outgoing" / written.name)

    def forget(self) -> None:
        """What was noted so far."""
        self._seen.unlink(missing_ok=True)

    def wait_seen(self, kind: str, least: int = 1, deadline_s: float = 15.0) -> list[list[str]]:
        """What was noted of one kind, once there is as much of it.

        raises   TimeoutError
        """
        deadline = Deadline(deadline_s)
        while len(found := self.seen(kind)) < least:
            if not deadline.pause():
                raise TimeoutError(f"Meta saw {len(found)} of {kind!r}:\n{self.switch.log_tail(10)}")
        return found

    def _write_conf(self) -> None:
        conf = self.switch.conf_dir
        conf.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (importlib.resources.files("bridge.sandbox") / "conf" / "meta").iterdir():
            (conf / file.name).write_text(file.read_text())
        numbers = "".join(
            _BUSINESS.format(one=one, realm=REALM, algorithm=self._algorithm) for one in self._businesses
        )
        (conf / "pjsip.conf").write_text(
            _PJSIP.format(
                address=LOOPBACK,
                port=self.port,
                certificate=self._certificate,
                ca_file=self._ca_file,
                realm=REALM,
                auths=",".join(f"b{one.digits}-in" for one in self._businesses),
                numbers=numbers,
            )
        )
        (conf / "seen.conf").write_text(f"SEEN = {self._seen}\n")
        (conf / "rtp.conf").write_text("[general]\nrtpstart = 30000\nrtpend = 32999\n")
        for name in _EMPTY:
            (conf / name).touch()
