from __future__ import annotations

from typing import Any

import pytest

from tests.asterisk.onnet.users import User, Users, calls_of
from tests.asterisk.scene import BALANCE_MICRO, BERLIN, PHONES_HOST, PRICE_MICRO, Scene, well
from tests.asterisk.sipp import Caller, answers


def refused(scene: Scene, user: User) -> str:
    (row,) = calls_of(scene, user.a_number)
    assert row["state"] == "refused"
    return str(row["refuse_reason"])


@pytest.mark.parametrize("taken", [0, 1])
def test_all_phones_ring_and_nobody_pays(scene: Scene, users: Users, taken: int) -> None:
    """Whichever is answered, the call was."""
    anna, ben = users.user(balance_micro=0), users.user(balance_micro=0)
    mine, phones = users.phone(anna), [users.phone(ben), users.phone(ben)]
    answered = mine.dials(ben.a_number)
    invites = [phone.rings() for phone in phones]
    assert f"<sip:{anna.a_number}@" in invites[0].header("From")
    phones[taken].takes(invites[taken])
    phones[1 - taken].is_cancelled(invites[1 - taken])
    assert answered.result(5).status == 200
    assert mine.bye(answered.result()).status == 200
    phones[taken].is_hung_up()
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"], row["callee_id"]) == ("answered", "on_net", ben.subscriber_id)
    told = scene.story_of(str(row["call_id"]))
    assert (told["charge"], told["cost"], told["attempts"], told["entries"]) == ("0.00", "0.00", [], [])
    assert told["hold"]["opened"] == "0.00"
    assert (told["cdr"]["release_party"], told["cdr"]["ended_by"]) == ("caller", "journal")
    assert scene.account(anna.a_number) == (0, 0)
    scene.wait_files_read()
    assert scene.value("SELECT count(*) FROM discrepancy WHERE call_id = $1", row["call_id"]) == 0


def test_somebody_of_the_gateway_rings_a_phone(scene: Scene, users: Users) -> None:
    a_number, ben = scene.subscriber(app="phones", balance_micro=0), users.user()
    phone = users.phone(ben)
    call = scene.calls(Caller(a_number, ben.a_number).talks(0.3), host=PHONES_HOST)
    phone.takes(phone.rings())
    phone.is_hung_up()
    well(call)
    (row,) = calls_of(scene, a_number)
    assert (row["state"], row["direction"]) == ("answered", "on_net")


def test_somebody_of_the_gateway_reaches_over_a_carrier_whom_no_phone_reaches(
    scene: Scene, users: Users
) -> None:
    a_number, ben = scene.subscriber(app="phones", plan="fallback"), users.user()
    carrier = scene.beta(answers())
    call = scene.calls(Caller(a_number, ben.a_number).talks(0.3), host=PHONES_HOST)
    (carrier_saw, _) = well(carrier, call)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{ben.a_number}"]
    first, second = calls_of(scene, a_number, 2)
    assert (first["state"], first["direction"]) == ("unanswered", "on_net")
    assert (second["state"], second["after_call_id"]) == ("answered", first["call_id"])
    assert (second["dialled"], scene.account(a_number)) == (ben.a_number, (BALANCE_MICRO - PRICE_MICRO, 0))


def test_a_phone_that_is_woken_in_time_rings(scene: Scene, users: Users) -> None:
    anna, ben = users.user(balance_micro=0), users.user()
    mine, late = users.phone(anna), users.phone(ben, on=False)
    answered = mine.dials(ben.a_number)
    waiting = "SELECT count(*) FROM lease JOIN call USING (call_id) WHERE a_number = $1"
    while not scene.value(waiting, anna.a_number):
        assert not answered.done(), answered.result().first
    late.on()
    late.takes(late.rings())
    assert answered.result(5).status == 200
    mine.bye(answered.result())
    late.is_hung_up()
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"]) == ("answered", "on_net")


def test_whom_no_phone_reaches_is_called_over_a_carrier(scene: Scene, users: Users) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine = users.phone(anna)
    carrier = scene.beta(answers())
    answered = mine.dials(ben.a_number).result(10)
    assert answered.status == 200
    mine.bye(answered)
    (carrier_saw,) = well(carrier)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{ben.a_number}"]
    first, second = calls_of(scene, anna.a_number, 2)
    assert (first["state"], first["direction"], first["release_party"]) == ("unanswered", "on_net", "bridge")
    assert (second["state"], second["direction"], second["after_call_id"]) == (
        "answered",
        "out",
        first["call_id"],
    )
    assert scene.account(anna.a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)
    told = scene.story_of(str(second["call_id"]))
    assert [(each["trunk"], each["outcome"]) for each in told["attempts"]] == [("beta", "answered")]
    assert told["charge"] == "0.09"


def test_without_money_it_does_not_go_on(scene: Scene, users: Users) -> None:
    anna, ben = users.user(plan="fallback", balance_micro=0), users.user()
    assert users.phone(anna).dials(ben.a_number).result(10).status == 403
    first, second = calls_of(scene, anna.a_number, 2)
    assert (first["state"], second["state"], second["refuse_reason"]) == (
        "unanswered",
        "refused",
        "no_credit",
    )
    assert second["after_call_id"] == first["call_id"]


def test_whom_no_phone_reaches_is_not_there(scene: Scene, users: Users) -> None:
    anna, ben = users.user(), users.user()
    assert users.phone(anna).dials(ben.a_number).result(10).status == 480
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"], row["q850_cause"]) == ("unanswered", "on_net", 20)
    assert scene.paid_nothing(anna.a_number)


