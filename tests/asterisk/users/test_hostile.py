"""Users who are who they say, and mean no good; and whoever opens a WebSocket."""

from __future__ import annotations

import base64
import os
import socket

import pytest

from bridge.partners.store.credential import Credential
from tests.asterisk.scene import BERLIN
from tests.asterisk.sipp import answers
from tests.asterisk.users.conftest import Users
from tests.asterisk.users.phone import SDP, Message


def ask(users: Users, known: Credential, method: str, number: str, more: str = "", body: str = "") -> Message:
    phone = users.phone(known)
    uri = f"sip:{number}@{phone.wire.remote}"
    return phone.ask(method, uri, f"<{uri}>", f"Contact: {phone.contact}\r\n{more}", body)


def test_what_a_user_dials_reaches_numbers_only(users: Users) -> None:
    _, known = users.user()
    _, other = users.user()
    assert users.phone(other).register().status == 200
    users.wait_contacts(other, 1)
    carrier = users.scene.alpha(answers())
    for extensions in (
        other.username,
        known.username,
        "messenger",
        "_110",
        "s",
        "h",
        "failed",
        "b" + "0" * 32,
    ):
        assert ask(users, known, "INVITE", extensions, body=SDP).status == 404, extensions
    for numbers in (
        "1100",
        "0110",
        "+49110",
        "110;x=y",
        "110&beta",
        "+4930%26PJSIP%2Falpha",
        "+4930%7C17",
        "0%24%7BEXTEN%7D",
    ):
        assert ask(users, known, "INVITE", numbers, body=SDP).status == 484, numbers
    assert carrier.seen().invites() == []
    carrier.stop()


@pytest.mark.parametrize(
    "header",
    [
        f"P-Preferred-Identity: <sip:{BERLIN}%0D%0AX-Evil:1@x>",
        "P-Preferred-Identity: <sip:+493023125777@x>, <sip:+493023125778@x>",
        "P-Preferred-Identity: ${SHELL(id)},|&",
        "P-Preferred-Identity: Zoë 🎈",
    ],
)
def test_what_a_user_wants_to_be_seen_as_is_a_number_of_theirs_or_no_call(users: Users, header: str) -> None:
    a_number, known = users.user()
    carrier = users.scene.alpha(answers())
    assert ask(users, known, "INVITE", BERLIN, f"{header}\r\n", SDP).status == 403
    assert carrier.seen().invites() == []
    carrier.stop()
    reason = users.scene.value("SELECT refuse_reason FROM call WHERE a_number = $1", a_number)
    assert reason == "caller_id"


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("SUBSCRIBE", "Event: presence\r\nExpires: 60\r\n", 603),
        ("PUBLISH", "Event: presence\r\n", 489),
        ("MESSAGE", "", 501),
        ("REFER", "Refer-To: <sip:112@x>\r\n", 501),
        ("NOTIFY", "Event: x\r\n", 501),
    ],
)
def test_there_is_nothing_but_calls(users: Users, method: str, more: str, status: int) -> None:
    a_number, known = users.user()
    assert ask(users, known, method, a_number, more).status == status


def opened(users: Users, headers: str, frame: bytes = b"") -> bytes:
    """What the switch says to a WebSocket like this, until it ends it or waits for more."""
    key = base64.b64encode(os.urandom(16)).decode()
    with socket.create_connection(users.ws, timeout=1) as wire:
        head = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        wire.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode())
        said = wire.recv(4096)
        try:
            wire.sendall(frame)
            while more := wire.recv(4096):
                said += more
        except (TimeoutError, ConnectionError):
            pass
        return said


def test_a_websocket_that_speaks_something_else_changes_nothing(users: Users) -> None:
    _, known = users.user()
    sip = "Sec-WebSocket-Protocol: sip\r\n"
    assert opened(users, "").startswith(b"HTTP/1.1 400")
    assert opened(users, "Sec-WebSocket-Protocol: ari\r\n").startswith(b"HTTP/1.1 400")
    endless, long = (
        b"\x81\xff\x7f" + b"\xff" * 7 + b"mask" + b"x" * 1000,
        b"\x81\xff" + bytes([0, 0, 0, 0, 0, 16, 0, 0]),
    )
    assert opened(users, sip, endless).startswith(b"HTTP/1.1 101")
    assert b"\x88\x02\x03\xf1" in opened(users, sip, long + b"mask" + b"x" * (1 << 20))  # 1009: too big
    opened(users, sip, b"\x81\x05hello")
    opened(users, sip, b"\x01\x80mask" * 100)
    assert users.phone(known, ws=True).register().status == 200
