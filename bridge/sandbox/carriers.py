"""Simulated carriers and app users: one real Asterisk that answers the bridge's calls and calls into it.

Every carrier is a UDP port on loopback; what it does with a number is told in `magic`. The app users share
one more.
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

from bridge.errors import ConfigError
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.magic import dialplan
from bridge.sandbox.ports import LOOPBACK, explain_port_in_use, port_in_use
from bridge.sandbox.switch import Switch

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_NUMBER: Final = re.compile(r"\+?[0-9]{1,20}")
_SECRET: Final = re.compile(r"[!-:<-~]{1,80}")  # printable, no blank, no semicolon: that starts a comment
_RING_S_MAX: Final = 180
# Asterisk logs an error for each of these when it is absent, though it needs none of them
_EMPTY: Final = (
    "acl.conf",
    "ccss.conf",
    "cel.conf",
    "features.conf",
    "manager.conf",
    "pjproject.conf",
    "udptl.conf",
)

_PJSIP: Final = """\
[global]
type = global
endpoint_identifier_order = ip
user_agent = carriers

{transports}
; Whatever comes from loopback is the bridge; the dialplan tells the carriers apart by the port.
[bridge]
type = endpoint
context = carriers
disallow = all
allow = alaw,ulaw
direct_media = no
rtp_timeout = 120
trust_id_inbound = yes

[bridge]
type = identify
endpoint = bridge
match = 127.0.0.1

{users}"""

_TRANSPORT: Final = """\
[{name}]
type = transport
protocol = udp
bind = {address}:{port}

"""

_USER: Final = """\
[app-{user.username}]
type = endpoint
transport = app-users
outbound_auth = app-{user.username}
disallow = all
allow = alaw,ulaw
direct_media = no
rtp_timeout = 120

[app-{user.username}]
type = auth
auth_type = userpass
username = {user.username}
password = {user.password}

"""

_NETWORK: Final = """\
[network]
type = endpoint
transport = network
disallow = all
allow = alaw,ulaw
direct_media = no
rtp_timeout = 120

"""

# Read by Asterisk's pbx_spool the moment it is renamed into the spool directory
_CALL_FILE: Final = """\
Channel: PJSIP/{endpoint}/sip:{b_number}@{bridge}
CallerID: <{a_number}>
MaxRetries: 0
WaitTime: {ring_s}
Context: talk
Extension: s
Priority: 1
Setvar: TALK_S={talk_s:g}
"""


@dataclass(frozen=True, slots=True)
class Carrier:
    """A trunk the bridge can dial: `sip:+E164@127.0.0.1:port`."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class AppUser:
    """Somebody with the app: the A-number, and what the bridge's digest challenge asks for."""

    number: str
    username: str
    password: str