def test_a_phone_that_is_busy_was_reached(scene: Scene, users: Users) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, phone = users.phone(anna), users.phone(ben)
    answered = mine.dials(ben.a_number)
    phone.answer(phone.wait_for("INVITE"), "486 Busy Here")
    assert answered.result(5).status == 486
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"]) == ("unanswered", "on_net")


def test_a_phone_that_rings_out_was_reached(scene: Scene, users: Users) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, phone = users.phone(anna), users.phone(ben)
    answered = mine.dials(ben.a_number)
    phone.is_cancelled(phone.rings())
    assert answered.result(10).status == 480
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"], row["q850_cause"]) == ("unanswered", "on_net", 19)


def test_whoever_hangs_up_while_a_phone_is_awaited_has_made_one_call(scene: Scene, users: Users) -> None:
    a_number, ben = scene.subscriber(app="phones", plan="fallback"), users.user()
    call = scene.calls(Caller(a_number, ben.a_number).gives_up(0.3), host=PHONES_HOST)
    well(call)
    (row,) = calls_of(scene, a_number)
    assert (row["state"], row["direction"], row["release_party"]) == ("unanswered", "on_net", "caller")
    assert scene.paid_nothing(a_number)


def test_nobody_calls_themselves(scene: Scene, users: Users) -> None:
    anna = users.user()
    assert users.phone(anna).dials(anna.a_number).result(5).status == 403
    assert refused(scene, anna) == "own_number"


def test_nobody_is_seen_as_somebody_else(scene: Scene, users: Users) -> None:
    anna, ben = users.user(), users.user()
    mine = users.phone(anna, more=f"P-Preferred-Identity: <sip:{ben.a_number}@phone.invalid>\r\n")
    assert mine.dials(BERLIN).result(5).status == 403
    assert refused(scene, anna) == "caller_id"


def own_number(scene: Scene, user: User, e164: str) -> None:
    scene.value(
        "INSERT INTO number (e164, country, kind, state, subscriber_id, assigned_at)"
        " VALUES ($1, 'DE', 'geographic', 'assigned', $2, now()) RETURNING number_id", e164, user.subscriber_id,
    )  # fmt: skip


def carried(scene: Scene, users: Users, user: User, more: str, dialled: str = BERLIN) -> tuple[Any, Any]:
    """What the carrier saw of a call, and its row."""
    mine, carrier = users.phone(user, more=more), scene.alpha(answers())
    answered = mine.dials(dialled).result(5)
    assert answered.status == 200, answered.first
    mine.bye(answered)
    (carrier_saw,) = well(carrier)
    return carrier_saw, calls_of(scene, user.a_number, 0)


def test_another_number_of_ones_own_is_shown(scene: Scene, users: Users) -> None:
    anna = users.user()
    own_number(scene, anna, "+493023125777")
    saw, _ = carried(scene, users, anna, 'P-Preferred-Identity: "A, b" <sip:+493023125777@phone.invalid>\r\n')
    assert "<sip:+493023125777@" in saw.header("From")
    (row,) = calls_of(scene, "+493023125777")
    assert row["subscriber_id"] == anna.subscriber_id


def test_who_does_not_want_to_be_seen_is_not(scene: Scene, users: Users) -> None:
    anna = users.user()
    saw, (row,) = carried(scene, users, anna, "Privacy: id\r\n")
    assert saw.header("From").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>')
    assert anna.a_number not in saw.header("Contact")
    # The carrier must know whose call it is, and tell nobody.
    assert (saw.header("Privacy"), saw.header("P-Asserted-Identity")[:19]) == ("id", f"<sip:{anna.a_number}")
    assert row["anonymous"]
    assert row["a_number"] == anna.a_number


def test_a_phone_does_not_see_who_does_not_want_to_be_seen(scene: Scene, users: Users) -> None:
    anna, ben = users.user(), users.user()
    mine, phone = users.phone(anna, more="Privacy: user;id\r\n"), users.phone(ben)
    answered = mine.dials(ben.a_number)
    invite = phone.rings()
    assert anna.a_number not in invite.head + invite.body
    phone.takes(invite)
    mine.bye(answered.result(5))
    phone.is_hung_up()


def test_an_emergency_call_is_never_anonymous_and_needs_no_money(scene: Scene, users: Users) -> None:
    anna = users.user(balance_micro=0)
    liar = f"Privacy: id\r\nP-Preferred-Identity: <sip:{BERLIN}@phone.invalid>\r\n"
    mine, carrier = users.phone(anna, more=liar), scene.alpha(answers())
    answered = mine.dials("112").result(5)
    assert answered.status == 200
    mine.bye(answered)
    (saw,) = well(carrier)
    assert f"<sip:{anna.a_number}@" in saw.header("From")
    assert "Privacy" not in saw.received[0]


@pytest.mark.parametrize("user", ["x&PJSIP/alpha&y", "x&PJSIP/alpha,9", "x?y&PJSIP/alpha&z"])
def test_an_address_made_to_be_taken_for_another_destination_calls_nobody(
    scene: Scene, users: Users, user: str
) -> None:
    """Dial() takes & and , for its own. What a phone registered is its own doing, and must not call at our expense."""
    anna, eve = users.user(balance_micro=0), users.user()
    mine, theirs = users.phone(anna), users.phone(eve, on=False)
    theirs.lure = f"<sip:{user}@{theirs.wire.local}>"
    assert theirs.register().status == 200
    carrier = scene.alpha(answers())
    assert mine.dials(eve.a_number).result(10).status == 480
    assert carrier.seen().invites() == []
    carrier.stop()
