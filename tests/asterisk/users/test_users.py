"""Phones of app users at the real switch. See story.md."""

from __future__ import annotations

import asyncio
from time import monotonic

import asyncpg
import pytest

from bridge.asterisk.phones import LIST_S
from bridge.partners.store.credential import Credential
from tests.asterisk.users.conftest import Users


@pytest.mark.parametrize("ws", [False, True])
def test_a_phone_registers_and_is_known_until_it_leaves(users: Users, ws: bool) -> None:
    _, known = users.user()
    phone = users.phone(known, ws=ws)
    answer = phone.register()
    assert answer.status == 200, answer.head
    users.wait_contacts(known, 1)
    uri = users.scene.value("SELECT uri FROM asterisk.ps_contacts WHERE endpoint = $1", known.username)
    assert uri.startswith(f"sip:{known.username}@127.0.0.1:")
    dialled = users.scene.stack.switch.cli(f"dialplan eval function PJSIP_DIAL_CONTACTS({known.username})")
    assert f"PJSIP/{known.username}/{uri}" in dialled
    assert phone.register(0).status == 200
    users.wait_contacts(known, 0)


def test_a_page_that_is_closed_is_forgotten(users: Users) -> None:
    _, known = users.user()
    phone = users.phone(known, ws=True)
    assert phone.register().status == 200
    users.wait_contacts(known, 1)
    phone.wire.close()
    users.wait_contacts(known, 0)


def test_a_phone_that_registers_again_is_known_all_the_while(users: Users) -> None:
    registered_at = "SELECT registered_at FROM asterisk.ps_contacts WHERE endpoint = $1"
    _, known = users.user()
    phone = users.phone(known)
    assert phone.register().status == 200
    users.wait_contacts(known, 1)
    since = users.scene.value(registered_at, known.username)
    assert phone.register().status == 200
    _, other = users.user()
    assert users.phone(other).register().status == 200
    users.wait_contacts(other, 1)  # whoever proved it before was looked at before
    assert users.scene.value(registered_at, known.username) == since


def test_a_first_phone_is_known_before_the_list_is_read_again(users: Users) -> None:
    began_s = monotonic()
    for _ in range(4):
        _, known = users.user()
        assert users.phone(known).register().status == 200
        users.wait_contacts(known, 1)
    assert monotonic() - began_s < 2 * LIST_S  # four lists are read in three times that, or longer


def test_whoever_waits_for_a_phone_is_told(users: Users) -> None:
    _, known = users.user()
    phone = users.phone(known)

    async def told() -> str:
        conn = await asyncpg.connect(users.scene.stack.dsn)
        try:
            heard: asyncio.Queue[str] = asyncio.Queue()
            await conn.add_listener("callbridge_registered", lambda *notice: heard.put_nowait(notice[-1]))
            await asyncio.to_thread(phone.register)
            async with asyncio.timeout(5):
                while (endpoint := await heard.get()) != known.username:
                    pass
            return endpoint
        finally:
            await conn.close()

    assert asyncio.run(told()) == known.username


@pytest.mark.parametrize(
    "ended",
    [
        "UPDATE subscriber SET state = 'suspended' WHERE subscriber_id = $1",
        "UPDATE subscriber SET state = 'closed' WHERE subscriber_id = $1",
        "UPDATE account SET state = 'suspended' WHERE account_id = {}",
        "UPDATE sip_credential SET revoked_at = now() WHERE subscriber_id = $1",
        "UPDATE sip_credential SET expires_at = now() WHERE subscriber_id = $1",
    ],
)
def test_the_end_of_a_user_needs_no_reload(users: Users, ended: str) -> None:
    _, known = users.user()
    phone = users.phone(known)
    assert phone.register().status == 200
    users.wait_contacts(known, 1)
    users.scene.value(
        ended.format("(SELECT account_id FROM subscriber WHERE subscriber_id = $1)"), known.subscriber_id
    )
    assert phone.register().status == 401
    assert phone.call("4930").status == 401
    users.wait_contacts(known, 0)
    cli = users.scene.stack.switch.cli
    assert "sip:" not in cli(f"dialplan eval function PJSIP_DIAL_CONTACTS({known.username})")
    assert f"Unable to find object {known.username}" in cli(f"pjsip show endpoint {known.username}")


def test_wrong_foreign_and_unknown_credentials_are_refused_alike(users: Users) -> None:
    _, mine = users.user()
    _, other = users.user()
    nobody = Credential(
        mine.credential_id,
        mine.subscriber_id,
        "u" + "0" * 32,
        "x",
        mine.realm,
        "rtp",
        mine.created_at,
        mine.expires_at,
    )
    told = []
    for known, password in ((mine, "wrong"), (mine, other.password), (nobody, "wrong")):
        phone = users.phone(known, password=password)
        answer = phone.register()
        challenge = answer.header("WWW-Authenticate")
        told.append(
            (answer.status, 'realm="callbridge"' in challenge, len(answer.headers("WWW-Authenticate")))
        )
    assert told == [(401, True, 1)] * 3
    assert users.contacts(mine) == 0


def test_each_of_several_credentials_works_and_the_oldest_goes(users: Users) -> None:
    _, first = users.user()
    more = [users.credential(first.subscriber_id) for _ in range(2)]
    for known in (first, *more):
        assert users.phone(known).register().status == 200
    newest = users.credential(first.subscriber_id)
    assert users.phone(newest).register().status == 200
    assert users.phone(first).register().status == 401
    assert users.phone(more[0]).register().status == 200


def test_one_phone_too_many_takes_the_place_of_the_oldest(users: Users) -> None:
    _, known = users.user()
    phones = [users.phone(known) for _ in range(4)]
    for number, phone in enumerate(phones):
        assert phone.register(100 + 10 * number).status == 200
    users.wait_addresses(known, {phone.wire.local for phone in phones[1:]})
