"""Our switch calls Meta: it proves the password, wants Meta's certificate, and says who it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from bridge.sandbox.certificates import Authority
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.meta import Business, Meta
from bridge.sandbox.ports import LOOPBACK
from bridge.sandbox.process import Deadline
from bridge.sandbox.stack import Stack
from tests.asterisk.scene import ENDED_S
from tests.asterisk.whatsapp.conftest import METAS, WhatsappWorld, digits_of

USER = "+4917612345678"


class Asked(NamedTuple):
    """A Meta that runs, and our switch, which calls a user there."""

    name: str
    meta: Meta
    stack: Stack

    def dial(self) -> None:
        """Begin a call; its channel is there when this returns, or was."""
        self.stack.switch.cli("module load res_clioriginate.so")
        self.stack.switch.cli(f"channel originate PJSIP/{USER}@{self.name} application Wait 3")

    def wait_no_call(self) -> None:
        deadline = Deadline(ENDED_S)
        while "0 active channels" not in self.stack.switch.cli("core show channels count"):
            assert deadline.pause(), "the call does not end"


@pytest.fixture
def asked(
    request: pytest.FixtureRequest,
    stack: Stack,
    world: WhatsappWorld,
    install: AsteriskInstall,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Asked]:
    """One Meta at a time."""
    name: str = request.param
    algorithm, password, shown = METAS[name]
    root = tmp_path_factory.mktemp(f"meta-{name}")
    match shown:
        case "right":
            certificate = authority.issue(LOOPBACK)
        case "for another name":
            certificate = authority.issue("evil.example.com")
        case _:
            certificate = Authority(root / "theirs", "another").issue(LOOPBACK)
    with Meta(
        install,
        root,
        port=world.metas[name],
        businesses=(Business(digits_of(name), password, f"{LOOPBACK}:{world.tls_port}"),),
        certificate=certificate,
        ca_file=authority.ca_file,
        algorithm=algorithm,
    ) as meta:
        yield Asked(name, meta, stack)


def test_what_is_rendered_is_loaded_as_it_was_meant_and_without_a_warning(stack: Stack) -> None:
    log = (stack.switch.log_dir / "full").read_text()
    start = log[: log.index("not reloadable")] if "not reloadable" in log else log
    assert "WARNING" not in start
    assert "ERROR" not in start
    shown = stack.switch.cli("pjsip show endpoint md5")
    for key, wanted in {
        "context": "from-whatsapp", "media_encryption": "sdes", "allow": "(opus)", "rtcp_mux": "true",
        "rewrite_contact": "false", "direct_media": "false", "timers": "no", "send_connected_line": "no",
        "from_domain": LOOPBACK, "from_user": digits_of("md5"), "identify_by": "request_uri",
        "rtp_keepalive": "1", "moh_passthrough": "false", "allow_transfer": "false",
    }.items():  # fmt: skip
        told = next(line for line in shown.splitlines() if line.startswith(f" {key} "))
        assert told.partition(":")[2].strip() == wanted, told


@pytest.mark.parametrize("asked", ["md5", "sha"], indirect=True)
def test_meta_asks_for_the_password_and_gets_it(asked: Asked) -> None:
    asked.dial()
    ((number, from_, secure),) = asked.meta.wait_seen("invite")
    assert (number, secure) == (USER, "1")
    assert f"<sip:{digits_of(asked.name)}@{LOOPBACK}>" in from_
    ((_, media, codec, _, received),) = asked.meta.wait_seen("ended")
    assert (media, codec) == ("1", "(opus)")
    assert int(received) > 0


@pytest.mark.parametrize("asked", ["password", "stranger", "renamed"], indirect=True)
def test_who_is_not_meta_gets_no_call(asked: Asked) -> None:
    asked.dial()
    asked.wait_no_call()
    assert asked.meta.seen("invite") == []
