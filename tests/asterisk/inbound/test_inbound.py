from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.asterisk.inbound.network import ABROAD_HOST, Carrier, call_of, caller, event_data
from tests.asterisk.onnet.users import User, Users
from tests.asterisk.scene import Scene, well
from tests.asterisk.sipp import Caller, Peer

NOBODYS_HOST = "127.0.0.8"
VICTIM = "+4915112999999"


@pytest.fixture
def anna(users: Users, home: Carrier) -> User:
    """A subscriber without money."""
    made = users.user(balance_micro=0)
    home.has(made)
    return made


def answered(users: Users, user: User, call: Callable[[], Peer]) -> tuple[Peer, str]:
    """The call, over, and the INVITE that the phone had."""
    phone = users.phone(user)
    peer = call()
    invite = phone.rings()
    phone.takes(invite)
    phone.is_hung_up()
    well(peer)
    return peer, invite.head


def test_a_subscriber_is_called_by_their_own_number_and_nobody_pays(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    call, invite = answered(users, anna, lambda: home.calls(caller(anna).talks(0.5)))
    assert "<sip:+493023125000@" in invite
    row = call_of(scene, call)
    wanted = {
        "state": "answered", "direction": "in", "callee_id": anna.subscriber_id, "leg_class": "pstn",
        "partner_id": home.partner_id, "anonymous": False, "a_number": "+493023125000", "b_number": anna.a_number,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert row["talk_ms"] == pytest.approx(500, abs=300)
    told = scene.story_of(str(row["call_id"]))
    assert (told["charge"], told["cost"], told["attempts"], told["entries"]) == ("0.00", "0.00", [], [])
    assert scene.account(anna.a_number) == (0, 0)
    trunk = scene.value("SELECT name FROM trunk WHERE trunk_id = $1", row["trunk_in_id"])
    assert trunk == home.name


def test_a_number_that_was_given_to_them_is_theirs_however_it_is_written(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    number = home.number(anna)
    for written in (number, f"00{number[1:]}", f"0{number[3:]}", number[1:]):
        call, _ = answered(users, anna, partial(home.calls, caller(written).talks(0.1)))
        row = call_of(scene, call)
        assert (row["state"], row["callee_id"], row["b_number"], row["dialled"]) == (
            "answered", anna.subscriber_id, number, written,
        )  # fmt: skip
        told = "".join(call.seen().received)
        assert "200 OK" in told
        assert anna.a_number.lstrip("+") not in told, "whoever calls one number is not told the other"


@pytest.mark.parametrize(
    ("a_number", "more", "seen"),
    [
        pytest.param("+493023125000", "", None, id="of this country"),
        pytest.param("+4915112345678", "", "+4915112345678", id="a roamer"),
        pytest.param("+442079460123", "", "+442079460123", id="of another country"),
        pytest.param("+442079460123", "Privacy: id\n", None, id="asks not to be shown"),
        pytest.param("anonymous", "", None, id="has no number"),
    ],
)
def test_who_calls_from_abroad(
    scene: Scene, users: Users, anna: User, abroad: Carrier, a_number: str, more: str, seen: str | None
) -> None:
    call, invite = answered(users, anna, lambda: abroad.calls(caller(anna, a_number, more=more).talks(0.1)))
    assert seen is None or f"<sip:{seen}@" in invite
    assert seen is not None or not a_number.startswith("+") or a_number not in invite
    assert ("anonymous@anonymous.invalid" in invite) == (seen is None)
    row = call_of(scene, call)
    assert (row["anonymous"], row["a_number"]) == (seen is None, seen or "anonymous")
    withheld = scene.value("SELECT a_number FROM call_withheld WHERE call_id = $1", row["call_id"])
    assert withheld == (a_number if seen is None and a_number.startswith("+") else None)


@pytest.mark.parametrize("a_number", ["+49900123456", "0137123456", "11833", "112", "+4911833"])
def test_what_may_not_call_is_turned_away(
    scene: Scene, users: Users, home: Carrier, anna: User, a_number: str
) -> None:
    users.phone(anna)
    call = home.calls(caller(anna, a_number, more="Privacy: id\n").hears(403))
    well(call)
    row = call_of(scene, call)
    assert (row["state"], row["refuse_reason"], row["partner_id"]) == ("refused", "caller_id", None)


@pytest.mark.parametrize(
    ("dialled", "heard", "reason"),
    [
        pytest.param("+493022299999", 404, "unknown_number", id="nobody's"),
        pytest.param("+493022", 404, "unknown_number", id="half a number"),
        pytest.param("112", 484, "invalid_number", id="emergency"),
        pytest.param("s", 404, "", id="an extension of the switch"),
        pytest.param("h", 404, "", id="another"),
        pytest.param("+4930%26PJSIP%2Fx", 484, "invalid_number", id="a second destination"),
        pytest.param("0%24%7BSHELL(id)%7D", 484, "invalid_number", id="expression"),
        pytest.param("+4930%0Aagi_callerid%3A%20x", 503, "", id="line feed"),
        pytest.param("0" + "9" * 1000, 484, "invalid_number", id="very long"),
    ],
)
def test_whom_nobody_knows(scene: Scene, home: Carrier, dialled: str, heard: int, reason: str) -> None:
    call = home.calls(Caller("+493023125000", dialled).hears(heard))
    well(call)
    sql = "SELECT coalesce(max(refuse_reason), '') FROM call WHERE sip_call_id = $1"
    assert scene.value(sql, call.call_id) == reason
    assert scene.stack.switch.running


def test_strangers_come_no_further_than_the_switch(scene: Scene, home: Carrier, anna: User) -> None:
    """Whoever they say they are: a From header names no trunk, no app and no phone."""
    names = (home.name, "alpha", "messenger", anna.credential.username, "+493023125000")
    for name in names:
        for host in (NOBODYS_HOST, ABROAD_HOST):
            call = home.calls(
                Caller("", anna.a_number, from_=f"<sip:{name}@app.invalid>").hears(401), host=host
            )
            well(call)
            assert scene.value("SELECT count(*) FROM call WHERE sip_call_id = $1", call.call_id) == 0


def test_a_trunk_that_names_no_address_cannot_call_in(scene: Scene, home: Carrier, anna: User) -> None:
    home.change(allowed_ips=[])
    call = home.calls(caller(anna).hears(401))
    well(call)
    assert scene.value("SELECT count(*) FROM call WHERE sip_call_id = $1", call.call_id) == 0


def test_a_trunk_that_is_drained_brings_no_more_calls(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    users.phone(anna)
    assert home.http.post(f"{home.path}/drain").status_code == 200
    home.wait_book()
    call = home.calls(caller(anna).hears(503))
    well(call)
    assert call_of(scene, call)["refuse_reason"] == "no_route"


@pytest.mark.parametrize(
    ("change", "heard", "reason"),
    [
        pytest.param("UPDATE subscriber SET state = 'suspended'", 480, "not_reachable", id="suspended"),
        pytest.param("UPDATE subscriber SET state = 'closed'", 404, "unknown_number", id="closed"),
        pytest.param("DELETE FROM rollout_allow", 480, "not_reachable", id="not invited"),
    ],
)  # fmt: skip
def test_who_cannot_be_rung_is_not(
    scene: Scene, users: Users, home: Carrier, anna: User, change: str, heard: int, reason: str
) -> None:
    users.phone(anna)
    scene.value(f"{change} WHERE subscriber_id = $1", anna.subscriber_id)
    call = home.calls(caller(anna).hears(heard))
    well(call)
    assert call_of(scene, call)["refuse_reason"] == reason


def test_whose_account_has_as_many_calls_as_it_may_is_busy(scene: Scene, users: Users, home: Carrier) -> None:
    ben = users.user(call_cap=1)
    home.has(ben)
    phone = users.phone(ben)
    first = home.calls(caller(ben).talks(1.5))
    invite = phone.rings()
    phone.takes(invite)
    second = home.calls(caller(ben).hears(486))
    well(second)
    row = call_of(scene, second)
    assert (row["refuse_reason"], row["q850_cause"]) == ("too_many_calls", 17)
    phone.is_hung_up()
    well(first)


def test_a_flood_over_one_trunk_ends_at_its_limits(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    """Its capacity counts calls of both ways; beyond it the carrier hears 503, and other trunks go on."""
    phone = users.phone(anna)
    home.change(capacity=1)
    first = home.calls(caller(anna).talks(2.5))
    invite = phone.rings()
    phone.takes(invite)
    beyond = [home.calls(caller(anna).hears(503)) for _ in range(6)]
    well(*beyond)
    assert {call_of(scene, one)["refuse_reason"] for one in beyond} == {"overloaded"}
    phone.is_hung_up()
    well(first)
    home.change(capacity=None, cps=1)
    waiting = users.user()
    burst = [home.calls(caller(waiting).gives_up(0.5)) for _ in range(6)]
    seen = [one.ended() for one in burst]
    taken = sum(run.code == 0 for run in seen)
    assert 1 <= taken <= 5
    refused = (
        "SELECT count(*) FROM call c JOIN trunk t ON t.trunk_id = c.trunk_in_id "
        "WHERE t.name = $1 AND c.refuse_reason = 'overloaded'"
    )
    assert scene.value(refused, home.name) == 6 + 6 - taken


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param('"Eve, \\"E\\" | & ${EXTEN}${SHELL(id)}"', "+493023125000", id="quotes and expressions"),
        pytest.param(f'"Eve%0Aagi_callerid: {VICTIM}%0A%0A"', "+493023125000", id="escaped line feeds"),
        pytest.param('"' + "Eve, " * 300 + '"', "+493023125000", id="very long"),
        pytest.param('"Zoë 🎈 \u202e"', "+493023125000", id="beyond ASCII"),
        pytest.param("", "%20", id="a blank"),
        pytest.param("", "eve%2Cx%7Cy%26z%22%27", id="separators"),
        pytest.param("", "%24%7BEXTEN%7D", id="expression"),
        pytest.param("", "+" + "4" * 600, id="long number"),
        pytest.param("", "%3Cscript%3E", id="script"),
    ],
)
def test_what_a_caller_calls_themselves_goes_nowhere(
    scene: Scene, users: Users, home: Carrier, anna: User, name: str, number: str
) -> None:
    from_ = f"{name} <sip:{number}@carrier.invalid>"
    call, invite = answered(users, anna, lambda: home.calls(caller(anna, from_=from_).talks(0.1)))
    assert "Eve" not in invite
    assert "Zo" not in invite
    row = call_of(scene, call)
    shown = number == "+493023125000"
    assert (row["a_number"], row["anonymous"]) == (number if shown else "anonymous", not shown)
    assert row["callee_id"] == anna.subscriber_id
    assert shown or "anonymous@anonymous.invalid" in invite


def test_a_line_feed_in_a_number_is_no_call(scene: Scene, users: Users, home: Carrier, anna: User) -> None:
    users.phone(anna)
    number = f"x%0Aagi_callerid: {VICTIM}".replace(" ", "%20")
    call = home.calls(caller(anna, from_=f"<sip:{number}@carrier.invalid>").hears(503))
    well(call)
    assert scene.value("SELECT count(*) FROM call WHERE sip_call_id = $1", call.call_id) == 0


def test_a_phone_that_comes_in_time_is_rung_and_no_number_is_logged(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    logged = scene.stack.bridge_log.stat().st_size
    call = home.calls(caller(anna).talks(0.2))
    scene.wait_live(call, answered=False)
    phone = users.phone(anna)
    invite = phone.rings()
    phone.takes(invite)
    phone.is_hung_up()
    well(call)
    row = call_of(scene, call)
    assert row["state"] == "answered"
    [woken] = event_data(scene, "subscriber.wake", home.partner_id)
    assert woken["from"] == "+493023125000"
    assert woken["subscriber_id"] == f"sub_{anna.subscriber_id.hex}"
    assert woken["call_id"] == f"call_{row['call_id'].hex}"
    said = scene.stack.bridge_log.read_bytes()[logged:].decode()
    assert anna.a_number not in said
    assert "+493023125000" not in said
    assert any(json.loads(line)["event"] == "call admitted" for line in said.splitlines())