class Carriers:
    """The other side of the bridge, both ends of it. The first carrier is the one that fails `…010`.

    bridge     `host:port` of the bridge's switch, where app users call
    app_port   the port the app users call from
    network    `host:port` on loopback the phone network calls from; another address than that of users' phones, for
               who calls from there is a carrier
    """

    def __init__(
        self,
        install: AsteriskInstall,
        run_dir: Path,
        *,
        carriers: Sequence[Carrier],
        users: Sequence[AppUser],
        bridge: str,
        app_port: int,
        network: str = "",
    ) -> None:
        self.carriers, self._users, self.bridge, self._app_port = (
            tuple(carriers),
            tuple(users),
            bridge,
            app_port,
        )
        for name in (*(carrier.name for carrier in carriers), *(user.username for user in users)):
            _expect(_NAME, name, "name")
        for user in users:
            _expect(_NUMBER, user.number, "number")
            _expect(_SECRET, user.password, "password")
        self._network = network
        self.switch = Switch(install, run_dir, run_dir / "conf")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def records(self) -> Path:
        """The carriers' own call records, a CSV without header; its columns are named in cdr_custom.conf."""
        return self.switch.log_dir / "cdr-custom" / "carriers.csv"

    def start(self) -> None:
        """raises  ConfigError: a port is taken; SwitchUnavailable: Asterisk did not come up"""
        if self.switch.running:
            return
        for port in (*(carrier.port for carrier in self.carriers), self._app_port):
            if port_in_use(port):
                raise ConfigError("sandbox.carriers", explain_port_in_use(port), "Free it or choose another")
        self._write_conf()
        self.switch.start()

    def stop(self) -> None:
        self.switch.stop()

    def originate(self, a_number: str, b_number: str, talk_s: float, *, ring_s: int = _RING_S_MAX) -> None:
        """An app user calls; returns at once. When answered it talks (a tone) and hangs up after `talk_s`.

        ring_s  gives up when not answered by then
        raises  ValueError: no such user, or not a number
        """
        user = next((user for user in self._users if user.number == a_number), None)
        if user is None:
            raise ValueError("no app user has this A-number")
        place_call(self.switch.spool_dir, user, self.bridge, b_number, talk_s, ring_s=ring_s)

    def call_in(self, a_number: str, b_number: str, talk_s: float, *, ring_s: int = _RING_S_MAX) -> None:
        """Somebody in the phone network calls a number of the bridge's; returns at once. Otherwise like `originate`."""
        assert self._network, "the network has no address to call from"
        _spool(self.switch.spool_dir, "network", a_number, self.bridge, b_number, talk_s, ring_s)

    def active_calls(self) -> int:
        """Legs that exist now, of app users and carriers together."""
        answer = self.switch.cli("core show channels count")
        found = re.search(r"^(\d+) active channel", answer, re.MULTILINE)
        return int(found[1]) if found else 0

    def _write_conf(self) -> None:
        conf = self.switch.conf_dir
        conf.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (importlib.resources.files("bridge.sandbox") / "conf" / "carriers").iterdir():
            (conf / file.name).write_text(file.read_text())
        ports = {
            **{f"carrier-{carrier.name}": carrier.port for carrier in self.carriers},
            "app-users": self._app_port,
        }
        transports = "".join(
            _TRANSPORT.format(name=name, address=LOOPBACK, port=port) for name, port in ports.items()
        )
        users = "".join(_USER.format(user=user) for user in self._users)
        if self._network:
            host, _, port = self._network.rpartition(":")
            transports += _TRANSPORT.format(name="network", address=host, port=port)
            users += _NETWORK
        (conf / "pjsip.conf").write_text(_PJSIP.format(transports=transports, users=users))
        (conf / "extensions.conf").write_text(
            dialplan([(carrier.name, carrier.port) for carrier in self.carriers])
        )
        (conf / "rtp.conf").write_text("[general]\nrtpstart = 20000\nrtpend = 29999\n")
        for name in _EMPTY:
            (conf / name).touch()


def place_call(
    spool_dir: Path, user: AppUser, bridge: str, b_number: str, talk_s: float, *, ring_s: int = _RING_S_MAX
) -> None:
    """Have the Asterisk that watches `spool_dir` call as `user`; from whatever process.

    raises   ValueError: not a number, or no talk time
    """
    _spool(spool_dir, f"app-{user.username}", user.number, bridge, b_number, talk_s, ring_s)


def _spool(
    spool_dir: Path, endpoint: str, a_number: str, bridge: str, b_number: str, talk_s: float, ring_s: int
) -> None:
    for number in (a_number, b_number):
        _expect(_NUMBER, number, "number")
    if not talk_s > 0:
        raise ValueError("talk_s must be above 0")
    text = _CALL_FILE.format(
        endpoint=endpoint,
        a_number=a_number,
        b_number=b_number,
        bridge=bridge,
        ring_s=ring_s,
        talk_s=talk_s,
    )
    name = f"{secrets.token_hex(8)}.call"
    written = spool_dir / "tmp" / name
    written.write_text(text)
    os.utime(written, (0, 0))  # due long ago: Asterisk would wait for the next whole second
    written.rename(spool_dir / "outgoing" / name)


def _expect(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"not a {what} that fits a configuration file")
