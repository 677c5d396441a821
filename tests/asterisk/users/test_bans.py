"""Those who try passwords are not listened to for a while, and only they."""

from __future__ import annotations

import json

from bridge.sandbox.process import Deadline
from tests.asterisk.scene import BAN_AFTER
from tests.asterisk.users.conftest import Users
from tests.asterisk.users.phone import Phone

BANNED_S = 5.0
OVER_S = 20.0
ATTACKER = "127.0.0.66"


def wait_status(phone: Phone, status: int, wait_s: float) -> None:
    """Return when a REGISTER is answered so."""
    deadline = Deadline(wait_s)
    while phone.register().status != status:
        assert deadline.pause(), f"still not {status} after {wait_s:g} s"


def test_an_address_that_tries_passwords_is_banned_and_the_ban_ends(users: Users) -> None:
    _, known = users.user()
    attacker = users.phone(known, host=ATTACKER, password="guessed")
    for _ in range(BAN_AFTER + 1):
        assert attacker.register().status == 401
    wait_status(attacker, 403, BANNED_S)
    right = users.phone(known, host=ATTACKER)
    assert right.register().status == 403
    assert right.call("4930").status == 403
    assert users.phone(known).register().status == 200
    bans = users.scene.value(
        "SELECT host(address) FROM sip_ban WHERE address IS NOT NULL AND expires_at > now()"
    )
    assert bans == ATTACKER
    wait_status(right, 200, OVER_S)


def test_behind_a_proxy_the_user_is_locked_out_and_others_are_not(users: Users) -> None:
    _, known = users.user()
    _, other = users.user()
    phone = users.phone(known)
    assert phone.register().status == 200
    users.wait_contacts(known, 1)
    attacker = users.phone(known, ws=True, password="guessed")
    for _ in range(BAN_AFTER + 1):
        assert attacker.register().status == 401
    wait_status(phone, 401, BANNED_S)
    users.wait_contacts(known, 0)
    assert users.phone(other, ws=True).register().status == 200
    wait_status(phone, 200, OVER_S)


def test_strangers_without_a_name_are_banned_and_logged_without_theirs(users: Users) -> None:
    _, known = users.user()
    attacker = users.phone(known, host="127.0.0.67", caller="<sip:+4915112345678@evil.example>")
    answers = {attacker.register().status for _ in range(BAN_AFTER + 2)}
    assert answers <= {401, 403}
    wait_status(attacker, 403, BANNED_S)
    lines = users.scene.stack.bridge_log.read_text().splitlines()
    [told] = [line for line in lines if '"banned"' in line and "127.0.0.67" in line]
    assert json.loads(told)["failures"] == BAN_AFTER + 1
    assert "4915112345678" not in told


def test_a_gateway_is_never_banned(users: Users) -> None:
    _, known = users.user()
    attacker = users.phone(
        known, host="127.0.0.3", caller="<sip:nobody@x>"
    )  # another port than the gateway's
    for _ in range(3 * BAN_AFTER):
        assert attacker.register().status == 401
    assert users.scene.value("SELECT count(*) FROM sip_ban WHERE host(address) = '127.0.0.3'") == 0
