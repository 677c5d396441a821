"""Who a phone's caller is, and what calls of others cost the database."""

from __future__ import annotations

from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.asterisk.users.conftest import Users

LAST_ASKED = "SELECT max(query_start) FROM pg_stat_activity WHERE usename LIKE 'callbridge\\_switch\\_%'"


def test_the_caller_is_the_subscriber_whatever_the_phone_says(users: Users) -> None:
    a_number, known = users.user()
    carrier = users.scene.alpha(answers())
    phone = users.phone(known, caller=f'"+4930110" <sip:{known.username}@4930110.invalid>')
    more = "P-Asserted-Identity: <sip:+4930110@x>\r\nRemote-Party-ID: <sip:+4930110@x>;party=calling\r\n"
    answer = phone.call(BERLIN, more)
    assert answer.status == 200, answer.head
    phone.bye(answer)
    [saw] = well(carrier)
    assert a_number in saw.header("From")
    assert "4930110" not in "".join(saw.received)
    row = users.scene.value(
        "SELECT a_number || ' ' || subscriber_id FROM call WHERE sip_call_id = $1", phone.call_id
    )
    assert row == f"{a_number} {known.subscriber_id}"
    users.scene.wait_quiet()


def test_one_user_does_not_call_as_another(users: Users) -> None:
    _, mine = users.user()
    _, other = users.user()
    phone = users.phone(mine, caller=f"<sip:{other.username}@x>")
    assert phone.call(BERLIN).status == 401
    assert users.phone(mine).call("u" + other.username).status == 404


def test_a_gateways_call_asks_the_database_nothing_for_the_switch(users: Users) -> None:
    _, known = users.user()
    assert users.phone(known).register().status == 200
    before = users.scene.value(LAST_ASKED)
    assert before is not None
    carrier = users.scene.alpha(answers())
    call = users.scene.calls(Caller(users.scene.subscriber(), BERLIN).talks(0.3))
    well(carrier, call)
    assert users.scene.value(LAST_ASKED) == before


def test_gateways_and_trunks_need_no_database(users: Users) -> None:
    """Without a login users are refused, calls of gateways go on; with it users come back by themselves."""
    _, known = users.user()
    phone = users.phone(known)
    assert phone.register().status == 200
    role = f"callbridge_switch_{users.scene.stack.database}"
    users.scene.value(f"ALTER ROLE {role} NOLOGIN")
    try:
        users.scene.value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1", role
        )
        assert phone.register().status in (401, 403, 500)
        carrier = users.scene.alpha(answers())
        call = users.scene.calls(Caller(users.scene.subscriber(), BERLIN).talks(0.3))
        well(carrier, call)
    finally:
        users.scene.value(f"ALTER ROLE {role} LOGIN")
    assert phone.register().status == 200
